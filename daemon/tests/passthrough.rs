//! Which files are handed to the kernel, over a made-up host, in one process.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::fake::{FakeHost, attr, bytes_at};
use tempfile::TempDir;
use wormhole::mount::error::FsError;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::{CreateHow, Opened, Vfs, VfsConfig};
use wormhole::mount::warm::{Progress, Warmer};
use wormhole::rpc::loopback::Loopback;
use wormhole_cache::{Disk, DiskConfig};
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const SHARE: ShareId = ShareId([1; 16]);
const SIZE: u64 = 300 * 1024;
const WRITES: OpenHow = OpenHow {
    writes: true,
    appends: false,
    syncs: None,
    direct: false,
    truncates: false,
};

/// A mount of a file that is wholly in its disk cache.
struct Stage {
    host: Arc<FakeHost>,
    vfs: Arc<Vfs>,
    _dir: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let (host, dir) = (FakeHost::new(), TempDir::new().unwrap());
        host.put("file", attr(2000, FileKind::File, SIZE, 1), 42);
        host.put("small", attr(2001, FileKind::File, 60 * 1024, 1), 43);
        host.put("cold", attr(2002, FileKind::File, SIZE, 1), 44);
        let root = dir.path().to_owned();
        let config = DiskConfig {
            root,
            budget_bytes: 1 << 30,
        };
        let disk = Arc::new(Disk::open(config, SHARE).unwrap());
        let config = VfsConfig {
            attr_ttl: Duration::ZERO,
            timeout: Duration::from_secs(30),
            l1_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            durability: Default::default(),
            access: Access::ReadWrite,
        };
        let remote = Arc::new(Loopback::new(host.clone()));
        let vfs = Vfs::new(config, SHARE, host.root(), remote, Some(disk));
        let stage = Self {
            host,
            vfs: Arc::new(vfs),
            _dir: dir,
        };
        stage.warm("file").await;
        stage.warm("small").await;
        stage
    }

    async fn warm(&self, path: &str) {
        let (warmer, progress) = (Warmer::new(&self.vfs).unwrap(), Progress::default());
        warmer.bring(Path::new(path), &progress).await.unwrap();
    }

    async fn find(&self, name: &str) -> Ino {
        let found = self.vfs.lookup(Ino::ROOT, name.as_bytes()).await.unwrap();
        found.unwrap_or_else(|_| panic!("no {name}")).node.ino
    }

    async fn open(&self, name: &str) -> Opened {
        let ino = self.find(name).await;
        let opened = self.vfs.open(CALLER, ino, OpenHow::default()).await;
        opened.unwrap()
    }

    /// What the kernel would read.
    fn backed(opened: &Opened) -> Vec<u8> {
        let mut bytes = vec![0; SIZE as usize + 1];
        let whole = opened.whole.as_ref().unwrap();
        let read = rustix::io::pread(whole.as_fd(), &mut bytes, 0).unwrap();
        bytes.truncate(read);
        bytes
    }

    fn change(&self, version: u8, seed: u64) {
        let changed = attr(2000, FileKind::File, SIZE, version);
        self.host.put("file", changed, seed);
    }
}

#[tokio::test]
async fn a_file_wholly_in_the_disk_cache_is_handed_over_and_others_are_not() {
    let stage = Stage::new().await;
    let opened = stage.open("file").await;
    assert!(Stage::backed(&opened) == bytes_at(42, 0, SIZE as usize));
    let again = stage.open("file").await;
    let (one, other) = (opened.whole.as_ref(), again.whole.as_ref());
    assert!(
        Arc::ptr_eq(one.unwrap(), other.unwrap()),
        "one file for all"
    );
    for name in ["small", "cold"] {
        assert!(stage.open(name).await.whole.is_none(), "{name}");
    }
    let shown = stage.vfs.passthrough().snapshot();
    assert_eq!((shown.opens, shown.open_files), (2, 1));
    assert_eq!(shown.files, [Path::new("file")]);
    stage.vfs.release(opened.handle);
    stage.vfs.release(again.handle);
    assert_eq!(stage.vfs.passthrough().snapshot().open_files, 0);
    // What is open in the usual way stays so for whoever opens it meanwhile.
    let cold = stage.open("cold").await;
    stage.warm("cold").await;
    assert!(stage.open("cold").await.whole.is_none());
    stage.vfs.passthrough().refuse("for a test");
    assert!(stage.open("file").await.whole.is_none());
    stage.vfs.release(cold.handle);
}

