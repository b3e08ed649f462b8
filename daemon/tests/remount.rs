//! The tree on disk: what a mount knew of its host's directories is known to the next, once the host has said that it
//! still holds. The host is made up and far away; time is virtual.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::distant::Distant;
use support::fake::{FakeHost, attr};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use wormhole::mount::inodes::Ino;
use wormhole::mount::tree_file::Keeping;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole_cache::{Disk, DiskConfig};
use wormhole_protocol::*;

const RTT: Duration = Duration::from_millis(150);
const SHARE: ShareId = ShareId([1; 16]);
const FILES: u64 = 3;

/// A host with so many directories in its root, and a few files in each.
fn host(dirs: u64) -> Arc<FakeHost> {
    let host = FakeHost::new();
    host.give_leases();
    for dir in 0..dirs {
        let path = format!("d{dir:03}");
        host.put(&path, attr(2_000 + dir, FileKind::Directory, 0, 1), 0);
        for file in 0..FILES {
            let inode = 10_000 + dir * FILES + file;
            let attr = attr(inode, FileKind::File, 10, 1);
            host.put(&format!("{path}/f{file}"), attr, inode);
        }
    }
    host
}

struct Mount {
    vfs: Vfs,
    tree: Keeping,
    host: Arc<FakeHost>,
}

impl Mount {
    fn of(host: &Arc<FakeHost>, cache: &Path) -> Self {
        Self::of_share(host, cache, SHARE)
    }

    fn of_share(host: &Arc<FakeHost>, cache: &Path, share: ShareId) -> Self {
        let disk = DiskConfig {
            root: cache.to_owned(),
            budget_bytes: 64 << 20,
        };
        let config = VfsConfig {
            attr_ttl: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            l1_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            durability: Default::default(),
            access: Access::ReadWrite,
        };
        let disk = Arc::new(Disk::open(disk, share).unwrap());
        let remote = Arc::new(Distant::new(host, RTT));
        let vfs = Vfs::new(config, share, host.root(), remote, Some(disk));
        let tree = vfs.keep_tree().unwrap();
        vfs.listen();
        Self {
            vfs,
            tree,
            host: host.clone(),
        }
    }

    /// Ends it as a mount ends.
    async fn end(self) {
        self.tree.end().await;
        self.vfs.stop_listening().await;
    }

    /// Every file found, with its size, as `find -ls` would; and how long that took.
    async fn walk(&self) -> (Vec<(String, u64)>, Duration) {
        self.walk_from(Ino::ROOT).await
    }

    async fn walk_from(&self, dir: Ino) -> (Vec<(String, u64)>, Duration) {
        let begun = Instant::now();
        let mut found = Vec::new();
        let mut dirs = vec![(dir, String::new())];
        while let Some((dir, path)) = dirs.pop() {
            let handle = self.vfs.opendir(dir).unwrap();
            let mut offset = 0;
            loop {
                let page = self.vfs.readdir(handle, offset).await.unwrap();
                let Some((last, _)) = page.entries.last() else {
                    break;
                };
                offset = *last;
                for (_, listed) in &page.entries {
                    let node = self.vfs.show(&page.dir, listed).unwrap().node.ino;
                    let path = format!("{path}/{}", listed.entry.name);
                    let (attr, _) = self.vfs.getattr(node, None).await.unwrap();
                    match attr.kind {
                        FileKind::Directory => dirs.push((node, path)),
                        _ => found.push((path, attr.size)),
                    }
                }
            }
            self.vfs.release(handle);
        }
        found.sort();
        (found, begun.elapsed())
    }

    /// Requests about names and attributes so far: those about one thing, and those about many.
    fn asked(&self) -> (usize, usize) {
        use Request::{Getattr, List, Lookup, Revalidate, Tree};
        let one = |r: &Request| {
            matches!(
                r,
                Lookup { .. } | Getattr { .. } | List { .. } | Tree { .. }
            )
        };
        let many = |r: &Request| matches!(r, Revalidate { .. });
        (self.host.count(one), self.host.count(many))
    }
}

