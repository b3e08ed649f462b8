//! Fresh: how soon a change on the host is seen.
//!
//! Each sample is one change, made by this process in the folder that is served, beneath any peer; its clock
//! starts when the change has been made and stops when the mount shows it. `fresh-stat`: another file has
//! taken a name, and `stat` says so. `fresh-read`: bytes of a file have changed, and whoever opens and reads
//! it gets them. Between two changes a pause of random length, so that they meet a mount at any moment of
//! what it does by itself.

use super::Job;
use super::stage::{End, Stage, Turn, ratio};
use crate::files::content::seed_of;
use crate::files::layout::{FRESH_FILES, flat};
use crate::tree::Random;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// The longest pause before a change.
const PAUSE_MICROS_MAX: u64 = 20_000;

/// How a file is changed on the host for the n-th time, and whether a mount shows that.
struct Trial {
    change: fn(&Path, u32) -> io::Result<()>,
    is_seen: fn(&Path, u32) -> io::Result<bool>,
}

pub(super) fn run(turn: &mut Turn<'_>) {
    let job = turn.job;
    let names = Trial {
        change: replace,
        is_seen: has_length,
    };
    let contents = Trial {
        change: write_mark,
        is_seen: has_mark,
    };
    let goes_on = turn.stage("fresh-stat", 0.5, |stage| trials(stage, job, &names));
    if goes_on {
        turn.stage("fresh-read", 1.0, |stage| trials(stage, job, &contents));
    }
}

fn trials(stage: &mut Stage<'_>, job: &Job, trial: &Trial) -> io::Result<End> {
    let count = job.sizes.fresh_samples;
    let mut random = Random(seed_of(job.seed, "fresh"));
    // Known to the mount, as files are that somebody works with.
    for i in 0..FRESH_FILES {
        let _ = (trial.is_seen)(&job.folder.join(flat(i)), 0)?;
    }
    for number in 1..=count {
        let name = flat(number % FRESH_FILES);
        sleep(Duration::from_micros(random.number() % PAUSE_MICROS_MAX));
        (trial.change)(&job.origin.join(&name), number)?;
        let at = job.folder.join(&name);
        let mut seen = false;
        stage.sample_until(|late| {
            while !seen && !late() {
                seen = (trial.is_seen)(&at, number)?;
                if !seen {
                    sleep(LOOK_EVERY);
                }
            }
            Ok(seen)
        })?;
        if !seen {
            return Ok(End::Late(ratio(number as usize - 1, count as usize)));
        }
        stage.progress(number as usize, count as usize);
    }
    Ok(End::Done)
}

/// Puts another file, whose length tells which, in place of one.
fn replace(path: &Path, number: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, vec![b'.'; number as usize])?;
    fs::rename(&beside, path)
}

fn has_length(path: &Path, number: u32) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() == u64::from(number)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes over the beginning of a file which change it is.
fn write_mark(path: &Path, number: u32) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&number.to_be_bytes(), 0)
}

fn has_mark(path: &Path, number: u32) -> io::Result<bool> {
    let mut mark = [0; size_of::<u32>()];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut mark, 0));
    match read.map_err(|error| (error.kind(), error)) {
        Ok(()) => Ok(u32::from_be_bytes(mark) == number),
        Err((io::ErrorKind::UnexpectedEof, _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}
