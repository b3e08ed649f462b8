//! How long a family takes a peer that is neither good nor hopeless, from its sizes and the link.
//!
//! Such a peer needs [`TRIPS`] round trips for each step that a good one does in one, and gets half of
//! the link. Time is shared out by this, so that no family is cut short because others were generous.

use super::{CREATE_THREADS, Sizes, WALK_DIRECTORY_FILES};
use crate::workload::Family;

/// Round trips for a step: open, look up, read, close.
const TRIPS: f64 = 4.0;
/// Of the link.
const SHARE: f64 = 0.5;
/// What a step costs besides, and a mount.
const STEP_SECONDS: f64 = 0.0005;
const MOUNT_SECONDS: f64 = 0.5;
const MOUNT_TRIPS: f64 = 16.0;
/// What a change costs besides.
const FRESH_SECONDS: f64 = 0.02;
/// Mounts that should be possible at the least.
const MOUNTS: f64 = 3.0;
/// A name and its attributes, as most protocols have them.
const ENTRY_BYTES: f64 = 200.0;

/// In seconds.
pub(super) fn seconds(sizes: &Sizes, family: Family) -> f64 {
    let steps = |count: f64| count * (TRIPS * sizes.rtt_seconds + STEP_SECONDS);
    let carried = |bytes: f64| bytes / (SHARE * sizes.bytes_per_second);
    let samples = f64::from(sizes.latency_samples);
    match family {
        Family::Mount => MOUNTS * (MOUNT_TRIPS * sizes.rtt_seconds + MOUNT_SECONDS),
        Family::FirstByte => {
            steps(1.0 + samples + f64::from(sizes.warm_files))
                + carried(samples * sizes.first_byte_file_bytes as f64)
        }
        // Cold, and once more for those who keep nothing.
        Family::SeqRead => steps(3.0) + 2.0 * carried(sizes.seq_file_bytes as f64),
        Family::Scrub => steps(f64::from(sizes.segments)) + 3.6 * sizes.playing().as_secs_f64(),
        Family::Random => steps(2.0) + 2.5 * sizes.random_box.as_secs_f64(),
        Family::Stat => steps(1.5 * samples + f64::from(sizes.warm_files)),
        Family::Readdir => {
            let listings = 2.0 * f64::from(sizes.readdir_samples);
            let bytes = listings * f64::from(sizes.readdir_entries) * ENTRY_BYTES;
            steps(listings) + carried(bytes)
        }
        Family::Walk => {
            let files = f64::from(sizes.walk_files);
            let directories = files / f64::from(WALK_DIRECTORY_FILES);
            2.0 * (steps(directories) + carried(files * ENTRY_BYTES))
        }
        Family::SmallFiles => {
            let (serial, many) = (
                f64::from(sizes.small_serial_files),
                f64::from(sizes.small_parallel_files),
            );
            let bytes = (serial + many) * sizes.small_file_bytes as f64;
            steps(serial + many / 16.0) + carried(bytes)
        }
        Family::Parallel => steps(1.0) + carried(sizes.parallel_file_bytes as f64),
        Family::Concurrent => steps(1.0) + carried(10.0 * sizes.concurrent_file_bytes as f64),
        // Half a round trip, and the watcher's delay and the pause before it.
        Family::Fresh => 2.0 * f64::from(sizes.fresh_samples) * (sizes.rtt_seconds + FRESH_SECONDS),
        // A connection that has only asked until then has to find its pace.
        Family::Write => steps(6.0) + carried(sizes.write_file_bytes as f64),
        Family::Create => {
            let (serial, many) = (
                f64::from(sizes.create_files),
                f64::from(sizes.create_thread_files),
            );
            let threads = f64::from(CREATE_THREADS);
            let bytes = threads * many * sizes.create_file_bytes as f64;
            // Their directories are made before, which a kernel does one by one.
            steps(2.0 * 1.5 * serial + 0.75 * threads + 1.5 * many) + carried(bytes)
        }
    }
}
