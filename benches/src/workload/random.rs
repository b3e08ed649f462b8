//! Random: 4 KiB here and there in a file never touched, one at a time, and 16 at a time in another.
//!
//! The kernel is told not to read ahead. No two reads lie in the same 64 KiB, which keeps most of them
//! from being answered by what another one fetched; a peer that fetches more at once may gain by it, as
//! it would for a user. Ends when the time in the box or the reads are over, whichever is first.

use super::Job;
use super::stage::{End, Stage, Turn};
use crate::files::content::seed_of;
use crate::files::layout::RANDOM;
use crate::sizes::RANDOM_SLOT_BYTES;
use crate::tree::Random;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const READ_BYTES: usize = 4096;
const DEEP: usize = 16;

pub(super) fn run(turn: &mut Turn<'_>) {
    let job = turn.job;
    let [single, deep] = RANDOM;
    let goes_on = turn.stage("random-qd1", 0.5, |stage| read(stage, job, single, 1));
    if goes_on {
        turn.stage("random-qd16", 1.0, |stage| read(stage, job, deep, DEEP));
    }
}

fn read(stage: &mut Stage<'_>, job: &Job, name: &str, threads: usize) -> io::Result<End> {
    let offsets = offsets(job, name);
    let file = File::open(job.folder.join(name))?;
    fadvise(&file, 0, None, Advice::Random)?;
    stage.start_clock();
    let box_end = Instant::now() + job.sizes.random_box;
    let end = stage.until().min(box_end);
    let next = AtomicUsize::new(0);
    let work = |done: &dyn Fn(u64)| -> io::Result<()> {
        let mut bytes = [0; READ_BYTES];
        while Instant::now() < end
            && let Some(offset) = offsets.get(next.fetch_add(1, Ordering::Relaxed))
        {
            file.read_exact_at(&mut bytes, *offset)?;
            done(1);
        }
        Ok(())
    };
    let whole = offsets.len() as u64;
    let done = super::parallel::crew(stage, threads, whole, work)?;
    stage.last_amount(done);
    if done < whole && end < box_end {
        let boxed = job.sizes.random_box.as_secs_f64();
        return Ok(End::Late((stage.seconds() / boxed).min(1.0)));
    }
    Ok(End::Done)
}

/// Where to read, in which order: one page of each 64 KiB.
fn offsets(job: &Job, name: &str) -> Vec<u64> {
    const PAGES: u64 = RANDOM_SLOT_BYTES / READ_BYTES as u64;
    let mut random = Random(seed_of(job.seed, name));
    let slots = job.sizes.random_file_bytes / RANDOM_SLOT_BYTES;
    let mut offsets = random.shuffled(slots);
    offsets.truncate(job.sizes.random_reads as usize);
    for offset in &mut offsets {
        *offset = *offset * RANDOM_SLOT_BYTES + random.number() % PAGES * READ_BYTES as u64;
    }
    offsets
}
