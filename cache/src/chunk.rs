//! Some or all 4 KiB blocks of one 128 KiB chunk: immutable, cheap to clone.
//!
//! Pieces are slices of whatever buffer the bytes arrived in; nothing is copied to build or merge a
//! chunk. A chunk that arrived whole is one piece and is read without a copy.
//!
//! Invariants
//! - Pieces are sorted, do not overlap, and begin at a block.
//! - A block counts as present if it was complete, or ended with the file.

use bytes::Bytes;
use std::sync::Arc;
use wormhole_protocol::BlockMask;
use wormhole_protocol::limits::{BLOCK_BYTES, CHUNK_BYTES};

#[derive(Debug, Clone)]
struct Piece {
    /// Offset in the chunk.
    start: usize,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }

    fn mask(&self) -> BlockMask {
        BlockMask::covering(self.start, self.end())
    }
}

/// Blocks of one chunk.
#[derive(Debug, Clone)]
pub struct Chunk {
    mask: BlockMask,
    pieces: Pieces,
}

/// Nearly every chunk is one piece; more live behind one allocation.
#[derive(Debug, Clone)]
enum Pieces {
    None,
    One(Piece),
    Many(Arc<[Piece]>),
}

impl Pieces {
    fn as_slice(&self) -> &[Piece] {
        match self {
            Self::None => &[],
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        }
    }
}

impl Chunk {
    /// No block.
    pub const fn empty() -> Self {
        Self {
            mask: BlockMask::EMPTY,
            pieces: Pieces::None,
        }
    }

    /// The blocks from `first_block` on. `bytes` ends with a block or with the file; what would lie
    /// beyond the chunk is cut.
    pub fn piece(first_block: usize, bytes: Bytes) -> Self {
        let start = first_block * BLOCK_BYTES;
        let len = bytes.len().min(CHUNK_BYTES.saturating_sub(start));
        if len == 0 {
            return Self::empty();
        }
        let piece = Piece {
            start,
            bytes: bytes.slice(..len),
        };
        Self {
            mask: piece.mask(),
            pieces: Pieces::One(piece),
        }
    }

    /// Which blocks are present.
    pub const fn mask(&self) -> BlockMask {
        self.mask
    }

    /// The blocks of both; where both have one, that of `self`.
    pub fn merge(&self, other: &Self) -> Self {
        let added = other.mask.minus(self.mask);
        if added.is_empty() {
            return self.clone();
        }
        if self.mask.is_empty() {
            return other.clone();
        }
        let mut pieces = self.pieces.as_slice().to_vec();
        for blocks in added.runs() {
            let (from, to) = (blocks.start * BLOCK_BYTES, blocks.end * BLOCK_BYTES);
            for piece in other.pieces.as_slice() {
                let (start, end) = (piece.start.max(from), piece.end().min(to));
                if start < end {
                    pieces.push(Piece {
                        start,
                        bytes: piece.bytes.slice(start - piece.start..end - piece.start),
                    });
                }
            }
        }
        pieces.sort_unstable_by_key(|piece| piece.start);
        Self {
            mask: self.mask.or(added),
            pieces: Pieces::Many(pieces.into()),
        }
    }

    /// The bytes `from..to` of the chunk without a copy, if one piece holds them all.
    pub fn slice(&self, from: usize, to: usize) -> Option<Bytes> {
        let piece = self
            .pieces
            .as_slice()
            .iter()
            .find(|piece| piece.start <= from && to <= piece.end())?;
        Some(piece.bytes.slice(from - piece.start..to - piece.start))
    }

    /// Copies the bytes from `from` on; false, with `out` in no particular state, if one is absent.
    pub fn copy_to(&self, from: usize, out: &mut [u8]) -> bool {
        let to = from + out.len();
        let mut at = from;
        for piece in self.pieces.as_slice() {
            if piece.end() <= at {
                continue;
            }
            if piece.start > at || at >= to {
                break;
            }
            let end = piece.end().min(to);
            out[at - from..end - from]
                .copy_from_slice(&piece.bytes[at - piece.start..end - piece.start]);
            at = end;
        }
        at >= to
    }

