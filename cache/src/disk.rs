//! L2: chunks on disk, bounded in bytes, checked when they are read back.
//!
//! One sparse file per content with the bytes at their own offsets, beside it an index with one slot
//! of fixed size per chunk (`layout`); small contents share packs (`pack`). A look-up reads one slot:
//! nothing is kept in memory per chunk and nothing needs to be loaded at start.
//!
//! Who does what
//! - Readers (any thread) read slot, then bytes, and compare the hash (`content`, `inner`).
//! - One writer thread takes stores from a bounded queue, hashes, writes and evicts (`writer`, `evict`).
//! - One thread looks once through what an earlier run left, for the sake of the budget (`scan`).
//! - Who wants something kept says so (`guard`, `pins`), and what there is of it (`holdings`).
//!
//! Invariants
//! - Nothing unverified is served: a hash covers all present bytes of a chunk, a check its slot, a
//!   checksum the header, which names share, file, version and size.
//! - Nothing is synced. Bytes are written before the slot that promises them; after a loss of power a
//!   promise that does not hold is found by its hash and dropped.
//! - The cache never fails a read: what goes wrong is counted, and the blocks are absent.
//! - One owner per share (`share`); several shares live side by side under one root.
//!
//! Not here: asking hosts, memory, deciding what is worth storing.

pub(crate) mod content;
mod evict;
pub(crate) mod file;
mod guard;
mod holdings;
mod inner;
pub(crate) mod layout;
mod limits;
mod opened;
pub(crate) mod pack;
pub(crate) mod pins;
mod queue;
pub(crate) mod scan;
pub(crate) mod share;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tree;
mod writer;

use crate::chunk::Chunk;
use crate::key::ContentKey;
use guard::Guard;
pub use guard::{PinError, PinReport, PinRoom};
pub use holdings::Whole;
use inner::{Counters, Inner};
use layout::{Header, mask_bytes};
pub use limits::TREE_SECTION_BYTES_MAX;
use limits::{PACKED_BYTES_MAX, READ_RUN_CHUNKS_MAX, SOUND_MAX, TREE_PART};
use lru::LruCache;
use opened::Opened;
use pack::Packs;
use parking_lot::Mutex;
use queue::{Job, Queue};
use serde::Serialize;
use share::Owned;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use table::Table;
pub use tree::TreeFile;
use wormhole_protocol::limits::{CHUNK_BYTES, OFFSET_MAX};
use wormhole_protocol::{BlockMask, ChunkIndex, ShareId};

/// Where a disk cache lives and how large it may grow.
#[derive(Debug, Clone)]
pub struct DiskConfig {
    /// Directory that holds the caches of all shares; made if need be.
    pub root: PathBuf,
    /// Bytes one share may take on disk; 0 stores nothing.
    pub budget_bytes: u64,
}

/// Why a disk cache could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another process, or another mount of this one, uses the cache of this share.
    #[error("the disk cache of this share is in use by process {pid}")]
    InUse {
        /// Its process id; 0 if it did not say.
        pid: u32,
    },
    /// The directory holds something else, or a cache of another version.
    #[error("{path} names the format {found:?}, which this version cannot read")]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The file system would not have it.
    #[error("{path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.to_owned();
    |source| DiskError::Io { path, source }
}

/// Figures of a disk cache. Counts since it was opened, unless the name says otherwise.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DiskStats {
    /// Chunks read that had all that was wanted.
    pub hits: u64,
    /// Chunks read that had not.
    pub misses: u64,
    /// Chunks and headers found damaged.
    pub corrupt: u64,
    /// Bytes of content written.
    pub written_bytes: u64,
    /// Bytes evicted.
    pub evicted_bytes: u64,
    /// Bytes taken on disk now, as far as is known: a scan at the start counts what was there before.
    pub resident_bytes: u64,
    /// Bytes waiting to be written now.
    pub queue_bytes: u64,
    /// Stores refused: the queue was full, or the disk had failed shortly before.
    pub refused: u64,
    /// Errors of the file system.
    pub errors: u64,
    /// Bytes it may take on disk.
    pub budget_bytes: u64,
}

/// The disk cache of one share.
pub struct Disk {
    inner: Arc<Inner>,
    share: ShareId,
    writer: Option<JoinHandle<()>>,
    scan: Mutex<Option<JoinHandle<()>>>,
    // Last: the directory is given up after the threads have ended.
    _owned: Owned,
}

