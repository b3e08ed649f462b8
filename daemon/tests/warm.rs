//! Bringing and keeping subtrees in the disk cache, over a made-up host, in one process.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::fake::{FakeHost, attr, bytes_at};
use tempfile::TempDir;
use wormhole::mount::handles::OpenHow;
use wormhole::mount::inodes::Ino;
use wormhole::mount::pins::{KeepError, Pins};
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole::mount::warm::{Progress, WarmError, Warmer, Warmth};
use wormhole::rpc::loopback::Loopback;
use wormhole_cache::{Disk, DiskConfig};
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const SHARE: ShareId = ShareId([1; 16]);
const KIB: u64 = 1024;
const GIB: u64 = KIB * KIB * KIB;

/// Paths, and sizes of what lies there.
const FILES: [(&str, u64); 7] = [
    ("empty", 0),
    ("a/tiny", 10),
    ("a/block", 4 * KIB),
    ("a/b/packed", 16 * KIB),
    ("a/b/large", 300 * KIB + 5),
    ("a/b/c/huge", 9 * KIB * KIB + 7),
    ("z", 20 * KIB),
];

fn total() -> u64 {
    FILES.iter().map(|(_, size)| size).sum()
}

fn host() -> Arc<FakeHost> {
    let host = FakeHost::new();
    for (number, dir) in (2000..).zip(["a", "a/b", "a/b/c", "none"]) {
        host.put(dir, attr(number, FileKind::Directory, 0, 1), 0);
    }
    for (number, (path, size)) in (3000..).zip(FILES) {
        host.put(path, attr(number, FileKind::File, size, 1), number);
    }
    host
}

fn disk(dir: &TempDir, budget_bytes: u64) -> Arc<Disk> {
    let root = dir.path().to_owned();
    Arc::new(Disk::open(DiskConfig { root, budget_bytes }, SHARE).unwrap())
}

fn vfs(host: &Arc<FakeHost>, disk: Option<&Arc<Disk>>) -> Arc<Vfs> {
    let config = VfsConfig {
        attr_ttl: Duration::from_secs(3600),
        timeout: Duration::from_secs(30),
        l1_bytes: 64 << 20,
        write_buffer_bytes: 64 << 20,
        durability: Default::default(),
        access: Access::Read,
    };
    let remote = Arc::new(Loopback::new(host.clone()));
    let (root, disk) = (host.root(), disk.cloned());
    Arc::new(Vfs::new(config, SHARE, root, remote, disk))
}

async fn check(warmer: &Warmer, path: &str) -> Warmth {
    let progress = Progress::default();
    warmer.check(Path::new(path), &progress).await.unwrap();
    progress.snapshot()
}

async fn bring(warmer: &Warmer, path: &str) -> Warmth {
    let progress = Progress::default();
    warmer.check(Path::new(path), &progress).await.unwrap();
    warmer.bring(Path::new(path), &progress).await.unwrap();
    progress.snapshot()
}

async fn read(vfs: &Arc<Vfs>, path: &str, size: u64) -> Vec<u8> {
    let mut ino = Ino::ROOT;
    for name in path.split('/') {
        let found = vfs.lookup(ino, name.as_bytes()).await.unwrap();
        ino = found.unwrap_or_else(|_| panic!("no {path}")).node.ino;
    }
    let how = OpenHow::default();
    let handle = vfs.open(CALLER, ino, how).await.unwrap().handle;
    vfs.read(handle, 0, size + 1).await.unwrap().to_vec()
}

#[tokio::test]
async fn what_was_brought_is_read_without_the_host() {
    let (host, dir) = (host(), TempDir::new().unwrap());
    {
        let disk = disk(&dir, GIB);
        let vfs = vfs(&host, Some(&disk));
        let warmer = Warmer::new(&vfs).unwrap();
        let cold = check(&warmer, "").await;
        assert_eq!((cold.files, cold.bytes), (FILES.len() as u64, total()));
        assert_eq!((cold.here_files, cold.here_bytes), (1, 0), "the empty one");
        assert!(cold.surveyed && !cold.is_complete());
        assert!(host.reads().is_empty(), "checking fetches nothing");
        let warm = bring(&warmer, "").await;
        assert!(warm.is_complete(), "{warm:?}");
        assert_eq!(warm.here_bytes, total());
        assert_eq!(host.sent.load(SeqCst), total(), "each byte once");
        assert_eq!(vfs.nodes(), 1, "nothing is kept of the walk");
        assert_eq!(vfs.handles(), 0);
        let reads = host.reads().len();
        assert!(bring(&warmer, "").await.is_complete());
        assert_eq!(host.reads().len(), reads, "what is here is not asked for");
    }
    let disk = disk(&dir, GIB);
    let vfs = vfs(&host, Some(&disk));
    for (number, (path, size)) in (3000..).zip(FILES) {
        let want = bytes_at(number, 0, size as usize);
        assert!(read(&vfs, path, size).await == want, "{path}");
    }
    assert_eq!(host.sent.load(SeqCst), total());
}

