//! What a mount wrote is read back from its caches, once the host has vouched for it; and only then.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "model/world.rs"]
mod world;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use world::World;
use wormhole::mount::durability::Durability;
use wormhole::mount::fetch::Fetcher;
use wormhole::mount::handles::{HandleId, OpenHow};
use wormhole::mount::inodes::Ino;
use wormhole::mount::link::Link;
use wormhole::mount::own_bytes::OwnBytes;
use wormhole::mount::stats::OwnBytesSnapshot;
use wormhole::mount::vfs::{CreateHow, Vfs};
use wormhole::rpc::{Answer, Body, CallError, PathEstimate, Remote};
use wormhole_protocol::{AttrChange, Caller, LockOwner, Reply, Request, ShareId};

const CALLER: Caller = Caller { uid: 0, gid: 0 };

struct Mount {
    vfs: Arc<Vfs>,
    _link: Arc<Link>,
    door: Arc<world::Door>,
}

impl Mount {
    async fn new(world: &World) -> Self {
        let (vfs, door, link) = world.mount(1, true, Durability::Strict).await;
        Self {
            vfs,
            _link: link,
            door,
        }
    }

    async fn create(&self, name: &str) -> (Ino, HandleId) {
        let create = CreateHow {
            mode: 0o600,
            exclusive: true,
            truncate: false,
        };
        let how = OpenHow {
            writes: true,
            ..OpenHow::default()
        };
        let created = self
            .vfs
            .create(CALLER, Ino::ROOT, name.as_bytes(), create, how);
        let (found, opened) = created.await.unwrap();
        (found.node.ino, opened.handle)
    }

    async fn close(&self, handle: HandleId) {
        self.vfs.flush(handle, LockOwner(1)).await.unwrap();
        self.vfs.release(handle);
    }

    /// Makes a file of pieces, each written where it says.
    async fn make(&self, name: &str, pieces: &[(u64, Vec<u8>)]) -> Ino {
        let (ino, handle) = self.create(name).await;
        for (offset, data) in pieces {
            self.vfs.write(handle, *offset, data).await.unwrap();
        }
        self.close(handle).await;
        ino
    }

    async fn cut(&self, ino: Ino, size: u64) {
        let set = AttrChange {
            size: Some(size),
            ..AttrChange::default()
        };
        self.vfs.setattr(CALLER, ino, set).await.unwrap();
    }

    async fn read(&self, ino: Ino) -> Vec<u8> {
        let opened = self.vfs.open(CALLER, ino, OpenHow::default()).await;
        let handle = opened.unwrap().handle;
        let bytes = self.vfs.read(handle, 0, 1 << 24).await.unwrap();
        self.vfs.release(handle);
        bytes.to_vec()
    }

    fn fetched_bytes(&self) -> u64 {
        self.vfs.fetcher().read_stats.snapshot().fetched_bytes
    }

