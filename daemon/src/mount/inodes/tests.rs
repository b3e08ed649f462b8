//! The table of nodes: numbers, lookups, reuse, lies.

use super::*;
use crate::mount::lease::Terms;
use wormhole_protocol::{ContentVersion, Timestamp};

fn attr(device: u64, inode: u64, birth: u64, kind: FileKind) -> Attr {
    Attr {
        id: FileId {
            device,
            inode,
            birth,
        },
        kind,
        mode: 0o755,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 10,
        blocks: 8,
        accessed: Timestamp::EPOCH,
        modified: Timestamp::EPOCH,
        changed: Timestamp::EPOCH,
        xattrs: false,
        version: ContentVersion([0; 16]),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn table() -> Inodes {
    Inodes::new(attr(5, 100, 1, FileKind::Directory), Instant::now())
}

#[test]
fn numbers_are_the_hosts_and_hard_links_share_one() {
    let table = table();
    let now = Instant::now();
    let file = attr(5, 200, 1, FileKind::File);
    let a = table
        .remember(table.root(), &name("a"), &file, now)
        .unwrap();
    let b = table
        .remember(table.root(), &name("b"), &file, now)
        .unwrap();
    assert_eq!(a.ino, Ino(200));
    assert!(Arc::ptr_eq(&a, &b));
    assert_eq!(a.reference().unwrap().path.as_bytes(), b"b");
}

#[test]
fn other_devices_and_special_numbers_get_hashed_numbers() {
    let table = table();
    let now = Instant::now();
    let here = attr(5, 200, 1, FileKind::File);
    let there = attr(6, 200, 1, FileKind::File);
    let one = attr(5, 1, 1, FileKind::File);
    let zero = attr(5, 0, 1, FileKind::File);
    let mut seen = std::collections::HashSet::from([Ino::ROOT]);
    for (label, attr) in [("a", here), ("b", there), ("c", one), ("d", zero)] {
        let node = table
            .remember(table.root(), &name(label), &attr, now)
            .unwrap();
        assert!(seen.insert(node.ino), "{label} shares a number");
    }
}

#[test]
fn a_reused_inode_number_is_another_generation() {
    let table = table();
    let now = Instant::now();
    let old = table
        .remember(
            table.root(),
            &name("a"),
            &attr(5, 200, 1, FileKind::File),
            now,
        )
        .unwrap();
    let new = table
        .remember(
            table.root(),
            &name("a"),
            &attr(5, 200, 2, FileKind::File),
            now,
        )
        .unwrap();
    assert_eq!(old.ino, new.ino);
    assert_ne!(old.generation(), new.generation());
    assert!(Arc::ptr_eq(&table.get(Ino(200)).unwrap(), &new));
    // The kernel counts two lookups of that number, whichever node they were of.
    table.forget(Ino(200), 1);
    assert!(table.get(Ino(200)).is_ok());
    table.forget(Ino(200), 1);
    assert!(table.get(Ino(200)).is_err());
}

#[test]
fn nodes_leave_with_their_last_lookup_and_the_root_never() {
    let table = table();
    let now = Instant::now();
    let file = attr(5, 200, 1, FileKind::File);
    for _ in 0..3 {
        table
            .remember(table.root(), &name("a"), &file, now)
            .unwrap();
    }
    table.forget(Ino(200), 2);
    assert_eq!(table.len(), 2);
    table.forget(Ino(200), 99);
    assert_eq!(table.len(), 1);
    table.forget(Ino::ROOT, 99);
    table.forget(Ino(12345), 1);
    assert!(table.get(Ino::ROOT).is_ok());
}

#[test]
fn the_root_is_found_by_its_identity_like_any_node() {
    let table = table();
    let found = table.by_id(table.root().id).unwrap();
    assert!(std::sync::Arc::ptr_eq(&found, table.root()));
    assert!(table.by_id(attr(5, 1, 1, FileKind::File).id).is_none());
}

#[test]
fn a_host_cannot_make_directories_contain_each_other() {
    let table = table();
    let now = Instant::now();
    let dir_a = attr(5, 200, 1, FileKind::Directory);
    let dir_b = attr(5, 201, 1, FileKind::Directory);
    let a = table
        .remember(table.root(), &name("a"), &dir_a, now)
        .unwrap();
    let b = table.remember(&a, &name("b"), &dir_b, now).unwrap();
    assert!(table.remember(&b, &name("a"), &dir_a, now).is_err());
    assert!(table.remember(&a, &name("a"), &dir_a, now).is_err());
    let root = attr(5, 100, 1, FileKind::Directory);
    assert!(table.remember(&b, &name("root"), &root, now).is_err());
    // Nor by what it tells unasked.
    a.move_to(&b, &name("a"));
    table.root().move_to(&b, &name("root"));
    assert!(table.root().place().is_none());
    assert_eq!(b.reference().unwrap().path.as_bytes(), b"a/b");
}

#[test]
fn a_renamed_directory_moves_the_paths_below_it() {
    let table = table();
    let now = Instant::now();
    let dir = attr(5, 200, 1, FileKind::Directory);
    let a = table.remember(table.root(), &name("a"), &dir, now).unwrap();
    let file = table
        .remember(&a, &name("f"), &attr(5, 201, 1, FileKind::File), now)
        .unwrap();
    table.remember(table.root(), &name("z"), &dir, now).unwrap();
    assert_eq!(file.reference().unwrap().path.as_bytes(), b"z/f");
}

#[test]
fn a_directory_the_kernel_forgot_is_the_same_when_it_is_found_again() {
    let table = table();
    let now = Instant::now();
    let dir = attr(5, 200, 1, FileKind::Directory);
    let a = table.remember(table.root(), &name("a"), &dir, now).unwrap();
    let file = attr(5, 201, 1, FileKind::File);
    let file = table.remember(&a, &name("f"), &file, now).unwrap();
    table.forget(Ino(200), 1);
    assert_eq!(table.len(), 2);
    // Another mount renames it.
    table
        .by_id(dir.id)
        .unwrap()
        .move_to(table.root(), &name("b"));
    assert_eq!(file.reference().unwrap().path.as_bytes(), b"b/f");
    let again = table.remember(table.root(), &name("c"), &dir, now).unwrap();
    assert!(Arc::ptr_eq(&a, &again));
    assert_eq!(file.reference().unwrap().path.as_bytes(), b"c/f");
    assert_eq!(table.len(), 3);
    // Nothing refers to it any more.
    drop((a, again, file));
    table.forget(Ino(201), 1);
    table.forget(Ino(200), 1);
    assert_eq!(table.len(), 1);
    assert!(table.by_id(dir.id).is_none());
    // Another file has its number.
    let other = attr(5, 200, 2, FileKind::File);
    let other = table.remember(table.root(), &name("d"), &other, now);
    assert_eq!(other.unwrap().reference().unwrap().path.as_bytes(), b"d");
}

#[test]
fn belief_ends_with_its_term_and_older_news_is_ignored() {
    let ttl = std::time::Duration::from_secs(1);
    let table = table();
    let now = Instant::now() + std::time::Duration::from_secs(100);
    let mut news = attr(5, 200, 1, FileKind::File);
    let node = table
        .remember(table.root(), &name("a"), &news, now)
        .unwrap();
    let at = |now| Terms {
        now,
        ttl,
        held: None,
    };
    assert!(node.fresh_attr(&at(now + ttl / 2)).is_some());
    assert!(node.fresh_attr(&at(now + ttl)).is_none());
    news.size = 99;
    node.learn(&news, now - ttl);
    assert_eq!(node.attr().size, 10);
    node.learn(&news, now + ttl);
    assert_eq!(node.attr().size, 99);
    node.doubt(now + 2 * ttl);
    assert!(node.fresh_attr(&at(now + ttl)).is_none());
    // What was told before the doubt does not end it.
    node.learn(&news, now + ttl);
    assert!(node.fresh_attr(&at(now + ttl)).is_none());
    node.learn(&news, now + 2 * ttl);
    assert!(node.fresh_attr(&at(now + 2 * ttl)).is_some());
}

#[test]
fn paths_deeper_than_the_protocol_carries_are_refused() {
    let table = table();
    let now = Instant::now();
    let mut dir = table.root().clone();
    for depth in 0..40 {
        let long = Name::new(vec![b'x'; 200]).unwrap();
        let attr = attr(5, 1000 + depth, 1, FileKind::Directory);
        dir = table.remember(&dir, &long, &attr, now).unwrap();
    }
    assert_eq!(dir.reference(), Err(FsError::NameTooLong));
}
