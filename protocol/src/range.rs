//! Ranges of bytes, chunks and blocks of a file.
//!
//! A chunk (128 KiB, aligned) is the unit of cache keys, eviction and hashing; a block (4 KiB) the
//! smallest piece that is fetched.

use crate::codec::validated;
use crate::limits::{BLOCK_BYTES, CHUNK_BLOCKS, CHUNK_BYTES, OFFSET_MAX, READ_BYTES_MAX};

/// A range of a file's bytes: at least one, at most [`READ_BYTES_MAX`], ending within `off_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange((u64, u64));

impl ByteRange {
    /// The `len` bytes from `offset`; `None` if empty, too long or beyond `off_t`.
    pub const fn new(offset: u64, len: u64) -> Option<Self> {
        match offset.checked_add(len) {
            Some(end) if len > 0 && len <= READ_BYTES_MAX && end <= OFFSET_MAX => {
                Some(Self((offset, len)))
            }
            _ => None,
        }
    }

    /// First byte.
    pub const fn offset(self) -> u64 {
        self.0.0
    }

    /// Number of bytes; never 0, though clippy asks for an `is_empty`.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(self) -> u64 {
        self.0.1
    }

    /// One past the last byte.
    pub const fn end(self) -> u64 {
        self.0.0 + self.0.1
    }
}

impl TryFrom<(u64, u64)> for ByteRange {
    type Error = ();
    fn try_from((offset, len): (u64, u64)) -> Result<Self, ()> {
        Self::new(offset, len).ok_or(())
    }
}
validated!(ByteRange, (u64, u64), |r: &ByteRange| &r.0);

/// The number of a chunk within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(pub u64);

impl ChunkIndex {
    /// The chunk that holds byte `offset`.
    pub const fn of(offset: u64) -> Self {
        Self(offset / CHUNK_BYTES as u64)
    }

    /// Offset of its first byte in the file; `u64::MAX` for a chunk no file can have.
    pub const fn offset(self) -> u64 {
        self.0.saturating_mul(CHUNK_BYTES as u64)
    }

    /// How many of its bytes a file of `size` bytes has: [`CHUNK_BYTES`] but for the last.
    pub const fn len_in(self, size: u64) -> usize {
        let left = size.saturating_sub(self.offset());
        if left < CHUNK_BYTES as u64 {
            #[expect(clippy::cast_possible_truncation, reason = "less than a chunk")]
            let left = left as usize;
            left
        } else {
            CHUNK_BYTES
        }
    }
}

/// A set of blocks of one chunk: bit `i` for block `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BlockMask(pub u32);

impl BlockMask {
    /// No block.
    pub const EMPTY: Self = Self(0);
    /// All 32 blocks.
    pub const FULL: Self = Self(u32::MAX);

    /// The blocks touched by the bytes `from..to` of a chunk; empty if `from >= to`.
    pub const fn covering(from: usize, to: usize) -> Self {
        let to = if to > CHUNK_BYTES { CHUNK_BYTES } else { to };
        if from >= to {
            return Self::EMPTY;
        }
        Self::run(from / BLOCK_BYTES, to.div_ceil(BLOCK_BYTES))
    }

    /// The blocks `first..end`, at most [`CHUNK_BLOCKS`].
    pub const fn run(first: usize, end: usize) -> Self {
        let end = if end > CHUNK_BLOCKS {
            CHUNK_BLOCKS
        } else {
            end
        };
        if first >= end {
            return Self::EMPTY;
        }
        Self((u32::MAX >> (CHUNK_BLOCKS - (end - first))) << first)
    }

    /// Whether no block is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Blocks in both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Blocks in either.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Blocks in `self` but not in `other`.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every block of `other` is in `self`.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Number of blocks.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The maximal runs of neighbouring blocks, in order, as `first..end`.
    pub fn runs(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let first = rest.trailing_zeros() as usize;
            let len = (rest >> first).trailing_ones() as usize;
            rest &= !Self::run(first, first + len).0;
            Some(first..first + len)
        })
    }
}
