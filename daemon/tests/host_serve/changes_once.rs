//! Each change is done once, whatever becomes of connections; and what a mount holds waits for it.

use crate::changes::{
    ROOT, WRITABLE, asking, body_len, call, creating, making_dir, renaming, seq, writing,
};
use crate::world::{Mount, Stuck, World, expecting, hello, node};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{Serve, SinkClosed, Source, SourceBroken};
use wormhole_protocol::{Change, Fault, OpenId, RenameHow, Reply, Request, Seq};

/// Longer than anything is kept for a lost mount.
const LONG: Duration = Duration::from_secs(61);

fn change(seq: Seq, settled: u64, change: Change) -> Request {
    Request::Change {
        seq,
        settled: Seq(settled),
        caller: ROOT,
        change,
    }
}

async fn resumed(world: &World, mount: u8) -> (bool, Arc<dyn Serve>) {
    let admission = world.admit(&hello(&world.secret, mount)).await.unwrap();
    (admission.welcome.resumed, admission.session)
}

fn appending(seq: Seq, bytes: &[u8]) -> Request {
    let (open, len) = (OpenId(1), body_len(bytes));
    change(seq, 0, Change::Append { open, len })
}

/// Bytes, and then nothing more: the connection hangs, or is cut.
struct Halting {
    pieces: Vec<Bytes>,
    hangs: bool,
}

impl Halting {
    fn after(bytes: &'static [u8], hangs: bool) -> Self {
        let pieces = vec![Bytes::from_static(bytes)];
        Self { pieces, hangs }
    }
}

