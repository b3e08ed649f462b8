//! Fresh: how soon a change on the host is seen.
//!
//! Each sample is one change, made by this process in the folder that is served, beneath any peer; its clock
//! starts when the change has been made and stops when the mount shows it. `fresh-stat`: another file has
//! taken a name, and `stat` says so. `fresh-read`: bytes of a file have changed, and whoever opens and reads
//! it gets them. Between two changes a pause of random length, so that they meet a mount at any moment of
//! what it does by itself.
//!
//! Each change makes what was not there before, in no turn of any peer: whoever shows what an earlier turn left
//! has not seen it.

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

/// How a file is changed on the host, which tells the new state's number, and whether a mount shows that.
struct Trial {
    change: fn(&Path) -> io::Result<u32>,
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
        let state = (trial.change)(&job.origin.join(&name))?;
        let at = job.folder.join(&name);
        let mut seen = false;
        stage.sample_until(|late| {
            while !seen && !late() {
                seen = (trial.is_seen)(&at, state)?;
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

/// Puts another file, longer by a byte, in place of one.
fn replace(path: &Path) -> io::Result<u32> {
    let mut bytes = fs::read(path)?;
    bytes.push(b'.');
    let beside = path.with_extension("new");
    fs::write(&beside, &bytes)?;
    fs::rename(&beside, path)?;
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

fn has_length(path: &Path, length: u32) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() == u64::from(length)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Counts up the number at the beginning of a file.
fn write_mark(path: &Path) -> io::Result<u32> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mark = mark_of(&file)?.wrapping_add(1);
    file.write_all_at(&mark.to_be_bytes(), 0)?;
    Ok(mark)
}

fn has_mark(path: &Path, mark: u32) -> io::Result<bool> {
    match File::open(path).and_then(|file| mark_of(&file)) {
        Ok(found) => Ok(found == mark),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn mark_of(file: &File) -> io::Result<u32> {
    let mut mark = [0; size_of::<u32>()];
    file.read_exact_at(&mut mark, 0)?;
    Ok(u32::from_be_bytes(mark))
}
