//! Every maximum of the disk cache, in one place. Units stand last in the names.

use std::time::Duration;
use wormhole_protocol::limits::{CHUNK_BYTES, READ_BYTES_MAX};

/// Bytes that may wait for the writer; more is refused.
pub(crate) const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a job costs in the queue besides its bytes; bounds the number of jobs as well.
pub(crate) const QUEUE_JOB_BYTES: usize = 512;
/// Bytes the writer takes from the queue at once; neighbours among them are written together.
pub(crate) const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long the writer lets stores gather before it takes fewer than that.
pub(crate) const GATHER: Duration = Duration::from_millis(20);
/// Contents whose files are kept open, two descriptors each.
pub(crate) const OPEN_CONTENTS_MAX: usize = 64;
/// Packs whose files are kept open.
pub(crate) const OPEN_PACKS_MAX: usize = 16;
/// Chunks read by one system call.
pub(crate) const RUN_CHUNKS_MAX: usize = 64;
/// Chunks one call of `read_run` answers.
pub(crate) const READ_RUN_CHUNKS_MAX: usize = 512;
/// Slices in one vectored write.
pub(crate) const WRITE_SLICES_MAX: usize = 256;
/// Contents up to this size live in packs.
pub(crate) const PACKED_BYTES_MAX: u64 = 16 * 1024;
/// A pack that has reached this is closed and the next begun.
pub(crate) const PACK_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Contents with files of their own that the table names; beyond it the oldest are evicted.
pub(crate) const CONTENTS_MAX: usize = 4_000_000;
/// Packed contents that are remembered; beyond it the oldest packs are evicted.
pub(crate) const PACKED_MAX: usize = 4_000_000;
/// Stores skipped after the disk refused one: it is full or failing, and asking again is no help.
pub(crate) const STORES_SKIPPED: u64 = 256;
/// A content's last use is written to its file at most this often, in seconds.
pub(crate) const USE_PERSIST_SECS: u64 = 60;
/// Contents that hold more than this part of the budget are evicted piece by piece.
pub(crate) const HUGE_PART: u64 = 8;
/// Eviction goes on until this part of the budget is free again, so that it is not run per store.
pub(crate) const SLACK_PART: u64 = 16;
/// Most slots cleared by one write when a range is evicted.
pub(crate) const EVICT_CHUNKS_MAX: u64 = 512;
/// This part of the budget is never taken by what may not be evicted: the rest of the cache lives there.
pub(crate) const UNPINNED_PART: u64 = 8;
/// Pins of one share.
pub(crate) const PINS_MAX: usize = 1024;
/// Contents all pins of a share name together.
pub(crate) const PINNED_CONTENTS_MAX: usize = 1_000_000;
/// Longest name of a pin.
pub(crate) const PIN_NAME_BYTES_MAX: usize = 4096;
/// Contents that are remembered to have been whole and sound.
pub(crate) const SOUND_MAX: usize = 64 * 1024;
/// Slots whose masks are looked at together.
pub(crate) const MASK_CHUNKS_MAX: usize = 1024;
/// Bytes of the file that remembers names and attributes, whatever the budget: those of two million entries.
pub(crate) const TREE_BYTES_MAX: u64 = 192 * 1024 * 1024;
/// And this part of the budget.
pub(crate) const TREE_PART: u64 = 16;
/// Bytes of one section of it: a directory of as many entries as may be remembered, with names of some 200 bytes.
pub const TREE_SECTION_BYTES_MAX: usize = 16 * 1024 * 1024;

const _: () = assert!(UNPINNED_PART < SLACK_PART);
const _: () = assert!(PINNED_CONTENTS_MAX < PACKED_MAX && PINNED_CONTENTS_MAX < CONTENTS_MAX);
const _: () = assert!(PACK_BYTES_MAX + 2 * PACKED_BYTES_MAX < u32::MAX as u64);
const _: () = assert!(BATCH_BYTES_MAX < QUEUE_BYTES_MAX);
const _: () = assert!(READ_RUN_CHUNKS_MAX as u64 * CHUNK_BYTES as u64 == READ_BYTES_MAX);
