//! Write: a large file, and many small ones.
//!
//! `write-seq` counts from the creation until `fsync` and `close` have returned. Where there was no time
//! for these, its rate is that at which the mount took the data, wherever it put it. Small files are counted
//! when their `close` has returned, and, for `create-fsync`, their `fsync` before it. The error of a `close`
//! is not seen: the standard library keeps it to itself.

use super::Job;
use super::sequential::read_bytes;
use super::stage::{End, Stage, Turn};
use crate::files::content::{Writer, seed_of};
use crate::files::layout::{LARGE, flat};
use crate::sizes::CREATE_THREADS;
use crate::tree::Random;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

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
    let goes_on = turn.stage("create", 0.25, |stage| create(stage, job, false))
        && turn.stage("create-16", 0.7, |stage| create_at_once(stage, job));
    if goes_on {
        turn.stage("create-fsync", 1.0, |stage| create(stage, job, true));
    }
}

fn create(stage: &mut Stage<'_>, job: &Job, fsync: bool) -> io::Result<End> {
    let folder = job.folder.join(if fsync { "fsync" } else { "plain" });
    let whole = u64::from(job.sizes.create_files);
    let mut creator = Creator::new(job, &folder)?;
    stage.start_clock();
    for i in 0..job.sizes.create_files {
        if stage.late() {
            return Ok(stage.end_at(i.into(), whole));
        }
        creator.create(i, fsync)?;
        stage.amount(u64::from(i) + 1, whole);
    }
    Ok(stage.end_at(whole, whole))
}

/// With many threads, each in a directory of its own: a kernel locks the directory for as long as a
/// creation in it takes, which would line up the threads of every peer.
fn create_at_once(stage: &mut Stage<'_>, job: &Job) -> io::Result<End> {
    let files = job.sizes.create_thread_files;
    let creators = creators(job)?;
    let threads = creators.len();
    let whole = u64::from(CREATE_THREADS * files);
    let until = stage.until();
    let creators = Mutex::new(creators);
    let next = || {
        let mut creators = creators.lock().unwrap_or_else(PoisonError::into_inner);
        creators.pop()
    };
    let done = super::parallel::crew(stage, threads, whole, |done| {
        let Some(mut creator) = next() else {
            return Ok(());
        };
        for i in 0..files {
            if Instant::now() >= until {
                break;
            }
            creator.create(i, false)?;
            done(1);
        }
        Ok(())
    })?;
    Ok(stage.end_at(done, whole))
}

/// One for each thread. Made at once, since their directories may take several round trips each.
fn creators(job: &Job) -> io::Result<Vec<Creator>> {
    fs::create_dir_all(&job.folder)?;
    std::thread::scope(|scope| {
        let making: Vec<_> = (0..CREATE_THREADS)
            .map(|thread| job.folder.join(format!("thread-{thread:02}")))
            .map(|folder| scope.spawn(move || Creator::new(job, &folder)))
            .collect();
        making
            .into_iter()
            .map(|maker| {
                let made = maker.join();
                made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// Creates small files in a directory that the mount knows: it made it, and has listed it.
struct Creator {
    folder: PathBuf,
    bytes: usize,
    random: Random,
    writer: Writer,
}

impl Creator {
    fn new(job: &Job, folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        if fs::read_dir(folder)?.next().is_some() {
            return Err(io::Error::other("a new directory is not empty"));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            bytes: usize::try_from(job.sizes.create_file_bytes).map_err(io::Error::other)?,
            random: Random(seed_of(job.seed, &folder.to_string_lossy())),
            writer: Writer::new(job.data),
        })
    }

    fn create(&mut self, i: u32, fsync: bool) -> io::Result<()> {
        let mut file = File::create_new(self.folder.join(flat(i)))?;
        file.write_all(self.writer.next(self.bytes, &mut self.random))?;
        if fsync {
            file.sync_all()?;
        }
        Ok(())
    }
}
