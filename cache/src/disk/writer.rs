//! The one thread that changes files.
//!
//! It takes what waits in batches, hashes, writes neighbours together, and evicts. A failure to write
//! costs the blocks concerned and no more: stores are skipped for a while, reads go on.

use crate::chunk::Chunk;
use crate::disk::content::{Content, OpenFailure, slot_of};
use crate::disk::evict;
use crate::disk::inner::Inner;
use crate::disk::layout::{FoundSlot, Header, Slot};
use crate::disk::limits::{PACKED_BYTES_MAX, SLACK_PART, STORES_SKIPPED};
use crate::disk::queue::{Job, Work};
use crate::disk::table::now_nanos;
use crate::key::ContentDigest;
use bytes::Bytes;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use wormhole_protocol::limits::BLOCK_BYTES;
use wormhole_protocol::{BlockMask, ChunkIndex};

/// Works until the queue is closed and empty.
pub(crate) fn run(inner: &Inner) {
    /// Whoever waits for a writer that died by a panic must not wait for ever.
    struct CloseAtEnd<'a>(&'a Inner);
    impl Drop for CloseAtEnd<'_> {
        fn drop(&mut self) {
            self.0.queue.close();
        }
    }
    let _close = CloseAtEnd(inner);
    loop {
        match inner.queue.next() {
            Work::Batch(jobs) => write_batch(inner, jobs),
            Work::Evict => {}
            Work::Closed => break,
        }
        evict::enforce(inner);
    }
    for content in inner.opened.all() {
        if let Some(used) = inner.table.used_nanos(&content.digest()) {
            content.persist_use(used, 0);
        }
    }
    inner.packs.persist_uses();
}

fn write_batch(inner: &Inner, mut jobs: Vec<Job>) {
    // Stable: what was stored first of a chunk is merged first.
    jobs.sort_by_key(|job| (job.digest, job.header.size, job.index));
    let groups = jobs.chunk_by(|a, b| (a.digest, a.header.size) == (b.digest, b.header.size));
    for group in groups {
        if inner.skip.load(Relaxed) > 0 && group.iter().any(|job| job.chunk.is_some()) {
            inner
                .counters
                .refused
                .fetch_add(group.len() as u64, Relaxed);
            continue;
        }
        let result = if group[0].header.size <= PACKED_BYTES_MAX {
            write_packed(inner, group)
        } else {
            write_content(inner, group)
        };
        if let Err(error) = result {
            failed(inner, &error);
        }
    }
}

/// The disk would not take something.
fn failed(inner: &Inner, error: &io::Error) {
    inner.counters.errors.fetch_add(1, Relaxed);
    let errno = error.raw_os_error();
    let is = |e: Errno| errno == Some(e.raw_os_error());
    // A file too large for this file system says nothing about the next.
    if is(Errno::FBIG) {
        return;
    }
    tracing::warn!(%error, "cannot write to the disk cache; storing nothing for a while");
    inner.skip.store(STORES_SKIPPED, Relaxed);
    if is(Errno::NOSPC) || is(Errno::DQUOT) {
        let resident = inner.resident_bytes();
        evict::make_room(inner, resident - resident / SLACK_PART);
    }
}

fn write_packed(inner: &Inner, group: &[Job]) -> io::Result<()> {
    for job in group {
        let size = u32::try_from(job.header.size).map_err(io::Error::other)?;
        match &job.chunk {
            None => inner.packs.drop_damaged(&job.digest, size)?,
            Some(chunk) => {
                let written = inner.packs.append(job.digest, size, chunk)?;
                inner.counters.written_bytes.fetch_add(written, Relaxed);
            }
        }
    }
    Ok(())
}

fn write_content(inner: &Inner, group: &[Job]) -> io::Result<()> {
    let (header, digest) = (group[0].header, group[0].digest);
    let stores = group.iter().any(|job| job.chunk.is_some());
    let Some(content) = obtain(inner, header, digest, stores)? else {
        return Ok(());
    };
    for job in group.iter().filter(|job| job.chunk.is_none()) {
        if content.chunk(job.index)?.is_err() {
            content.write_slots(job.index, &[None])?;
        }
    }
    if !stores {
        return Ok(());
    }
    let result = write_chunks(inner, &content, group);
    let room = content.room()?;
    inner.table.set(digest, room, now_nanos());
    result
}