/// A cache with what a mount knew that walked through all of a host.
async fn walked(host: &Arc<FakeHost>) -> (TempDir, Vec<(String, u64)>) {
    let cache = tempfile::tempdir().unwrap();
    let mount = Mount::of(host, cache.path());
    sleep(RTT * 2).await;
    let (found, _) = mount.walk().await;
    mount.end().await;
    (cache, found)
}

fn file(cache: &Path) -> PathBuf {
    cache.join(SHARE.to_string()).join("tree")
}

#[tokio::test(start_paused = true)]
async fn a_walk_of_a_known_tree_takes_one_request() {
    let host = host(100);
    let (cache, found) = walked(&host).await;
    assert_eq!(found.len(), 100 * FILES as usize);
    let mount = Mount::of(&host, cache.path());
    let (ones, _) = mount.asked();
    let (again, took) = mount.walk().await;
    assert_eq!(again, found);
    assert_eq!(mount.asked(), (ones, 1));
    // The host is asked to tell, then asked about all.
    assert!(took < RTT * 2 + RTT / 2, "{took:?}");
    // It is leased as if it had just been told.
    sleep(Duration::from_secs(5)).await;
    let (_, took) = mount.walk().await;
    assert_eq!((took, mount.asked()), (Duration::ZERO, (ones, 1)));
    host.put("d001/f1", attr(10_004, FileKind::File, 77, 2), 0);
    host.tell_of("d001", &["f1"]).await;
    let (told, _) = mount.walk().await;
    assert!(told.contains(&("/d001/f1".into(), 77)));
    mount.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_reached_by_names_alone_is_known_to_the_next_mounts_as_well() {
    let host = host(3);
    host.put("d001/sub", attr(500, FileKind::Directory, 0, 1), 0);
    host.put("d001/sub/f", attr(501, FileKind::File, 10, 1), 0);
    let cache = tempfile::tempdir().unwrap();
    let dir_of = async |mount: &Mount| {
        let found = mount.vfs.lookup(Ino::ROOT, b"d001").await.unwrap();
        found.unwrap().node.ino
    };
    // The second lists none of it, and the third knows all the same.
    for (round, walks) in [true, false, true].into_iter().enumerate() {
        let mount = Mount::of(&host, cache.path());
        sleep(RTT * 2).await;
        if walks {
            let dir = dir_of(&mount).await;
            let lists = || host.count(|r| matches!(r, Request::List { .. } | Request::Tree { .. }));
            let before = lists();
            let (found, took) = mount.walk_from(dir).await;
            assert_eq!(found.len() as u64, FILES + 1);
            if round > 0 {
                assert_eq!((lists(), took), (before, Duration::ZERO));
            }
        }
        mount.end().await;
    }
    // What has moved is found by its new name.
    for (path, inode, kind) in [
        ("", 2_001, FileKind::Directory),
        ("/sub", 500, FileKind::Directory),
        ("/sub/f", 501, FileKind::File),
    ] {
        host.remove(&format!("d001{path}"));
        host.put(&format!("d007{path}"), attr(inode, kind, 10, 1), 0);
    }
    let mount = Mount::of(&host, cache.path());
    sleep(RTT * 2).await;
    let gone = mount.vfs.lookup(Ino::ROOT, b"d001").await.unwrap();
    assert!(gone.is_err());
    let found = mount.vfs.lookup(Ino::ROOT, b"d007").await.unwrap();
    let (found, _) = mount.walk_from(found.unwrap().node.ino).await;
    assert_eq!(found, [("/sub/f".into(), 10)]);
    mount.end().await;
}

/// Without paths they could not be asked about in bulk, and one by one they cost more than the tree anew.
#[tokio::test(start_paused = true)]
async fn what_nobody_knows_the_way_to_is_not_saved() {
    let host = host(3);
    let cache = tempfile::tempdir().unwrap();
    let mount = Mount::of(&host, cache.path());
    sleep(RTT * 2).await;
    let found = mount.vfs.lookup(Ino::ROOT, b"d001").await.unwrap();
    let ino = found.unwrap().node.ino;
    assert_eq!(mount.walk_from(ino).await.0.len(), FILES as usize);
    // The kernel forgets the directory, and what it was shown of it.
    for number in (10_003..10_006).map(Ino).chain([ino]) {
        mount.vfs.forget(number, 100);
    }
    mount.end().await;
    let saved = fs::metadata(file(cache.path())).map_or(0, |file| file.len());
    let (whole, _) = walked(&host).await;
    let all = fs::metadata(file(whole.path())).unwrap().len();
    assert!(saved < 100 && all > 100, "{saved} and {all} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_large_tree_is_asked_about_in_few_requests_once_it_is_used() {
    let host = host(1000);
    let (cache, found) = walked(&host).await;
    let mount = Mount::of(&host, cache.path());
    let (ones, _) = mount.asked();
    sleep(Duration::from_secs(5)).await;
    // Nobody used it.
    assert_eq!(mount.asked(), (ones, 1));
    let (again, took) = mount.walk().await;
    assert_eq!(again, found);
    let (alone, many) = mount.asked();
    assert!((8..=10).contains(&many), "{many}");
    assert!(alone - ones <= 4, "{}", alone - ones);
    assert!(took < RTT * 10, "{took:?}");
    mount.end().await;
}

/// A host with so many directories, the first of them with so many frames more.
fn host_with_frames(dirs: u64, frames: u64) -> Arc<FakeHost> {
    let host = host(dirs);
    for number in 0..frames {
        let attr = attr(50_000 + number, FileKind::File, 10, 1);
        host.put(&format!("d000/frame.{number:05}"), attr, 0);
    }
    host
}

#[tokio::test(start_paused = true)]
async fn a_long_directory_is_known_to_the_next_mount_as_well() {
    // Asked about with all the others, and after some of them.
    for dirs in [1, 300] {
        let host = host_with_frames(dirs, 10_000);
        let (cache, found) = walked(&host).await;
        assert_eq!(found.len() as u64, 10_000 + dirs * FILES);
        let mount = Mount::of(&host, cache.path());
        let sent = host.entries_sent.load(SeqCst);
        sleep(Duration::from_secs(5)).await;
        let first = mount.vfs.lookup(Ino::ROOT, b"d000").await.unwrap().unwrap();
        let (again, took) = mount.walk_from(first.node.ino).await;
        assert_eq!(again.len() as u64, 10_000 + FILES);
        assert!(took < RTT * 2 + RTT / 2, "{took:?}");
        let frame = mount.vfs.lookup(first.node.ino, b"frame.00007").await;
        assert!(frame.unwrap().is_ok());
        assert!(mount.walk().await.0 == found);
        assert_eq!(host.entries_sent.load(SeqCst), sent);
        mount.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_directory_that_changed_is_sent_to_whoever_lists_it_and_to_nobody_else() {
    for dirs in [1, 300] {
        let host = host_with_frames(dirs, 10_000);
        let (cache, mut found) = walked(&host).await;
        host.remove("d000/frame.00007");
        found.retain(|(path, _)| path != "/d000/frame.00007");
        let mount = Mount::of(&host, cache.path());
        let sent = host.entries_sent.load(SeqCst);
        let first = mount.vfs.lookup(Ino::ROOT, b"d000").await.unwrap().unwrap();
        for (name, is_there) in [("frame.00006", true), ("frame.00007", false)] {
            let frame = mount.vfs.lookup(first.node.ino, name.as_bytes()).await;
            assert_eq!(frame.unwrap().is_ok(), is_there, "{name}");
        }
        sleep(Duration::from_secs(5)).await;
        assert_eq!(host.entries_sent.load(SeqCst), sent);
        assert!(mount.walk().await.0 == found);
        let more = host.entries_sent.load(SeqCst) - sent;
        assert_eq!(more, 10_000 + FILES - 1);
        mount.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_changed_meanwhile_is_seen() {
    let host = host(10);
    let (cache, mut found) = walked(&host).await;
    host.put("d003/f0", attr(10_009, FileKind::File, 55, 2), 0);
    host.put("d004/new", attr(7, FileKind::File, 66, 2), 0);
    host.remove("d005/f1");
    let mount = Mount::of(&host, cache.path());
    let (ones, _) = mount.asked();
    let (again, _) = mount.walk().await;
    found.retain(|(path, _)| path != "/d005/f1" && path != "/d003/f0");
    found.extend([("/d003/f0".into(), 55), ("/d004/new".into(), 66)]);
    found.sort();
    assert_eq!(again, found);
    assert_eq!(mount.asked(), (ones + 3, 1));
    mount.end().await;
    // And it is what the next one knows.
    let mount = Mount::of(&host, cache.path());
    let (ones, many) = mount.asked();
    assert_eq!(mount.walk().await.0, found);
    assert_eq!(mount.asked(), (ones, many + 1));
    mount.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_damaged_cut_or_of_another_share_does_no_harm() {
    let host = host(20);
    let (cache, found) = walked(&host).await;
    let path = file(cache.path());
    let sound = fs::read(&path).unwrap();
    let mut bad: Vec<Vec<u8>> = (1..6)
        .map(|n| sound[..sound.len() * n / 6].to_vec())
        .collect();
    for at in (0..sound.len()).step_by(sound.len() / 7) {
        let mut flipped = sound.clone();
        flipped[at] ^= 0x40;
        bad.push(flipped);
    }
    bad.push(Vec::new());
    bad.push(vec![0xff; 100_000]);
    for bytes in bad {
        fs::write(&path, bytes).unwrap();
        let mount = Mount::of(&host, cache.path());
        assert_eq!(mount.walk().await.0, found);
        assert!(!path.exists());
        mount.end().await;
    }
    // Another share's, with the same numbers in it.
    let other = ShareId([2; 16]);
    let place = cache.path().join(other.to_string());
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("tree"), sound).unwrap();
    let mount = Mount::of_share(&host, cache.path(), other);
    let (_, many) = mount.asked();
    assert_eq!(mount.walk().await.0, found);
    // At most about what was told before the host listened, which is not from the file.
    assert!(mount.asked().1 <= many + 1);
    mount.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_lies_is_found_out_by_the_host() {
    let host = host(3);
    let (cache, found) = walked(&host).await;
    // A sound file of a host that was another: all its sums fit.
    let liar = self::host(3);
    liar.put("d001/f1", attr(10_004, FileKind::File, 666, 1), 0);
    liar.put("d002/evil", attr(9, FileKind::File, 1, 1), 0);
    let (lies, _) = walked(&liar).await;
    fs::copy(file(lies.path()), file(cache.path())).unwrap();
    let mount = Mount::of(&host, cache.path());
    assert_eq!(mount.walk().await.0, found);
    mount.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_saved_now_and_then_while_the_mount_goes_on() {
    let host = host(5);
    let cache = tempfile::tempdir().unwrap();
    let mount = Mount::of(&host, cache.path());
    sleep(RTT * 2).await;
    mount.walk().await;
    assert!(!file(cache.path()).exists());
    sleep(Duration::from_secs(70)).await;
    let written = fs::metadata(file(cache.path()))
        .unwrap()
        .modified()
        .unwrap();
    // Not again while nothing changes.
    sleep(Duration::from_secs(300)).await;
    let now = fs::metadata(file(cache.path()))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(written, now);
    mount.end().await;
}

#[tokio::test(start_paused = true)]
async fn of_a_host_that_gives_no_leases_nothing_is_asked_at_once() {
    let leasing = host(5);
    let (cache, found) = walked(&leasing).await;
    let host = FakeHost::new();
    host.put("d000", attr(2_000, FileKind::Directory, 0, 1), 0);
    host.put("d000/f0", attr(10_000, FileKind::File, 10, 1), 0);
    let mount = Mount::of(&host, cache.path());
    assert_eq!(mount.walk().await.0, [found[0].clone()]);
    assert_eq!(mount.asked().1, 0);
    mount.end().await;
}