    async fn until(&self, reached: impl Fn(OwnBytesSnapshot) -> bool) {
        while !reached(self.vfs.own_bytes().stats.snapshot()) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Bytes of which no two chunks are the same.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let byte = |i: u64| ((i * 31 + seed) ^ (i >> 9)).to_le_bytes()[0];
    (0..len as u64).map(byte).collect()
}

#[tokio::test]
async fn what_was_written_is_read_back_without_a_request() {
    let world = World::new();
    let mount = Mount::new(&world).await;
    let mut whole = bytes(1, 400_000);
    let mut pieces: Vec<_> = (0_u64..)
        .step_by(30_000)
        .zip(whole.chunks(30_000))
        .collect();
    // The header comes last, as linkers write it.
    let header = bytes(2, 5_000);
    pieces.push((0, &header));
    let pieces: Vec<_> = pieces
        .into_iter()
        .map(|(at, data)| (at, data.to_vec()))
        .collect();
    let large = mount.make("large", &pieces).await;
    whole[..5_000].copy_from_slice(&header);
    let small = mount.make("small", &[(0, b"content".to_vec())]).await;
    mount.until(|stats| stats.kept_files == 2).await;
    assert!(mount.read(large).await == whole);
    assert_eq!(mount.read(small).await, b"content");
    assert_eq!(mount.fetched_bytes(), 0);
    assert_eq!(mount.vfs.own_bytes().stats.snapshot().kept_bytes, 400_007);
    assert!(fs::read(world.folder().join("large")).unwrap() == whole);
}

#[tokio::test]
async fn what_a_program_on_the_host_wrote_in_between_is_read_from_there() {
    let world = World::new();
    let mount = Mount::new(&world).await;
    let (ino, handle) = mount.create("f").await;
    mount
        .vfs
        .write(handle, 0, b"content of ours")
        .await
        .unwrap();
    mount.close(handle).await;
    fs::write(world.folder().join("f"), "content, theirs").unwrap();
    let other = mount.make("other", &[(0, b"content".to_vec())]).await;
    mount
        .until(|stats| stats.asked_files >= 2 && stats.kept_files == 1)
        .await;
    assert_eq!(mount.read(ino).await, b"content, theirs");
    assert_eq!(mount.fetched_bytes(), 15);
    assert_eq!(mount.read(other).await, b"content");
    assert_eq!(mount.fetched_bytes(), 15);
}

#[tokio::test]
async fn what_is_written_again_replaces_what_was_kept() {
    let world = World::new();
    let mount = Mount::new(&world).await;
    let ino = mount.make("f", &[(0, bytes(1, 200_000))]).await;
    mount.until(|stats| stats.kept_files == 1).await;
    let how = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    // In the middle alone: what is around it is not ours to know.
    let handle = mount.vfs.open(CALLER, ino, how).await.unwrap().handle;
    mount.vfs.write(handle, 1_000, b"new").await.unwrap();
    mount.close(handle).await;
    let mut whole = bytes(1, 200_000);
    whole[1_000..1_003].copy_from_slice(b"new");
    assert!(mount.read(ino).await == whole);
    // All of it, and less than there was.
    let handle = mount.vfs.open(CALLER, ino, how).await.unwrap().handle;
    mount.cut(ino, 0).await;
    mount.vfs.write(handle, 0, b"short").await.unwrap();
    mount.close(handle).await;
    mount.until(|stats| stats.kept_files == 2).await;
    let fetched = mount.fetched_bytes();
    assert_eq!(mount.read(ino).await, b"short");
    assert_eq!(mount.fetched_bytes(), fetched);
}

#[tokio::test]
async fn a_file_that_was_cut_is_kept_as_it_is_then() {
    let world = World::new();
    let mount = Mount::new(&world).await;
    let (shorter, handle) = mount.create("shorter").await;
    mount
        .vfs
        .write(handle, 0, &bytes(1, 200_000))
        .await
        .unwrap();
    mount.cut(shorter, 150_000).await;
    mount.close(handle).await;
    let (longer, handle) = mount.create("longer").await;
    mount.vfs.write(handle, 0, b"content").await.unwrap();
    mount.cut(longer, 10).await;
    mount.close(handle).await;
    mount.until(|stats| stats.kept_files == 1).await;
    assert!(mount.read(shorter).await == bytes(1, 150_000));
    assert_eq!(mount.fetched_bytes(), 0);
    assert_eq!(mount.read(longer).await, b"content\0\0\0");
    assert_eq!(mount.vfs.own_bytes().stats.snapshot().asked_files, 1);
}

#[tokio::test]
async fn what_is_long_or_has_holes_is_not_asked_about() {
    let world = World::new();
    let mount = Mount::new(&world).await;
    // An eighth of the memory cache is what may be held.
    let long = mount.make("long", &[(0, bytes(1, 2 << 20))]).await;
    let holes = [(0, b"a".to_vec()), (2, b"b".to_vec())];
    let holes = mount.make("holes", &holes).await;
    let later = mount.make("later", &[(1, b"b".to_vec())]).await;
    mount.make("last", &[(0, b"content".to_vec())]).await;
    mount.until(|stats| stats.kept_files == 1).await;
    assert_eq!(mount.vfs.own_bytes().stats.snapshot().asked_files, 1);
    assert!(mount.read(long).await == bytes(1, 2 << 20));
    assert_eq!(mount.read(holes).await, b"a\0b");
    assert_eq!(mount.read(later).await, b"\0b");
}

#[tokio::test]
async fn a_lost_connection_costs_what_was_not_asked_about_and_nothing_else() {
    let world = World::new();
    let mount = Mount::new(&world).await;
    let before = mount.make("before", &[(0, b"content".to_vec())]).await;
    mount.door.cut();
    let after = mount.make("after", &[(0, b"content".to_vec())]).await;
    mount.until(|stats| stats.kept_files >= 1).await;
    for file in [before, after] {
        assert_eq!(mount.read(file).await, b"content");
    }
}

/// Vouches for nothing; how many files it was asked about, and when.
#[derive(Default)]
struct Doubtful(Mutex<Vec<(usize, Instant)>>);

impl Remote for Doubtful {
    fn call_with(&self, request: Request, _: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        let Request::Vouch { files } = request else {
            panic!("{request:?}");
        };
        self.0.lock().unwrap().push((files.len(), Instant::now()));
        let answer = Answer {
            reply: Reply::Vouched(vec![None; files.len()]),
            payload: Box::new(tokio::io::empty()),
        };
        std::future::ready(Ok(answer)).boxed()
    }

    fn path(&self) -> PathEstimate {
        PathEstimate::default()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}

#[tokio::test]
async fn who_is_asked_once_more_holds_up_nobody() {
    let world = World::new();
    for name in ["first", "second"] {
        fs::write(world.folder().join(name), "content").unwrap();
    }
    let mount = Mount::new(&world).await;
    let mut nodes = Vec::new();
    for name in [&b"first"[..], b"second"] {
        let found = mount.vfs.lookup(Ino::ROOT, name).await;
        nodes.push(found.unwrap().ok().unwrap().node);
    }
    tokio::time::pause();
    let host = Arc::new(Doubtful::default());
    let share = ShareId([1; 16]);
    let fetcher = Fetcher::new(share, host.clone(), 8 << 20, None, Duration::from_secs(1));
    let own = OwnBytes::new(fetcher, host.clone(), 8 << 20);
    let began = Instant::now();
    for node in &nodes {
        own.wrote(node, 0, b"content");
        own.closed(node.id);
        sleep(Duration::from_millis(400)).await;
    }
    sleep(Duration::from_secs(10)).await;
    let asked: Vec<_> = host.0.lock().unwrap().clone();
    let asked = asked
        .iter()
        .map(|(files, at)| (*files, (*at - began).as_millis() / 100));
    assert_eq!(
        asked.collect::<Vec<_>>(),
        [(1, 1), (1, 5), (1, 26), (1, 30)]
    );
}
