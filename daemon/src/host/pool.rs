//! Buffers that carry file contents from the disk to the transport, used again and again.
//!
//! A [`Buffer`] is filled by one `pread` and becomes [`Bytes`] without a copy. When the last
//! reference goes (the transport keeps one until the mount has acknowledged), the memory returns to
//! the pool and its [`Grant`] to the budget: memory in flight is bounded, wherever it is.

use super::budget::Grant;
use super::limits::{FIRST_SEGMENT_BYTES, POOL_IDLE_BYTES, SEGMENT_BYTES};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Granularity of buffers too small to be worth keeping.
const SMALL_STEP_BYTES: usize = 4096;
/// Below this, buffers are allocated as needed.
const POOLED_BYTES_MIN: usize = 32 * 1024;

/// Unused buffers, by size.
#[derive(Debug, Default)]
pub(super) struct Pool {
    firsts: Mutex<Vec<Box<[u8]>>>,
    segments: Mutex<Vec<Box<[u8]>>>,
}

impl Pool {
    /// The memory a buffer for `bytes` takes: what its grant must cover.
    pub(super) fn size_of(bytes: usize) -> usize {
        if bytes <= POOLED_BYTES_MIN {
            bytes.max(1).next_multiple_of(SMALL_STEP_BYTES)
        } else if bytes <= FIRST_SEGMENT_BYTES {
            FIRST_SEGMENT_BYTES
        } else {
            SEGMENT_BYTES
        }
    }

    /// A buffer for `bytes`, at most [`SEGMENT_BYTES`], covered by `grant`.
    pub(super) fn buffer(self: &Arc<Self>, bytes: usize, grant: Grant) -> Buffer {
        let size = Self::size_of(bytes);
        let kept = self.shelf(size).and_then(|shelf| shelf.lock().pop());
        Buffer {
            memory: kept.unwrap_or_else(|| vec![0; size].into_boxed_slice()),
            len: bytes.min(size),
            pool: self.clone(),
            grant,
        }
    }

    /// Frees what is unused.
    pub(super) fn clear(&self) {
        self.firsts.lock().clear();
        self.segments.lock().clear();
    }

    fn shelf(&self, size: usize) -> Option<&Mutex<Vec<Box<[u8]>>>> {
        match size {
            FIRST_SEGMENT_BYTES => Some(&self.firsts),
            SEGMENT_BYTES => Some(&self.segments),
            _ => None,
        }
    }

    fn put_back(&self, memory: Box<[u8]>) {
        if let Some(shelf) = self.shelf(memory.len()) {
            let mut shelf = shelf.lock();
            // Half of what may lie idle for each size.
            if (shelf.len() + 1) * memory.len() <= POOL_IDLE_BYTES / 2 {
                shelf.push(memory);
            }
        }
    }
}

/// Memory for one piece of payload.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    len: usize,
    pool: Arc<Pool>,
    grant: Grant,
}

impl Buffer {
    /// Where to read to: as many bytes as were asked for.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }

    /// The first `len` bytes, as a piece of payload.
    pub(super) fn freeze(mut self, len: usize) -> Bytes {
        self.len = len.min(self.len);
        // Little in a large buffer: a copy costs less than the memory it would hold.
        if self.memory.len() > POOLED_BYTES_MIN && self.len <= self.memory.len() / 8 {
            let size = Pool::size_of(self.len);
            let mut small = vec![0; size].into_boxed_slice();
            small[..self.len].copy_from_slice(&self.memory[..self.len]);
            self.pool
                .put_back(std::mem::replace(&mut self.memory, small));
            self.grant.shrink(size);
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.put_back(std::mem::take(&mut self.memory));
    }
}
