//! What is found to be wrong is not believed again, whatever answers to earlier questions say. The host is
//! made up and far away; time is virtual.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;
use support::distant::Distant;
use support::fake::{FakeHost, attr};
use tokio::time::sleep;
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const RTT: Duration = Duration::from_millis(150);
const TTL: Duration = Duration::from_secs(1);

struct World {
    host: Arc<FakeHost>,
    vfs: Vfs,
}

impl World {
    fn new() -> Self {
        let host = FakeHost::new();
        let config = VfsConfig {
            attr_ttl: TTL,
            timeout: Duration::from_secs(30),
            l1_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            durability: Default::default(),
            access: Access::ReadWrite,
        };
        let remote = Arc::new(Distant::new(&host, RTT));
        let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
        Self { host, vfs }
    }

    fn put(&self, inode: u64) {
        let attr = attr(inode, FileKind::File, 10, 1);
        self.host.put("journal", attr, inode);
    }

    async fn find(&self) -> Option<Ino> {
        let found = self.vfs.lookup(Ino::ROOT, b"journal").await.unwrap();
        found.ok().map(|found| found.node.ino)
    }

    /// Opens to write, as the kernel does with a node it holds.
    async fn open_is_stale(&self, ino: Ino) -> bool {
        let how = OpenHow {
            writes: true,
            ..OpenHow::default()
        };
        matches!(self.vfs.open(CALLER, ino, how).await, Err(FsError::Stale))
    }
}

/// Another mount makes and removes a file again and again, as sqlite does with its journal. The kernel asks
/// once more after a stale open, and has to be told that there is nothing; the file in between must not
/// be believed, or the second open is stale as well and the program sees that.
#[tokio::test(start_paused = true)]
async fn a_stale_open_ends_belief_in_whatever_had_the_name_since() {
    let world = World::new();
    world.put(3);
    let first = world.find().await.unwrap();
    world.put(4);
    sleep(TTL * 6 / 10).await;
    // The use renews the name, and finds the second file.
    assert_eq!(world.find().await, Some(first));
    sleep(RTT * 2).await;
    world.host.remove("journal");
    assert!(world.open_is_stale(first).await);
    assert_eq!(world.find().await, None);
}

#[tokio::test(start_paused = true)]
async fn an_answer_under_way_when_it_was_found_wrong_is_not_believed() {
    let world = World::new();
    world.put(3);
    let first = world.find().await.unwrap();
    sleep(TTL * 6 / 10).await;
    let open = world.open_is_stale(first);
    world.host.remove("journal");
    let renewal = async {
        // Begins a renewal that the host answers while there is none, and that arrives after the open.
        sleep(RTT / 4).await;
        world.find().await
    };
    let (stale, seen) = tokio::join!(open, renewal);
    assert!(stale);
    assert_eq!(seen, Some(first));
    sleep(RTT).await;
    world.put(5);
    assert_eq!(world.find().await, Some(Ino(5)));
}
