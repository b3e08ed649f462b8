//! How much of everything: what a run of one profile does, from its link and how thorough it is.
//!
//! Sized so that a good peer needs some seconds for each family. What moves bytes is sized by the
//! link's rate; what waits for answers by its round trip, for a peer that needs one for each step.
//! Sizes depend on nothing else: not on how many peers there are, nor on how fast they turn out to be,
//! so that runs can be compared.
//!
//! How long each family may take is planned in [`plan`].

mod demand;
pub mod plan;

use crate::record::Mode;
use crate::workload::Family;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Taken for the rate of a link that has none: more than any peer can do.
const UNLIMITED_MBIT: f64 = 20_000.0;
/// Taken for a round trip where none is added.
const RTT_MIN_SECONDS: f64 = 0.0001;
/// From this round trip on, mounting and unmounting twice would take much of a run's time.
const RTT_FAR: Duration = Duration::from_millis(100);
/// What is read of a file whose first bytes are waited for: no file is shorter.
pub const FIRST_BYTES: usize = 1024;
/// What a file has that is changed on the host.
pub const FRESH_FILE_BYTES: u64 = 4 * KIB;
/// Frames of a video, each second.
pub const FRAMES_PER_SECOND: u32 = 24;

/// How much of everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sizes {
    /// Added round trip of the link they are for.
    pub rtt_seconds: f64,
    /// Its rate.
    pub bytes_per_second: f64,
    /// How often each peer has its turn; each round has files of its own.
    pub rounds: u32,
    /// Samples of each latency in each round, and the files or directories made for them.
    pub latency_samples: u32,
    /// What of these are kept warm, and read in turn until there are as many warm samples.
    pub warm_files: u32,
    /// A file whose first bytes are read. Small, so that what a peer fetches beyond them is not in the
    /// way of the next sample, nor its transfer a good part of the latency.
    pub first_byte_file_bytes: u64,
    /// The file read from start to end.
    pub seq_file_bytes: u64,
    /// What a frame of the video has: about 40 % of the link at 24 a second.
    pub frame_bytes: u64,
    /// Frames between two jumps.
    pub segment_frames: u32,
    /// How often the player starts or jumps.
    pub segments: u32,
    /// Each of the two files read at random.
    pub random_file_bytes: u64,
    /// Reads at most, for each queue depth; no two of them within the same 64 KiB.
    pub random_reads: u32,
    /// Time at most, for each queue depth.
    pub random_box: Duration,
    /// Entries of a directory that is listed.
    pub readdir_entries: u32,
    /// Directories that are listed, for names and for attributes each: ten, or fewer where a listing
    /// alone takes the link seconds.
    pub readdir_samples: u32,
    /// Files of the tree that is walked, 20 in each directory.
    pub walk_files: u32,
    /// What a small file has.
    pub small_file_bytes: u64,
    /// Small files read one after the other.
    pub small_serial_files: u32,
    /// Small files read by many threads.
    pub small_parallel_files: u32,
    /// The file read in four parts at once.
    pub parallel_file_bytes: u64,
    /// Each of the ten files read at once.
    pub concurrent_file_bytes: u64,
    /// Changes on the host that are waited for, of each kind.
    pub fresh_samples: u32,
    /// The file that is written: as large as the one that is read, unless time is short, so that neither
    /// the start nor the wait for the disk at the end is a large part of it.
    pub write_file_bytes: u64,
    /// What a created file has.
    pub create_file_bytes: u64,
    /// Files created one after the other, without fsync and with it each.
    pub create_files: u32,
    /// Files created by each of many threads: as many, unless the link is too slow for that.
    pub create_thread_files: u32,
}

/// What depends on how thorough a run is.
struct Effort {
    rounds: u32,
    /// For the large file that is read; other families take less.
    seq_seconds: f64,
    /// For the one that is written.
    write_seconds: f64,
    /// For every other family.
    seconds: f64,
    /// Samples of a latency over all rounds, at least.
    latency_samples: u32,
    /// Changes over all rounds.
    fresh_samples: u32,
    seq_bytes_max: u64,
    segments: u32,
    segment_frames: u32,
    create_files_min: u32,
}

