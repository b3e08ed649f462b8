//! L1: chunks in memory, bounded in bytes.
//!
//! Least recently used goes first. moka's default policy would refuse newcomers that were never asked
//! for twice, which is what every chunk read ahead is; a refused one would be fetched again.

use crate::chunk::Chunk;
use crate::key::ChunkKey;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What an entry costs besides its bytes.
const ENTRY_BYTES: usize = 256;

#[derive(Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    inserted_bytes: AtomicU64,
    evicted: AtomicU64,
}

/// Figures of a memory cache.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MemoryStats {
    /// Look-ups that found something.
    pub hits: u64,
    /// Look-ups that found nothing.
    pub misses: u64,
    /// Bytes put in.
    pub inserted_bytes: u64,
    /// Chunks dropped to make room.
    pub evicted: u64,
    /// Bytes held now.
    pub resident_bytes: u64,
    /// Chunks held now.
    pub chunks: u64,
    /// Bytes it may hold.
    pub capacity_bytes: u64,
}

/// The memory cache.
pub struct Memory {
    chunks: Option<Cache<ChunkKey, Chunk>>,
    capacity_bytes: u64,
    counters: Arc<Counters>,
}

impl Memory {
    /// A cache of at most `capacity_bytes`; 0 keeps nothing.
    pub fn new(capacity_bytes: u64) -> Self {
        let counters = Arc::<Counters>::default();
        let evicted = counters.clone();
        let chunks = (capacity_bytes > 0).then(|| {
            Cache::builder()
                .max_capacity(capacity_bytes)
                .eviction_policy(EvictionPolicy::lru())
                .weigher(|_, chunk: &Chunk| weight(chunk))
                .eviction_listener(move |_, _, cause| {
                    if cause.was_evicted() {
                        evicted.evicted.fetch_add(1, Relaxed);
                    }
                })
                .build()
        });
        Self {
            chunks,
            capacity_bytes,
            counters,
        }
    }

    /// What is held of a chunk.
    pub fn get(&self, key: &ChunkKey) -> Option<Chunk> {
        let found = self.chunks.as_ref()?.get(key);
        let counter = match found {
            Some(_) => &self.counters.hits,
            None => &self.counters.misses,
        };
        counter.fetch_add(1, Relaxed);
        found
    }

    /// Holds blocks of a chunk, besides those held already.
    pub fn insert(&self, key: ChunkKey, chunk: Chunk) {
        let Some(chunks) = &self.chunks else { return };
        let bytes = chunk.bytes() as u64;
        self.counters.inserted_bytes.fetch_add(bytes, Relaxed);
        // Two pieces of a chunk that arrive at once must both stay: merge under the entry's lock.
        if chunk.mask() == wormhole_protocol::BlockMask::FULL {
            chunks.insert(key, chunk);
        } else {
            chunks.entry(key).and_upsert_with(|held| match held {
                Some(held) => held.into_value().merge(&chunk),
                None => chunk,
            });
        }
    }

    /// Figures now.
    pub fn stats(&self) -> MemoryStats {
        let counters = &self.counters;
        MemoryStats {
            hits: counters.hits.load(Relaxed),
            misses: counters.misses.load(Relaxed),
            inserted_bytes: counters.inserted_bytes.load(Relaxed),
            evicted: counters.evicted.load(Relaxed),
            resident_bytes: self.chunks.as_ref().map_or(0, Cache::weighted_size),
            chunks: self.chunks.as_ref().map_or(0, Cache::entry_count),
            capacity_bytes: self.capacity_bytes,
        }
    }

    /// Does what eviction is due now rather than later; for tests and figures.
    pub fn settle(&self) {
        if let Some(chunks) = &self.chunks {
            chunks.run_pending_tasks();
        }
    }
}

fn weight(chunk: &Chunk) -> u32 {
    u32::try_from(chunk.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ContentDigest;
    use bytes::Bytes;
    use wormhole_protocol::limits::{BLOCK_BYTES, CHUNK_BYTES};
    use wormhole_protocol::{BlockMask, ChunkIndex};

    fn key(index: u64) -> ChunkKey {
        ChunkKey::new(ContentDigest([1; 16]), ChunkIndex(index))
    }

    fn whole(fill: u8) -> Chunk {
        Chunk::piece(0, Bytes::from(vec![fill; CHUNK_BYTES]))
    }

    #[test]
    fn pieces_are_merged() {
        let memory = Memory::new(1 << 20);
        for block in [3, 1, 31] {
            let bytes = Bytes::from(vec![1; BLOCK_BYTES]);
            memory.insert(key(0), Chunk::piece(block, bytes));
        }
        let mask = memory.get(&key(0)).unwrap().mask();
        assert_eq!(mask, BlockMask(1 << 31 | 0b1010));
        memory.insert(key(0), whole(2));
        assert_eq!(memory.get(&key(0)).unwrap().mask(), BlockMask::FULL);
        // A piece that comes late does not push the rest out.
        let late = Chunk::piece(0, Bytes::from(vec![3; BLOCK_BYTES]));
        memory.insert(key(0), late);
        assert_eq!(memory.get(&key(0)).unwrap().mask(), BlockMask::FULL);
    }

    #[test]
    fn the_budget_is_kept_and_the_least_recently_used_goes_first() {
        let capacity = 10 * (CHUNK_BYTES + ENTRY_BYTES) as u64;
        let memory = Memory::new(capacity);
        for index in 0..100 {
            memory.insert(key(index), whole(0));
            memory.settle();
            assert!(
                memory.get(&key(0)).is_some(),
                "used all the time, at {index}"
            );
            assert!(memory.stats().resident_bytes <= capacity);
        }
        memory.settle();
        let stats = memory.stats();
        assert_eq!((stats.chunks, stats.evicted), (10, 90));
        assert!(memory.get(&key(1)).is_none());
        for index in 91..100 {
            assert!(memory.get(&key(index)).is_some(), "{index}");
        }
        assert_eq!(memory.stats().misses, 1);
        assert_eq!(stats.inserted_bytes, 100 * CHUNK_BYTES as u64);
    }

    #[test]
    fn growing_entries_count_in_full() {
        let capacity = 4 * (CHUNK_BYTES + ENTRY_BYTES) as u64;
        let memory = Memory::new(capacity);
        for index in 0..8 {
            for block in 0..32 {
                let bytes = Bytes::from(vec![0; BLOCK_BYTES]);
                memory.insert(key(index), Chunk::piece(block, bytes));
            }
        }
        memory.settle();
        assert!(memory.stats().resident_bytes <= capacity);
        assert_eq!(memory.get(&key(7)).unwrap().mask(), BlockMask::FULL);
    }

    #[test]
    fn without_capacity_nothing_is_kept() {
        let memory = Memory::new(0);
        memory.insert(key(0), whole(0));
        memory.settle();
        assert!(memory.get(&key(0)).is_none());
        assert_eq!(memory.stats().resident_bytes, 0);
    }
}
