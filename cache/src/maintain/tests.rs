//! Reports, verification, clearing and collection over real cache directories.

use super::*;
use crate::disk::tests::{SHARE, key, open, read, store, true_chunk};
use crate::disk::{Disk, DiskConfig};
use std::os::unix::fs::FileExt;
use tempfile::TempDir;
use wormhole_protocol::BlockMask;

const SIZE: u64 = 300_000;
const OTHER: ShareId = ShareId([2; 16]);

/// Three contents and five packed ones.
fn filled(root: &Path) -> Disk {
    let disk = open(root);
    for file in 0..3 {
        (0..3).for_each(|index| store(&disk, file, SIZE, index, BlockMask::FULL));
        disk.flush();
    }
    (10..15).for_each(|file| store(&disk, file, 9000, 0, BlockMask::FULL));
    disk.flush();
    disk
}

fn fill_other(root: &Path) {
    let config = DiskConfig {
        root: root.to_owned(),
        budget_bytes: 1 << 30,
    };
    let disk = Disk::open(config, OTHER).unwrap();
    let mut key = key(1);
    key.share = OTHER;
    let chunk = true_chunk(1, SIZE, 0, BlockMask::FULL);
    assert!(disk.store(&key, SIZE, ChunkIndex(0), chunk));
}

fn age(root: &Path, file: u64, secs: u64) {
    let index = SharePaths::new(root, SHARE).index(&key(file).digest());
    let then = SystemTime::now() - Duration::from_secs(secs);
    file::open(&index).unwrap().set_modified(then).unwrap();
}

#[test]
fn nothing_there_is_fine() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("absent");
    assert!(report(&root).unwrap().is_empty());
    assert_eq!(verify(&root, None, &mut |_| ()).unwrap().checked, 0);
    assert_eq!(clear(&root, None).unwrap().removed_bytes, 0);
    assert_eq!(gc(&root, None, Some(0)).unwrap().removed_bytes, 0);
}

#[test]
fn a_report_tells_what_there_is_and_who_uses_it() {
    let dir = TempDir::new().unwrap();
    let disk = filled(dir.path());
    fill_other(dir.path());
    std::fs::create_dir(dir.path().join("not a share")).unwrap();
    age(dir.path(), 0, 5000);
    let reports = report(dir.path()).unwrap();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0].share, SHARE.to_string());
    assert_eq!(reports[0].contents, 8);
    assert_eq!(reports[0].in_use_by, Some(std::process::id()));
    assert_eq!(reports[0].bytes, disk.stats().resident_bytes);
    let age = reports[0].newest_access.unwrap() - reports[0].oldest_access.unwrap();
    assert!((4999..5100).contains(&age), "{age}");
    assert_eq!((reports[1].contents, reports[1].in_use_by), (1, None));
}

#[test]
fn verifying_drops_what_is_damaged() {
    let dir = TempDir::new().unwrap();
    drop(filled(dir.path()));
    let mut calls = 0;
    let sound = verify(dir.path(), None, &mut |_| calls += 1).unwrap();
    assert_eq!((sound.checked, sound.corrupt, calls), (14, 0, 4));
    assert_eq!(sound.bytes, 3 * SIZE + 5 * 9000);

    let paths = SharePaths::new(dir.path(), SHARE);
    let data = file::open(&paths.data(&key(0).digest())).unwrap();
    data.write_all_at(b"garbage", 140_000).unwrap();
    let index = file::open(&paths.index(&key(1).digest())).unwrap();
    index.write_all_at(b"garbage", 20).unwrap();
    let pack = file::open(&paths.pack(0)).unwrap();
    pack.write_all_at(b"garbage", 200).unwrap();
    let report = verify(dir.path(), Some(SHARE), &mut |_| ()).unwrap();
    assert_eq!((report.checked, report.corrupt), (11, 3));
    let again = verify(dir.path(), None, &mut |_| ()).unwrap();
    assert_eq!((again.checked, again.corrupt), (9, 0));

    let disk = open(dir.path());
    assert_eq!(read(&disk, 0, SIZE, 0), BlockMask::FULL);
    assert_eq!(read(&disk, 0, SIZE, 1), BlockMask::EMPTY);
    assert_eq!(read(&disk, 1, SIZE, 0), BlockMask::EMPTY);
    let packed = (10..15).filter(|file| !read(&disk, *file, 9000, 0).is_empty());
    assert_eq!(packed.count(), 4);
    assert_eq!(disk.stats().corrupt, 0);
}

