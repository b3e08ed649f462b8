//! The files a session has read lately, kept open.
//!
//! Consecutive reads of a file walk no path, and a file that was unlinked or renamed over stays
//! readable to a session that has read it. Keyed by [`FileId`]: a session finds only what it opened
//! itself, by a path that was resolved and checked then.
//!
//! Bounded per session and for the host; the least recently read goes first. Descriptors nobody read
//! through for [`OPEN_FILE_IDLE`] are closed, because one may be all that keeps a deleted file's space
//! taken. A file that finds no room is served all the same, and closed when its request is done.
//!
//! Lock: `files`, leaf.

use super::limits::{OPEN_FILE_IDLE, SESSION_OPEN_FILES_MAX};
use super::resources::Resources;
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wormhole_protocol::FileId;

/// A regular file, open for reading.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// Its descriptor.
    pub(super) fd: Arc<OwnedFd>,
    /// Whether the kernel was told that it is read in order.
    pub(super) sequential: AtomicBool,
}

impl OpenFile {
    /// A file read through `fd`.
    pub(super) fn new(fd: Arc<OwnedFd>) -> Self {
        Self {
            fd,
            sequential: AtomicBool::new(false),
        }
    }
}

#[derive(Debug)]
struct Kept {
    file: Arc<OpenFile>,
    read_at: Instant,
    _room: OwnedSemaphorePermit,
}

/// The open files of one session.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: Mutex<LruCache<FileId, Kept>>,
    reserve: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

impl OpenFiles {
    /// None yet.
    pub(super) fn new(resources: &Resources) -> Self {
        let most = NonZeroUsize::new(SESSION_OPEN_FILES_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            files: Mutex::new(LruCache::sparse(most)),
            reserve: Arc::new(Semaphore::new(resources.reserved_files)),
            shared: resources.shared_files.clone(),
        }
    }

    /// The open file `id`.
    pub(super) fn get(&self, id: FileId) -> Option<Arc<OpenFile>> {
        let mut files = self.files.lock();
        let kept = files.get_mut(&id)?;
        kept.read_at = Instant::now();
        Some(kept.file.clone())
    }

    /// Keeps `file`, if there is room or room can be made among this session's own.
    pub(super) fn keep(&self, id: FileId, file: &Arc<OpenFile>) {
        let mut files = self.files.lock();
        // The one this replaces or pushes out gives its room first.
        let mut gone = files.pop(&id);
        if gone.is_none() && files.len() >= files.cap().get() {
            gone = files.pop_lru().map(|(_, kept)| kept);
        }
        drop(gone);
        let room = self.room().or_else(|| {
            drop(files.pop_lru());
            self.room()
        });
        if let Some(room) = room {
            let kept = Kept {
                file: file.clone(),
                read_at: Instant::now(),
                _room: room,
            };
            files.put(id, kept);
        }
    }

    /// Closes a file whose last name has gone: nothing of it need be kept.
    pub(super) fn forget(&self, id: FileId) {
        let gone = self.files.lock().pop(&id);
        drop(gone);
    }

    /// Closes the older half: the process is out of descriptors.
    pub(super) fn shed(&self) {
        let mut files = self.files.lock();
        for _ in 0..files.len().div_ceil(2) {
            files.pop_lru();
        }
    }

    /// Closes what nobody read through lately.
    pub(super) fn close_idle(&self, now: Instant) {
        self.files
            .lock()
            .retain(|_, kept| now.saturating_duration_since(kept.read_at) < OPEN_FILE_IDLE);
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.files.lock().len()
    }

    fn room(&self) -> Option<OwnedSemaphorePermit> {
        [&self.reserve, &self.shared]
            .into_iter()
            .find_map(|room| room.clone().try_acquire_owned().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wormhole_protocol::Epoch;

    fn id(inode: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            birth: 0,
        }
    }

    fn some_file() -> Arc<OpenFile> {
        let fd = std::fs::File::open("/dev/null").unwrap();
        Arc::new(OpenFile::new(Arc::new(fd.into())))
    }

    #[test]
    fn bounded_per_session_and_in_total_without_starving_the_next() {
        let mut resources = Resources::new(Epoch(1));
        resources.shared_files = Arc::new(Semaphore::new(10));
        resources.reserved_files = 3;
        let (a, b) = (OpenFiles::new(&resources), OpenFiles::new(&resources));
        let file = some_file();
        for inode in 0..100 {
            a.keep(id(inode), &file);
            assert!(a.get(id(inode)).is_some(), "the newest is kept");
        }
        assert_eq!(a.len(), 13);
        assert!(a.get(id(0)).is_none());
        for inode in 0..100 {
            b.keep(id(inode), &file);
        }
        assert_eq!(b.len(), 3, "what is set aside for it");
        assert!(b.get(id(99)).is_some());
        assert!(b.get(id(90)).is_none(), "another session's file");
        a.shed();
        assert_eq!(a.len(), 6);
        a.close_idle(Instant::now() + OPEN_FILE_IDLE);
        assert_eq!(a.len(), 0);
    }

    #[test]
    fn at_most_so_many_per_session() {
        let mut resources = Resources::new(Epoch(1));
        resources.shared_files = Arc::new(Semaphore::new(10_000));
        let files = OpenFiles::new(&resources);
        let file = some_file();
        for inode in 0..1000 {
            files.keep(id(inode), &file);
        }
        assert_eq!(files.len(), SESSION_OPEN_FILES_MAX);
    }
}
