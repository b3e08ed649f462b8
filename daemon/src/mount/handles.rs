//! Open files and directories.
//!
//! A handle number is given out once and never again, so a forged or stale one finds nothing.
//!
//! Lock: `open` (and `ahead` of a file), never across an await.

use super::error::FsError;
use super::fetch::Cancel;
use super::inodes::Node;
use super::listing::Listing;
use super::readahead::Readahead;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
}

#[derive(Default)]
struct Ahead {
    policy: Readahead,
    /// Up to where fetches were issued in this run.
    issued: u64,
}

impl FileHandle {
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

/// All handles of a mount.
#[derive(Default)]
pub struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<HandleId, Handle>>,
}

impl Handles {
    /// Opens a file.
    pub fn open_file(&self, node: Arc<Node>) -> HandleId {
        self.insert(Handle::File(Arc::new(FileHandle {
            node,
            ahead: Mutex::default(),
            cancel: Cancel::default(),
        })))
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
