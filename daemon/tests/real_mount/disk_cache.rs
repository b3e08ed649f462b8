//! The disk cache under a mount: survives, is checked, is never trusted.

use super::*;
use std::fs;
use wormhole::mount::beliefs::PrefetchMetadata;

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
        prefetch_metadata: PrefetchMetadata::Lazy,
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

fn fill_tree(root: &Path) {
    for dir in 0..20 {
        let dir = root.join(format!("dir{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..5 {
            fs::write(dir.join(format!("file{file}")), pattern(file, 100)).unwrap();
        }
    }
    settle(root);
}

/// Every path beneath a folder, and its length.
fn walk(dir: &Path, found: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            walk(&path, found);
        } else {
            found.push((path, metadata.len()));
        }
    }
}

async fn walked(stage: &Stage) -> usize {
    let mnt = stage.mnt();
    blocking(move || {
        let mut found = Vec::new();
        walk(&mnt, &mut found);
        assert!(found.iter().all(|(path, len)| match path.ends_with("new") {
            true => *len == 7,
            false => *len == 100,
        }));
        found.len()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remount_knows_the_tree_and_sees_what_changed() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let mut stage = Stage::new(&options, fill_tree).await;
    assert_eq!(walked(&stage).await, 100);
    stage.unmount().await;
    fs::write(stage.share().join("dir7/new"), b"changed").unwrap();
    fs::remove_file(stage.share().join("dir8/file1")).unwrap();
    fs::remove_file(stage.share().join("dir8/file2")).unwrap();
    stage.remount(&options).await;
    assert_eq!(walked(&stage).await, 99);
    let asked = stage.mounted().snapshot().remote;
    // All were asked about at once; what had changed came anew.
    assert_eq!(
        (asked.list, asked.tree, asked.lookup),
        (0, 0, 0),
        "{asked:?}"
    );
    assert!(asked.renewal <= 4, "{asked:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_prefetching_no_tree_is_saved_and_none_is_used() {
    let cache = tempfile::tempdir().unwrap();
    let off = Options {
        prefetch_metadata: PrefetchMetadata::Off,
        ..options(cache.path())
    };
    let mut stage = Stage::new(&off, fill_tree).await;
    let saved = || {
        cache_files(cache.path())
            .iter()
            .any(|path| path.ends_with("tree"))
    };
    assert_eq!(walked(&stage).await, 100);
    stage.unmount().await;
    assert!(!saved());
    stage.remount(&options(cache.path())).await;
    assert_eq!(walked(&stage).await, 100);
    stage.unmount().await;
    assert!(saved());
    stage.remount(&off).await;
    assert_eq!(walked(&stage).await, 100);
    assert!(stage.mounted().snapshot().remote.list > 20);
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
