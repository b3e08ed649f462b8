//! Mounts that announce bytes and do not send them: they hold their part, and others go on.

use crate::changes::{ROOT, WRITABLE, asking, writing};
use crate::world::{Stuck, World, node};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::task::JoinSet;
use wormhole::rpc::{Serve, Source, SourceBroken};

/// What all sessions may hold for what is written: what is set aside for each, and what they share.
const HOST_BYTES: usize = (64 + 64) << 20;

/// One piece of a body, and nothing more for ever.
struct Silent(Option<Bytes>);

impl Source for Silent {
    fn next<'a>(
        &'a mut self,
        pieces: &'a mut Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), SourceBroken>> {
        async move {
            match self.0.take() {
                Some(piece) => {
                    pieces.push(piece);
                    Ok(())
                }
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// Begins `count` writes of a mebibyte, and sends the first bytes of each.
fn hog(session: &Arc<dyn Serve>, count: usize) -> JoinSet<()> {
    let mut hogs = JoinSet::new();
    for _ in 0..count {
        let session = session.clone();
        hogs.spawn(async move {
            let request = asking(ROOT, writing(1, 0, &[0; 1 << 20]));
            let mut source = Silent(Some(Bytes::from_static(b"first")));
            let mut sink = Stuck::after(0);
            let _ = session.serve(request, &mut source, &mut sink).await;
        });
    }
    hogs
}

#[tokio::test]
async fn mounts_that_send_half_their_bytes_hold_their_part_and_others_go_on() {
    let world = World::with(WRITABLE);
    world.write("f", "content");
    let mut hogs = Vec::new();
    for mount in 0..20 {
        let session = world.session(mount).await;
        hogs.push((hog(&session, 50), session));
    }
    // Until all that is shared is taken, and each has what is set aside for it.
    loop {
        let held: Vec<_> = world.sessions().iter().map(|s| s.buffer_bytes).collect();
        let total: usize = held.iter().sum();
        assert!(total <= HOST_BYTES, "{held:?}");
        if total >= (64 + 20) << 20 {
            break;
        }
        tokio::task::yield_now().await;
    }
    // One that sends what it says, is served; and reading is not touched by it at all.
    let good = world.mount_as(99).await;
    good.open(node("f"), 1).await.unwrap();
    for round in 0..4 {
        good.write(1, round << 20, &[7; 1 << 20]).await.unwrap();
    }
    let (_, bytes) = good.read(node("f"), 0, 8 << 20).await.unwrap();
    assert!(bytes == vec![7; 4 << 20]);
    good.make_dir("", "d").await.unwrap();
    // A large one waits for its turn, and gets it when they go.
    let large = vec![8; 4 << 20];
    let mut waiting = good.write(1, 0, &large).boxed();
    for _ in 0..100 {
        assert!((&mut waiting).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(hogs);
    waiting.await.unwrap();
    while world.sessions().len() > 1 || world.sessions()[0].buffer_bytes > 0 {
        tokio::task::yield_now().await;
    }
}
