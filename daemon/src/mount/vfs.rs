//! The file system as operations: what a front end calls, without any of its types.
//!
//! What is believed of names and attributes is answered from memory (`beliefs`). An `open` with believed attributes costs nothing; the first read brings bytes and attributes
//! in one round trip. All futures may be dropped at any time, which cancels what they asked.
//!
//! Not here: errno, mount options (`fuse`); bytes (`fetch`); reconnecting (`link`).

use super::beliefs::{Beliefs, gone_is_stale};
use super::error::FsError;
use super::fetch::Fetcher;
use super::handles::{HandleId, Handles};
use super::inodes::{Ino, Inodes, Node};
use super::listing::Listed;
use super::stats::RemoteStats;
use crate::rpc::{Answer, Remote};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_cache::Disk;
use wormhole_protocol::{
    Attr, Fault, FileKind, LinkTarget, Name, Reply, Request, ShareId, StatFs, XattrName,
};

/// What a mount decides about its file system.
#[derive(Debug, Clone)]
pub struct VfsConfig {
    /// How long attributes and names are believed.
    pub attr_ttl: Duration,
    /// How long a request may wait for the host.
    pub timeout: Duration,
    /// Bytes of the memory cache.
    pub l1_bytes: u64,
}

/// A node to show, and how much longer the kernel believes it.
pub struct Found {
    /// The node; its lookup has been counted.
    pub node: Arc<Node>,
    /// Its attributes.
    pub attr: Attr,
    /// How much longer.
    pub ttl: Duration,
}

/// An opened file.
pub struct Opened {
    /// Its handle.
    pub handle: HandleId,
    /// Whether the kernel's pages are of the version that was opened.
    pub keep_cache: bool,
}

/// A stretch of a directory.
pub struct Page {
    /// The directory.
    pub dir: Arc<Node>,
    /// Entries, each with the offset behind it.
    pub entries: Vec<(u64, Listed)>,
    /// Whether the page begins with `.` and `..`.
    pub dots: bool,
}

/// Offsets below this are `.` and `..`.
const DOTS: u64 = 2;
/// Shown when the host never told.
const FIGURES_UNKNOWN: StatFs = StatFs {
    fragment_bytes: 4096,
    block_bytes: 4096,
    blocks: 0,
    blocks_free: 0,
    blocks_available: 0,
    files: 0,
    files_free: 0,
    name_bytes_max: 255,
};
/// How long the root's attributes are waited for before the last known ones do.
const PATIENCE_ROOT: Duration = Duration::from_secs(1);
/// Entries handed out at a time; more than fits a 1 MiB buffer is never needed.
const PAGE_ENTRIES: usize = 1024;

/// The file system of one mount.
pub struct Vfs {
    remote: Arc<dyn Remote>,
    inodes: Inodes,
    handles: Handles,
    beliefs: Arc<Beliefs>,
    fetcher: Arc<Fetcher>,
    /// The last known figures of the host's file system.
    figures: Mutex<Option<StatFs>>,
}

impl Vfs {
    /// The file system of `share`, whose root has the attributes `root`.
    pub fn new(
        config: VfsConfig,
        share: ShareId,
        root: Attr,
        remote: Arc<dyn Remote>,
        disk: Option<Arc<Disk>>,
    ) -> Self {
        let fetcher = Fetcher::new(share, remote.clone(), config.l1_bytes, disk, config.timeout);
        Self {
            inodes: Inodes::new(root, Instant::now()),
            handles: Handles::default(),
            beliefs: Beliefs::new(
                config.attr_ttl,
                remote.clone(),
                fetcher.remote_stats.clone(),
            ),
            fetcher,
            remote,
            figures: Mutex::default(),
        }
    }

    /// Reads and caches.
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// Nodes the kernel knows.
    pub fn nodes(&self) -> usize {
        self.inodes.len()
    }

    /// Open files and directories.
    pub fn handles(&self) -> usize {
        self.handles.open_count()
    }

