//! The file system as operations: what a front end calls, without any of its types.
//!
//! What is believed of names and attributes is answered from memory (`beliefs`). An `open` to read, with
//! believed attributes, costs nothing; the first read brings bytes and attributes in one round trip. Changes go
//! to the host and are known here when they return. All futures may be dropped at any time, which cancels what they asked.
//!
//! Not here: errno, mount options (`fuse`); bytes (`fetch`); reconnecting (`link`).

mod attrs;
mod beside;
mod changer;
mod content;
mod durable;
mod early;
mod late;
mod leases;
mod locks;
mod looks;
mod names;
mod open;

pub use content::CreateHow;
use durable::is_applied;
pub use locks::Wanted;
use looks::Figures;

use super::beliefs::{Beliefs, gone_is_stale};
use super::bulk::Bulk;
use super::changes::Changes;
use super::durability::Durability;
use super::early::Early;
use super::error::FsError;
use super::fetch::Fetcher;
use super::handles::{HandleId, Handles};
use super::heard::Heard;
use super::inodes::{Ino, Inodes, Node};
use super::lease::Leases;
use super::links::LinkTargets;
use super::listen::Listening;
use super::listing::Listed;
use super::notify::Notify;
use super::opens::Opens;
use super::own_bytes::OwnBytes;
use super::passthrough::Passthrough;
use super::pending::Pending;
use super::stats::{LeaseStats, RemoteStats};
use super::wanted::WantedFiles;
use super::watch::Taps;
use super::write::WriteBuffer;
use crate::rpc::{Answer, Body, Remote};
use parking_lot::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use wormhole_cache::{Disk, Whole};
use wormhole_protocol::{
    Access, Attr, Caller, Change, Fault, FileKind, Name, Reply, Request, ShareId,
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
    /// Bytes that may have been written and not yet be on the host.
    pub write_buffer_bytes: u64,
    /// What the session may do.
    pub access: Access,
    /// When programs are told that what they changed is done.
    pub durability: Durability,
}

/// A node to show, and how much longer the kernel believes it.
pub struct Found {
    /// The node; its lookup has been counted.
    pub node: Arc<Node>,
    /// Its attributes.
    pub attr: Attr,
    /// How much longer its attributes.
    pub ttl: Duration,
    /// How much longer that the name leads to it.
    pub name_ttl: Duration,
}

impl Found {
    /// How much longer all of it, where the kernel is told one time only.
    pub fn ttl_of_both(&self) -> Duration {
        self.ttl.min(self.name_ttl)
    }
}

