//! Sequential: a large file from start to end, with a plain loop of reads.
//!
//! Where the cold read did not come to the end in time, the others read what it has read, and say so by
//! having timed out as well.

use super::stage::{Stage, Turn};
use crate::files::layout::LARGE;
use crate::pages;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const KIB: u64 = 1 << 10;
const READ_BYTES_MIN: u64 = 32 * KIB;
const READ_BYTES_MAX: u64 = 1024 * KIB;
/// A read is at most this part of the file, so that slow links have points in between.
const READS_MIN: u64 = 128;

pub(super) fn run(turn: &mut Turn<'_>) {
    let job = turn.job;
    let path = job.folder.join(LARGE);
    let whole = job.sizes.seq_file_bytes;
    let mut reached = 0;
    let goes_on = turn.stage("seq-read-cold", 0.7, |stage| {
        reached = read(stage, &path, whole, whole)?;
        Ok(stage.end_at(reached, whole))
    });
    if goes_on && reached == 0 {
        turn.skip("seq-read-again");
        turn.skip("seq-read-dropped");
        return;
    }
    let goes_on = goes_on
        && turn.stage("seq-read-again", 0.85, |stage| {
            let read = read(stage, &path, reached, whole)?;
            Ok(stage.end_at(read, whole))
        });
    if goes_on {
        turn.stage("seq-read-dropped", 1.0, |stage| {
            drop_pages(&path)?;
            let read = read(stage, &path, reached, whole)?;
            Ok(stage.end_at(read, whole))
        });
    }
}

/// Reads `limit` bytes, if there is time; returns how many it were.
fn read(stage: &mut Stage<'_>, path: &Path, limit: u64, whole: u64) -> io::Result<u64> {
    let mut piece = vec![0; read_bytes(whole)];
    stage.start_clock();
    let mut file = File::open(path)?;
    let mut done = 0;
    while done < limit && !stage.late() {
        match file.read(&mut piece)? {
            0 => return Err(io::Error::other("the file is shorter than it should be")),
            read => done += read as u64,
        }
        stage.amount(done, whole);
    }
    Ok(done)
}

/// What a program would read at once: up to 1 MiB, less of a small file.
pub(super) fn read_bytes(file_bytes: u64) -> usize {
    let bytes = (file_bytes / READS_MIN)
        .next_power_of_two()
        .clamp(READ_BYTES_MIN, READ_BYTES_MAX);
    usize::try_from(bytes).unwrap_or(1 << 20)
}

/// Has the kernel forget the file's content: first the client's pages of this very file, which anyone
/// may ask for; then, if permitted, every clean page, and so those of a peer's cache on disk.
fn drop_pages(path: &Path) -> io::Result<()> {
    fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    // Not permitted to everyone; the report says whether it was.
    let _ = pages::drop_content();
    Ok(())
}
