//! The listings that answer lookups: as many as fit the mount's room for metadata, those used longest ago
//! dropped first.
//!
//! One that is no longer believed is kept as well: the host may say that it still holds. What is dropped is
//! asked for anew.
//!
//! Lock: `kept`, before those of a listing and that of `unseen`, never across an await.

use super::directories::Directories;
use crate::mount::inodes::Node;
use crate::mount::listing::Listing;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use wormhole_protocol::FileId;

/// Directories whose listings are kept.
const LISTINGS_MAX: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("not zero");
/// Bytes of memory listings take in all: those of a million entries in a hundred thousand directories, and
/// as much again.
const BYTES_MAX: usize = 224 * 1024 * 1024;
/// What one takes here, beside its own: a place in the list and one in its index.
const PLACE_BYTES: usize = 128;

/// A listing, and what it was last seen to take.
struct Kept {
    listing: Arc<Listing>,
    bytes: usize,
}

/// Listings by directory, least recently used last.
pub(super) struct Listings {
    kept: Mutex<Table>,
}

struct Table {
    recent: LruCache<FileId, Kept>,
    bytes: usize,
    bytes_max: usize,
    /// How often something has changed.
    changes: u64,
    /// Those that grow.
    arriving: Vec<FileId>,
    /// Of which others were dropped.
    unseen: Arc<Directories>,
}

impl Listings {
    /// None yet.
    pub(super) fn new(unseen: Arc<Directories>) -> Self {
        Self::with_room(BYTES_MAX, unseen)
    }

    fn with_room(bytes_max: usize, unseen: Arc<Directories>) -> Self {
        Self {
            kept: Mutex::new(Table {
                recent: LruCache::sparse(LISTINGS_MAX),
                bytes: 0,
                bytes_max,
                changes: 0,
                arriving: Vec::new(),
                unseen,
            }),
        }
    }

    /// The listing kept for a directory, believed or not.
    pub(super) fn get(&self, dir: FileId) -> Option<Arc<Listing>> {
        let mut table = self.kept.lock();
        // What changes in a directory in use adds to its listing.
        table.weigh(dir);
        Some(table.recent.get(&dir)?.listing.clone())
    }

    /// The same, which is no use of it.
    pub(super) fn peek(&self, dir: FileId) -> Option<Arc<Listing>> {
        let table = self.kept.lock();
        Some(table.recent.peek(&dir)?.listing.clone())
    }

    /// Keeps a listing; those used longest ago make room.
    pub(super) fn put(&self, dir: &Node, listing: Arc<Listing>) {
        self.put_id(dir.id, listing);
    }

    /// The same, of a directory that may be known by its identity alone.
    pub(super) fn put_id(&self, dir: FileId, listing: Arc<Listing>) {
        self.kept.lock().put(dir, listing);
    }

    /// Keeps a listing of before, as the one that was used longest ago, unless there is one of the directory. False
    /// if there is no room.
    pub(super) fn put_former(&self, dir: FileId, listing: Arc<Listing>) -> bool {
        let mut table = self.kept.lock();
        if table.recent.contains(&dir) {
            return true;
        }
        if table.bytes + listing.bytes() + PLACE_BYTES > table.bytes_max {
            return false;
        }
        table.put(dir, listing);
        table.recent.demote(&dir);
        // What is on the disk is no news for the disk.
        table.changes -= 1;
        true
    }

    /// Takes note that something in a listing has changed.
    pub(super) fn touch(&self) {
        self.kept.lock().changes += 1;
    }

    /// How often something has changed.
    pub(super) fn changes(&self) -> u64 {
        self.kept.lock().changes
    }

    /// Keeps a listing in place of one told earlier.
    pub(super) fn renew(&self, dir: &Node, listing: Arc<Listing>) {
        let mut table = self.kept.lock();
        let known = table.recent.peek(&dir.id);
        if known.is_none_or(|known| known.listing.heard().told <= listing.heard().told) {
            table.put(dir.id, listing);
        }
    }

    /// Drops the listing of a directory.
    pub(super) fn remove(&self, dir: FileId) {
        self.kept.lock().drop_listing(dir);
    }

    /// Directories there are listings of, the last used first, up to so many.
    pub(super) fn latest(&self, most: usize) -> Vec<FileId> {
        let table = self.kept.lock();
        let latest = table.recent.iter().take(most);
        latest.map(|(id, _)| *id).collect()
    }
}

impl Table {
    fn put(&mut self, dir: FileId, listing: Arc<Listing>) {
        self.drop_listing(dir);
        self.changes += 1;
        let pushed_out = self.recent.push(dir, Kept { listing, bytes: 0 });
        if let Some((out_dir, out)) = pushed_out {
            self.bytes -= out.bytes;
            self.unseen.note(out_dir);
        }
        for dir in std::mem::take(&mut self.arriving) {
            self.weigh(dir);
        }
        self.weigh(dir);
        // The newest stays in any case: somebody is about to read it.
        while self.bytes > self.bytes_max && self.recent.len() > 1 {
            if let Some((out_dir, out)) = self.recent.pop_lru() {
                self.bytes -= out.bytes;
                self.unseen.note(out_dir);
            }
        }
    }

    /// Sees what a listing takes now.
    fn weigh(&mut self, dir: FileId) {
        let Some(kept) = self.recent.peek_mut(&dir) else {
            return;
        };
        self.bytes -= kept.bytes;
        kept.bytes = kept.listing.bytes() + PLACE_BYTES;
        self.bytes += kept.bytes;
        if kept.listing.is_arriving() && !self.arriving.contains(&dir) {
            self.arriving.push(dir);
        }
    }

    fn drop_listing(&mut self, dir: FileId) {
        if let Some(out) = self.recent.pop(&dir) {
            self.bytes -= out.bytes;
            self.unseen.note(dir);
        }
    }
}

#[cfg(test)]
mod tests;