    /// Bytes held; what the chunk weighs in a cache.
    pub fn bytes(&self) -> usize {
        self.pieces.as_slice().iter().map(|p| p.bytes.len()).sum()
    }

    /// The present bytes in order: offset in the chunk and bytes.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &Bytes)> {
        self.pieces.as_slice().iter().map(|p| (p.start, &p.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wormhole_protocol::limits::CHUNK_BLOCKS;

    /// A chunk as a row of bytes, each present or not.
    type Model = Vec<Option<u8>>;

    /// What arrives: first block, blocks, what is in them.
    fn arrivals() -> impl Strategy<Value = Vec<(usize, usize, u8)>> {
        let arrival = (0..CHUNK_BLOCKS, 1..12_usize, any::<u8>());
        prop::collection::vec(arrival, 0..10)
    }

    fn model_of(chunk: &Chunk) -> Model {
        let mut model = vec![None; CHUNK_BYTES];
        for (start, bytes) in chunk.parts() {
            for (at, byte) in (start..).zip(bytes) {
                assert!(model[at].is_none(), "pieces overlap");
                model[at] = Some(*byte);
            }
        }
        model
    }

    fn build(arrivals: &[(usize, usize, u8)], file_end: usize) -> (Chunk, Model) {
        let mut chunk = Chunk::empty();
        let mut model = vec![None; CHUNK_BYTES];
        for &(first, blocks, fill) in arrivals {
            let start = first * BLOCK_BYTES;
            let end = ((first + blocks) * BLOCK_BYTES).min(file_end).max(start);
            let byte = |at: usize| fill ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1];
            let bytes: Bytes = (start..end).map(byte).collect();
            chunk = chunk.merge(&Chunk::piece(first, bytes));
            for (at, held) in model.iter_mut().enumerate().take(end).skip(start) {
                held.get_or_insert(byte(at));
            }
        }
        (chunk, model)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn chunks_behave_like_rows_of_bytes(
            arrivals in arrivals(),
            more in arrivals(),
            file_end in 1..=CHUNK_BYTES,
            reads in prop::collection::vec((0..CHUNK_BYTES, 0..CHUNK_BYTES), 20),
        ) {
            let (left, left_model) = build(&arrivals, file_end);
            let (right, right_model) = build(&more, file_end);
            let chunk = left.merge(&right);
            let mut model = left_model;
            for (held, other) in model.iter_mut().zip(right_model) {
                *held = held.or(other);
            }
            prop_assert_eq!(model_of(&chunk), model.clone());
            prop_assert_eq!(chunk.bytes(), model.iter().flatten().count());
            for block in 0..CHUNK_BLOCKS {
                let present = model[block * BLOCK_BYTES].is_some();
                prop_assert_eq!(chunk.mask().0 >> block & 1 == 1, present, "block {}", block);
            }
            for (a, b) in reads {
                let (from, to) = (a.min(b), a.max(b));
                let want: Option<Vec<u8>> = model[from..to].iter().copied().collect();
                let mut out = vec![0; to - from];
                let copied = chunk.copy_to(from, &mut out);
                prop_assert_eq!(copied, want.is_some());
                if let Some(want) = &want {
                    prop_assert_eq!(&out, want);
                }
                if let Some(slice) = chunk.slice(from, to) {
                    prop_assert_eq!(Some(slice.to_vec()), want);
                }
            }
        }
    }

    #[test]
    fn a_whole_chunk_is_read_without_a_copy() {
        let bytes = Bytes::from(vec![7; CHUNK_BYTES]);
        let chunk = Chunk::piece(0, bytes.clone());
        assert_eq!(chunk.mask(), BlockMask::FULL);
        let slice = chunk.slice(5000, 9000).unwrap();
        assert_eq!(slice.as_ptr(), bytes[5000..].as_ptr());
    }

    #[test]
    fn what_lies_beyond_the_chunk_is_cut() {
        let chunk = Chunk::piece(31, Bytes::from(vec![7; 3 * BLOCK_BYTES]));
        assert_eq!((chunk.mask().0, chunk.bytes()), (1 << 31, BLOCK_BYTES));
        assert!(Chunk::piece(32, Bytes::from_static(b"x")).mask().is_empty());
        assert!(Chunk::piece(0, Bytes::new()).mask().is_empty());
    }
}