impl Effort {
    fn of(mode: Mode, rtt: Duration) -> Self {
        match mode {
            Mode::Quick => Self {
                rounds: 1,
                seq_seconds: 3.0,
                write_seconds: 1.2,
                seconds: 1.2,
                latency_samples: 10,
                fresh_samples: 5,
                seq_bytes_max: 256 * MIB,
                segments: 2,
                segment_frames: 8,
                create_files_min: 10,
            },
            Mode::Standard => Self {
                rounds: if rtt < RTT_FAR { 2 } else { 1 },
                // Longer where the start of a connection is a larger part of it.
                seq_seconds: if rtt < RTT_FAR { 10.0 } else { 20.0 },
                // There, all families together ask for more time than there is: what nobody does fast is cut
                // short rather than what tells most.
                write_seconds: if rtt < RTT_FAR { 10.0 } else { 8.0 },
                seconds: 3.0,
                latency_samples: 10,
                fresh_samples: if rtt < RTT_FAR { 40 } else { 10 },
                seq_bytes_max: 1024 * MIB,
                segments: 4,
                segment_frames: 24,
                create_files_min: if rtt < RTT_FAR { 20 } else { 10 },
            },
            Mode::Full => Self {
                rounds: 5,
                seq_seconds: 25.0,
                write_seconds: 25.0,
                seconds: 10.0,
                latency_samples: 100,
                fresh_samples: 1000,
                seq_bytes_max: 1024 * MIB,
                segments: 8,
                segment_frames: 24,
                create_files_min: 20,
            },
        }
    }
}

impl Sizes {
    /// For a link of `rate_mbit` (none: as fast as the machine) and `rtt`.
    pub fn of(mode: Mode, rate_mbit: Option<f64>, rtt: Duration) -> Self {
        let effort = Effort::of(mode, rtt);
        let link = Link {
            bytes_per_second: rate_mbit.unwrap_or(UNLIMITED_MBIT) * 1e6 / 8.0,
            rtt_seconds: rtt.as_secs_f64().max(RTT_MIN_SECONDS),
        };
        let seconds = effort.seconds;
        // No more than the tenth part of the time for each of ten samples and more.
        let latency_needed = effort.latency_samples.div_ceil(effort.rounds);
        let latency_samples = link.trips(seconds / 4.0).clamp(latency_needed, 100);
        let listing_bytes = 1000.0 * ENTRY_BYTES;
        let listings = whole(link.bytes_per_second * seconds / listing_bytes);
        let frame_bytes = link.bytes(0.4 / f64::from(FRAMES_PER_SECOND), KIB, MIB);
        // A peer that needs one round trip for each of 16 reads would be four times too slow for it.
        let random_file_bytes = (u64::from(link.trips(seconds)) * 64 * RANDOM_SLOT_BYTES)
            .clamp(64 * MIB, effort.seq_bytes_max / 2);
        let parallel_file_bytes = link.bytes(seconds, 256 * KIB, effort.seq_bytes_max / 2);
        let large = |seconds| link.bytes(seconds, 256 * KIB, effort.seq_bytes_max);
        let create_files = link.trips(seconds / 4.0);
        let create_files = create_files.clamp(effort.create_files_min, 1000);
        Self {
            rtt_seconds: link.rtt_seconds,
            bytes_per_second: link.bytes_per_second,
            rounds: effort.rounds,
            latency_samples,
            warm_files: latency_samples.div_ceil(4),
            first_byte_file_bytes: link.bytes(0.004, FIRST_BYTES as u64, 256 * KIB),
            seq_file_bytes: large(effort.seq_seconds),
            frame_bytes,
            segment_frames: effort.segment_frames,
            segments: effort.segments,
            random_file_bytes,
            random_reads: u32::try_from(random_file_bytes / RANDOM_SLOT_BYTES).unwrap_or(u32::MAX),
            random_box: Duration::from_secs_f64(seconds / 2.0),
            readdir_entries: 1000,
            readdir_samples: listings.clamp(3, 10),
            walk_files: link.walk_files(seconds),
            small_file_bytes: 10 * KIB,
            small_serial_files: link
                .small_files(seconds)
                .min(link.trips(seconds))
                .clamp(20, 10_000),
            small_parallel_files: link
                .small_files(seconds)
                .min(link.trips(seconds).saturating_mul(16))
                .clamp(50, 10_000),
            parallel_file_bytes,
            concurrent_file_bytes: (parallel_file_bytes / 10).max(64 * KIB),
            fresh_samples: effort.fresh_samples.div_ceil(effort.rounds),
            write_file_bytes: large(effort.write_seconds),
            create_file_bytes: CREATE_FILE_BYTES,
            create_files,
            create_thread_files: link.created_files(seconds, create_files),
        }
    }

