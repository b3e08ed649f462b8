//! The contents whose files are open, least recently used first to be closed.
//!
//! A content that is removed must not come back through a slow opener: whoever opens notes the
//! generation first, and what he opened is kept only if nothing was removed meanwhile.
//!
//! Lock: `open`, never while files are opened.

use crate::disk::content::{Content, OpenFailure};
use crate::disk::layout::{Header, SharePaths};
use crate::disk::limits::OPEN_CONTENTS_MAX;
use crate::key::ContentDigest;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// The open contents.
pub(crate) struct Opened {
    open: Mutex<State>,
}

struct State {
    contents: LruCache<ContentDigest, Arc<Content>>,
    generation: u64,
}

impl Opened {
    pub(crate) fn new() -> Self {
        let most = NonZeroUsize::new(OPEN_CONTENTS_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            open: Mutex::new(State {
                contents: LruCache::new(most),
                generation: 0,
            }),
        }
    }

    /// The content `header` names, opened if need be.
    pub(crate) fn get(
        &self,
        paths: &SharePaths,
        header: Header,
        digest: ContentDigest,
    ) -> Result<Arc<Content>, OpenFailure> {
        let generation = {
            let mut open = self.open.lock();
            if let Some(content) = open.contents.get(&digest) {
                return match *content.header() == header {
                    true => Ok(content.clone()),
                    false => Err(OpenFailure::Foreign),
                };
            }
            open.generation
        };
        let content = match Content::open(paths, header, digest) {
            Err(OpenFailure::Io(error)) if out_of_descriptors(&error) => {
                self.close_half();
                Content::open(paths, header, digest)
            }
            other => other,
        };
        let content = Arc::new(content?);
        let mut open = self.open.lock();
        if open.generation != generation {
            // What was opened may be half removed; its slots would not fit its bytes.
            return Err(OpenFailure::Absent);
        }
        let replaced = open.contents.push(digest, content.clone());
        drop(open);
        // Closing files takes time; not under the lock.
        drop(replaced);
        Ok(content)
    }

    /// Keeps a content that was just made.
    pub(crate) fn put(&self, digest: ContentDigest, content: Arc<Content>) {
        let replaced = self.open.lock().contents.push(digest, content);
        drop(replaced);
    }

    /// Forgets a content that is about to be removed; call it again after its files are gone.
    pub(crate) fn forget(&self, digest: &ContentDigest) {
        let mut open = self.open.lock();
        open.generation += 1;
        let removed = open.contents.pop(digest);
        drop(open);
        drop(removed);
    }

    /// The content, if its files are open.
    pub(crate) fn peek(&self, digest: &ContentDigest) -> Option<Arc<Content>> {
        self.open.lock().contents.peek(digest).cloned()
    }

    /// All open contents.
    pub(crate) fn all(&self) -> Vec<Arc<Content>> {
        let open = self.open.lock();
        open.contents
            .iter()
            .map(|(_, content)| content.clone())
            .collect()
    }

    fn close_half(&self) {
        let mut closed = Vec::new();
        let mut open = self.open.lock();
        let keep = open.contents.len() / 2;
        while open.contents.len() > keep {
            closed.extend(open.contents.pop_lru());
        }
        drop(open);
    }
}

/// Whether the process or the system has no file descriptor left.
pub(crate) fn out_of_descriptors(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}
