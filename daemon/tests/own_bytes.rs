//! What a mount wrote is read back from its caches, once the host has vouched for it; and only then.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

#[path = "model/world.rs"]
mod world;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::fs;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
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
use wormhole::mount::vfs::{CreateHow, Vfs, Wanted};
use wormhole::rpc::{Answer, Body, CallError, PathEstimate, Remote};
use wormhole_protocol::{
    Allocate, AttrChange, Caller, LockKind, LockMode, LockOwner, LockRange, Reply, Request,
    ShareId, SyncWhat,
};

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

    /// One that holds a lease on the root.
    async fn leasing(world: &World) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let number = NUMBER.fetch_add(1, Relaxed);
        let (vfs, door, link) = world.mount(number, true, Durability::Strict).await;
        // It listens by then.
        sleep(Duration::from_millis(50)).await;
        let handle = vfs.opendir(Ino::ROOT).unwrap();
        vfs.readdir(handle, 0).await.unwrap();
        vfs.release(handle);
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
    mount.until(|stats| stats.kept_files == 2).await;
    assert!(mount.read(shorter).await == bytes(1, 150_000));
    assert_eq!(mount.fetched_bytes(), 0);
    assert_eq!(mount.read(longer).await, b"content\0\0\0");
}

#[tokio::test]
async fn what_is_long_or_does_not_begin_here_is_not_asked_about() {
    let world = World::new();
    let mount = Mount::new(&world).await;
    // An eighth of the memory cache is what may be held.
    let long = mount.make("long", &[(0, bytes(1, 2 << 20))]).await;
    fs::write(world.folder().join("theirs"), "content").unwrap();
    let found = mount.vfs.lookup(Ino::ROOT, b"theirs").await.unwrap();
    let theirs = found.unwrap().node.ino;
    let how = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    let handle = mount.vfs.open(CALLER, theirs, how).await.unwrap().handle;
    mount.vfs.write(handle, 1, b"O").await.unwrap();
    mount.close(handle).await;
    mount.make("last", &[(0, b"content".to_vec())]).await;
    mount.until(|stats| stats.kept_files == 1).await;
    assert_eq!(mount.vfs.own_bytes().stats.snapshot().asked_files, 1);
    assert!(mount.read(long).await == bytes(1, 2 << 20));
    assert_eq!(mount.read(theirs).await, b"cOntent");
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

/// What a linker does: sections here and there, looked at again before the file is closed.
#[tokio::test]
async fn what_is_being_written_is_read_without_the_host() {
    let world = World::new();
    let mount = Mount::leasing(&world).await;
    let (_, handle) = mount.create("f").await;
    mount.vfs.write(handle, 0, b"header").await.unwrap();
    mount.vfs.write(handle, 100_000, b"section").await.unwrap();
    let read = async |offset, len| mount.vfs.read(handle, offset, len).await.unwrap();
    assert_eq!(read(0, 8).await, b"header\0\0"[..]);
    assert_eq!(read(99_999, 100).await, b"\0section"[..]);
    assert_eq!(read(100_007, 100).await, b""[..]);
    mount.vfs.write(handle, 2, b"AD").await.unwrap();
    assert_eq!(read(0, 6).await, b"heADer"[..]);
    let whole = read(0, 1 << 20).await;
    let stats = mount.vfs.own_bytes().stats.snapshot();
    assert_eq!((mount.fetched_bytes(), stats.kept_files), (0, 0));
    assert_eq!(stats.read_bytes, 8 + 8 + 6 + 100_007);
    mount.close(handle).await;
    assert!(fs::read(world.folder().join("f")).unwrap() == whole);
    // And so is one that was emptied.
    let (ino, handle) = mount.create("g").await;
    mount.vfs.write(handle, 3, b"longer").await.unwrap();
    mount.cut(ino, 0).await;
    mount.vfs.write(handle, 1, b"x").await.unwrap();
    assert_eq!(mount.vfs.read(handle, 0, 9).await.unwrap(), b"\0x"[..]);
    mount.cut(ino, 4).await;
    assert_eq!(mount.vfs.read(handle, 0, 9).await.unwrap(), b"\0x\0\0"[..]);
    assert_eq!(mount.fetched_bytes(), 0);
    assert_eq!(
        mount.vfs.own_bytes().stats.snapshot().read_bytes,
        stats.read_bytes + 6
    );
}

#[tokio::test]
async fn what_another_mount_has_written_is_read_the_moment_it_was() {
    let world = World::new();
    let (mount, other) = (Mount::leasing(&world).await, Mount::leasing(&world).await);
    let how = OpenHow {
        writes: true,
        ..OpenHow::default()
    };
    for n in 0..20 {
        let name = format!("f{n}");
        let (ino, handle) = mount.create(&name).await;
        mount.vfs.write(handle, 0, b"content").await.unwrap();
        mount.vfs.fsync(handle, SyncWhat::All).await.unwrap();
        assert_eq!(mount.read(ino).await, b"content");
        let found = other.vfs.lookup(Ino::ROOT, name.as_bytes()).await;
        let theirs = found.unwrap().unwrap().node.ino;
        let opened = other.vfs.open(CALLER, theirs, how).await.unwrap();
        other.vfs.write(opened.handle, 1, b"O").await.unwrap();
        other.close(opened.handle).await;
        assert_eq!(mount.read(ino).await, b"cOntent", "{n}");
        // What is written here afterwards does not hide it.
        mount.vfs.write(handle, 3, b"T").await.unwrap();
        assert_eq!(mount.read(ino).await, b"cOnTent", "{n}");
        mount.close(handle).await;
    }
}

#[tokio::test]
async fn what_a_program_on_the_host_has_written_is_read_before_long_and_under_a_lock_at_once() {
    let world = World::new();
    let mount = Mount::leasing(&world).await;
    for n in 0..20 {
        let name = format!("f{n}");
        let (ino, handle) = mount.create(&name).await;
        mount.vfs.write(handle, 0, b"content").await.unwrap();
        mount.vfs.fsync(handle, SyncWhat::All).await.unwrap();
        assert_eq!(mount.read(ino).await, b"content");
        fs::write(world.folder().join(name), "theirs").unwrap();
        if n % 2 == 0 {
            let wanted = Wanted {
                owner: LockOwner(1),
                kind: LockKind::Record,
                range: LockRange::new(0, 1).unwrap(),
            };
            let locked = mount.vfs.lock(handle, wanted, LockMode::Exclusive, false);
            locked.await.unwrap();
            assert_eq!(mount.read(ino).await, b"theirs", "{n}");
        } else {
            while mount.read(ino).await != b"theirs" {
                sleep(Duration::from_millis(1)).await;
            }
        }
        mount.close(handle).await;
    }
}

#[tokio::test]
async fn what_the_host_did_to_it_is_read_from_there() {
    let world = World::new();
    let mount = Mount::leasing(&world).await;
    let (ino, handle) = mount.create("f").await;
    mount.vfs.write(handle, 0, b"content").await.unwrap();
    let zeroed = Allocate::ZeroKeepSize;
    mount.vfs.allocate(handle, 2, 3, zeroed).await.unwrap();
    assert_eq!(mount.read(ino).await, b"co\0\0\0nt");
    mount.cut(ino, 0).await;
    mount.vfs.write(handle, 0, b"content").await.unwrap();
    assert_eq!(
        mount.vfs.copy((handle, 0), (handle, 7), 7).await.unwrap(),
        7
    );
    assert_eq!(mount.read(ino).await, b"contentcontent");
    mount.close(handle).await;
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

/// Closes `files` files, one each `pause`, and waits until a [`Doubtful`] host was asked about all: about how many at a
/// time, and when in ms.
async fn asked_of_a_doubtful_host(files: u32, pause: Duration) -> Vec<(usize, u128)> {
    let world = World::new();
    let mount = Mount::new(&world).await;
    let mut nodes = Vec::new();
    for number in 0..files {
        let name = format!("{number}");
        fs::write(world.folder().join(&name), "content").unwrap();
        let found = mount.vfs.lookup(Ino::ROOT, name.as_bytes()).await;
        nodes.push(found.unwrap().ok().unwrap().node);
    }
    tokio::time::pause();
    let host = Arc::new(Doubtful::default());
    let share = ShareId([1; 16]);
    let fetcher = Fetcher::new(share, host.clone(), 8 << 20, None, Duration::from_secs(1));
    let own = OwnBytes::new(fetcher, host.clone(), 8 << 20);
    let began = Instant::now();
    for node in &nodes {
        own.write(node, 0).wrote(0, b"content");
        own.closed(node.id);
        // A sleep of nothing takes a millisecond.
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    sleep(Duration::from_secs(10)).await;
    let asked = host.0.lock().unwrap();
    let asked = asked
        .iter()
        .map(|(files, at)| (*files, (*at - began).as_millis()));
    asked.collect()
}

#[tokio::test]
async fn who_is_asked_once_more_holds_up_nobody() {
    let asked = asked_of_a_doubtful_host(2, Duration::from_millis(400)).await;
    let asked: Vec<_> = asked.iter().map(|(files, at)| (*files, at / 100)).collect();
    assert_eq!(asked, [(1, 1), (1, 5), (1, 26), (1, 30)]);
}

#[tokio::test]
async fn files_closed_one_after_the_other_are_asked_about_together() {
    let asked = asked_of_a_doubtful_host(100, Duration::from_millis(2)).await;
    let first: Vec<_> = asked.iter().filter(|(_, at)| *at < 1_000).collect();
    assert_eq!(first.iter().map(|(files, _)| files).sum::<usize>(), 100);
    assert!(first.len() < 10, "{first:?}");
}

#[tokio::test]
async fn more_than_fit_a_question_are_asked_about_without_a_pause() {
    let asked = asked_of_a_doubtful_host(300, Duration::ZERO).await;
    let first: Vec<_> = asked.iter().filter(|(_, at)| *at < 1_000).collect();
    assert_eq!(first.iter().map(|(files, _)| files).sum::<usize>(), 300);
    assert!(first.iter().all(|(_, at)| *at < 160), "{first:?}");
}
