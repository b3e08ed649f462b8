//! What readers, the writer and the scan share.

use crate::chunk::Chunk;
use crate::disk::content::{Content, OpenFailure};
use crate::disk::guard::Guard;
use crate::disk::holdings::Stamp;
use crate::disk::layout::{FoundSlot, Header, SharePaths};
use crate::disk::limits::{RUN_CHUNKS_MAX, USE_PERSIST_SECS};
use crate::disk::opened::Opened;
use crate::disk::pack::{Found, Packs};
use crate::disk::queue::{Job, Queue};
use crate::disk::table::{Table, now_nanos};
use crate::disk::{file, tree};
use crate::key::ContentDigest;
use lru::LruCache;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wormhole_protocol::ChunkIndex;

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) evicted_bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) errors: AtomicU64,
}

pub(crate) struct Inner {
    pub(crate) paths: SharePaths,
    pub(crate) budget_bytes: u64,
    pub(crate) table: Table,
    pub(crate) packs: Packs,
    pub(crate) opened: Opened,
    pub(crate) guard: Arc<Guard>,
    /// Contents that were found whole and sound. Lock: for moments only.
    pub(crate) sound: Mutex<LruCache<ContentDigest, Stamp>>,
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    /// Stores still to be skipped after the disk failed.
    pub(crate) skip: AtomicU64,
    /// Held while the tree file is read or written, before the locks of whoever gives or takes sections.
    pub(crate) tree: Mutex<()>,
    /// Bytes that file takes.
    pub(crate) tree_bytes: AtomicU64,
}

impl Inner {
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.table.bytes() + self.packs.bytes() + self.tree_bytes.load(Relaxed)
    }

    /// Sees what the tree file takes now.
    pub(crate) fn count_tree(&self) {
        let found = tree::look(&self.paths);
        let bytes = found.map_or(0, |found| file::room(&found));
        self.tree_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn read_packed(&self, header: Header, digest: ContentDigest) -> Chunk {
        // Only sizes of packed contents come here, and they fit.
        let size = u32::try_from(header.size).unwrap_or(u32::MAX);
        match self.packs.read(&digest, size) {
            Ok(Found::Chunk(chunk)) => chunk,
            Ok(Found::Absent) => Chunk::empty(),
            Ok(Found::Damaged) => {
                self.suspect(header, digest, ChunkIndex(0));
                Chunk::empty()
            }
            Err(error) => {
                self.read_failed(&error);
                Chunk::empty()
            }
        }
    }

    /// The content to read from, if there is a sound one.
    pub(crate) fn content(&self, header: Header, digest: ContentDigest) -> Option<Arc<Content>> {
        match self.opened.get(&self.paths, header, digest) {
            Ok(content) => {
                let now = now_nanos();
                self.table.touch(&digest, now);
                content.persist_use(now, USE_PERSIST_SECS);
                Some(content)
            }
            Err(OpenFailure::Absent) => None,
            Err(OpenFailure::Foreign) => {
                self.counters.corrupt.fetch_add(1, Relaxed);
                None
            }
            Err(OpenFailure::Io(error)) => {
                self.read_failed(&error);
                None
            }
        }
    }

    /// A chunk as far as it is sound.
    pub(crate) fn read_chunk(&self, content: &Content, index: ChunkIndex) -> Chunk {
        // Damage may be a change seen halfway; a second look sees what it changed to.
        let looked = content.chunk(index).and_then(|first| match first {
            Ok(chunk) => Ok(Ok(chunk)),
            Err(()) => content.chunk(index),
        });
        match looked {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(())) => {
                self.suspect(*content.header(), content.digest(), index);
                Chunk::empty()
            }
            Err(error) => {
                self.read_failed(&error);
                Chunk::empty()
            }
        }
    }

    /// What a slot promises. Each chunk has memory of its own: one that is kept keeps no neighbour.
    fn read_slot(
        &self,
        content: &Content,
        index: ChunkIndex,
        found: FoundSlot,
    ) -> io::Result<Chunk> {
        let sound = match found {
            FoundSlot::Absent => return Ok(Chunk::empty()),
            FoundSlot::Present(slot) => content.bytes_of(index, slot)?.verify(),
            FoundSlot::Damaged => None,
        };
        Ok(sound.unwrap_or_else(|| self.read_chunk(content, index)))
    }

    fn read_slots(
        &self,
        content: &Content,
        first: ChunkIndex,
        chunks: usize,
        out: &mut Vec<Chunk>,
    ) -> io::Result<()> {
        for (index, found) in (first.0..).zip(content.slots(first, chunks)?) {
            out.push(self.read_slot(content, ChunkIndex(index), found)?);
        }
        Ok(())
    }

    /// Neighbouring chunks; appends exactly `count`.
    pub(crate) fn read_chunks(
        &self,
        content: &Content,
        first: ChunkIndex,
        count: usize,
        out: &mut Vec<Chunk>,
    ) {
        let end = first.0 + count as u64;
        let mut at = first.0;
        while at < end {
            let step = usize::try_from(end - at).map_or(RUN_CHUNKS_MAX, |n| n.min(RUN_CHUNKS_MAX));
            let whole = out.len() + step;
            if let Err(error) = self.read_slots(content, ChunkIndex(at), step, out) {
                // A disk that fails is not asked for each of them.
                self.read_failed(&error);
                out.resize(whole, Chunk::empty());
            }
            at += step as u64;
        }
    }

    /// Counts a damaged chunk and has the writer drop it.
    fn suspect(&self, header: Header, digest: ContentDigest, index: ChunkIndex) {
        self.counters.corrupt.fetch_add(1, Relaxed);
        tracing::warn!(file = ?header.key.file, chunk = index.0, "a cached chunk is damaged");
        // If the queue is full, the next reader will suspect it again.
        let _ = self.queue.push(Job {
            header,
            digest,
            index,
            chunk: None,
        });
    }

    fn read_failed(&self, error: &io::Error) {
        self.counters.errors.fetch_add(1, Relaxed);
        tracing::warn!(%error, "cannot read from the disk cache");
    }
}