#[test]
fn shares_in_use_are_left_alone_and_named() {
    let dir = TempDir::new().unwrap();
    let disk = filled(dir.path());
    fill_other(dir.path());
    let skipped = vec![Skipped {
        share: SHARE.to_string(),
        in_use_by: std::process::id(),
    }];
    let verified = verify(dir.path(), None, &mut |_| ()).unwrap();
    assert_eq!((verified.checked, &verified.skipped), (1, &skipped));
    let swept = gc(dir.path(), Some(Duration::ZERO), None).unwrap();
    assert_eq!((swept.removed_contents, &swept.skipped), (1, &skipped));
    let cleared = clear(dir.path(), None).unwrap();
    assert_eq!(cleared.skipped, skipped);
    assert_eq!(read(&disk, 0, SIZE, 0), BlockMask::FULL);
    assert_eq!(
        report(dir.path()).unwrap().len(),
        1,
        "the other one is gone"
    );
}

#[test]
fn clearing_one_share_leaves_the_other() {
    let dir = TempDir::new().unwrap();
    drop(filled(dir.path()));
    fill_other(dir.path());
    let before = report(dir.path()).unwrap();
    let swept = clear(dir.path(), Some(SHARE)).unwrap();
    assert_eq!(
        (swept.removed_bytes, swept.removed_contents),
        (before[0].bytes, 8)
    );
    let after = report(dir.path()).unwrap();
    assert_eq!((after.len(), &after[0].share), (1, &OTHER.to_string()));
    assert!(!dir.path().join(SHARE.to_string()).exists());
    let disk = open(dir.path());
    assert_eq!(read(&disk, 0, SIZE, 0), BlockMask::EMPTY);
}

#[test]
fn collecting_goes_by_age_and_by_bytes() {
    let dir = TempDir::new().unwrap();
    drop(filled(dir.path()));
    age(dir.path(), 0, 7200);
    age(dir.path(), 2, 3600);
    let untouched = gc(dir.path(), None, None).unwrap();
    assert_eq!(untouched.removed_contents, 0);
    let old = gc(dir.path(), Some(Duration::from_secs(5000)), None).unwrap();
    assert_eq!(old.removed_contents, 1);
    let left = report(dir.path()).unwrap()[0].bytes;
    let shrunk = gc(dir.path(), None, Some(left - 1)).unwrap();
    assert_eq!(shrunk.removed_contents, 1);
    let disk = open(dir.path());
    let there = [0, 1, 2].map(|file| !read(&disk, file, SIZE, 0).is_empty());
    assert_eq!(there, [false, true, false]);
    drop(disk);
    gc(dir.path(), None, Some(0)).unwrap();
    assert_eq!(report(dir.path()).unwrap()[0].bytes, 0);
}

#[test]
fn the_tree_file_is_counted_verified_collected_and_cleared() {
    let dir = TempDir::new().unwrap();
    let path = SharePaths::new(dir.path(), SHARE).tree();
    let save = || {
        let disk = open(dir.path());
        let mut sections = vec![vec![1; 5000], vec![2; 20]];
        let mut next = |out: &mut Vec<u8>| out.extend(sections.pop().unwrap_or_default());
        let written = disk.write_tree(&mut next).unwrap();
        assert!(written > 5020 && disk.stats().resident_bytes >= written);
        disk.stats().resident_bytes
    };
    let bytes = save();
    assert_eq!(report(dir.path()).unwrap()[0].bytes, bytes);
    let verified = verify(dir.path(), None, &mut |_| ()).unwrap();
    assert_eq!(
        (verified.checked, verified.corrupt, verified.bytes),
        (2, 0, 5020)
    );
    let file = file::open(&path).unwrap();
    file.write_all_at(b"x", 200).unwrap();
    drop(file);
    let verified = verify(dir.path(), None, &mut |_| ()).unwrap();
    assert_eq!((verified.corrupt, path.exists()), (1, false));
    save();
    let then = SystemTime::now() - Duration::from_secs(5000);
    file::open(&path).unwrap().set_modified(then).unwrap();
    gc(dir.path(), Some(Duration::from_secs(9000)), None).unwrap();
    assert!(path.exists());
    let collected = gc(dir.path(), Some(Duration::from_secs(1000)), None).unwrap();
    assert_eq!((collected.removed_bytes, path.exists()), (bytes, false));
    save();
    assert_eq!(clear(dir.path(), None).unwrap().removed_bytes, bytes);
    assert!(!path.parent().unwrap().exists());
}
