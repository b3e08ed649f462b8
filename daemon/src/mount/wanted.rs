//! Files whose bytes are to come with the news of their next change: those that were opened here lately.
//!
//! Who opens a file again after it has changed on the host then finds its new bytes here, half a round trip
//! after the change. The host is told with the next word it gets anyway ([`WantedFiles::take`]), and brings each at most
//! twice unless it is opened again. What came and was not opened since counts as fetched in vain, as
//! what comes in bulk.
//!
//! Bounded; what was opened longest ago goes first. Lock: `state`, a leaf.

use super::inodes::Node;
use super::stats::{BulkStats, add};
use crate::rpc::PathEstimate;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use wormhole_protocol::limits::{HEARD_WANTED_MAX, PUSH_CONTENT_BYTES_MAX};
use wormhole_protocol::{FileId, FileKind, Name, WantedName};

/// Files that are kept in mind.
const FILES_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// What a push brings may hold up the next for so many parts of a second.
const SHARE_OF_SECOND: u64 = 10;
/// Bytes of the longest file that is wanted over a path that is slow, and one of which nothing is known.
const BYTES_SLOW: u64 = 4 * 1024;
const BYTES_UNKNOWN: u64 = 16 * 1024;

/// How it stands with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The host is to be told.
    Queued,
    /// It was told.
    Said,
    /// So many bytes came, and the file was not opened since.
    Brought(u64),
}

struct State {
    files: LruCache<(FileId, Name), Standing>,
    queue: VecDeque<(FileId, Name)>,
}

/// What is wanted.
pub struct WantedFiles {
    state: Mutex<State>,
}

impl Default for WantedFiles {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                files: LruCache::sparse(FILES_MAX),
                queue: VecDeque::new(),
            }),
        }
    }
}

impl WantedFiles {
    /// A file was opened to be read.
    pub fn opened(&self, node: &Node, stats: &BulkStats) {
        let attr = node.attr();
        let is_small = attr.size <= PUSH_CONTENT_BYTES_MAX as u64;
        let (true, FileKind::File, true) = (is_small, attr.kind, node.heard().leased) else {
            return;
        };
        let Some((dir, name)) = node.place() else {
            return;
        };
        let key = (dir.id, name);
        let mut state = self.state.lock();
        let known = state.files.get(&key).copied();
        if let Some(Standing::Brought(bytes)) = known {
            add(&stats.used_files, 1);
            add(&stats.used_bytes, bytes);
        }
        if !matches!(known, Some(Standing::Queued | Standing::Said)) {
            state.files.put(key.clone(), Standing::Queued);
            state.queue.push_back(key);
            if state.queue.len() > HEARD_WANTED_MAX
                && let Some(out) = state.queue.pop_front()
            {
                state.files.pop(&out);
            }
        }
    }

    /// What is to be said to the host now, over a path like this.
    pub fn take(&self, path: PathEstimate) -> Vec<WantedName> {
        let most = PUSH_CONTENT_BYTES_MAX as u64;
        let bytes = match path.bytes_per_sec {
            0 => BYTES_UNKNOWN,
            rate => (rate / SHARE_OF_SECOND).clamp(BYTES_SLOW, most),
        };
        let bytes_max = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut state = self.state.lock();
        let queue = std::mem::take(&mut state.queue);
        for key in &queue {
            state.files.put(key.clone(), Standing::Said);
        }
        let wanted = queue.into_iter().map(|(dir, name)| WantedName {
            dir,
            name,
            bytes_max,
        });
        wanted.collect()
    }

    /// The host has told of a name, and brings so many bytes, or none: then it has to be told anew.
    pub fn told(&self, dir: FileId, name: &Name, bytes: Option<u64>, stats: &BulkStats) {
        let key = (dir, name.clone());
        let mut state = self.state.lock();
        match bytes {
            Some(bytes) => {
                add(&stats.fetched_files, 1);
                add(&stats.fetched_bytes, bytes);
                state.files.put(key, Standing::Brought(bytes));
            }
            None if state.files.peek(&key) == Some(&Standing::Said) => {
                state.files.pop(&key);
            }
            None => {}
        }
    }

    /// The host knows nothing of it any more.
    pub fn begin(&self) {
        let mut state = self.state.lock();
        state.files.clear();
        state.queue.clear();
    }
}
