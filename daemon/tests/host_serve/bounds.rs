//! Mounts that take and do not read: they hold their part, and others go on.

use crate::world::{Stuck, World, node, read};
use futures_util::FutureExt;
use std::sync::Arc;
use tokio::task::JoinSet;
use wormhole::rpc::{Serve, SinkClosed};
use wormhole_protocol::{ByteRange, Fault, ReadUrgency, Request};

const SESSION_BYTES: usize = 16 << 20;
const HOST_BYTES: usize = 96 << 20;

fn read_of(urgency: ReadUrgency) -> Request {
    Request::Read {
        node: node("f"),
        range: ByteRange::new(0, 8 << 20).unwrap(),
        urgency,
    }
}

/// Asks for `count` long reads of each kind, takes `takes` pieces of each and reads no more.
fn hog(
    session: &Arc<dyn Serve>,
    count: usize,
    takes: usize,
) -> JoinSet<(Stuck, Result<(), SinkClosed>)> {
    let mut hogs = JoinSet::new();
    for _ in 0..count {
        for urgency in [ReadUrgency::Demand, ReadUrgency::Ahead] {
            let session = session.clone();
            hogs.spawn(async move {
                let mut sink = Stuck::after(takes);
                let ended = session.serve(read_of(urgency), &mut (), &mut sink).await;
                (sink, ended)
            });
        }
        let session = session.clone();
        hogs.spawn(async move {
            let mut sink = Stuck::after(takes);
            let ended = session
                .serve(
                    Request::List {
                        dir: node(""),
                        known: None,
                    },
                    &mut (),
                    &mut sink,
                )
                .await;
            (sink, ended)
        });
    }
    hogs
}

/// Waits until nothing moves any more: no buffer taken or given for a while of polling.
async fn settled(world: &World) -> Vec<usize> {
    let held = || -> Vec<_> { world.sessions().iter().map(|s| s.buffer_bytes).collect() };
    let (mut before, mut same) = (held(), 0);
    while same < 200 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        let now = held();
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    before
}