    /// How long `family` takes a peer that is neither good nor hopeless.
    pub fn demand_seconds(&self, family: Family) -> f64 {
        demand::seconds(self, family)
    }

    /// What `family` moves, roughly and at most.
    pub fn moved_bytes(&self, family: Family) -> u64 {
        match family {
            Family::SeqRead => self.seq_file_bytes,
            Family::Scrub => self.video_bytes(),
            Family::Random => 2 * self.random_file_bytes,
            Family::SmallFiles => {
                let files = self.small_serial_files + self.small_parallel_files;
                u64::from(files) * self.small_file_bytes
            }
            Family::Parallel => self.parallel_file_bytes,
            Family::Concurrent => 10 * self.concurrent_file_bytes,
            Family::Write => self.write_file_bytes,
            Family::Create => {
                let one_by_one = 2 * self.create_files;
                let at_once = CREATE_THREADS * self.create_thread_files;
                u64::from(one_by_one + at_once) * self.create_file_bytes
            }
            Family::Mount
            | Family::Fresh
            | Family::FirstByte
            | Family::Stat
            | Family::Readdir
            | Family::Walk => 0,
        }
    }

    /// Frames of the whole video that are played.
    pub fn frames(&self) -> u64 {
        u64::from(self.segments) * u64::from(self.segment_frames)
    }

    /// How long the video plays if no frame is late.
    pub fn playing(&self) -> Duration {
        let segment = Duration::from_secs(u64::from(self.segment_frames)) / FRAMES_PER_SECOND;
        (segment + JUMP_GRANT) * self.segments
    }

    /// The video: what lies between two segments that are played is never shown.
    pub fn video_bytes(&self) -> u64 {
        self.segment_stride() * u64::from(self.segments)
    }

    /// From the start of one segment to the next, in the file.
    pub fn segment_stride(&self) -> u64 {
        2 * u64::from(self.segment_frames) * self.frame_bytes
    }
}

/// What a player takes to show the first frame after a jump before anyone calls it late.
pub const JUMP_GRANT: Duration = Duration::from_millis(250);
/// Of a file read at random, no two reads lie in the same piece of this size.
pub const RANDOM_SLOT_BYTES: u64 = 64 * KIB;
/// Threads that create files at once.
pub const CREATE_THREADS: u32 = 16;
/// What a created file has.
const CREATE_FILE_BYTES: u64 = 4 * KIB;
/// Files created by one of many threads, at the least and at most. More tell nothing new, and fill the
/// journal of the host's file system.
const CREATE_THREAD_FILES: RangeInclusive<u32> = 5..=250;
/// Files in each directory of a tree that is walked.
pub const WALK_DIRECTORY_FILES: u32 = 20;
/// A name and its attributes on the wire, at the best.
const ENTRY_BYTES: f64 = 200.0;

struct Link {
    bytes_per_second: f64,
    rtt_seconds: f64,
}

impl Link {
    /// What it carries in this time, between these limits, in whole KiB.
    fn bytes(&self, seconds: f64, min: u64, max: u64) -> u64 {
        let kib = u64::from(whole(self.bytes_per_second * seconds / 1024.0));
        (kib * KIB).clamp(min, max)
    }

    /// Round trips in this time.
    fn trips(&self, seconds: f64) -> u32 {
        whole(seconds / self.rtt_seconds)
    }

    /// Small files it carries in this time.
    fn small_files(&self, seconds: f64) -> u32 {
        whole(self.bytes_per_second * seconds / (10.0 * 1024.0))
    }

    /// Files created by each of many threads: `serial`, or fewer where the link carries fewer in this time.
    fn created_files(&self, seconds: f64, serial: u32) -> u32 {
        let file_bytes = CREATE_FILE_BYTES as f64;
        let carried = whole(self.bytes_per_second * seconds / file_bytes) / CREATE_THREADS;
        let (least, most) = CREATE_THREAD_FILES.into_inner();
        serial.min(carried).clamp(least, most)
    }

    /// Files of a tree, for a peer that needs a round trip for each directory.
    fn walk_files(&self, seconds: f64) -> u32 {
        let carried = whole(self.bytes_per_second * seconds / ENTRY_BYTES);
        let asked = self.trips(seconds).saturating_mul(WALK_DIRECTORY_FILES);
        let files = carried.min(asked).clamp(200, 10_000);
        files - files % WALK_DIRECTORY_FILES
    }
}

/// The whole part; what is too large is the largest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion of a float saturates, which is what is wanted"
)]
fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests;
