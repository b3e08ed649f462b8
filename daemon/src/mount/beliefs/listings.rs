//! The listings that answer lookups: few, bounded, dropped when no longer believed.
//!
//! Lock: `recent`, before those of a listing, never across an await.

use crate::mount::inodes::Node;
use crate::mount::listing::Listing;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::FileId;

/// Directories whose listings are kept.
const LISTINGS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Entries kept in all.
const ENTRIES_MAX: usize = 400_000;

/// Listings by directory, least recently used last.
pub(super) struct Listings {
    recent: Mutex<LruCache<FileId, Arc<Listing>>>,
}

impl Default for Listings {
    fn default() -> Self {
        Self {
            recent: Mutex::new(LruCache::new(LISTINGS_MAX)),
        }
    }
}

impl Listings {
    /// The listing kept for a directory, believed or not.
    pub(super) fn get(&self, dir: &Node) -> Option<Arc<Listing>> {
        self.recent.lock().get(&dir.id).cloned()
    }

    /// Keeps a listing, and drops those no longer believed or too many.
    pub(super) fn put(&self, dir: &Node, listing: Arc<Listing>, ttl: Duration) {
        let mut recent = self.recent.lock();
        recent.put(dir.id, listing);
        let now = Instant::now();
        while let Some((_, oldest)) = recent.peek_lru() {
            let too_many = || recent.iter().map(|(_, l)| l.arrived()).sum::<usize>() > ENTRIES_MAX;
            if oldest.is_joinable(ttl, now) && (recent.len() == 1 || !too_many()) {
                break;
            }
            recent.pop_lru();
        }
    }

    /// Keeps a listing in place of one told earlier.
    pub(super) fn renew(&self, dir: &Node, listing: Arc<Listing>, ttl: Duration) {
        if self
            .get(dir)
            .is_none_or(|kept| kept.told() <= listing.told())
        {
            self.put(dir, listing, ttl);
        }
    }

    /// Drops the listing of a directory.
    pub(super) fn remove(&self, dir: &Node) {
        self.recent.lock().pop(&dir.id);
    }
}