#[tokio::test]
async fn mounts_that_never_read_hold_their_part_and_others_go_on() {
    let world = World::new();
    let content = vec![5; 8 << 20];
    world.write("f", &content);
    let mut hogs = Vec::new();
    for mount in 0..20 {
        let session = world.session(mount).await;
        hogs.push((hog(&session, 80, 3), session));
    }
    // Until they have taken all that is shared, and each some of what is set aside for it.
    loop {
        let held: Vec<_> = world.sessions().iter().map(|s| s.buffer_bytes).collect();
        let total: usize = held.iter().sum();
        assert!(held.iter().all(|bytes| *bytes <= SESSION_BYTES), "{held:?}");
        assert!(total <= HOST_BYTES, "{held:?}");
        if total > 24 << 20 && held.iter().all(|bytes| *bytes > 0) {
            break;
        }
        tokio::task::yield_now().await;
    }
    // A mount that reads, reads everything.
    let good = world.mount_as(99).await;
    let (_, bytes) = good.read(node("f"), 0, 8 << 20).await.unwrap();
    assert!(bytes == content);
    assert_eq!(good.list("").await.unwrap().len(), 1);
    good.getattr(node("f")).await.unwrap();
    // When they go, everything they held comes back.
    drop(hogs);
    while world.sessions().len() > 1 || world.counters().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    let (_, bytes) = good.read(node("f"), 0, 8 << 20).await.unwrap();
    assert!(bytes == content);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_session_loses_its_replies() {
    let world = World::new();
    world.write("f", vec![5; 8 << 20]);
    let session = world.session(1).await;
    let mut hogs = hog(&session, 10, 1);
    let mut stalled = 0;
    while let Some(done) = hogs.join_next().await {
        let (sink, ended) = done.unwrap();
        match ended {
            // The listing was sent whole.
            Ok(()) => assert!(sink.aborted.is_none()),
            Err(SinkClosed) => {
                assert_eq!(sink.aborted, Some(Fault::Exhausted));
                stalled += 1;
            }
        }
    }
    assert_eq!(stalled, 20);
    assert_eq!(world.counters().stalls, 20);
    // The sinks are gone, and what they kept with them.
    assert_eq!(world.sessions()[0].buffer_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_mount_is_not_a_stalled_one() {
    use wormhole::rpc::Remote;
    let world = World::new();
    world.write("f", vec![5; 8 << 20]);
    let mount = world.mount().await;
    // One stream is read at 35 kbit/s; the other waits for its turn for minutes.
    let mut slow = mount.0.call(read(node("f"), 0, 8 << 20)).await.unwrap();
    let mut waiting = mount.0.call(read_of(ReadUrgency::Ahead)).await.unwrap();
    let mut piece = vec![0; 64 << 10];
    for _ in 0..30 {
        tokio::time::sleep(std::time::Duration::from_secs(15)).await;
        tokio::io::AsyncReadExt::read_exact(&mut slow.payload, &mut piece)
            .await
            .unwrap();
    }
    let mut rest = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut waiting.payload, &mut rest)
        .await
        .unwrap();
    assert_eq!(rest.len(), 8 << 20);
    assert_eq!(world.counters().stalls, 0);
}

#[tokio::test]
async fn cancelling_frees_everything() {
    let world = World::new();
    world.write("f", vec![5; 8 << 20]);
    let session = world.session(1).await;
    for round in 0..5 {
        let mut hogs = hog(&session, 60, round % 3);
        if round > 0 {
            settled(&world).await;
        }
        hogs.abort_all();
        while hogs.join_next().await.is_some() {}
    }
    assert_eq!(world.counters().in_flight, 0);
    // What was on the disk ends by itself.
    while world.sessions()[0].buffer_bytes > 0 {
        tokio::task::yield_now().await;
    }
    // All slots are free again: as many requests as there are run at once.
    let hogs = hog(&session, 30, 0);
    settled(&world).await;
    drop(hogs);
    let request = Request::Getattr { node: node("f") };
    let mut sink = Stuck::after(0);
    session.serve(request, &mut (), &mut sink).await.unwrap();
    assert!(sink.reply.is_some());
}

#[tokio::test]
async fn streams_that_wait_do_not_keep_out_other_classes() {
    let world = World::new();
    world.write("f", vec![5; 8 << 20]);
    let session = world.session(1).await;
    let mut ahead = JoinSet::new();
    for _ in 0..200 {
        let session = session.clone();
        ahead.spawn(async move {
            let mut sink = Stuck::after(1);
            let _ = session
                .serve(read_of(ReadUrgency::Ahead), &mut (), &mut sink)
                .await;
        });
    }
    settled(&world).await;
    // Demand, listing and attributes find slots and memory; the sink takes all they send.
    for request in [
        read_of(ReadUrgency::Demand),
        Request::List {
            dir: node(""),
            known: None,
        },
        Request::Getattr { node: node("f") },
    ] {
        let mut sink = Draining(0);
        session.serve(request, &mut (), &mut sink).await.unwrap();
        assert!(sink.0 > 0);
    }
    ahead.abort_all();
}

/// A mount that reads, and counts what came.
struct Draining(usize);

impl wormhole::rpc::Sink for Draining {
    fn reply(
        &mut self,
        _reply: wormhole_protocol::Reply,
    ) -> futures_util::future::BoxFuture<'_, Result<(), SinkClosed>> {
        self.0 += 1;
        std::future::ready(Ok(())).boxed()
    }

    fn send(
        &mut self,
        bytes: bytes::Bytes,
    ) -> futures_util::future::BoxFuture<'_, Result<(), SinkClosed>> {
        self.0 += bytes.len();
        std::future::ready(Ok(())).boxed()
    }

    fn abort(&mut self, fault: Fault) {
        panic!("{fault:?}");
    }

    fn prioritize(&mut self, _priority: i32) {}
}
