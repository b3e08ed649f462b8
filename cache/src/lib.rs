//! What a mount may remember, and where: memory (L1), disk (L2), and what is on its way.
//!
//! - [`Chunk`]: some or all blocks of one chunk of a file; [`ChunkKey`] names it by content, not by
//!   path, so that a rename costs nothing and a new version never meets an old one's bytes.
//! - [`Memory`]: chunks in memory, least recently used first to go.
//! - [`Disk`]: chunks on disk, which survive restarts and are checked when they are read back.
//! - [`Flights`]: which blocks are being fetched, so that each is fetched once.
//!
//! Not here: asking a host, deciding what to read ahead.

#![warn(missing_docs)]

mod chunk;
mod disk;
mod flight;
mod key;
mod maintain;
mod memory;

pub use chunk::Chunk;
pub use disk::{
    Disk, DiskConfig, DiskError, DiskStats, PinError, PinReport, PinRoom, TREE_SECTION_BYTES_MAX,
    TreeFile, Whole,
};
pub use flight::{Abandoned, Claim, Claimed, Flights, Waiting};
pub use key::{ChunkKey, ContentDigest, ContentKey};
pub use maintain::{ShareReport, Skipped, SweepReport, VerifyReport, clear, gc, report, verify};
pub use memory::{Memory, MemoryStats};
