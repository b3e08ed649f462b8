//! How many round trips it takes to read what a program on the host has just changed. The host is made up and far
//! away; time is virtual.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use support::distant::Distant;
use support::fake::{FakeHost, attr, bytes_at};
use tokio::time::{Instant, sleep};
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::notify::{Forget, Notify};
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const RTT: Duration = Duration::from_millis(150);
/// Longer than what is not leased is believed, and than it takes to hear from a mount that is used.
const LONG: Duration = Duration::from_secs(5);
const SIZE: u64 = 5000;

/// Forgets what it is told to.
struct Kernel;

impl Notify for Kernel {
    fn forget(&self, _: Forget) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn forget_pages(&self, _: Ino) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }

    fn forgets_names(&self) -> bool {
        true
    }
}

struct World {
    host: Arc<FakeHost>,
    vfs: Vfs,
    file: Ino,
}

impl World {
    /// A mount that listens, and has read the file `d/f`.
    async fn new() -> Self {
        let host = FakeHost::new();
        host.give_leases();
        host.put("d", attr(2, FileKind::Directory, 0, 1), 0);
        host.put("d/f", attr(3, FileKind::File, SIZE, 1), 1);
        let config = VfsConfig {
            attr_ttl: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            l1_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            durability: Default::default(),
            access: Access::ReadWrite,
        };
        let remote = Arc::new(Distant::new(&host, RTT));
        let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
        vfs.notify_by(Arc::new(Kernel));
        vfs.listen();
        sleep(RTT * 2).await;
        let find = |dir, name: &'static [u8]| vfs.lookup(dir, name);
        let dir = find(Ino::ROOT, b"d").await.unwrap().ok().unwrap();
        let file = find(dir.node.ino, b"f").await.unwrap().ok().unwrap();
        let world = Self {
            file: file.node.ino,
            host,
            vfs,
        };
        world.read(1).await;
        sleep(LONG).await;
        world
    }

    /// Opens and reads the file, which holds what `seed` makes; how long that took.
    async fn read(&self, seed: u64) -> Duration {
        let begun = Instant::now();
        let opened = self.vfs.open(CALLER, self.file, OpenHow::default()).await;
        let handle = opened.unwrap().handle;
        let bytes = self.vfs.read(handle, 0, SIZE).await.unwrap();
        assert!(bytes[..] == bytes_at(seed, 0, SIZE as usize)[..]);
        self.vfs.release(handle);
        begun.elapsed()
    }

    /// A program on the host writes to the file.
    fn change(&self, seed: u64) {
        let version = 10 + seed as u8;
        self.host
            .put("d/f", attr(3, FileKind::File, SIZE, version), seed);
    }

    /// The host tells of the file, with its bytes.
    async fn bring(&self, seed: u64) {
        let attr = self.host.attr_of("d/f").unwrap();
        let news = News::Entries {
            dir: self.host.attr_of("d").unwrap().id,
            attr: None,
            names: vec![NameNews {
                name: Name::new("f").unwrap(),
                attr: Some(attr),
                brings: true,
            }],
        };
        let content = bytes_at(seed, 0, SIZE as usize);
        let number = self.host.tell_with(news, &content);
        self.host.wait_heard(number).await;
    }

    fn reads(&self) -> usize {
        self.host.reads().len()
    }

    fn wanted(&self) -> usize {
        self.host.leases.wanted.lock().unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_just_changed_is_read_in_one_round_trip_and_believed_under_the_lease() {
    let world = World::new().await;
    // Each look at a file that changed a moment ago finds another version.
    world.host.misbehaviour.lock().unwrap().restless = true;
    world.change(2);
    world.host.tell_of("d", &["f"]).await;
    assert_eq!(world.read(2).await, RTT);
    assert_eq!(world.read(2).await, Duration::ZERO);
    sleep(LONG).await;
    assert_eq!(world.read(2).await, Duration::ZERO);
    assert_eq!(world.reads(), 2);
    world.change(3);
    world.host.tell_of("d", &["f"]).await;
    assert_eq!(world.read(3).await, RTT);
    assert_eq!(world.read(3).await, Duration::ZERO);
    assert_eq!(world.vfs.fetcher().read_stats.snapshot().direct, 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_come_with_the_news_are_read_without_a_request() {
    let world = World::new().await;
    assert_eq!(world.wanted(), 1, "said with what is said anyway");
    for seed in 2..5 {
        world.change(seed);
        world.bring(seed).await;
        assert_eq!(world.read(seed).await, Duration::ZERO);
        sleep(LONG).await;
        assert_eq!(
            world.wanted(),
            seed as usize,
            "wanted again once it was read"
        );
    }
    assert_eq!(world.reads(), 1);
    let counted = world.vfs.bulk().stats.snapshot();
    assert_eq!((counted.fetched_files, counted.used_files), (3, 3));
    assert_eq!(counted.used_bytes, 3 * SIZE);
    // Not read: it came in vain, and is not asked for again.
    world.change(5);
    world.bring(5).await;
    sleep(LONG).await;
    let counted = world.vfs.bulk().stats.snapshot();
    assert_eq!((counted.fetched_files, counted.used_files), (4, 3));
    assert_eq!(world.wanted(), 4);
    // The host need not bring what is wanted.
    world.change(6);
    world.host.tell_of("d", &["f"]).await;
    assert_eq!(world.read(6).await, RTT);
}

#[tokio::test(start_paused = true)]
async fn an_open_that_met_a_replacement_is_told_to_look_again() {
    let world = World::new().await;
    world.host.put("d/g", attr(4, FileKind::File, SIZE, 1), 7);
    let dir = world
        .vfs
        .lookup(Ino::ROOT, b"d")
        .await
        .unwrap()
        .ok()
        .unwrap();
    let look = async |name: &'static [u8]| {
        let found = world.vfs.lookup(dir.node.ino, name).await.unwrap();
        found.ok().unwrap().node.ino
    };
    let found = look(b"g").await;
    // Between the lookup and the open a program puts another file in its place.
    world.host.put("d/g", attr(5, FileKind::File, SIZE, 1), 8);
    world.host.tell_of("d", &["g"]).await;
    let opened = world.vfs.open(CALLER, found, OpenHow::default()).await;
    assert_eq!(opened.err(), Some(FsError::Stale), "the kernel looks again");
    let successor = look(b"g").await;
    assert_ne!(successor, found);
    let opened = world.vfs.open(CALLER, successor, OpenHow::default()).await;
    let bytes = world.vfs.read(opened.unwrap().handle, 0, SIZE).await;
    assert!(bytes.unwrap()[..] == bytes_at(8, 0, SIZE as usize)[..]);
}

#[tokio::test(start_paused = true)]
async fn an_open_file_that_was_replaced_is_read_from_what_is_here() {
    let world = World::new().await;
    let opened = world.vfs.open(CALLER, world.file, OpenHow::default()).await;
    let handle = opened.unwrap().handle;
    world.host.put("d/f", attr(4, FileKind::File, SIZE, 1), 8);
    world.host.tell_of("d", &["f"]).await;
    for _ in 0..2 {
        let bytes = world.vfs.read(handle, 0, SIZE).await.unwrap();
        assert!(bytes[..] == bytes_at(1, 0, SIZE as usize)[..]);
    }
    let again = world.vfs.open(CALLER, world.file, OpenHow::default()).await;
    assert_eq!(again.err(), Some(FsError::Stale));
}