impl Disk {
    /// Opens the cache of `share` under `config.root`, made if need be, and owns it until dropped.
    pub fn open(config: DiskConfig, share: ShareId) -> Result<Self, DiskError> {
        file::make_dir(&config.root).map_err(io_error(&config.root))?;
        let owned = Owned::open(&config.root, share)?;
        let paths = owned.paths.clone();
        let packs = Packs::open(paths.clone()).map_err(io_error(&paths.packs_dir()))?;
        let counters = Counters::default();
        let damaged = || {
            counters.corrupt.fetch_add(1, Relaxed);
            tracing::warn!("the list of pins is damaged: nothing is pinned");
        };
        let guard = Guard::open(paths.clone(), config.budget_bytes, damaged);
        let guard = Arc::new(guard.map_err(io_error(&paths.pins()))?);
        let inner = Arc::new(Inner {
            paths,
            budget_bytes: config.budget_bytes,
            table: Table::default(),
            packs,
            opened: Opened::new(),
            guard,
            sound: Mutex::new(LruCache::new(
                NonZeroUsize::new(SOUND_MAX).unwrap_or(NonZeroUsize::MIN),
            )),
            queue: Queue::default(),
            counters,
            skip: AtomicU64::new(0),
            tree: Mutex::default(),
            tree_bytes: AtomicU64::new(0),
        });
        inner.count_tree();
        let spawn = |name: &str, work: fn(&Inner)| {
            let inner = inner.clone();
            let builder = std::thread::Builder::new().name(name.to_owned());
            let spawned = builder.spawn(move || work(&inner));
            spawned.map_err(io_error(&config.root))
        };
        let mut disk = Self {
            inner: inner.clone(),
            share,
            writer: None,
            scan: Mutex::new(None),
            _owned: owned,
        };
        disk.writer = Some(spawn("cache-writer", writer::run)?);
        disk.scan = Mutex::new(Some(spawn("cache-scan", scan::run)?));
        Ok(disk)
    }

    /// What is held of a chunk of a content of `size` bytes; blocks absent or damaged are not in it,
    /// blocks beyond `want` may be. Blocks the thread.
    pub fn read(
        &self,
        content: &ContentKey,
        size: u64,
        index: ChunkIndex,
        want: BlockMask,
    ) -> Chunk {
        let Some(header) = self.header(content, size) else {
            return Chunk::empty();
        };
        let len = chunk_len(index, size);
        let digest = content.digest();
        let chunk = if len == 0 {
            Chunk::empty()
        } else if size <= PACKED_BYTES_MAX {
            self.inner.read_packed(header, digest)
        } else {
            let content = self.inner.content(header, digest);
            content.map_or(Chunk::empty(), |content| {
                self.inner.read_chunk(&content, index)
            })
        };
        self.count(want.and(BlockMask::covering(0, len)), &chunk);
        chunk
    }

    /// What is held of `chunks` neighbouring chunks, at most 64 MiB of them; one for each, empty where
    /// nothing is. Where all are whole this costs two reads. Blocks the thread.
    pub fn read_run(
        &self,
        content: &ContentKey,
        size: u64,
        first: ChunkIndex,
        chunks: usize,
    ) -> Vec<Chunk> {
        let chunks = chunks.min(READ_RUN_CHUNKS_MAX);
        let mut out = Vec::with_capacity(chunks);
        let there = size.div_ceil(CHUNK_BYTES as u64).saturating_sub(first.0);
        let there = usize::try_from(there).map_or(chunks, |there| there.min(chunks));
        if let Some(header) = self.header(content, size)
            && there > 0
        {
            let digest = content.digest();
            if size <= PACKED_BYTES_MAX {
                out.push(self.inner.read_packed(header, digest));
            } else if let Some(content) = self.inner.content(header, digest) {
                self.inner.read_chunks(&content, first, there, &mut out);
            }
        }
        out.resize(chunks, Chunk::empty());
        // The chunks first: beyond the last number there is no next one to ask for.
        for (chunk, index) in out[..there].iter().zip(first.0..) {
            let len = chunk_len(ChunkIndex(index), size);
            self.count(BlockMask::covering(0, len), chunk);
        }
        out
    }

    /// Whether nothing is held of the blocks `wants` of neighbouring chunks: true if that is certain without asking
    /// the disk, and counted then as a look in vain. Never blocks.
    pub fn surely_lacks(
        &self,
        content: &ContentKey,
        size: u64,
        first: ChunkIndex,
        wants: &[BlockMask],
    ) -> bool {
        let Some(header) = self.header(content, size) else {
            return false;
        };
        let digest = content.digest();
        let lacks = if size <= PACKED_BYTES_MAX {
            self.inner.packs.lacks(&digest)
        } else {
            let content = self.inner.opened.peek(&digest);
            content.is_some_and(|c| *c.header() == header && c.surely_lacks(first, wants))
        };
        if lacks {
            self.inner
                .counters
                .misses
                .fetch_add(wants.len() as u64, Relaxed);
        }
        lacks
    }

