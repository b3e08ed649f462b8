//! Since when what was heard of a directory is in doubt: something in it was found not to be so.
//!
//! An answer to an earlier question may have been on its way by then, and be as wrong. It is not believed
//! beyond the one who asked.
//!
//! Lock: `recent`, a leaf.

use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use tokio::time::Instant;
use wormhole_protocol::FileId;

/// Directories remembered. One that is forgotten was found wrong long before any answer under way was asked.
const DIRECTORIES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Directories, and when something in them was last found wrong.
pub(super) struct Doubts {
    recent: Mutex<LruCache<FileId, Instant>>,
}

impl Default for Doubts {
    fn default() -> Self {
        Self {
            recent: Mutex::new(LruCache::sparse(DIRECTORIES_MAX)),
        }
    }
}

impl Doubts {
    /// Something in `dir` was found wrong at `at`.
    pub(super) fn note(&self, dir: FileId, at: Instant) {
        self.recent.lock().put(dir, at);
    }

    /// Whether an answer to what was asked of `dir` at `asked` may be believed.
    pub(super) fn allow(&self, dir: FileId, asked: Instant) -> bool {
        self.recent.lock().peek(&dir).is_none_or(|at| *at < asked)
    }
}
