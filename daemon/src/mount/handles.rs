//! Open files and directories.
//!
//! A handle number is given out once and never again, so a forged or stale one finds nothing.
//!
//! Lock: `open` (and `ahead`, `mark` and `closes` of a file), never across an await.

use super::error::FsError;
use super::fetch::Cancel;
use super::inodes::Node;
use super::listing::Listing;
use super::opens::HostOpen;
use super::passthrough::Way;
use super::readahead::Readahead;
use super::write::{Deliver, ErrorMark};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use wormhole_protocol::{Caller, Name, SyncWhat};

/// The number of an open file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// An open file.
pub struct FileHandle {
    /// The file.
    pub node: Arc<Node>,
    ahead: Mutex<Ahead>,
    /// Ends the fetches this handle no longer wants.
    pub cancel: Cancel,
    /// How it was opened.
    pub how: OpenHow,
    /// On whose behalf it is written.
    pub caller: Caller,
    /// The open at the host, if there is one: at once for writing, else when it is needed.
    host: tokio::sync::OnceCell<Arc<HostOpen>>,
    /// An open of its own for `flock(2)`, whose lock is of one open file and ends with it.
    flock: tokio::sync::OnceCell<Arc<HostOpen>>,
    /// Where what is written through it goes.
    delivery: OnceLock<Arc<dyn Deliver>>,
    /// Up to where failed writes were reported to fsync through this handle.
    mark: Mutex<ErrorMark>,
    /// And to a later write.
    write_mark: Mutex<ErrorMark>,
    /// Whether somebody waits in the place of who closed it.
    pub(super) closes: Mutex<bool>,
    /// How the kernel has it open.
    _way: Way,
}

/// How a file was opened (`open(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenHow {
    /// To be written as well.
    pub writes: bool,
    /// Every write goes to the end (`O_APPEND`).
    pub appends: bool,
    /// What every write makes durable before it returns (`O_DSYNC`, `O_SYNC`), where the kernel does not ask
    /// for that itself.
    pub syncs: Option<SyncWhat>,
    /// Past the page cache (`O_DIRECT`).
    pub direct: bool,
    /// Cut to nothing first (`O_TRUNC`).
    pub truncates: bool,
}

#[derive(Default)]
struct Ahead {
    policy: Readahead,
    /// Up to where fetches were issued in this run.
    issued: u64,
}

impl FileHandle {
    fn new(
        caller: Caller,
        node: Arc<Node>,
        how: OpenHow,
        host: Option<Arc<HostOpen>>,
        way: Way,
    ) -> Self {
        let mark = node.writer().map(|writer| writer.error_mark());
        node.count_open();
        Self {
            ahead: Mutex::default(),
            cancel: Cancel::default(),
            how,
            caller,
            host: tokio::sync::OnceCell::new_with(host),
            flock: tokio::sync::OnceCell::new(),
            delivery: OnceLock::new(),
            mark: Mutex::new(mark.unwrap_or_default()),
            write_mark: Mutex::new(mark.unwrap_or_default()),
            closes: Mutex::new(false),
            _way: way,
            node,
        }
    }

    /// The open at the host, if there is one.
    pub fn host(&self) -> Option<&Arc<HostOpen>> {
        self.host.get()
    }

    /// The open at the host; if there is none yet, `open` makes it.
    ///
    /// # Errors
    /// What `open` says.
    pub async fn host_or<F>(&self, open: impl FnOnce() -> F) -> Result<&Arc<HostOpen>, FsError>
    where
        F: Future<Output = Result<Arc<HostOpen>, FsError>>,
    {
        self.host.get_or_try_init(open).await
    }

    /// The open at the host that holds its `flock(2)`; if there is none yet, `open` makes it.
    ///
    /// # Errors
    /// What `open` says.
    pub async fn flock_or<F>(&self, open: impl FnOnce() -> F) -> Result<&Arc<HostOpen>, FsError>
    where
        F: Future<Output = Result<Arc<HostOpen>, FsError>>,
    {
        self.flock.get_or_try_init(open).await
    }

    /// Where what is written through it goes; `make` says so the first time.
    pub fn delivery(&self, make: impl FnOnce() -> Arc<dyn Deliver>) -> &Arc<dyn Deliver> {
        self.delivery.get_or_init(make)
    }

    /// The same, if something was written through it.
    pub fn delivered(&self) -> Option<&Arc<dyn Deliver>> {
        self.delivery.get()
    }

    /// A failure to write since the last fsync through this handle. Many may be told, because many may close
    /// it: a process that was started while this one writes closes what it inherited, and reads no error.
    pub fn error(&self) -> Option<FsError> {
        let mut mark = *self.mark.lock();
        self.node.writer()?.error_since(&mut mark)
    }