    /// Hands blocks of a chunk to the writer; never blocks. False if they will not be stored: too much
    /// waits, the disk failed shortly before, or the blocks do not fit the size.
    pub fn store(&self, content: &ContentKey, size: u64, index: ChunkIndex, chunk: Chunk) -> bool {
        let stored = self.try_store(content, size, index, chunk);
        if !stored {
            self.inner.counters.refused.fetch_add(1, Relaxed);
        }
        stored
    }

    fn try_store(&self, content: &ContentKey, size: u64, index: ChunkIndex, chunk: Chunk) -> bool {
        let Some(header) = self.header(content, size) else {
            return false;
        };
        let len = chunk_len(index, size);
        let mask = chunk.mask();
        let fits = BlockMask::covering(0, len).contains(mask)
            && chunk.bytes() == mask_bytes(mask, len)
            && !mask.is_empty();
        let skip = &self.inner.skip;
        let skipped = skip.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        if !fits || self.inner.budget_bytes == 0 || skipped.is_ok() {
            return false;
        }
        self.inner.queue.push(Job {
            header,
            digest: content.digest(),
            index,
            chunk: Some(chunk),
        })
    }

    /// Waits until what was stored is written. Blocks the thread.
    pub fn flush(&self) {
        self.inner.queue.wait_idle();
    }

    /// Waits until what an earlier run left is counted, what was stored is written and what is too
    /// much is evicted; for tests and figures. Blocks the thread.
    pub fn settle(&self) {
        self.wait_for_scan();
        self.inner.queue.wait_idle();
    }

    /// Waits until what an earlier run left is known. Blocks the thread.
    pub fn wait_for_scan(&self) {
        // The lock is held meanwhile, so that everybody waits for the one thread.
        let mut scan = self.scan.lock();
        if let Some(scan) = scan.take() {
            let _ = scan.join();
        }
    }

    /// Reads what [`Self::write_tree`] wrote last, be it in an earlier life: each section, once it is checked, goes to
    /// `take`, which says whether it wants more. A file that is damaged is removed. Blocks the thread.
    ///
    /// # Errors
    /// What the file system said.
    pub fn read_tree(&self, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<TreeFile> {
        let _one = self.inner.tree.lock();
        let end = tree::read(&self.inner.paths, self.share, take)?;
        if end == TreeFile::Damaged {
            self.inner.counters.corrupt.fetch_add(1, Relaxed);
            tree::remove(&self.inner.paths)?;
            self.inner.count_tree();
        }
        Ok(end)
    }

    /// Remembers sections of bytes in place of those there are; `next` puts each into what it is given, or nothing at
    /// the end. They count against the budget, of which they take no more than a sixteenth; what does not fit is
    /// left out, and so is all after a section of more than [`TREE_SECTION_BYTES_MAX`]. The bytes they take on disk.
    /// Blocks the thread.
    ///
    /// # Errors
    /// What the file system said; what was remembered before still is.
    pub fn write_tree(&self, next: &mut dyn FnMut(&mut Vec<u8>)) -> io::Result<u64> {
        let _one = self.inner.tree.lock();
        let most = self.inner.budget_bytes / TREE_PART;
        let written = tree::write(&self.inner.paths, self.share, most, next);
        self.inner.count_tree();
        self.inner.queue.evict();
        written
    }

    /// Figures now.
    pub fn stats(&self) -> DiskStats {
        let counters = &self.inner.counters;
        DiskStats {
            hits: counters.hits.load(Relaxed),
            misses: counters.misses.load(Relaxed),
            corrupt: counters.corrupt.load(Relaxed),
            written_bytes: counters.written_bytes.load(Relaxed),
            evicted_bytes: counters.evicted_bytes.load(Relaxed),
            resident_bytes: self.inner.resident_bytes(),
            queue_bytes: self.inner.queue.bytes() as u64,
            refused: counters.refused.load(Relaxed),
            errors: counters.errors.load(Relaxed),
            budget_bytes: self.inner.budget_bytes,
        }
    }

    /// `None` for another share's content, or a size no file has.
    fn header(&self, content: &ContentKey, size: u64) -> Option<Header> {
        let ours = content.share == self.share && size <= OFFSET_MAX;
        ours.then_some(Header {
            key: *content,
            size,
        })
    }

    fn count(&self, wanted: BlockMask, chunk: &Chunk) {
        let counters = &self.inner.counters;
        let counter = match chunk.mask().contains(wanted) {
            true => &counters.hits,
            false => &counters.misses,
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.inner.queue.close();
        for thread in [self.writer.take(), self.scan.get_mut().take()] {
            // A thread that panicked has said so already.
            let _ = thread.map(JoinHandle::join);
        }
    }
}

/// Bytes of chunk `index` in a file of `size` bytes; 0 beyond its end, however far.
fn chunk_len(index: ChunkIndex, size: u64) -> usize {
    match index.0 < size.div_ceil(CHUNK_BYTES as u64) {
        true => index.len_in(size),
        false => 0,
    }
}
