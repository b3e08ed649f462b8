//! Keeping within the budget: least recently used first.
//!
//! Contents go whole, packs go whole; a content that holds a large part of the budget goes piece by
//! piece from its start, so that one huge file read in order flows through a smaller cache. What is
//! guarded stays; guarded contents of packs move to another one. For the writer thread only.

use crate::disk::content::{Content, OpenFailure};
use crate::disk::file;
use crate::disk::inner::Inner;
use crate::disk::limits::{CONTENTS_MAX, EVICT_CHUNKS_MAX, HUGE_PART, PACKED_MAX, SLACK_PART};
use crate::disk::table::Resident;
use crate::key::ContentDigest;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use wormhole_protocol::ChunkIndex;
use wormhole_protocol::limits::CHUNK_BYTES;

/// Evicts if more is held than may be.
pub(crate) fn enforce(inner: &Inner) {
    if inner.resident_bytes() > inner.budget_bytes {
        make_room(inner, inner.budget_bytes - inner.budget_bytes / SLACK_PART);
    }
    if inner.table.len() > CONTENTS_MAX {
        let bytes = inner.table.bytes();
        make_room(inner, inner.resident_bytes() - bytes / SLACK_PART);
    }
    while inner.packs.len() > PACKED_MAX {
        let oldest = inner.packs.oldest();
        if oldest
            .and_then(|number| evict_pack(inner, number))
            .is_none()
        {
            break;
        }
    }
}

/// What can go, in one piece.
enum Item {
    Pack(u32),
    Content(Resident),
}

/// Evicts until at most `target` bytes are held, or nothing is left to evict.
pub(crate) fn make_room(inner: &Inner, target: u64) {
    let packs = inner.packs.uses().into_iter();
    // Of things as old, packs go first.
    let packs = packs.map(|(number, used)| ((used, 0), Item::Pack(number)));
    let residents = inner.table.residents().into_iter();
    let contents = residents.map(|resident| ((resident.used_nanos, 1), Item::Content(resident)));
    let mut items: Vec<_> = packs.chain(contents).collect();
    items.sort_unstable_by_key(|(age, _)| *age);
    for (_, item) in items {
        let Some(excess) = inner.resident_bytes().checked_sub(target + 1) else {
            return;
        };
        let freed = match item {
            Item::Pack(number) => evict_pack(inner, number),
            Item::Content(resident) => evict_content(inner, resident, excess + 1),
        };
        // What cannot be removed must not be tried for ever.
        let freed = freed.unwrap_or(0);
        inner.counters.evicted_bytes.fetch_add(freed, Relaxed);
    }
}

fn evict_pack(inner: &Inner, number: u32) -> Option<u64> {
    let keep = |digest: &ContentDigest| inner.guard.is_pinned(digest);
    count_error(inner, inner.packs.evict(number, keep))
}

/// Evicts a content, or about `need` bytes of a huge one; nothing of one that is guarded.
fn evict_content(inner: &Inner, resident: Resident, need: u64) -> Option<u64> {
    let _evicting = inner.guard.begin_eviction(resident.digest)?;
    let huge = resident.bytes > inner.budget_bytes / HUGE_PART && need < resident.bytes;
    if huge && let Ok(freed @ 1..) = evict_range(inner, resident, need) {
        return Some(freed);
    }
    count_error(inner, remove(inner, &resident.digest))?;
    Some(resident.bytes)
}

/// Frees about `need` bytes from the start of a content; how many it were.
fn evict_range(inner: &Inner, resident: Resident, need: u64) -> io::Result<u64> {
    let content = match inner.opened.peek(&resident.digest) {
        Some(content) => content,
        None => match Content::open_any(&inner.paths, resident.digest) {
            Ok(content) => Arc::new(content),
            Err(OpenFailure::Io(error)) => return Err(error),
            Err(OpenFailure::Absent | OpenFailure::Foreign) => return Ok(0),
        },
    };
    let chunks = content.chunks();
    let before = content.room()?;
    let (mut room, mut at) = (before, ChunkIndex(0));
    while before.saturating_sub(room) < need {
        let Some(first) = content.first_resident(at)?.filter(|c| c.0 < chunks) else {
            break;
        };
        let left = need - before.saturating_sub(room);
        let count = left.div_ceil(CHUNK_BYTES as u64).min(EVICT_CHUNKS_MAX);
        let count = count.min(chunks - first.0);
        content.punch(first, count)?;
        at = ChunkIndex(first.0 + count);
        room = content.room()?;
    }
    inner.table.shrink(&resident.digest, room);
    Ok(before.saturating_sub(room))
}

/// Removes a content's files. The index goes first: bytes without slots promise nothing.
pub(crate) fn remove(inner: &Inner, digest: &ContentDigest) -> io::Result<()> {
    inner.opened.forget(digest);
    let removed = file::remove(&inner.paths.index(digest))
        .and_then(|()| file::remove(&inner.paths.data(digest)));
    inner.opened.forget(digest);
    removed?;
    inner.table.remove(digest);
    Ok(())
}

fn count_error<T>(inner: &Inner, result: io::Result<T>) -> Option<T> {
    result
        .inspect_err(|error| {
            inner.counters.errors.fetch_add(1, Relaxed);
            tracing::warn!(%error, "cannot evict from the disk cache");
        })
        .ok()
}
