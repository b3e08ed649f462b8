//! Ranges, chunks and block masks against naive models.

use proptest::prelude::*;
use wormhole_protocol::limits::{
    BLOCK_BYTES, CHUNK_BLOCKS, CHUNK_BYTES, OFFSET_MAX, READ_BYTES_MAX, WRITE_BYTES_MAX,
};
use wormhole_protocol::{BlockMask, BodyLen, ByteRange, ChunkIndex, Extent, LockRange, Timestamp};

fn set(mask: BlockMask) -> Vec<usize> {
    (0..CHUNK_BLOCKS).filter(|i| mask.0 >> i & 1 == 1).collect()
}

/// The runs of a mask, found block by block.
fn naive_runs(mask: BlockMask) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for block in set(mask) {
        match runs.last_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    runs
}

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0..=2u64,
        OFFSET_MAX - 2..=OFFSET_MAX + 2,
        READ_BYTES_MAX - 2..=READ_BYTES_MAX + 2,
        u64::MAX - 2..=u64::MAX,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_range_is_bounded_and_ends_within_off_t(offset in edge(), len in edge()) {
        let wide = u128::from(offset) + u128::from(len);
        let expected = (1..=READ_BYTES_MAX).contains(&len) && wide <= u128::from(OFFSET_MAX);
        let range = ByteRange::new(offset, len);
        prop_assert_eq!(range.is_some(), expected);
        if let Some(range) = range {
            prop_assert_eq!((range.offset(), range.len()), (offset, len));
            prop_assert_eq!(u128::from(range.end()), wide);
        }
    }

    #[test]
    fn an_extent_ends_within_off_t(offset in edge(), len in edge()) {
        let wide = u128::from(offset) + u128::from(len);
        let extent = Extent::new(offset, len);
        prop_assert_eq!(extent.is_some(), len > 0 && wide <= u128::from(OFFSET_MAX));
        if let Some(extent) = extent {
            prop_assert_eq!((extent.offset(), extent.len()), (offset, len));
            prop_assert_eq!(u128::from(extent.end()), wide);
        }
    }

    /// What a program asks for is cut at the largest offset; what a peer sends must not need it.
    #[test]
    fn a_lock_is_cut_at_off_t(first in edge(), last in edge()) {
        let range = LockRange::new(first, last);
        prop_assert_eq!(range.is_some(), first <= last.min(OFFSET_MAX));
        if let Some(range) = range {
            prop_assert_eq!((range.first(), range.last()), (first, last.min(OFFSET_MAX)));
        }
        let sent = LockRange::try_from((first, last));
        prop_assert_eq!(sent.is_ok(), first <= last && last <= OFFSET_MAX);
    }

    #[test]
    fn a_body_has_its_length(bytes in prop_oneof![any::<u32>(), 0..1u32 << 23]) {
        let len = BodyLen::new(bytes);
        prop_assert_eq!(len.is_some(), bytes as usize <= WRITE_BYTES_MAX);
        prop_assert_eq!(len.map(BodyLen::bytes).unwrap_or(bytes), bytes);
    }

    #[test]
    fn a_chunk_holds_its_offset(offset in 0..=OFFSET_MAX) {
        let chunk = ChunkIndex::of(offset);
        prop_assert!(chunk.offset() <= offset);
        prop_assert!(offset - chunk.offset() < CHUNK_BYTES as u64);
    }

    #[test]
    fn chunks_cover_a_file_exactly(size in 0..20 * CHUNK_BYTES as u64) {
        let chunks = (0..21).map(|i| ChunkIndex(i).len_in(size));
        prop_assert_eq!(chunks.sum::<usize>() as u64, size);
        let whole = size / CHUNK_BYTES as u64;
        prop_assert!((0..whole).all(|i| ChunkIndex(i).len_in(size) == CHUNK_BYTES));
    }

    #[test]
    fn covering_is_every_block_touched(from in 0..CHUNK_BYTES + 2, to in 0..CHUNK_BYTES + 2) {
        let touched: Vec<usize> = (0..CHUNK_BLOCKS)
            .filter(|i| {
                let block = i * BLOCK_BYTES..(i + 1) * BLOCK_BYTES;
                from < to && from < block.end && to > block.start
            })
            .collect();
        prop_assert_eq!(set(BlockMask::covering(from, to)), touched);
    }

    #[test]
    fn a_run_is_its_blocks(first in 0usize..40, end in 0usize..40) {
        let expected: Vec<usize> = (first..end).filter(|i| *i < CHUNK_BLOCKS).collect();
        prop_assert_eq!(set(BlockMask::run(first, end)), expected);
    }

    #[test]
    fn runs_are_maximal_and_in_order(bits in any::<u32>(), sparse in any::<u32>()) {
        for mask in [BlockMask(bits), BlockMask(bits & sparse), BlockMask(bits | sparse)] {
            let runs: Vec<_> = mask.runs().collect();
            prop_assert_eq!(&runs, &naive_runs(mask));
            let again = runs
                .iter()
                .fold(BlockMask::EMPTY, |all, run| all.or(BlockMask::run(run.start, run.end)));
            prop_assert_eq!(again, mask);
        }
    }

    #[test]
    fn masks_are_sets(a in any::<u32>(), b in any::<u32>()) {
        let (a, b) = (BlockMask(a), BlockMask(b));
        let (in_a, in_b) = (set(a), set(b));
        let pick = |keep: &dyn Fn(&usize) -> bool| -> Vec<usize> {
            (0..CHUNK_BLOCKS).filter(keep).collect()
        };
        prop_assert_eq!(set(a.and(b)), pick(&|i| in_a.contains(i) && in_b.contains(i)));
        prop_assert_eq!(set(a.or(b)), pick(&|i| in_a.contains(i) || in_b.contains(i)));
        prop_assert_eq!(set(a.minus(b)), pick(&|i| in_a.contains(i) && !in_b.contains(i)));
        prop_assert_eq!(a.contains(b), in_b.iter().all(|i| in_a.contains(i)));
        prop_assert_eq!(a.count(), in_a.len());
        prop_assert_eq!(a.is_empty(), in_a.is_empty());
    }

    #[test]
    fn nanoseconds_stay_below_a_second(secs in any::<i64>(), nanos in any::<u32>()) {
        let time = Timestamp::new(secs, nanos);
        prop_assert_eq!(time.is_some(), nanos < 1_000_000_000);
        if let Some(time) = time {
            prop_assert_eq!((time.secs(), time.nanos()), (secs, nanos));
        }
    }
}

#[test]
fn the_edges_of_masks() {
    for mask in [
        BlockMask::EMPTY,
        BlockMask::FULL,
        BlockMask(1),
        BlockMask(1 << 31),
    ] {
        assert_eq!(mask.runs().collect::<Vec<_>>(), naive_runs(mask));
    }
    assert_eq!(BlockMask::covering(0, CHUNK_BYTES), BlockMask::FULL);
    assert_eq!(BlockMask::covering(0, usize::MAX), BlockMask::FULL);
    assert_eq!(
        BlockMask::covering(usize::MAX, usize::MAX),
        BlockMask::EMPTY
    );
    assert_eq!(BlockMask::run(0, usize::MAX), BlockMask::FULL);
}

#[test]
fn a_chunk_no_file_can_have_is_empty_and_does_not_overflow() {
    for index in [u64::MAX, OFFSET_MAX, (u64::MAX / CHUNK_BYTES as u64) + 1] {
        assert_eq!(ChunkIndex(index).offset(), u64::MAX);
        assert_eq!(ChunkIndex(index).len_in(u64::MAX), 0);
    }
}