    /// Up to where failures were reported to fsync through this handle.
    pub fn error_mark(&self) -> ErrorMark {
        *self.mark.lock()
    }

    /// The same, told once: for the next write, so that who goes on writing hears of it, too.
    pub fn take_write_error(&self) -> Option<FsError> {
        self.node.writer()?.error_since(&mut self.write_mark.lock())
    }

    /// The same, told once: for fsync.
    pub fn take_error(&self) -> Option<FsError> {
        self.node.writer()?.error_since(&mut self.mark.lock())
    }

    /// Takes note of a read and says which range to fetch besides: (from, until).
    pub fn observe(&self, offset: u64, end: u64, window_max_bytes: u64) -> (u64, u64) {
        let (range, jumped) = {
            let mut ahead = self.ahead.lock();
            let plan = ahead.policy.observe(offset, end, window_max_bytes);
            if plan.jumped {
                ahead.issued = end;
            }
            let from = ahead.issued.max(end);
            ahead.issued = from.max(plan.until);
            ((from, plan.until), plan.jumped)
        };
        if jumped {
            self.cancel.cancel();
        }
        range
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        self.node.uncount_open();
    }
}

/// An open directory.
pub struct DirHandle {
    /// The directory.
    pub node: Arc<Node>,
    /// The listing it reads; replaced when it is rewound.
    pub listing: tokio::sync::Mutex<Option<Arc<Listing>>>,
}

/// What is open.
#[derive(Clone)]
pub enum Handle {
    /// A file.
    File(Arc<FileHandle>),
    /// A directory.
    Dir(Arc<DirHandle>),
}

impl Handle {
    fn as_file(&self) -> Option<&Arc<FileHandle>> {
        match self {
            Self::File(file) => Some(file),
            Self::Dir(_) => None,
        }
    }
}

/// All handles of a mount.
#[derive(Default)]
pub struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<HandleId, Handle>>,
}

impl Handles {
    /// Opens a file, which the host may have opened already.
    pub fn open_file(
        &self,
        caller: Caller,
        node: Arc<Node>,
        how: OpenHow,
        host: Option<Arc<HostOpen>>,
        way: Way,
    ) -> HandleId {
        self.insert(Handle::File(Arc::new(FileHandle::new(
            caller, node, how, host, way,
        ))))
    }

    /// Opens a directory.
    pub fn open_dir(&self, node: Arc<Node>) -> HandleId {
        self.insert(Handle::Dir(Arc::new(DirHandle {
            node,
            listing: tokio::sync::Mutex::new(None),
        })))
    }

    /// The file of a handle.
    ///
    /// # Errors
    /// [`FsError::BadHandle`].
    pub fn file(&self, id: HandleId) -> Result<Arc<FileHandle>, FsError> {
        match self.open.lock().get(&id) {
            Some(Handle::File(file)) => Ok(file.clone()),
            _ => Err(FsError::BadHandle),
        }
    }

    /// The node that a program has open and that was last seen as entry `name` of `dir`.
    pub fn open_at(&self, dir: &Arc<Node>, name: &Name) -> Option<Arc<Node>> {
        let open = self.open.lock();
        let mut files = open.values().filter_map(Handle::as_file);
        let is_there = |node: &Arc<Node>| {
            node.place()
                .is_some_and(|(parent, known)| Arc::ptr_eq(&parent, dir) && known == *name)
        };
        files
            .find(|file| is_there(&file.node))
            .map(|f| f.node.clone())
    }

    /// What the host has open for handles of a node.
    pub fn hosts_of(&self, node: &Arc<Node>) -> Vec<Arc<HostOpen>> {
        let open = self.open.lock();
        let files = open.values().filter_map(Handle::as_file);
        let of_node = files.filter(|file| Arc::ptr_eq(&file.node, node));
        of_node.filter_map(|file| file.host().cloned()).collect()
    }

    /// The directory of a handle.
    ///
    /// # Errors
    /// [`FsError::BadHandle`].
    pub fn dir(&self, id: HandleId) -> Result<Arc<DirHandle>, FsError> {
        match self.open.lock().get(&id) {
            Some(Handle::Dir(dir)) => Ok(dir.clone()),
            _ => Err(FsError::BadHandle),
        }
    }

    /// Closes a handle; what was fetched for it alone is cancelled.
    pub fn close(&self, id: HandleId) {
        let closed = self.open.lock().remove(&id);
        if let Some(Handle::File(file)) = closed {
            file.cancel.cancel();
        }
    }

    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.open.lock().len()
    }

    fn insert(&self, handle: Handle) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Relaxed) + 1);
        self.open.lock().insert(id, handle);
        id
    }
}
