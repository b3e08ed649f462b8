//! The disk cache under a mount: survives, is checked, is never trusted.

use super::*;
use std::fs;

const LEN: usize = 3 * 1024 * 1024 + 77;

fn fill(root: &Path) {
    fs::write(root.join("file"), pattern(1, LEN)).unwrap();
    for i in 0..50 {
        fs::write(root.join(format!("small{i}")), pattern(i, 3000)).unwrap();
    }
    settle(root);
}

fn options(cache: &Path) -> Options {
    Options {
        l2: Some(cache.to_owned()),
        ..Options::default()
    }
}

fn read_all(mnt: &Path) {
    assert!(fs::read(mnt.join("file")).unwrap() == pattern(1, LEN));
    for i in 0..50 {
        assert!(fs::read(mnt.join(format!("small{i}"))).unwrap() == pattern(i, 3000));
    }
}

/// Every regular file in the cache but its locks.
fn cache_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(cache_files(&path));
        } else if path.file_name().unwrap() != "lock" && path.file_name().unwrap() != "format" {
            files.push(path);
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remount_reads_from_disk_without_the_network() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let mut stage = Stage::new(&options, fill).await;
    for expect_network in [true, false] {
        let mnt = stage.mnt();
        blocking(move || read_all(&mnt)).await;
        let read = stage.mounted().snapshot().read;
        assert_eq!(read.fetched_bytes > 0, expect_network, "{read:?}");
        stage.unmount().await;
        stage.remount(&options).await;
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_truncated_cache_files_are_noticed_and_fetched_again() {
    type Damage = fn(&Path, usize);
    let flip: Damage = |path, turn| {
        let mut bytes = fs::read(path).unwrap();
        for at in (turn * 37 % 1000..bytes.len()).step_by(1009) {
            bytes[at] ^= 1 << (turn % 8);
        }
        fs::write(path, bytes).unwrap();
    };
    let truncate: Damage = |path, turn| {
        let len = fs::metadata(path).unwrap().len();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(len * (turn as u64 % 10) / 10).unwrap();
    };
    let remove: Damage = |path, _| fs::remove_file(path).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let mut stage = Stage::new(&options, fill).await;
    for damage in [flip, truncate, remove] {
        let mnt = stage.mnt();
        blocking(move || read_all(&mnt)).await;
        stage.unmount().await;
        let files = cache_files(cache.path());
        assert!(!files.is_empty());
        for (turn, file) in files.iter().enumerate() {
            damage(file, turn);
        }
        stage.remount(&options).await;
        let mnt = stage.mnt();
        blocking(move || read_all(&mnt)).await;
        assert!(stage.mounted().snapshot().read.fetched_bytes > 0);
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_never_served_from_the_old_ones_cache() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let mut stage = Stage::new(&options, fill).await;
    let mnt = stage.mnt();
    blocking(move || read_all(&mnt)).await;
    stage.unmount().await;
    fs::write(stage.share().join("file"), pattern(9, LEN)).unwrap();
    stage.remount(&options).await;
    let mnt = stage.mnt();
    blocking(move || assert!(fs::read(mnt.join("file")).unwrap() == pattern(9, LEN))).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_mount_of_the_share_is_told_why_it_has_no_disk_cache() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let stage = Stage::new(&options, fill).await;
    let second = stage.dir.path().join("mnt2");
    fs::create_dir(&second).unwrap();
    let ticket = stage.host.as_ref().unwrap().ticket.clone();
    let mounted = world::mount(&ticket, &second, &options).await;
    let note = mounted.l2_note().expect("a note").to_owned();
    assert!(note.contains(&std::process::id().to_string()), "{note}");
    assert!(note.contains("--cache-dir"), "{note}");
    blocking(move || read_all(&second)).await;
    mounted.unmount().await.unwrap();
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_serves_again_what_the_kernel_dropped() {
    let stage = Stage::new(&Options::default(), fill).await;
    let mnt = stage.mnt();
    blocking(move || read_all(&mnt)).await;
    let before = stage.mounted().snapshot().read;
    let mnt = stage.mnt();
    blocking(move || {
        drop_pages(&mnt.join("file"));
        for i in 0..50 {
            drop_pages(&mnt.join(format!("small{i}")));
        }
        read_all(&mnt);
    })
    .await;
    let after = stage.mounted().snapshot().read;
    assert_eq!(after.fetched_bytes, before.fetched_bytes);
    let served = after.served_bytes - before.served_bytes;
    assert!(
        served >= LEN as u64 + 50 * 3000,
        "the kernel had dropped them"
    );
    stage.end().await;
}