#[tokio::test]
async fn a_large_file_that_was_warmed_is_handed_over_at_its_first_open() {
    let stage = Stage::new().await;
    let large = attr(2004, FileKind::File, 70 << 20, 1);
    stage.host.put("large", large, 46);
    stage.warm("large").await;
    assert!(stage.open("large").await.whole.is_some());
}

#[tokio::test]
async fn a_file_that_was_just_written_or_seen_to_change_is_not_handed_over() {
    let stage = Stage::new().await;
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut fresh = attr(2003, FileKind::File, SIZE, 1);
    fresh.modified = Timestamp::new(now.cast_signed(), 0).unwrap();
    stage.host.put("fresh", fresh, 45);
    stage.warm("fresh").await;
    assert!(stage.open("fresh").await.whole.is_none());
    let opened = stage.open("file").await;
    assert!(opened.whole.is_some());
    stage.vfs.release(opened.handle);
    stage.change(2, 50);
    stage.warm("file").await;
    assert!(stage.open("file").await.whole.is_none());
}

#[tokio::test]
async fn who_opens_a_changed_file_anew_gets_the_new_version_and_the_old_reader_keeps_his() {
    let stage = Stage::new().await;
    let old = stage.open("file").await;
    let ino = stage.find("file").await;
    stage.change(2, 50);
    let opened = stage.vfs.open(CALLER, ino, OpenHow::default()).await;
    assert_eq!(opened.err(), Some(FsError::Stale), "the kernel looks again");
    let renumbered = stage.find("file").await;
    assert_ne!(renumbered, ino);
    assert_eq!(stage.find("file").await, renumbered);
    let new = stage.open("file").await;
    assert!(new.whole.is_none());
    let read = stage.vfs.read(new.handle, 0, SIZE).await.unwrap();
    assert!(read[..] == bytes_at(50, 0, SIZE as usize)[..]);
    assert!(Stage::backed(&old) == bytes_at(42, 0, SIZE as usize));
    let told = stage.vfs.getattr(ino, Some(old.handle)).await.unwrap();
    assert_eq!(told.0.version, ContentVersion([2; 16]));
    // The old number is free once the kernel has forgotten it, and the new one stays.
    stage.vfs.release(old.handle);
    stage.vfs.forget(ino, u64::MAX);
    assert_eq!(stage.find("file").await, renumbered);
}

#[tokio::test]
async fn who_writes_a_file_that_is_read_past_us_gets_another_number_and_is_never_read_past() {
    let stage = Stage::new().await;
    let reader = stage.open("file").await;
    let ino = stage.find("file").await;
    let writing = stage.vfs.open(CALLER, ino, WRITES).await;
    assert_eq!(writing.err(), Some(FsError::Stale));
    let ino = stage.find("file").await;
    let writer = stage.vfs.open(CALLER, ino, WRITES).await.unwrap();
    assert!(stage.open("file").await.whole.is_none());
    stage.vfs.write(writer.handle, 0, b"new").await.unwrap();
    let owner = LockOwner(1);
    stage.vfs.flush(writer.handle, owner).await.unwrap();
    let read = stage.open("file").await;
    assert_eq!(
        stage.vfs.read(read.handle, 0, 3).await.unwrap()[..],
        b"new"[..]
    );
    assert!(Stage::backed(&reader) == bytes_at(42, 0, SIZE as usize));
}

#[tokio::test]
async fn creating_over_a_file_that_is_read_past_us_gives_it_another_number() {
    let stage = Stage::new().await;
    let reader = stage.open("file").await;
    let ino = stage.find("file").await;
    let create = CreateHow {
        mode: 0o644,
        exclusive: false,
        truncate: false,
    };
    let vfs = &stage.vfs;
    let made = vfs.create(CALLER, Ino::ROOT, b"file", create, WRITES).await;
    let (found, opened) = made.unwrap();
    assert_ne!(found.node.ino, ino);
    assert!(opened.whole.is_none());
    assert_eq!(stage.find("file").await, found.node.ino);
    assert!(Stage::backed(&reader) == bytes_at(42, 0, SIZE as usize));
}