/// An opened file.
pub struct Opened {
    /// Its handle.
    pub handle: HandleId,
    /// Whether the kernel's pages are of the version that was opened.
    pub keep_cache: bool,
    /// The file the kernel is to read instead of asking.
    pub whole: Option<Arc<Whole>>,
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
/// How long the root's attributes are waited for before the last known ones do.
const PATIENCE_ROOT: Duration = Duration::from_secs(1);
/// Between the lookup of a name and the open of what it led to; the host keeps what lost its name for longer.
const OPENING_MAX: Duration = Duration::from_millis(250);
/// How long the kernel believes what it was listed and did not look up.
const LISTED_MAX: Duration = Duration::from_secs(1);
/// Entries handed out at a time; more than fits a 1 MiB buffer is never needed.
const PAGE_ENTRIES: usize = 1024;

/// The file system of one mount.
pub struct Vfs {
    remote: Arc<dyn Remote>,
    inodes: Arc<Inodes>,
    handles: Handles,
    leases: Arc<Leases>,
    beliefs: Arc<Beliefs>,
    fetcher: Arc<Fetcher>,
    bulk: Arc<Bulk>,
    access: Access,
    changes: Arc<Changes>,
    opens: Arc<Opens>,
    early: Arc<Early>,
    buffer: Arc<WriteBuffer>,
    own_bytes: Arc<OwnBytes>,
    passthrough: Arc<Passthrough>,
    taps: Taps,
    wanted: Arc<WantedFiles>,
    /// Who tells the kernel; nobody while there is none.
    notify: Arc<OnceLock<Arc<dyn Notify>>>,
    lease_stats: Arc<LeaseStats>,
    /// Takes what the host tells; ends with this.
    listening: Mutex<Option<Listening>>,
    /// The last known figures of the host's file system.
    figures: Mutex<Option<Figures>>,
    links: LinkTargets,
    durability: Durability,
    pending: Arc<Pending>,
    /// How long programs wait for a lost host.
    timeout: Duration,
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
        let passthrough = Passthrough::new(disk.clone());
        let changes = Changes::new(remote.clone(), Arc::default());
        let fetcher = Fetcher::new(share, remote.clone(), config.l1_bytes, disk, config.timeout);
        let leases: Arc<Leases> = Arc::default();
        let stats = fetcher.remote_stats.clone();
        let beliefs = Beliefs::new(config.attr_ttl, remote.clone(), stats, leases.clone());
        let own_bytes = OwnBytes::new(fetcher.clone(), remote.clone(), config.l1_bytes);
        let (r, c) = (remote.clone(), changes.clone());
        let early = Early::new(r, c, beliefs.clone(), leases.clone(), config.durability);
        Self {
            inodes: Arc::new(Inodes::new(root, Instant::now())),
            handles: Handles::default(),
            bulk: Bulk::new(fetcher.clone(), beliefs.clone(), remote.clone()),
            beliefs,
            leases,
            fetcher,
            access: config.access,
            opens: Opens::new(changes.clone()),
            early,
            changes,
            buffer: WriteBuffer::new(config.write_buffer_bytes),
            own_bytes,
            passthrough,
            taps: Taps::default(),
            wanted: Arc::default(),
            notify: Arc::default(),
            lease_stats: Arc::default(),
            listening: Mutex::default(),
            remote,
            figures: Mutex::default(),
            links: LinkTargets::default(),
            durability: config.durability,
            pending: Pending::new(),
            timeout: config.timeout,
        }
    }

    /// Reads and caches.
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// Fetches small files ahead of need.
    pub fn bulk(&self) -> &Arc<Bulk> {
        &self.bulk
    }

    /// What is held open at the host.
    pub fn opens(&self) -> &Arc<Opens> {
        &self.opens
    }

    /// Who asks for changes.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// What was written and is not yet on the host.
    pub fn write_buffer(&self) -> &Arc<WriteBuffer> {
        &self.buffer
    }

    /// What was written here and may stay.
    pub fn own_bytes(&self) -> &Arc<OwnBytes> {
        &self.own_bytes
    }

    /// When programs are told that what they changed is done.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// What programs were told is done while the host had not answered.
    pub fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// Names who tells the kernel what it must forget; once.
    pub fn notify_by(&self, notify: Arc<dyn Notify>) {
        self.beliefs.notify_by(notify.clone());
        let _ = self.notify.set(notify);
    }

    /// Who tells the kernel.
    pub fn notify(&self) -> Option<&Arc<dyn Notify>> {
        self.notify.get()
    }

    /// What may be done here.
    pub fn access(&self) -> Access {
        self.access
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
        let name = name_of(name)?;
        if let Some(found) = self.lookup_early((&dir, &name)) {
            return Ok(found);
        }
        self.settle_name(&dir, &name).await?;
        let told = self.beliefs.lookup(&dir, &name).await?;
        match told.attr {
            Some(attr) => self.found(&dir, &name, &attr, told.heard, None).map(Ok),
            None => Ok(Err(self.beliefs.name_ttl(&dir, &name, told.heard))),
        }
    }

