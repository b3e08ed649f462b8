//! Locks as a session serves them.

use crate::access::{mount, serve, writable};
use crate::world::{Mount, World, node};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wormhole::rpc::{CallError, Remote};
use wormhole_protocol::{
    Access, Caller, Change, Fault, FileKind, Lock, LockConflict, LockKind, LockMode, LockOwner,
    LockRange, OpenId, Reply, Request, Seq,
};

const OPEN: OpenId = OpenId(1);

fn record(owner: u64, first: u64, last: u64) -> Lock {
    Lock {
        open: OPEN,
        owner: LockOwner(owner),
        kind: LockKind::Record,
        range: LockRange::new(first, last).unwrap(),
    }
}

fn flocked() -> Lock {
    Lock {
        kind: LockKind::Flock,
        range: LockRange::ALL,
        ..record(1, 0, 0)
    }
}

fn take(lock: Lock, wait: bool) -> Request {
    let mode = LockMode::Exclusive;
    Request::Lock { lock, mode, wait }
}

async fn change(mount: &Mount, seq: u64, change: Change) -> Result<Reply, Fault> {
    let request = Request::Change {
        seq: Seq(seq),
        settled: Seq(seq),
        caller: Caller { uid: 0, gid: 0 },
        change,
    };
    mount.call(request).await
}

/// Two mounts of one share that both have the file open.
async fn two() -> (World, Arc<Mount>, Arc<Mount>) {
    let world = World::new();
    let service = serve(&world, "open", writable());
    std::fs::write(service.share().path().join("f"), "content").unwrap();
    let mut mounts = Vec::new();
    for number in [1, 2] {
        let (mount, _) = mount(&world, &service, Access::ReadWrite, number).await;
        let open = Change::Open {
            truncate: false,
            node: node("f"),
            access: Access::ReadWrite,
            open: OPEN,
        };
        change(&mount, 1, open).await.unwrap();
        mounts.push(Arc::new(mount));
    }
    let b = mounts.pop().unwrap();
    (world, mounts.pop().unwrap(), b)
}

/// A lock comes with the file's attributes.
fn is_granted(told: &Result<Reply, Fault>) -> bool {
    matches!(told, Ok(Reply::Attr(attr)) if attr.kind == FileKind::File)
}

#[tokio::test]
async fn two_mounts_exclude_each_other_and_are_told_who_is_in_the_way() {
    let (_world, a, b) = two().await;
    let done = Ok(Reply::Done);
    assert!(is_granted(&a.call(take(record(1, 0, 99), false)).await));
    let refused = b.call(take(record(1, 50, 60), false)).await;
    assert_eq!(refused, Err(Fault::Locked));
    let (lock, mode) = (record(1, 50, 500), LockMode::Shared);
    let conflict = LockConflict {
        range: LockRange::new(0, 99).unwrap(),
        mode: LockMode::Exclusive,
    };
    let told = b.call(Request::TestLock { lock, mode }).await;
    assert_eq!(told, Ok(Reply::Conflict(Some(conflict))));
    let lock = record(1, 0, 59);
    assert_eq!(a.call(Request::Unlock { lock }).await, done);
    assert!(is_granted(&b.call(take(record(1, 50, 59), false)).await));
    let all = Request::UnlockAll {
        open: OPEN,
        owner: LockOwner(1),
    };
    assert_eq!(a.call(all).await, done);
    assert!(is_granted(&b.call(take(record(1, 0, 999), false)).await));
    let lock = Lock {
        open: OpenId(9),
        ..lock
    };
    let unknown = a.call(take(lock, false)).await;
    assert_eq!(unknown, Err(Fault::NotOpen));
}

#[tokio::test]
async fn who_waits_gets_the_lock_once_it_is_free_and_others_are_served_meanwhile() {
    let (_world, a, b) = two().await;
    for lock in [record(1, 0, 9), flocked()] {
        a.call(take(lock, false)).await.unwrap();
        let waits: Vec<_> = (0..60)
            .map(|_| {
                let b = b.clone();
                tokio::spawn(async move { b.call(take(lock, true)).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        b.getattr(node("f")).await.unwrap();
        let begun = Instant::now();
        a.call(Request::Unlock { lock }).await.unwrap();
        for wait in waits {
            assert!(is_granted(&wait.await.unwrap()));
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn who_gives_up_waiting_has_nothing() {
    let (_world, a, b) = two().await;
    a.call(take(record(1, 0, 9), false)).await.unwrap();
    let waiting = b.0.call(take(record(1, 0, 9), true));
    let broken_off = tokio::time::timeout(Duration::from_millis(200), waiting).await;
    assert!(broken_off.is_err());
    let lock = record(1, 0, 9);
    a.call(Request::Unlock { lock }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let mode = LockMode::Exclusive;
    let told = a.call(Request::TestLock { lock, mode }).await;
    assert_eq!(told, Ok(Reply::Conflict(None)));
}

#[tokio::test]
async fn locks_end_with_what_was_open() {
    let (_world, a, b) = two().await;
    for lock in [record(1, 0, 9), flocked()] {
        a.call(take(lock, false)).await.unwrap();
        assert_eq!(b.call(take(lock, false)).await, Err(Fault::Locked));
    }
    change(&a, 2, Change::Close { opens: vec![OPEN] })
        .await
        .unwrap();
    for lock in [record(1, 0, 9), flocked()] {
        assert!(is_granted(&b.call(take(lock, false)).await));
    }
    let gone = a.0.call(take(flocked(), false)).await.map(|_| ());
    assert_eq!(gone, Err(CallError::Fault(Fault::NotOpen)));
}
