//! Small files: whole files of 10 KiB, never touched, in directories never listed, as a program loads
//! the modules it knows by name.

use super::stage::{End, Stage, Turn};
use crate::files::layout::{SMALL, small};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const THREADS: usize = 16;

pub(super) fn run(turn: &mut Turn<'_>) {
    let job = turn.job;
    let [serial, many] = SMALL;
    let paths = |kind, count| -> Vec<PathBuf> {
        (0..count)
            .map(|i| job.folder.join(small(kind, i)))
            .collect()
    };
    let one_by_one = paths(serial, job.sizes.small_serial_files);
    let at_once = paths(many, job.sizes.small_parallel_files);
    let goes_on = turn.stage("small-serial", 0.55, |stage| load(stage, &one_by_one, 1));
    if goes_on {
        turn.stage("small-16", 1.0, |stage| load(stage, &at_once, THREADS));
    }
}

fn load(stage: &mut Stage<'_>, paths: &[PathBuf], threads: usize) -> io::Result<End> {
    let until = stage.until();
    let next = AtomicUsize::new(0);
    let whole = paths.len() as u64;
    let done = super::parallel::crew(stage, threads, whole, |done| {
        while Instant::now() < until
            && let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed))
        {
            fs::read(path)?;
            done(1);
        }
        Ok(())
    })?;
    Ok(stage.end_at(done, whole))
}