impl Source for Halting {
    fn next<'a>(
        &'a mut self,
        pieces: &'a mut Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), SourceBroken>> {
        async move {
            match self.pieces.pop() {
                Some(piece) => {
                    pieces.push(piece);
                    Ok(())
                }
                None if self.hangs => std::future::pending().await,
                None => Err(SourceBroken),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn the_same_number_is_done_once_and_answered_the_same() {
    let world = World::with(WRITABLE);
    let mount = world.mount().await;
    let make = change(seq(), 0, making_dir("", "d", 0o755));
    let first = mount.call(make.clone()).await.unwrap();
    assert_eq!(mount.call(make.clone()).await, Ok(first.clone()));
    // Even if others have changed all since.
    fs::remove_dir(world.at("d")).unwrap();
    assert_eq!(mount.call(make.clone()).await, Ok(first.clone()));
    assert!(!world.at("d").exists());
    // A failure is an answer as well.
    let remove = renaming(("", "gone"), ("", "x"), RenameHow::Replace, None);
    let remove = change(seq(), 0, remove);
    assert_eq!(mount.call(remove.clone()).await, Err(Fault::NotFound));
    world.write("gone", "");
    assert_eq!(mount.call(remove).await, Err(Fault::NotFound));
    // Over another connection too, but not for another mount.
    let again = world.mount().await;
    assert_eq!(again.call(make.clone()).await, Ok(first));
    let other = world.mount_as(2).await;
    assert!(other.call(make).await.is_ok());
    assert!(world.at("d").exists(), "another mount's number is its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrivals_at_once_share_one_doing() {
    let world = World::with(WRITABLE);
    let (a, b) = (world.mount().await, world.mount().await);
    a.create("", "f", 1).await.unwrap();
    for round in 0..50_u64 {
        let append = appending(seq(), b"12345678");
        let sent = (0..6).map(|i| {
            let mount = if i % 2 == 0 { &a } else { &b };
            call(mount, append.clone(), b"12345678")
        });
        let answers = join_all(sent).await;
        let first = answers[0].clone();
        assert!(
            matches!(first, Ok(Reply::Appended { offset, .. }) if offset == round * 8),
            "{first:?}"
        );
        assert!(answers.iter().all(|answer| *answer == first));
    }
    assert_eq!(fs::metadata(world.at("f")).unwrap().len(), 400);
}

#[tokio::test]
async fn what_is_settled_is_forgotten() {
    let world = World::with(WRITABLE);
    let mount = world.mount().await;
    let numbered = |n, settled, entry: &str| change(Seq(n), settled, making_dir("", entry, 0o755));
    mount.call(numbered(1_000_001, 0, "a")).await.unwrap();
    mount
        .call(numbered(1_000_002, 1_000_002, "b"))
        .await
        .unwrap();
    let late = mount.call(numbered(1_000_001, 0, "a")).await;
    assert_eq!(late, Err(Fault::Settled));
    assert!(mount.call(numbered(1_000_002, 0, "b")).await.is_ok());
    // A mount that settles nothing is told before it fills the host's memory.
    let mut kept = 0;
    let full = loop {
        let n = 2_000_000 + kept;
        match mount.call(change(Seq(n), 0, closing())).await {
            Ok(_) => kept += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!(full, Fault::Exhausted);
    assert!((500..=4096).contains(&kept), "{kept}");
    let settling = change(Seq(3_000_000), 3_000_000, closing());
    assert_eq!(mount.call(settling).await, Ok(Reply::Done));
}

fn closing() -> Change {
    Change::Close {
        opens: vec![OpenId(99)],
    }
}

#[tokio::test]
async fn a_change_whose_bytes_have_come_is_done_though_nobody_waits() {
    let world = World::with(WRITABLE);
    let session = world.session(1).await;
    let mount = Mount(Loopback::new(session.clone()));
    mount.create("", "f", 1).await.unwrap();
    let append = appending(seq(), b"whole");
    let mut polls = 0;
    loop {
        let mut source = vec![Bytes::from_static(b"whole")].into_iter();
        let mut sink = Stuck::after(0);
        let serving = session.serve(append.clone(), &mut source, &mut sink);
        // Given up after some polls: at every stage once.
        let limited = Polls {
            inner: serving,
            left: polls,
        };
        if limited.await.is_some() {
            break;
        }
        polls += 1;
    }
    drop(session);
    let again = world.mount().await;
    let answer = call(&again, append, b"whole").await;
    assert!(matches!(answer, Ok(Reply::Appended { offset: 0, .. })));
    assert_eq!(fs::read(world.at("f")).unwrap(), b"whole");
}

/// A future that is given up after some polls.
struct Polls<'a, T> {
    inner: BoxFuture<'a, T>,
    left: usize,
}

impl<T> Future for Polls<'_, T> {
    type Output = Option<T>;
    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        if self.left == 0 {
            return std::task::Poll::Ready(None);
        }
        self.left -= 1;
        self.inner.poll_unpin(context).map(Some)
    }
}

#[tokio::test]
async fn a_body_that_is_no_whole_is_as_if_never_sent() {
    let world = World::with(WRITABLE);
    let session = world.session(1).await;
    let mount = Mount(Loopback::new(session.clone()));
    mount.create("", "f", 1).await.unwrap();
    mount.write(1, 0, b"before").await.unwrap();
    let write = change(seq(), 0, writing(1, 0, b"12345678"));
    // Cut short, or too long: refused, and asked again it is done.
    for body in [&b"1234"[..], b"123456789"] {
        assert_eq!(call(&mount, write.clone(), body).await, Err(Fault::Invalid));
    }
    let mut sink = Stuck::after(0);
    let mut broken = Halting::after(b"1234", false);
    let served = session.serve(write.clone(), &mut broken, &mut sink).await;
    assert_eq!(served, Err(SinkClosed));
    assert_eq!(fs::read(world.at("f")).unwrap(), b"before");
    // The old connection hangs with half of it, the new one brings it all, and does not wait.
    let mut hanging = Halting::after(b"1234", true);
    let mut stuck = Stuck::after(0);
    let mut old = session.serve(write.clone(), &mut hanging, &mut stuck);
    assert!((&mut old).now_or_never().is_none());
    let new = world.mount().await;
    call(&new, write, b"12345678").await.unwrap();
    let later = asking(ROOT, writing(1, 0, b"LATER678"));
    call(&new, later, b"LATER678").await.unwrap();
    drop(old);
    assert_eq!(fs::read(world.at("f")).unwrap(), b"LATER678");
}

#[tokio::test(start_paused = true)]
async fn what_a_mount_holds_waits_a_minute_for_it() {
    let world = World::with(WRITABLE);
    let (found, session) = resumed(&world, 1).await;
    assert!(!found, "nothing yet");
    let mount = Mount(Loopback::new(session));
    let f = mount.create("", "f", 1).await.unwrap();
    mount.unlink("", "f", Some(1)).await.unwrap();
    drop(mount);
    tokio::time::sleep(LONG / 2).await;
    let (found, session) = resumed(&world, 1).await;
    assert!(found);
    let mount = Mount(Loopback::new(session));
    mount.write(1, 0, b"back").await.unwrap();
    // Not another mount's, and not under another ticket.
    let (found, _other) = resumed(&world, 2).await;
    assert!(!found);
    let issued = wormhole::host::TicketLimits {
        max_mounts: Some(9),
        ..Default::default()
    };
    let secret = world.service.state().issue(issued, 0).unwrap();
    let elsewhere = world.admit(&hello(&secret, 1)).await.unwrap();
    assert!(!elsewhere.welcome.resumed);
    // While one of two sessions lives, nothing goes.
    let (found, second) = resumed(&world, 1).await;
    assert!(found);
    drop(second);
    tokio::time::sleep(2 * LONG).await;
    let (_, bytes) = mount.read(expecting("f", f.id), 0, 9).await.unwrap();
    assert_eq!(bytes, b"back");
    drop(mount);
    tokio::time::sleep(LONG).await;
    let (found, session) = resumed(&world, 1).await;
    assert!(!found);
    let mount = Mount(Loopback::new(session));
    assert_eq!(mount.write(1, 0, b"x").await, Err(Fault::NotOpen));
}

#[tokio::test]
async fn a_goodbye_ends_all_at_once_unless_the_mount_is_back_already() {
    let world = World::with(WRITABLE);
    let (_, old) = resumed(&world, 1).await;
    Mount(Loopback::new(old.clone()))
        .create("", "f", 1)
        .await
        .unwrap();
    let (found, new) = resumed(&world, 1).await;
    assert!(found);
    old.goodbye();
    drop(old);
    let mount = Mount(Loopback::new(new.clone()));
    mount.write(1, 0, b"x").await.unwrap();
    drop(mount);
    new.goodbye();
    drop(new);
    let (found, _session) = resumed(&world, 1).await;
    assert!(!found);
    let left = world.mount_as(3).await;
    assert_eq!(left.getattr(node("f")).await.unwrap().size, 1);
}

/// A host that ends begins nothing more, but says what it has done.
#[tokio::test]
async fn a_host_that_ends_still_answers_what_was_done() {
    let world = World::with(WRITABLE);
    let mount = world.mount().await;
    let make = change(seq(), 0, making_dir("", "d", 0o755));
    let done = mount.call(make.clone()).await.unwrap();
    world.gate.close();
    assert_eq!(mount.call(make).await, Ok(done));
    let late = mount.make_dir("", "e").await;
    assert_eq!(late, Err(Fault::Closing));
    assert!(!world.at("e").exists());
}

#[tokio::test]
async fn after_a_restart_nothing_is_held() {
    let world = World::with(WRITABLE);
    let mount = world.mount().await;
    let create = change(seq(), 0, creating("", "f", 0o644, 1));
    mount.call(create).await.unwrap();
    drop(mount);
    let world = world.restart();
    let (found, session) = resumed(&world, 1).await;
    assert!(!found);
    let mount = Mount(Loopback::new(session));
    assert_eq!(mount.write(1, 0, b"x").await, Err(Fault::NotOpen));
    mount.open(node("f"), 1).await.unwrap();
    mount.write(1, 0, b"x").await.unwrap();
}
