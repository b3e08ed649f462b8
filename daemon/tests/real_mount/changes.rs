//! What changes on the host is seen after the next open, within the attribute term.

use super::*;
use std::fs;
use std::time::Duration;

fn strict() -> Options {
    Options {
        attr_ttl: Duration::ZERO,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_truncated_and_appended_files_are_seen_at_the_next_open() {
    let fill = |root: &Path| fs::write(root.join("file"), pattern(1, 300_000)).unwrap();
    let stage = Stage::new(&strict(), fill).await;
    let (there, here) = (stage.share().join("file"), stage.mnt().join("file"));
    blocking(move || {
        assert!(fs::read(&here).unwrap() == pattern(1, 300_000));
        // Replaced by rename, as editors do.
        let aside = there.with_extension("new");
        fs::write(&aside, pattern(2, 200_000)).unwrap();
        fs::rename(&aside, &there).unwrap();
        assert!(fs::read(&here).unwrap() == pattern(2, 200_000));
        // Truncated in place.
        fs::File::options()
            .write(true)
            .open(&there)
            .unwrap()
            .set_len(150_001)
            .unwrap();
        assert!(fs::read(&here).unwrap() == pattern(2, 200_000)[..150_001]);
        // Appended to.
        use std::io::Write;
        let mut file = fs::File::options().append(true).open(&there).unwrap();
        file.write_all(&pattern(3, 70_000)).unwrap();
        let expected = [&pattern(2, 200_000)[..150_001], &pattern(3, 70_000)].concat();
        assert!(fs::read(&here).unwrap() == expected);
        // Overwritten in place with as many bytes.
        fs::write(&there, pattern(4, expected.len())).unwrap();
        assert!(fs::read(&here).unwrap() == pattern(4, expected.len()));
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_changes_never_show_old_bytes_at_a_later_open() {
    let fill = |root: &Path| fs::write(root.join("file"), pattern(0, 5000)).unwrap();
    let stage = Stage::new(&strict(), fill).await;
    let (there, here) = (stage.share().join("file"), stage.mnt().join("file"));
    blocking(move || {
        for round in 1..300 {
            fs::write(&there, pattern(round, 5000)).unwrap();
            assert!(
                fs::read(&here).unwrap() == pattern(round, 5000),
                "round {round}"
            );
        }
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_file_is_followed_through_an_open_handle() {
    let fill = |root: &Path| fs::write(root.join("log"), "first\n").unwrap();
    let stage = Stage::new(&strict(), fill).await;
    let (there, here) = (stage.share().join("log"), stage.mnt().join("log"));
    blocking(move || {
        use std::io::{Read, Write};
        let mut reader = fs::File::open(&here).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let mut writer = fs::File::options().append(true).open(&there).unwrap();
        writer.write_all(b"second\n").unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first\nsecond\n");
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_come_and_go() {
    let stage = Stage::new(&strict(), |_| {}).await;
    let (there, here) = (stage.share(), stage.mnt());
    blocking(move || {
        assert!(!here.join("a").exists());
        fs::write(there.join("a"), "1").unwrap();
        assert_eq!(fs::read(here.join("a")).unwrap(), b"1");
        fs::rename(there.join("a"), there.join("b")).unwrap();
        assert!(!here.join("a").exists());
        assert_eq!(fs::read(here.join("b")).unwrap(), b"1");
        fs::remove_file(there.join("b")).unwrap();
        fs::create_dir(there.join("b")).unwrap();
        assert!(here.join("b").is_dir());
        fs::write(there.join("b/c"), "2").unwrap();
        fs::rename(there.join("b"), there.join("d")).unwrap();
        assert_eq!(fs::read(here.join("d/c")).unwrap(), b"2");
        let names: Vec<_> = fs::read_dir(&here)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["d"]);
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_attribute_term_the_host_is_not_asked_again() {
    let hour = Options {
        attr_ttl: Duration::from_secs(3600),
        ..Options::default()
    };
    let fill = |root: &Path| {
        fs::write(root.join("file"), pattern(1, 9000)).unwrap();
        settle(root);
    };
    let stage = Stage::new(&hour, fill).await;
    let (there, here) = (stage.share().join("file"), stage.mnt().join("file"));
    blocking(move || {
        assert_eq!(fs::read(&here).unwrap().len(), 9000);
        fs::write(&there, "short").unwrap();
        assert!(
            fs::read(&here).unwrap() == pattern(1, 9000),
            "believed for an hour"
        );
    })
    .await;
    let remote = stage.mounted().snapshot().remote;
    assert_eq!((remote.lookup, remote.getattr), (1, 0));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlinked_file_stays_readable_for_who_has_it_open() {
    let fill = |root: &Path| fs::write(root.join("file"), pattern(1, 3_000_000)).unwrap();
    let stage = Stage::new(&strict(), fill).await;
    let (there, here) = (stage.share().join("file"), stage.mnt().join("file"));
    blocking(move || {
        use std::os::unix::fs::FileExt;
        let file = fs::File::open(&here).unwrap();
        let mut buf = vec![0; 4096];
        file.read_exact_at(&mut buf, 0).unwrap();
        fs::remove_file(&there).unwrap();
        assert!(!here.exists());
        file.read_exact_at(&mut buf, 2_000_000).unwrap();
        assert!(buf == pattern(1, 3_000_000)[2_000_000..2_004_096]);
    })
    .await;
    stage.end().await;
}
