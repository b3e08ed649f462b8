//! Who gets a directory alone, and who does not.

use super::super::super::super::watch::WatchId;
use super::super::Allowance;
use super::*;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::fs::File;
use std::sync::Arc;
use wormhole_protocol::{MountId, TicketId};

/// A kernel where nothing happens.
struct Quiet;

impl Watching for Quiet {
    fn add(&self, _: &OwnedFd) -> Result<WatchId, Errno> {
        Ok(1)
    }

    fn remove(&self, _: WatchId) {}
}

const ID: FileId = FileId {
    device: 1,
    inode: 7,
    birth: 0,
};

fn node(path: &str) -> NodeRef {
    NodeRef {
        path: RelPath::new(path).unwrap(),
        expect: None,
    }
}

fn touched(scope: &Scope) -> Vec<&'static str> {
    let dirs = ["", "a", "a/b", "a/b/c", "ab", "x"];
    let touches = |dir: &&str| scope.touches(&RelPath::new(*dir).unwrap());
    dirs.into_iter().filter(touches).collect()
}

#[test]
fn a_request_touches_the_directories_it_shows_something_of() {
    let name = || Name::new("b").unwrap();
    let (dir, known) = (node("a"), None);
    let lookup = Request::Lookup { dir, name: name() };
    assert_eq!(touched(&Scope::of(&lookup)), ["a", "a/b"]);
    let getattr = Request::Getattr { node: node("a") };
    assert_eq!(touched(&Scope::of(&getattr)), ["", "a"]);
    let dir = node("a");
    let list = Request::List { dir, known };
    assert_eq!(touched(&Scope::of(&list)), ["a", "a/b"]);
    let tree = |dir| Request::Tree {
        dir: node(dir),
        entries_max: 1,
    };
    assert_eq!(touched(&Scope::of(&tree("a"))), ["a", "a/b", "a/b/c"]);
    assert_eq!(touched(&Scope::of(&tree(""))).len(), 6);
    assert!(Scope::of(&Request::StatFs).is_empty());
    let rename = Change::Rename {
        from: node(""),
        from_name: Name::new("a").unwrap(),
        to: node("x"),
        to_name: name(),
        how: wormhole_protocol::RenameHow::Replace,
        keep: None,
    };
    let scope = Scope::of_change(&rename);
    assert_eq!(touched(&scope), ["", "a", "a/b", "a/b/c", "x"]);
}
fn at(path: &str) -> RelPath {
    RelPath::new(path).unwrap()
}

fn listing(path: &str) -> Scope {
    Scope::of(&Request::List {
        dir: node(path),
        known: None,
    })
}

/// A mount that has a lease on the directory at `a/b`, and may ask to be alone there; and another.
fn world() -> (Table<Quiet>, [MountKey; 2], Instant) {
    let now = Instant::now();
    let mut table = Table::new(Quiet, Arc::new(Allowance::new(8)));
    let keys = [1, 2].map(|n| (TicketId([n; 8]), MountId([n; 16])));
    for key in keys {
        table.listen(key, 1, now);
    }
    lease(&mut table, keys[0], "a/b", now);
    (table, keys, now)
}

fn lease(table: &mut Table<Quiet>, key: MountKey, path: &str, now: Instant) -> bool {
    let node = File::open("/dev/null").unwrap().into();
    table.grant(key, 1, ID, (&at(path), &node), now)
}

#[test]
fn nobody_gets_alone_what_another_is_looking_at() {
    let (mut table, [holder, other], now) = world();
    let look = table.visit(other, listing("a/b"), false);
    let own = table.visit(holder, listing("a/b"), false);
    assert!(!table.claim(holder, 1, (ID, &at("a/b")), now));
    table.left(look);
    assert!(table.claim(holder, 1, (ID, &at("a/b")), now));
    table.left(own);
    assert!(!lease(&mut table, other, "a/b", now));
}

