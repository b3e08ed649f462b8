//! The listings that answer lookups: bounded, those dropped first that were used least lately. One that is no
//! longer believed is kept as well: the host may say that it still holds.
//!
//! Lock: `recent`, before those of a listing, never across an await.

use crate::mount::inodes::Node;
use crate::mount::listing::Listing;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use wormhole_protocol::FileId;

/// Directories whose listings are kept.
const LISTINGS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");
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
    pub(super) fn get(&self, dir: FileId) -> Option<Arc<Listing>> {
        self.recent.lock().get(&dir).cloned()
    }

    /// Keeps a listing, and drops those that are too many.
    pub(super) fn put(&self, dir: &Node, listing: Arc<Listing>) {
        let mut recent = self.recent.lock();
        recent.put(dir.id, listing);
        let mut entries: usize = recent.iter().map(|(_, kept)| kept.arrived()).sum();
        while entries > ENTRIES_MAX && recent.len() > 1 {
            if let Some((_, oldest)) = recent.pop_lru() {
                entries -= oldest.arrived().min(entries);
            }
        }
    }

    /// Keeps a listing in place of one told earlier.
    pub(super) fn renew(&self, dir: &Node, listing: Arc<Listing>) {
        let known = self.get(dir.id);
        if known.is_none_or(|kept| kept.heard().told <= listing.heard().told) {
            self.put(dir, listing);
        }
    }

    /// Drops the listing of a directory.
    pub(super) fn remove(&self, dir: FileId) {
        self.recent.lock().pop(&dir);
    }

    /// Directories there are listings of, the last used first, up to so many.
    pub(super) fn latest(&self, most: usize) -> Vec<FileId> {
        let recent = self.recent.lock();
        recent.iter().take(most).map(|(id, _)| *id).collect()
    }
}
