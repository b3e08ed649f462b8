//! What is told once and shown for a while: targets of symlinks, figures of the file system. The host is made up and
//! far away; time is virtual.

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
use wormhole::mount::inodes::Ino;
use wormhole::mount::vfs::{Vfs, VfsConfig};
use wormhole_protocol::*;

const CALLER: Caller = Caller { uid: 0, gid: 0 };
const RTT: Duration = Duration::from_millis(150);
const TTL: Duration = Duration::from_secs(1);

/// A mount that listens, of a host with a symlink.
async fn world(ttl: Duration) -> (Arc<FakeHost>, Vfs) {
    let host = FakeHost::new();
    host.give_leases();
    put_link(&host, 2, "there");
    let config = VfsConfig {
        attr_ttl: ttl,
        timeout: Duration::from_secs(30),
        l1_bytes: 64 << 20,
        write_buffer_bytes: 64 << 20,
        durability: Default::default(),
        access: Access::ReadWrite,
    };
    let remote = Arc::new(Distant::new(&host, RTT));
    let vfs = Vfs::new(config, ShareId([1; 16]), host.root(), remote, None);
    vfs.listen();
    sleep(RTT * 2).await;
    (host, vfs)
}

fn put_link(host: &FakeHost, inode: u64, target: &str) {
    host.put("link", attr(inode, FileKind::Symlink, 5, 1), 0);
    let mut tree = host.tree.lock().unwrap();
    tree.get_mut(&b"link"[..]).unwrap().target = Some(target.as_bytes().to_vec());
}

async fn target(vfs: &Vfs) -> LinkTarget {
    let found = vfs.lookup(Ino::ROOT, b"link").await.unwrap().ok().unwrap();
    vfs.readlink(found.node.ino).await.unwrap()
}

fn readlinks(host: &FakeHost) -> usize {
    host.count(|r| matches!(r, Request::Readlink { .. }))
}

fn figures(host: &FakeHost) -> usize {
    host.count(|r| matches!(r, Request::StatFs))
}

#[tokio::test(start_paused = true)]
async fn where_a_leased_symlink_leads_is_asked_once() {
    let (host, vfs) = world(TTL).await;
    for _ in 0..20 {
        assert_eq!(target(&vfs).await.as_bytes(), b"there");
        sleep(TTL * 2).await;
    }
    assert_eq!(readlinks(&host), 1);
    // Another link has taken its place.
    put_link(&host, 3, "elsewhere");
    host.tell_of("", &["link"]).await;
    assert_eq!(target(&vfs).await.as_bytes(), b"elsewhere");
    assert_eq!(target(&vfs).await.as_bytes(), b"elsewhere");
    assert_eq!(readlinks(&host), 2);
}

#[tokio::test(start_paused = true)]
async fn figures_of_the_disk_are_shown_for_half_a_minute_unless_something_was_changed_here() {
    let (host, vfs) = world(TTL).await;
    let half = Duration::from_secs(15);
    for _ in 0..4 {
        assert_eq!(vfs.statfs().await.unwrap().blocks, 1000);
        sleep(half).await;
    }
    assert_eq!(figures(&host), 2);
    vfs.statfs().await.unwrap();
    let made = vfs.make_dir(CALLER, Ino::ROOT, b"new", 0o755).await;
    assert!(made.is_ok());
    vfs.statfs().await.unwrap();
    assert_eq!(figures(&host), 3, "within a second");
    sleep(TTL).await;
    vfs.statfs().await.unwrap();
    assert_eq!(figures(&host), 4);
}

#[tokio::test(start_paused = true)]
async fn with_a_term_of_nothing_both_are_asked_each_time() {
    let (host, vfs) = world(Duration::ZERO).await;
    for _ in 0..3 {
        target(&vfs).await;
        vfs.statfs().await.unwrap();
    }
    assert_eq!((readlinks(&host), figures(&host)), (3, 3));
}