#[test]
fn nobody_gets_alone_what_he_is_about_to_move() {
    let (mut table, [holder, other], now) = world();
    let rename = Change::Rename {
        from: node(""),
        from_name: Name::new("a").unwrap(),
        to: node(""),
        to_name: Name::new("c").unwrap(),
        how: wormhole_protocol::RenameHow::Replace,
        keep: None,
    };
    assert!(table.claim(holder, 1, (ID, &at("a/b")), now));
    let moving = table.visit(holder, Scope::of_change(&rename), true);
    assert!(!table.is_sole(holder, (ID, &at("a/b"))));
    assert!(!table.claim(holder, 1, (ID, &at("a/b")), now));
    table.left(moving);
    // By then it is elsewhere.
    assert!(!table.claim(holder, 1, (ID, &at("c/b")), now));
    lease(&mut table, holder, "c/b", now);
    assert!(table.claim(holder, 1, (ID, &at("c/b")), now));
    assert_eq!(table.recall(other, &listing("a/b"), now), []);
    assert_eq!(table.recall(other, &listing("c/b"), now).len(), 1);
}

#[test]
fn a_directory_that_a_program_of_the_host_moved_is_held_alone_where_it_is() {
    let (mut table, [holder, other], now) = world();
    assert!(table.claim(holder, 1, (ID, &at("a/b")), now));
    lease(&mut table, holder, "c/b", now);
    assert!(!table.is_sole(holder, (ID, &at("c/b"))));
    assert!(table.claim(holder, 1, (ID, &at("c/b")), now));
    assert_eq!(table.recall(other, &listing("c/b"), now).len(), 1);
}

#[test]
fn who_is_waited_for_does_not_get_it_back_at_once() {
    let (mut table, [holder, other], now) = world();
    assert!(table.claim(holder, 1, (ID, &at("a/b")), now));
    let waits = table.recall(other, &listing("a/b"), now);
    assert_eq!(waits.len(), 1);
    assert!(!table.claim(holder, 1, (ID, &at("a/b")), now));
    assert_eq!(table.recall(other, &listing("a/b"), now), waits);
    table.heard(holder, 1, waits[0].number, now);
    assert_eq!(table.recall(other, &listing("a/b"), now), []);
    assert!(!table.claim(holder, 1, (ID, &at("a/b")), now));
}

#[test]
fn who_holds_many_alone_shares_the_one_he_has_held_longest() {
    let (mut table, [holder, other], now) = world();
    table.allowance = Arc::new(Allowance::new(4 * SOLE_LEASES_MAX));
    let nth = |n: usize| {
        let id = FileId {
            inode: 100 + n as u64,
            ..ID
        };
        (id, at(&format!("d{n}")))
    };
    let claim = |table: &mut Table<Quiet>, n: usize| {
        let (id, path) = nth(n);
        let node = File::open("/dev/null").unwrap().into();
        let now = now + std::time::Duration::from_millis(n as u64);
        assert!(table.grant(holder, 1, id, (&path, &node), now));
        table.claim(holder, 1, (id, &path), now)
    };
    let is_sole = |table: &Table<Quiet>, n: usize| {
        let (id, path) = nth(n);
        table.is_sole(holder, (id, &path))
    };
    for n in 0..SOLE_LEASES_MAX {
        assert!(claim(&mut table, n), "{n}");
    }
    assert_eq!(table.soles.by_dir.len(), SOLE_LEASES_MAX);
    // One more for each that he is told to share, as long as he hears of it.
    for n in SOLE_LEASES_MAX..2 * SOLE_LEASES_MAX {
        assert!(is_sole(&table, n - SOLE_LEASES_MAX));
        assert!(claim(&mut table, n), "{n}");
        assert!(!is_sole(&table, n - SOLE_LEASES_MAX));
    }
    assert!(!claim(&mut table, 2 * SOLE_LEASES_MAX));
    // What he has not heard is waited for.
    let waits = table.recall(other, &listing("d0"), now);
    assert_eq!(waits.len(), 1);
    table.heard(holder, 1, Number::MAX, now);
    assert_eq!(table.recall(other, &listing("d0"), now), []);
    assert!(claim(&mut table, 2 * SOLE_LEASES_MAX));
    assert!(table.soles.by_dir.len() <= SOLE_LEASES_MAX + 1);
}
