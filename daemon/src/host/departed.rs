//! Files that lost their last name through this host, readable for a while yet.
//!
//! A mount opens a file for reading without a word to the host. When somebody then removes it or renames over
//! it, whoever opened it, or is just about to, must be able to read on (POSIX), though the host was never told
//! of them. So what goes that way is kept for a moment, long enough for what is under way; from its first
//! read on a session keeps it itself (`open`).
//!
//! It takes up space on the disk meanwhile, and gives way at once to who needs it. Found by its identity alone,
//! by mounts of the same share, which could have read it before.
//!
//! Lock: `files`, leaf.

use super::limits::{DEPARTED_KEPT, DEPARTED_MAX};
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;
use wormhole_protocol::FileId;

/// See the module.
#[derive(Debug)]
pub(super) struct Departed {
    /// `O_PATH` descriptors, and when each lost its name; the oldest is used least recently.
    files: Mutex<LruCache<FileId, (Arc<OwnedFd>, Instant)>>,
}

impl Default for Departed {
    fn default() -> Self {
        let most = NonZeroUsize::new(DEPARTED_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            files: Mutex::new(LruCache::sparse(most)),
        }
    }
}

impl Departed {
    /// Keeps a file that has just lost its last name.
    pub(super) fn keep(&self, id: FileId, node: OwnedFd, now: Instant) {
        self.sweep(now);
        self.files.lock().put(id, (Arc::new(node), now));
    }

    /// A file that lost its last name lately.
    pub(super) fn get(&self, id: FileId, now: Instant) -> Option<Arc<OwnedFd>> {
        let files = self.files.lock();
        let (node, since) = files.peek(&id)?;
        let is_fresh = now.saturating_duration_since(*since) < DEPARTED_KEPT;
        is_fresh.then(|| node.clone())
    }

    /// Lets go of everything: the disk is full. Whether there was anything.
    pub(super) fn clear(&self) -> bool {
        let mut files = self.files.lock();
        let had = !files.is_empty();
        files.clear();
        had
    }

    /// Lets go of what has been kept long enough.
    pub(super) fn sweep(&self, now: Instant) {
        let mut files = self.files.lock();
        while let Some((_, (_, since))) = files.peek_lru() {
            if now.saturating_duration_since(*since) < DEPARTED_KEPT {
                return;
            }
            files.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_file_is_kept_for_a_moment_and_only_so_many_are() {
        let id = |inode| FileId {
            device: 1,
            inode,
            birth: 0,
        };
        let node = || OwnedFd::from(File::open("/dev/null").unwrap());
        let (departed, now) = (Departed::default(), Instant::now());
        departed.keep(id(0), node(), now);
        assert!(departed.get(id(0), now).is_some());
        assert!(departed.get(id(1), now).is_none());
        assert!(departed.get(id(0), now + DEPARTED_KEPT).is_none());
        departed.sweep(now + DEPARTED_KEPT);
        assert!(departed.get(id(0), now).is_none());
        for inode in 0..=DEPARTED_MAX as u64 {
            departed.keep(id(inode), node(), now);
        }
        assert!(departed.get(id(0), now).is_none(), "pushed out");
        assert!(departed.get(id(1), now).is_some());
        assert!(departed.clear() && !departed.clear());
        assert!(departed.get(id(1), now).is_none());
    }
}
