//! The mount role: a host's share as a file system of this machine.
//!
//! ```text
//!   kernel ── fuse ── vfs ──┬─ inodes, handles              what the kernel knows
//!                           ├─ beliefs ── listing           what is believed, and kept fresh
//!                           └─ fetch ── memory ── disk      what is kept
//!                                  └── link ── (transport)  who is asked
//! ```
//!
//! `fuse` translates, `vfs` means, `fetch` reads, `link` stays connected. Nothing here knows QUIC, and
//! nothing but `fuse` knows fuser. The host role is never imported.

pub mod beliefs;
pub mod bulk;
pub mod changes;
mod closing;
pub mod durability;
pub mod early;
pub mod error;
pub mod fetch;
pub mod fuse;
pub mod handles;
pub mod heard;
pub mod inodes;
pub mod killed;
pub mod lease;
pub mod link;
pub mod links;
pub mod listen;
pub mod listing;
pub mod locks;
pub mod mountpoint;
pub mod notify;
pub mod opens;
pub mod own_bytes;
pub mod passthrough;
pub mod pending;
pub mod pins;
pub mod readahead;
pub mod stats;
pub mod tree_file;
pub mod vfs;
pub mod wanted;
pub mod warm;
pub mod watch;
pub mod write;

use crate::rpc::{Connect, PathEstimate, Remote};
use beliefs::PrefetchMetadata;
use durability::Durability;
use fuse::FuseOptions;
use lease::LeaseSnapshot;
use link::{Link, LinkError, LinkSnapshot};
use mountpoint::Unmount;
use opens::Opens;
use passthrough::PassthroughSnapshot;
use pending::PendingSnapshot;
use pins::{PinSnapshot, Pins};
use serde::Serialize;
use stats::{
    BufferSnapshot, BulkSnapshot, ChangeSnapshot, FuseSnapshot, FuseStats, LeaseCounts,
    OwnBytesSnapshot, ReadSnapshot, RemoteSnapshot,
};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch as latest;
use tree_file::Keeping;
use vfs::{Vfs, VfsConfig};
use warm::{WarmError, Warmer};
use wormhole_cache::{Disk, DiskConfig, DiskError, DiskStats, MemoryStats};
use wormhole_protocol::Access;

/// How long attributes and names are believed at the least, unless something else was said.
const TERM_MIN: Duration = Duration::from_secs(1);
/// And in round trips: what expires sooner is stale before a renewal can be back, where packets are lost.
const TERM_ROUND_TRIPS: u32 = 10;
const TERM_MAX: Duration = Duration::from_secs(10);

/// How long attributes and names are believed over `path`, as it was when mounting.
fn term_for(path: &PathEstimate) -> Duration {
    (path.rtt * TERM_ROUND_TRIPS).clamp(TERM_MIN, TERM_MAX)
}

/// A mount as meant; every flag of the command line ends up here.
#[derive(Debug, Clone)]
pub struct MountConfig {
    /// Where to mount.
    pub mountpoint: PathBuf,
    /// Bytes of the memory cache.
    pub l1_bytes: u64,
    /// The disk cache, if any.
    pub l2: Option<DiskConfig>,
    /// How long attributes and names are believed; `None` is [`term_for`] the path.
    pub attr_ttl: Option<Duration>,
    /// What is fetched of names and attributes before anybody asks.
    pub prefetch_metadata: PrefetchMetadata,
    /// How long a request waits for the host.
    pub timeout: Duration,
    /// Bytes that may have been written and not yet be on the host.
    pub write_buffer_bytes: u64,
    /// When programs are told that what they changed is done.
    pub durability: Durability,
    /// Changes nothing, whatever the host would allow.
    pub read_only: bool,
    /// Lets the kernel read files that are wholly in the disk cache by itself.
    pub passthrough: bool,
    /// How the kernel sees it.
    pub fuse: FuseOptions,
}