#[tokio::test]
async fn a_file_or_a_folder_is_brought_and_nothing_beside_it() {
    let (host, dir) = (host(), TempDir::new().unwrap());
    let disk = disk(&dir, GIB);
    let vfs = vfs(&host, Some(&disk));
    let warmer = Warmer::new(&vfs).unwrap();
    assert!(bring(&warmer, "a/b/large").await.is_complete());
    assert_eq!(host.sent.load(SeqCst), 300 * KIB + 5);
    let b = check(&warmer, "a/b").await;
    assert_eq!((b.files, b.here_files, b.here_bytes), (3, 1, 300 * KIB + 5));
    assert!(bring(&warmer, "none").await.is_complete());
    for (path, said) in [
        ("a/gone", "no such file"),
        ("z/below", "no directory"),
        ("../z", "Invalid"),
    ] {
        let progress = Progress::default();
        let error = warmer.check(Path::new(path), &progress).await.unwrap_err();
        assert!(error.to_string().contains(said), "{path}: {error}");
    }
    // What a reader has in part is completed, not fetched anew.
    read(&vfs, "a/b/c/huge", 100 * KIB).await;
    assert!(bring(&warmer, "a/b/c").await.is_complete());
    let once = 300 * KIB + 5 + 9 * KIB * KIB + 7;
    assert_eq!(host.sent.load(SeqCst), once);
}

#[tokio::test]
async fn without_a_disk_cache_or_room_in_it_that_is_said_before_anything_is_fetched() {
    let (host, dir) = (host(), TempDir::new().unwrap());
    let error = Warmer::new(&vfs(&host, None)).err().unwrap();
    assert!(error.to_string().contains("no disk cache"), "{error}");
    let disk = disk(&dir, 8 << 20);
    let warmer = Warmer::new(&vfs(&host, Some(&disk))).unwrap();
    let error = warmer.require_room(&check(&warmer, "").await).unwrap_err();
    assert!(matches!(error, WarmError::NoRoom { .. }), "{error}");
    warmer.require_room(&check(&warmer, "z").await).unwrap();
    let progress = Progress::default();
    let pinned = Pins::default()
        .pin(&warmer, Path::new("a"), &progress)
        .await;
    assert!(matches!(pinned, Err(KeepError::Pin(_))), "{pinned:?}");
    assert!(disk.pins().is_empty() && host.reads().is_empty());
}

#[tokio::test]
async fn who_gives_up_leaves_nothing_under_way_and_keeps_what_came() {
    let (host, dir) = (host(), TempDir::new().unwrap());
    let disk = disk(&dir, GIB);
    let vfs = vfs(&host, Some(&disk));
    let warmer = Warmer::new(&vfs).unwrap();
    let progress = Progress::default();
    warmer.check(Path::new(""), &progress).await.unwrap();
    host.gated.store(true, SeqCst);
    host.gate.add_permits(200);
    {
        let bringing = warmer.bring(Path::new(""), &progress);
        let stuck = async {
            while host.sent.load(SeqCst) < 200 * 4 * KIB - 4 * KIB * FILES.len() as u64 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = bringing => panic!("the host has not sent all"),
            () = stuck => {}
        }
    }
    while host.running.load(SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(vfs.nodes(), 1);
    host.gated.store(false, SeqCst);
    assert!(bring(&warmer, "").await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn what_never_rests_is_counted_and_the_walk_goes_on() {
    let (host, dir) = (host(), TempDir::new().unwrap());
    let disk = disk(&dir, GIB);
    let warmer = Warmer::new(&vfs(&host, Some(&disk))).unwrap();
    assert!(bring(&warmer, "z").await.is_complete());
    host.misbehaviour.lock().unwrap().restless = true;
    let end = bring(&warmer, "").await;
    assert_eq!((end.failed, end.here_files), (5, 2), "{end:?}");
    assert!(end.first_failure.is_some() && !end.is_complete());
}

#[tokio::test]
async fn a_pin_is_renewed_with_the_mount_and_ends_when_it_is_told_to() {
    let (host, dir) = (host(), TempDir::new().unwrap());
    {
        let disk = disk(&dir, GIB);
        let (vfs, pins) = (vfs(&host, Some(&disk)), Pins::default());
        let (warmer, progress) = (Warmer::new(&vfs).unwrap(), Progress::default());
        pins.pin(&warmer, Path::new("a"), &progress).await.unwrap();
        assert!(progress.snapshot().is_complete());
        let pin = &pins.snapshot(&vfs)[0];
        assert_eq!((pin.path.to_str(), pin.files), (Some("a"), 5));
        assert_eq!(pin.note, None);
        assert!(pin.bytes >= total() - 20 * KIB);
    }
    host.put("a/tiny", attr(3001, FileKind::File, 12, 2), 77);
    let sent = host.sent.load(SeqCst);
    let disk = disk(&dir, GIB);
    let (vfs, pins) = (vfs(&host, Some(&disk)), Pins::default());
    pins.refresh(&vfs).await;
    assert_eq!(host.sent.load(SeqCst), sent + 12, "only what changed");
    let warmer = Warmer::new(&vfs).unwrap();
    assert!(check(&warmer, "a").await.is_complete());
    // What cannot be looked through keeps what it had.
    host.remove("a");
    let new = crate::vfs(&host, Some(&disk));
    pins.refresh(&new).await;
    let pin = pins.snapshot(&new).remove(0);
    assert_eq!(pin.files, 5);
    assert!(pin.note.unwrap().contains("no such file"));
    pins.unpin(&warmer, Path::new("a")).await.unwrap();
    let again = pins.unpin(&warmer, Path::new("a")).await;
    assert!(matches!(again, Err(KeepError::NotPinned)), "{again:?}");
    assert!(pins.snapshot(&vfs).is_empty());
}
