//! What is on disk, and how long ago it was used: one small entry per content, none per chunk.
//!
//! Times are nanoseconds since 1970; a clock that jumps disturbs the order of eviction, nothing else.
//!
//! Lock: `entries`, for moments only.

use crate::key::ContentDigest;
use parking_lot::Mutex;
use std::collections::{HashMap, hash_map};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: u64,
    used_nanos: u64,
}

const _: () = assert!(size_of::<(ContentDigest, Entry)>() <= 64);

/// A content as eviction sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) digest: ContentDigest,
    pub(crate) bytes: u64,
    pub(crate) used_nanos: u64,
}

/// The contents with files of their own.
#[derive(Default)]
pub(crate) struct Table {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    map: HashMap<ContentDigest, Entry>,
    bytes: u64,
}

impl Table {
    /// A content was used.
    pub(crate) fn touch(&self, digest: &ContentDigest, now_nanos: u64) {
        if let Some(entry) = self.entries.lock().map.get_mut(digest) {
            entry.used_nanos = now_nanos;
        }
    }

    /// When a content was last used.
    pub(crate) fn used_nanos(&self, digest: &ContentDigest) -> Option<u64> {
        let entries = self.entries.lock();
        entries.map.get(digest).map(|entry| entry.used_nanos)
    }

    /// A content was written to and now takes `bytes`.
    pub(crate) fn set(&self, digest: ContentDigest, bytes: u64, now_nanos: u64) {
        let mut entries = self.entries.lock();
        let used_nanos = now_nanos;
        let before = entries.map.insert(digest, Entry { bytes, used_nanos });
        entries.bytes = entries.bytes - before.map_or(0, |entry| entry.bytes) + bytes;
    }

    /// The scan found a content; what is known of it already is newer.
    pub(crate) fn found(&self, digest: ContentDigest, bytes: u64, used_nanos: u64) {
        let mut entries = self.entries.lock();
        if let hash_map::Entry::Vacant(vacant) = entries.map.entry(digest) {
            vacant.insert(Entry { bytes, used_nanos });
            entries.bytes += bytes;
        }
    }

    /// Part of a content was evicted; it was not used by that.
    pub(crate) fn shrink(&self, digest: &ContentDigest, bytes: u64) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.map.get_mut(digest) {
            let before = std::mem::replace(&mut entry.bytes, bytes);
            entries.bytes = entries.bytes - before + bytes;
        }
    }

    /// A content is gone; the bytes it had.
    pub(crate) fn remove(&self, digest: &ContentDigest) -> u64 {
        let mut entries = self.entries.lock();
        let bytes = entries.map.remove(digest).map_or(0, |entry| entry.bytes);
        entries.bytes -= bytes;
        bytes
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.lock().bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.lock().map.len()
    }

    /// All contents, in no order.
    pub(crate) fn residents(&self) -> Vec<Resident> {
        let entries = self.entries.lock();
        let resident = |(digest, entry): (&ContentDigest, &Entry)| Resident {
            digest: *digest,
            bytes: entry.bytes,
            used_nanos: entry.used_nanos,
        };
        entries.map.iter().map(resident).collect()
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now_nanos() -> u64 {
    nanos_of(SystemTime::now())
}

/// A time as nanoseconds since 1970, 0 if before.
pub(crate) fn nanos_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