    fn found(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        attr: &Attr,
        heard: Heard,
        counted: Option<Arc<Node>>,
    ) -> Result<Found, FsError> {
        let node = match counted {
            Some(node) => node,
            None => {
                let of_attr = self.beliefs.of_entry(attr, heard);
                let beliefs = &self.beliefs;
                self.inodes.rest_surplus(|dir| beliefs.listing_kept(dir));
                self.inodes.remember(dir, name, attr, of_attr)?
            }
        };
        self.beliefs.learn_dir(&node, attr);
        // What was asked before a change of ours may not know of it.
        if let Some((own, at)) = self.beliefs.own_attr(attr.id, heard.asked)
            && at > node.told()
        {
            node.learn_change(&own, at);
        }
        let shown = self.beliefs.shown(dir, name, heard, &node);
        let attr = node.with_dirty_size(shown.attr.unwrap_or(*attr));
        Ok(Found {
            attr,
            // What is being done to it has not told what it is like then.
            ttl: match is_applied(&node) {
                true => shown.ttl,
                false => Duration::ZERO,
            },
            name_ttl: shown.name_ttl,
            node,
        })
    }

    /// Shows an entry of a page to the kernel and counts the lookup.
    ///
    /// # Errors
    /// [`FsError::Io`] for an entry that cannot be true.
    pub fn show(&self, dir: &Arc<Node>, listed: &Listed) -> Result<Found, FsError> {
        let entry = &listed.entry;
        self.found(dir, &entry.name, &entry.attr, listed.heard, None)
    }

    /// How much longer the kernel may believe an entry of a page: not for long, since it may take it after it was told
    /// to forget it ([`Beliefs::is_quiet`]).
    pub fn ttl_on_page(&self, dir: &Node, found: &Found) -> Duration {
        if self.beliefs.is_quiet(dir.id) {
            found.ttl_of_both().min(LISTED_MAX)
        } else {
            Duration::ZERO
        }
    }

    /// The kernel dropped `lookups` of its lookups.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.inodes.forget(ino, lookups);
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
        self.settle(&dir.node).await?;
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
        let listed = self.beliefs.page(&dir.node, &listing, from, PAGE_ENTRIES);
        let listed = listed.await?;
        let behind = |listed: &Listed| (listed.number as u64).saturating_add(DOTS + 1);
        Ok(Page {
            dir: dir.node.clone(),
            entries: listed.into_iter().map(|l| (behind(&l), l)).collect(),
            dots: offset == 0,
        })
    }

    /// The number of the directory a directory is in.
    pub fn parent(&self, dir: &Arc<Node>) -> Ino {
        dir.parent().ino
    }

    /// What an error says about a node the kernel holds. If it is not where it was, that is not believed any
    /// more: the kernel will look its name up again, and must be told what is there now.
    fn gone(&self, node: &Arc<Node>, error: FsError) -> FsError {
        let error = gone_is_stale(error);
        if error == FsError::Stale {
            self.beliefs.disbelieve(node);
        }
        error
    }

    /// Fails where nothing may be changed.
    fn require_writes(&self) -> Result<(), FsError> {
        match self.access.writes() {
            true => Ok(()),
            false => Err(FsError::Fault(Fault::ReadOnly)),
        }
    }

    /// Has a change done, if any may be.
    async fn change(&self, caller: Caller, change: Change, body: Body) -> Result<Reply, FsError> {
        self.require_writes()?;
        self.changes.ask(caller, change, body).await
    }

    async fn ask(
        &self,
        request: Request,
        counter: fn(&RemoteStats) -> &AtomicU64,
    ) -> Result<Answer, FsError> {
        self.beliefs.ask(request, counter).await
    }
}

/// Whether the host told a node's attributes just now, as it does when the kernel looks up what it is about to
/// stat or open.
fn just_told(node: &Node) -> bool {
    node.told().elapsed() < OPENING_MAX
}

/// The name of an entry, as the kernel gives it.
fn name_of(name: &[u8]) -> Result<Name, FsError> {
    Name::new(name).map_err(|error| match error {
        wormhole_protocol::name::NameError::TooLong => FsError::NameTooLong,
        _ => FsError::Fault(Fault::Invalid),
    })
}
