//! Through the kernel: a host and a mount in this process, joined by QUIC on loopback and mounted by
//! FUSE. What only a mount can show; needs root or fusermount3, and /dev/fuse.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

#[path = "../support/mod.rs"]
mod support;

mod changes;
mod coherent;
mod content;
mod disk_cache;
mod locks;
mod loss;
mod mapped;
mod names;
mod notify;
mod owners;
mod pair;
mod passthrough;
mod read_only;
mod requests;
mod space;
mod tree;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;
use support::world::{self, Host, Options};
use tempfile::TempDir;
use wormhole::mount::Mounted;

/// Tries to have a disk cache back from a mount that was unmounted, a quarter of a second apart.
const REMOUNTS_MAX: usize = 240;

/// A folder, a host that serves it, and a mount of it.
struct Stage {
    dir: TempDir,
    host: Option<Host>,
    mounted: Option<Mounted>,
}

impl Stage {
    /// `fill` makes the folder's content first.
    async fn new(options: &Options, fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["share", "state", "mnt"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        fill(&dir.path().join("share"));
        let host = Host::start(
            &dir.path().join("share"),
            &dir.path().join("state"),
            "127.0.0.1:0",
        )
        .await;
        let mounted = world::mount(&host.ticket, &dir.path().join("mnt"), options).await;
        Self {
            dir,
            host: Some(host),
            mounted: Some(mounted),
        }
    }

    fn share(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    fn mnt(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().unwrap()
    }

    async fn unmount(&mut self) {
        self.mounted.take().unwrap().unmount().await.unwrap();
    }

    /// Mounts anew, with the disk cache if there is to be one. A mount has its own until the kernel has let go of it,
    /// which may be a while after it was unmounted: a process in another mount namespace may still have it.
    async fn remount(&mut self, options: &Options) {
        for _ in 0..REMOUNTS_MAX {
            let ticket = &self.host.as_ref().unwrap().ticket;
            self.mounted = Some(world::mount(ticket, &self.mnt(), options).await);
            let note = self.mounted().snapshot().l2_note;
            if !note.is_some_and(|note| note.contains("in use")) {
                return;
            }
            self.unmount().await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("the disk cache stays in use");
    }

    async fn end(mut self) {
        if self.mounted.is_some() {
            self.unmount().await;
        }
        if let Some(host) = self.host.take() {
            host.stop().await;
        }
    }
}

/// A test that panics leaves no mount behind.
impl Drop for Stage {
    fn drop(&mut self) {
        if self.mounted.is_some() {
            let mnt = self.mnt();
            let _ = std::process::Command::new("umount")
                .arg("-l")
                .arg(mnt)
                .status();
        }
    }
}

/// Runs file operations off the runtime's threads: the file system they use is served by these.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// Bytes nobody could mistake for others: a hash of where they stand.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Has the kernel forget its clean pages of the file at `path`, and of no other: tests run side by side.
fn drop_pages(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// Waits until what lies in `dir` has been left alone for long enough that its versions are settled
/// and may be cached (see the host's `meta`).
fn settle(dir: &Path) {
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    let entries = std::fs::read_dir(dir).unwrap();
    let newest = entries
        .map(|entry| entry.unwrap().metadata().unwrap())
        .map(|meta| UNIX_EPOCH + Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32))
        .max();
    let settled = newest.unwrap() + Duration::from_millis(60);
    while let Ok(left) = settled.duration_since(SystemTime::now()) {
        std::thread::sleep(left);
    }
}