/// The content to write to: opened, or made anew where there is none or another one.
fn obtain(
    inner: &Inner,
    header: Header,
    digest: ContentDigest,
    make: bool,
) -> io::Result<Option<Arc<Content>>> {
    match inner.opened.get(&inner.paths, header, digest) {
        Ok(content) => return Ok(Some(content)),
        Err(OpenFailure::Io(error)) => return Err(error),
        Err(OpenFailure::Absent) if !make => return Ok(None),
        Err(OpenFailure::Absent | OpenFailure::Foreign) => evict::remove(inner, &digest)?,
    }
    if !make {
        return Ok(None);
    }
    let content = Arc::new(Content::create(&inner.paths, header, digest)?);
    inner.opened.put(digest, content.clone());
    Ok(Some(content))
}

fn write_chunks(inner: &Inner, content: &Content, group: &[Job]) -> io::Result<()> {
    let mut chunks: Vec<(ChunkIndex, Chunk)> = Vec::with_capacity(group.len());
    for job in group {
        match (&job.chunk, chunks.last_mut()) {
            (None, _) => {}
            (Some(chunk), Some((index, held))) if *index == job.index => *held = held.merge(chunk),
            (Some(chunk), _) => chunks.push((job.index, chunk.clone())),
        }
    }
    for run in chunks.chunk_by(|a, b| a.0.0 + 1 == b.0.0) {
        let written = write_run(content, run)?;
        inner.counters.written_bytes.fetch_add(written, Relaxed);
    }
    Ok(())
}

/// Writes neighbouring chunks, all data and then all slots; the bytes of data written.
fn write_run(content: &Content, run: &[(ChunkIndex, Chunk)]) -> io::Result<u64> {
    let first = run[0].0;
    let mut extents = Vec::with_capacity(run.len());
    let mut slots: Vec<Option<Slot>> = Vec::with_capacity(run.len());
    for ((index, chunk), found) in run.iter().zip(content.slots(first, run.len())?) {
        let present = match found {
            FoundSlot::Present(slot) if slot.mask.contains(chunk.mask()) => {
                slots.push(Some(slot));
                continue;
            }
            FoundSlot::Present(slot) => content.bytes_of(*index, slot)?.verify(),
            FoundSlot::Absent => Some(Chunk::empty()),
            FoundSlot::Damaged => None,
        };
        if present.is_none() {
            // Its bytes are about to change; a reader must not be promised either.
            content.write_slots(*index, &[None])?;
        }
        let present = present.unwrap_or(Chunk::empty());
        let added = chunk.mask().minus(present.mask());
        add_extents(chunk, added, index.offset(), &mut extents);
        slots.push(Some(slot_of(&present.merge(chunk))));
    }
    if extents.is_empty() {
        return Ok(0);
    }
    let (data, holes) = split_holes(extents);
    content.write_data(&data)?;
    content.write_holes(&holes)?;
    content.write_slots(first, &slots)?;
    Ok(data.iter().map(|(_, bytes)| bytes.len() as u64).sum())
}

/// Where bytes go.
type Extent = (u64, Bytes);
/// Offset and end of zeros.
type Hole = (u64, u64);

/// Parts blocks of zeros from the rest: sparse files, disk images above all, stay sparse in the cache.
fn split_holes(extents: Vec<Extent>) -> (Vec<Extent>, Vec<Hole>) {
    let (mut data, mut holes) = (Vec::with_capacity(extents.len()), Vec::<Hole>::new());
    for (offset, bytes) in extents {
        let blocks: Vec<&[u8]> = bytes.chunks(BLOCK_BYTES).collect();
        let mut at = 0;
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let end = at + run.iter().map(|block| block.len()).sum::<usize>();
            let from = offset + at as u64;
            match holes.last_mut() {
                _ if !is_zero(run[0]) => data.push((from, bytes.slice(at..end))),
                Some(hole) if hole.1 == from => hole.1 = offset + end as u64,
                _ => holes.push((from, offset + end as u64)),
            }
            at = end;
        }
    }
    (data, holes)
}

fn is_zero(block: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    ZEROS.starts_with(block)
}

/// The bytes of the blocks `mask` of a chunk that begins at `offset`.
fn add_extents(chunk: &Chunk, mask: BlockMask, offset: u64, extents: &mut Vec<Extent>) {
    for (start, bytes) in chunk.parts() {
        for run in mask.runs() {
            let from = (run.start * BLOCK_BYTES).max(start);
            let to = (run.end * BLOCK_BYTES).min(start + bytes.len());
            if from < to {
                let bytes = bytes.slice(from - start..to - start);
                extents.push((offset + from as u64, bytes));
            }
        }
    }
}