/// Why a mount did not come about.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The host did not let us in, or was not found.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The kernel or fusermount3 refused.
    #[error("cannot mount at {}: {source}", mountpoint.display())]
    Mount {
        /// Where.
        mountpoint: PathBuf,
        /// What was said.
        source: std::io::Error,
    },
}

/// A file system that is mounted.
pub struct Mounted {
    mountpoint: PathBuf,
    share_name: String,
    share_id: String,
    vfs: Arc<Vfs>,
    link: Arc<Link>,
    fuse: Arc<FuseStats>,
    l2_note: Option<String>,
    timeout: Duration,
    ended: latest::Receiver<bool>,
    pins: Arc<Pins>,
    /// Brings what is pinned; ended with the mount.
    refreshing: tokio::task::AbortHandle,
    /// Knows the tree of an earlier mount, and saves that of this one.
    tree: Option<Keeping>,
}

/// What a mount is doing.
#[derive(Debug, Clone, Serialize)]
pub struct MountSnapshot {
    /// Where.
    pub mountpoint: PathBuf,
    /// The share's name.
    pub share: String,
    /// The share's identity.
    pub share_id: String,
    /// The connection.
    pub link: LinkSnapshot,
    /// Requests of the kernel.
    pub fuse: FuseSnapshot,
    /// Requests to the host.
    pub remote: RemoteSnapshot,
    /// What may be done: `read-only` or `read-write`.
    pub access: String,
    /// Bytes read.
    pub read: ReadSnapshot,
    /// Small files fetched in bulk.
    pub bulk: BulkSnapshot,
    /// When programs are told that what they changed is done.
    pub durability: Durability,
    /// Changes programs were told are done, and the host has not answered.
    pub pending: PendingSnapshot,
    /// Bytes written.
    pub write: BufferSnapshot,
    /// Files that were written here whole.
    pub own_bytes: OwnBytesSnapshot,
    /// Changes asked of the host.
    pub changes: ChangeSnapshot,
    /// Files the host keeps open for this mount.
    pub host_opens: usize,
    /// What the host promised to speak of.
    pub leases: LeaseSnapshot,
    /// What it said.
    pub pushes: LeaseCounts,
    /// The memory cache.
    pub l1: MemoryStats,
    /// The disk cache.
    pub l2: Option<DiskStats>,
    /// Why there is no disk cache, if one was wanted.
    pub l2_note: Option<String>,
    /// What stays in the disk cache.
    pub pins: Vec<PinSnapshot>,
    /// Files the kernel reads from the disk cache by itself.
    pub passthrough: PassthroughSnapshot,
    /// Nodes the kernel knows.
    pub nodes: usize,
    /// Open files and directories.
    pub handles: usize,
}

impl Mounted {
    /// Connects, mounts and serves. The mount answers when this returns.
    ///
    /// # Errors
    /// [`MountError`]; nothing is left mounted then.
    pub async fn start(config: MountConfig, connect: Arc<dyn Connect>) -> Result<Self, MountError> {
        let (link, welcome) = Link::open(connect, config.timeout).await?;
        let (disk, l2_note) = match config.l2.clone() {
            Some(l2) => open_disk(l2, welcome.share).await,
            None => (None, None),
        };
        let vfs = Arc::new(Vfs::new(
            VfsConfig {
                attr_ttl: config.attr_ttl.unwrap_or_else(|| term_for(&link.path())),
                timeout: config.timeout,
                l1_bytes: config.l1_bytes,
                write_buffer_bytes: config.write_buffer_bytes,
                durability: config.durability,
                access: if config.read_only {
                    Access::Read
                } else {
                    welcome.access
                },
            },
            welcome.share,
            welcome.root,
            link.clone(),
            disk,
        ));
        if !config.passthrough {
            vfs.passthrough().refuse("turned off");
        }
        let opens: Weak<Opens> = Arc::downgrade(vfs.opens());
        link.reclaim_by(opens);
        let tree = match config.prefetch_metadata {
            PrefetchMetadata::Off => None,
            PrefetchMetadata::Lazy | PrefetchMetadata::All => vfs.keep_tree(),
        };
        vfs.listen();
        vfs.prefetch_metadata(config.prefetch_metadata);
        let fuse_stats = Arc::new(FuseStats::default());
        let ended = mount(&config, vfs.clone(), fuse_stats.clone()).await?;
        let pins = Arc::new(Pins::default());
        let (kept, files) = (pins.clone(), vfs.clone());
        let refreshing = tokio::spawn(async move { kept.refresh(&files).await }).abort_handle();
        Ok(Self {
            pins,
            refreshing,
            tree,
            mountpoint: config.mountpoint,
            share_name: welcome.name.to_string(),
            share_id: welcome.share.to_string(),
            vfs,
            link,
            fuse: fuse_stats,
            l2_note,
            timeout: config.timeout,
            ended,
        })
    }

