//! Scrub: a video player that is dragged about, 24 frames a second.
//!
//! The player reads a stretch of frames in order, then jumps to another stretch, none of them twice.
//! After a start or a jump it is granted 250 ms to show the first frame; from then on a frame is due
//! every 24th of a second. It reads ahead by no more than those 250 ms: a player's buffer right after a
//! jump. A frame that has not been read when it is due is late. Late frames do not move the clock, they
//! are read nevertheless, and the next jump comes when the stretch has been read.
//!
//! Frames that are not read before the time is over count as late.

use super::Job;
use super::stage::{End, Stage, Turn};
use crate::files::content::seed_of;
use crate::files::layout::LARGE;
use crate::sizes::{FRAMES_PER_SECOND, JUMP_GRANT, Sizes};
use crate::tree::Random;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

pub(super) fn run(turn: &mut Turn<'_>) {
    let job = turn.job;
    turn.stage("scrub", 1.0, |stage| play(stage, job));
}

fn play(stage: &mut Stage<'_>, job: &Job) -> io::Result<End> {
    let sizes = &job.sizes;
    let segments = Random(seed_of(job.seed, "scrub")).shuffled(u64::from(sizes.segments));
    let mut frame = vec![0; usize::try_from(sizes.frame_bytes).map_err(io::Error::other)?];
    stage.start_clock();
    let file = File::open(job.folder.join(LARGE))?;
    let (mut read, mut in_time) = (0, 0);
    for segment in segments {
        let start = Instant::now();
        for n in 0..sizes.segment_frames {
            let shown = start + Duration::from_secs(n.into()) / FRAMES_PER_SECOND;
            if !wait_until(shown, stage) {
                stage.last_amount(in_time);
                return Ok(End::Late(portion(read, sizes)));
            }
            file.read_exact_at(&mut frame, offset(sizes, segment, n))?;
            read += 1;
            in_time += u64::from(Instant::now() <= shown + JUMP_GRANT);
            // Every frame: whoever is killed has shown no more than this.
            stage.last_amount(in_time);
            stage.progress(portion_of(read), portion_of(sizes.frames()));
        }
    }
    Ok(End::Done)
}

/// Waits; returns whether there is time to go on.
fn wait_until(instant: Instant, stage: &Stage<'_>) -> bool {
    let wake = instant.min(stage.until());
    std::thread::sleep(wake.saturating_duration_since(Instant::now()));
    !stage.late()
}

fn offset(sizes: &Sizes, segment: u64, frame: u32) -> u64 {
    segment * sizes.segment_stride() + u64::from(frame) * sizes.frame_bytes
}

fn portion(read: u64, sizes: &Sizes) -> f64 {
    super::stage::float(read) / super::stage::float(sizes.frames().max(1))
}

fn portion_of(frames: u64) -> usize {
    usize::try_from(frames).unwrap_or(usize::MAX)
}