    /// Finds `name` in a directory and counts the lookup; `Err(ttl)` = there is none, and the kernel may
    /// believe so that long.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Result<Found, Duration>, FsError> {
        let dir = self.inodes.get(dir)?;
        let name = Name::new(name).map_err(|error| match error {
            wormhole_protocol::name::NameError::TooLong => FsError::NameTooLong,
            _ => FsError::Fault(Fault::Invalid),
        })?;
        let told = self.beliefs.lookup(&dir, &name).await?;
        match told.attr {
            Some(attr) => self.found(&dir, &name, &attr, told.at).map(Ok),
            None => Ok(Err(self.beliefs.kernel_ttl(told.at))),
        }
    }

    fn found(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        attr: &Attr,
        told: Instant,
    ) -> Result<Found, FsError> {
        let node = self.inodes.remember(dir, name, attr, told)?;
        let (attr, ttl) = match self.beliefs.known_attr(&node) {
            Some(attr) => (attr, self.beliefs.kernel_ttl(told)),
            None => (*attr, Duration::ZERO),
        };
        Ok(Found { node, attr, ttl })
    }

    /// Shows an entry of a page to the kernel and counts the lookup.
    ///
    /// # Errors
    /// [`FsError::Io`] for an entry that cannot be true.
    pub fn show(&self, dir: &Arc<Node>, listed: &Listed) -> Result<Found, FsError> {
        let entry = &listed.entry;
        self.found(dir, &entry.name, &entry.attr, listed.told)
    }

    /// The kernel dropped `lookups` of its lookups.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.inodes.forget(ino, lookups);
    }

    /// Attributes, and how much longer the kernel may believe them.
    ///
    /// # Errors
    /// [`FsError::Stale`] if the node is no longer where it was and nothing holds it open.
    pub async fn getattr(
        &self,
        ino: Ino,
        handle: Option<HandleId>,
    ) -> Result<(Attr, Duration), FsError> {
        let open = handle.and_then(|id| self.handles.file(id).ok());
        let node = match &open {
            Some(file) => file.node.clone(),
            None => self.inodes.get(ino)?,
        };
        if node.ino == Ino::ROOT {
            return self.root_attr(&node).await;
        }
        match self.attr_of(&node).await {
            // Unlinked or renamed over, but open: what was last known of it stays true enough.
            Err(FsError::Stale) if open.is_some() => Ok((node.attr(), Duration::ZERO)),
            other => other,
        }
    }

    /// Attributes of the root are always to be had: umount(8), `df` and shells look at the mount point,
    /// and must not hang with the host.
    async fn root_attr(&self, root: &Arc<Node>) -> Result<(Attr, Duration), FsError> {
        if self.remote.is_connected()
            && let Ok(told) = tokio::time::timeout(PATIENCE_ROOT, self.attr_of(root)).await
        {
            return told;
        }
        Ok((root.attr(), Duration::ZERO))
    }

    async fn attr_of(&self, node: &Arc<Node>) -> Result<(Attr, Duration), FsError> {
        let attr = self.beliefs.attr(node).await?;
        Ok((attr, self.beliefs.kernel_ttl(node.told())))
    }

    /// The target of a symlink.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn readlink(&self, ino: Ino) -> Result<LinkTarget, FsError> {
        let node = self.inodes.get(ino)?;
        let request = Request::Readlink {
            node: node.reference()?,
        };
        let answer = self.ask(request, |stats| &stats.readlink).await;
        match answer.map_err(gone_is_stale)?.reply {
            Reply::Link(target) => Ok(target),
            _ => Err(FsError::Io),
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`FsError::Fault`] with [`Fault::ReadOnly`] when asked to write.
    pub async fn open(&self, ino: Ino, writing: bool) -> Result<Opened, FsError> {
        if writing {
            return Err(FsError::Fault(Fault::ReadOnly));
        }
        let node = self.inodes.get(ino)?;
        let attr = self.beliefs.attr(&node).await?;
        let keep_cache = node.take_kernel_version(attr.version);
        Ok(Opened {
            handle: self.handles.open_file(node),
            keep_cache,
        })
    }

    /// Reads up to `len` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn read(&self, handle: HandleId, offset: u64, len: u64) -> Result<Bytes, FsError> {
        let file = self.handles.file(handle)?;
        let end = offset.saturating_add(len);
        let ahead = file.observe(offset, end, self.fetcher.window_max_bytes());
        self.fetcher
            .read(&file.node, offset, len, ahead, &file.cancel)
            .await
            .map_err(gone_is_stale)
    }

    /// Closes a file or directory.
    pub fn release(&self, handle: HandleId) {
        self.handles.close(handle);
    }

    /// Opens a directory.
    ///
    /// # Errors
    /// [`FsError::Stale`] for an unknown node.
    pub fn opendir(&self, ino: Ino) -> Result<HandleId, FsError> {
        let node = self.inodes.get(ino)?;
        if node.attr().kind != FileKind::Directory {
            return Err(FsError::Fault(Fault::NotDirectory));
        }
        Ok(self.handles.open_dir(node))
    }

    /// Entries from `offset` on; an empty page at the end. Offset 0 begins anew.
    ///
    /// # Errors
    /// What the host answered, or what broke the listing.
    pub async fn readdir(&self, handle: HandleId, offset: u64) -> Result<Page, FsError> {
        let dir = self.handles.dir(handle)?;
        let listing = {
            let mut current = dir.listing.lock().await;
            match &*current {
                Some(listing) if offset > 0 => listing.clone(),
                _ => {
                    let listing = self.beliefs.list(&dir.node).await?;
                    current.insert(listing).clone()
                }
            }
        };
        let from = usize::try_from(offset.saturating_sub(DOTS)).unwrap_or(usize::MAX);
        let listed = listing.page(from, PAGE_ENTRIES).await?;
        let offsets = (from as u64).saturating_add(DOTS + 1)..;
        Ok(Page {
            dir: dir.node.clone(),
            entries: offsets.zip(listed).collect(),
            dots: offset == 0,
        })
    }

    /// The number of the directory a directory is in.
    pub fn parent(&self, dir: &Arc<Node>) -> Ino {
        dir.parent().ino
    }

    /// Figures of the host's file system; the last known ones while the host does not answer.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn statfs(&self) -> Result<StatFs, FsError> {
        let known = self.figures.lock().unwrap_or(FIGURES_UNKNOWN);
        if !self.remote.is_connected() {
            return Ok(known);
        }
        let asked = self.ask(Request::StatFs, |stats| &stats.statfs);
        let Ok(answer) = tokio::time::timeout(PATIENCE_ROOT, asked).await else {
            return Ok(known);
        };
        let Reply::StatFs(figures) = answer?.reply else {
            return Err(FsError::Io);
        };
        *self.figures.lock() = Some(figures);
        Ok(figures)
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// [`Fault::NoAttribute`] for one that is not there or never travels.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, FsError> {
        let node = self.inodes.get(ino)?;
        let name = XattrName::new(name).map_err(|_| FsError::Fault(Fault::NoAttribute))?;
        let request = Request::GetXattr {
            node: node.reference()?,
            name,
        };
        let answer = self.ask(request, |stats| &stats.xattr).await;
        match answer.map_err(gone_is_stale)?.reply {
            Reply::Xattr(value) => Ok(value),
            _ => Err(FsError::Io),
        }
    }

    /// The names of the extended attributes.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<XattrName>, FsError> {
        let node = self.inodes.get(ino)?;
        let request = Request::ListXattr {
            node: node.reference()?,
        };
        let answer = self.ask(request, |stats| &stats.xattr).await;
        match answer.map_err(gone_is_stale)?.reply {
            Reply::XattrNames(names) => Ok(names),
            _ => Err(FsError::Io),
        }
    }

    async fn ask(
        &self,
        request: Request,
        counter: fn(&RemoteStats) -> &AtomicU64,
    ) -> Result<Answer, FsError> {
        self.beliefs.ask(request, counter).await
    }
}