    /// The share's name, for people.
    pub fn share_name(&self) -> &str {
        &self.share_name
    }

    /// Why there is no disk cache although one was asked for.
    pub fn l2_note(&self) -> Option<&str> {
        self.l2_note.as_deref()
    }

    /// Resolves when the file system is no longer mounted, whoever unmounted it.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means the thread that waits for the kernel is gone, which is the end as well.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// What may be done in it.
    pub fn access(&self) -> Access {
        self.vfs.access()
    }

    /// Its file system.
    pub fn vfs(&self) -> &Arc<Vfs> {
        &self.vfs
    }

    /// Brings subtrees to the disk cache.
    ///
    /// # Errors
    /// If there is none.
    pub fn warmer(&self) -> Result<Warmer, WarmError> {
        Warmer::new(&self.vfs)
    }

    /// What stays in the disk cache.
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// Unmounts (lazily if programs still use it), sends what was written and is not on the host yet, writes
    /// what is left for the disk cache, and says goodbye to the host.
    ///
    /// # Errors
    /// What umount2(2) or fusermount3 said; that not everything that was written reached the host.
    pub async fn unmount(self) -> std::io::Result<()> {
        if !*self.ended.borrow() {
            let mountpoint = self.mountpoint.clone();
            let unmounted = tokio::task::spawn_blocking(move || {
                mountpoint::unmount(&mountpoint, Unmount::Lazy)
            })
            .await;
            if let Ok(Err(error)) = unmounted
                && !*self.ended.borrow()
            {
                return Err(error);
            }
        }
        self.refreshing.abort();
        let is_sent = self.vfs.drain(self.timeout).await;
        // Before the link is closed: then what is left fails, and is no longer there to be counted.
        let pending = self.vfs.pending().snapshot();
        let dirty_bytes = self.vfs.write_buffer().stats().dirty_bytes;
        if let Some(tree) = self.tree {
            tree.end().await;
        }
        if let Some(disk) = self.vfs.fetcher().disk().cloned() {
            let _ = tokio::task::spawn_blocking(move || disk.flush()).await;
        }
        self.vfs.stop_listening().await;
        self.link.close().await;
        match (is_sent, pending.lost) {
            (true, 0) => Ok(()),
            (true, lost) => Err(std::io::Error::other(format!(
                "{lost} changes that programs were told are done are lost; the log names them"
            ))),
            (false, _) => Err(std::io::Error::other(format!(
                "{dirty_bytes} bytes and {} changes of programs did not reach the host in time: they are lost",
                pending.changes
            ))),
        }
    }

