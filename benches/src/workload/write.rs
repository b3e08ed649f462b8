//! Write: a large file, and many small ones.
//!
//! `write-seq` counts from the creation until `fsync` and `close` have returned. Where there was no time
//! for these, its rate is that at which the mount took the data, wherever it put it. Small files are counted when their `close` has returned, and, for
//! `create-fsync`, their `fsync` before it.

use super::Job;
use super::sequential::read_bytes;
use super::stage::{End, Stage, Turn};
use crate::files::content::{Writer, seed_of};
use crate::files::layout::{LARGE, flat};
use crate::tree::Random;
use std::fs::{self, File};
use std::io::{self, Write};

pub(super) fn run_large(turn: &mut Turn<'_>) {
    let job = turn.job;
    turn.stage("write-seq", 1.0, |stage| write_large(stage, job));
}

fn write_large(stage: &mut Stage<'_>, job: &Job) -> io::Result<End> {
    let whole = job.sizes.write_file_bytes;
    let piece_bytes = read_bytes(whole);
    let mut random = Random(seed_of(job.seed, "write"));
    let mut writer = Writer::new(job.data);
    fs::create_dir_all(&job.folder)?;
    stage.start_clock();
    let mut file = File::create_new(job.folder.join(LARGE))?;
    let mut done = 0;
    while done < whole {
        if stage.late() {
            return Ok(stage.end_at(done, whole));
        }
        let want = usize::try_from(whole - done)
            .unwrap_or(piece_bytes)
            .min(piece_bytes);
        file.write_all(writer.next(want, &mut random))?;
        done += want as u64;
        stage.amount(done, whole);
    }
    file.sync_all()?;
    drop(file);
    Ok(stage.end_at(done, whole))
}

pub(super) fn run_small(turn: &mut Turn<'_>) {
    let job = turn.job;
    let goes_on = turn.stage("create", 0.45, |stage| create(stage, job, false));
    if goes_on {
        turn.stage("create-fsync", 1.0, |stage| create(stage, job, true));
    }
}

fn create(stage: &mut Stage<'_>, job: &Job, fsync: bool) -> io::Result<End> {
    let folder = job.folder.join(if fsync { "fsync" } else { "plain" });
    let bytes = usize::try_from(job.sizes.create_file_bytes).map_err(io::Error::other)?;
    let whole = u64::from(job.sizes.create_files);
    let mut random = Random(seed_of(job.seed, "create"));
    let mut writer = Writer::new(job.data);
    fs::create_dir_all(&folder)?;
    stage.start_clock();
    for i in 0..job.sizes.create_files {
        if stage.late() {
            return Ok(stage.end_at(i.into(), whole));
        }
        let mut file = File::create_new(folder.join(flat(i)))?;
        file.write_all(writer.next(bytes, &mut random))?;
        if fsync {
            file.sync_all()?;
        }
        drop(file);
        stage.amount(u64::from(i) + 1, whole);
    }
    Ok(stage.end_at(whole, whole))
}