    /// What it is doing.
    pub fn snapshot(&self) -> MountSnapshot {
        let fetcher = self.vfs.fetcher();
        MountSnapshot {
            mountpoint: self.mountpoint.clone(),
            share: self.share_name.clone(),
            share_id: self.share_id.clone(),
            link: self.link.snapshot(),
            fuse: self.fuse.snapshot(),
            remote: fetcher.remote_stats.snapshot(),
            access: self.vfs.access().to_string(),
            read: fetcher.read_stats.snapshot(),
            bulk: self.vfs.bulk().stats.snapshot(),
            durability: self.vfs.durability(),
            pending: self.vfs.pending().snapshot(),
            write: self.vfs.write_buffer().stats(),
            own_bytes: self.vfs.own_bytes().stats.snapshot(),
            changes: self.vfs.changes().stats().snapshot(),
            host_opens: self.vfs.opens().len(),
            leases: self.vfs.leases().snapshot(),
            pushes: self.vfs.lease_stats().snapshot(),
            l1: fetcher.memory().stats(),
            l2: fetcher.disk().map(|disk| disk.stats()),
            l2_note: self.l2_note.clone(),
            pins: self.pins.snapshot(&self.vfs),
            passthrough: self.vfs.passthrough().snapshot(),
            nodes: self.vfs.nodes(),
            handles: self.vfs.handles(),
        }
    }
}

/// Opens the disk cache; one that cannot be had is a warning, never a reason not to mount.
async fn open_disk(
    config: DiskConfig,
    share: wormhole_protocol::ShareId,
) -> (Option<Arc<Disk>>, Option<String>) {
    let root = config.root.clone();
    let opened = tokio::task::spawn_blocking(move || Disk::open(config, share)).await;
    let note = match opened {
        Ok(Ok(disk)) => return (Some(Arc::new(disk)), None),
        Ok(Err(DiskError::InUse { pid })) => format!(
            "another mount of this share (process {pid}) uses the disk cache in {}; this one runs \
             without a disk cache. Give it a --cache-dir of its own to have one",
            root.display()
        ),
        Ok(Err(error)) => format!(
            "no disk cache in {}: {error}; this mount runs without",
            root.display()
        ),
        Err(_) => "opening the disk cache failed; this mount runs without".to_owned(),
    };
    tracing::warn!("{note}");
    (None, Some(note))
}

async fn mount(
    config: &MountConfig,
    vfs: Arc<Vfs>,
    stats: Arc<FuseStats>,
) -> Result<latest::Receiver<bool>, MountError> {
    let mountpoint = config.mountpoint.clone();
    let options = config.fuse.clone();
    let runtime = tokio::runtime::Handle::current();
    let session = tokio::task::spawn_blocking(move || {
        let session = fuse::mount(vfs, stats, &mountpoint, &options, runtime)?;
        if let Err(error) = mountpoint::set_read_ahead(&mountpoint, READ_AHEAD_KIB) {
            tracing::debug!("the kernel's readahead stays at its default: {error}");
        }
        Ok(session)
    })
    .await
    .map_err(std::io::Error::other)
    .and_then(|mounted| mounted)
    .map_err(|source| MountError::Mount {
        mountpoint: config.mountpoint.clone(),
        source,
    })?;
    let (ended, watch_end) = latest::channel(false);
    std::thread::Builder::new()
        .name("fuse-end".into())
        .spawn(move || {
            if let Err(error) = session.join() {
                tracing::error!("the FUSE session ended with an error: {error}");
            }
            ended.send_replace(true);
        })
        .map_err(|source| MountError::Mount {
            mountpoint: config.mountpoint.clone(),
            source,
        })?;
    Ok(watch_end)
}

/// The kernel's own readahead for the mount: one request of the largest size.
const READ_AHEAD_KIB: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_ten_round_trips_and_a_second_at_the_least() {
        let term = |rtt_ms| {
            let rtt = Duration::from_millis(rtt_ms);
            let path = PathEstimate {
                rtt,
                ..PathEstimate::default()
            };
            term_for(&path).as_millis()
        };
        assert_eq!([0, 1, 50, 100].map(term), [1000; 4]);
        assert_eq!([150, 300, 5000].map(term), [1500, 3000, 10_000]);
    }
}
