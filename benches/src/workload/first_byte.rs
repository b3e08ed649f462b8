//! First byte: open a file and read the first KiB of it.
//!
//! Cold: the directory has been listed, attributes and all, as a file browser or a shell has done
//! before anyone opens a file; each sample is another file. Warm: some of the same files, over and over.

use super::stage::{End, Stage, Turn};
use crate::files::layout::flat;
use crate::sizes::FIRST_BYTES;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Untimed passes over the files that are then called warm.
pub(super) const WARM_UPS: usize = 3;

pub(super) fn run(turn: &mut Turn<'_>) {
    let job = turn.job;
    let paths: Vec<PathBuf> = (0..job.sizes.latency_samples)
        .map(|i| job.folder.join(flat(i)))
        .collect();
    let mut reached = 0;
    let goes_on = turn.stage("first-byte-cold", 0.65, |stage| {
        list(&job.folder)?;
        cold(stage, &paths, &mut reached, first_bytes)
    });
    if goes_on && reached == 0 {
        turn.skip("first-byte-warm");
    } else if goes_on {
        let warm = &paths[..reached.min(job.sizes.warm_files as usize)];
        turn.stage("first-byte-warm", 1.0, |stage| {
            warm_up(stage, warm, paths.len(), first_bytes)
        });
    }
}

/// Times `look` at each of `paths` once. `reached` becomes how many there were time for.
pub(super) fn cold(
    stage: &mut Stage<'_>,
    paths: &[PathBuf],
    reached: &mut usize,
    mut look: impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<End> {
    for path in paths {
        if stage.late() {
            return Ok(End::Late(super::stage::ratio(*reached, paths.len())));
        }
        stage.sample(|| look(path))?;
        *reached += 1;
        stage.progress(*reached, paths.len());
    }
    Ok(End::Done)
}

/// Looks at each of `paths` three times, then again and again until there are `count` samples.
pub(super) fn warm_up(
    stage: &mut Stage<'_>,
    paths: &[PathBuf],
    count: usize,
    mut look: impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<End> {
    for path in paths.iter().cycle().take(paths.len() * WARM_UPS) {
        if stage.late() {
            return Ok(End::Late(0.0));
        }
        look(path)?;
    }
    let mut done = 0;
    for path in paths.iter().cycle().take(count) {
        if stage.late() {
            break;
        }
        stage.sample(|| look(path))?;
        done += 1;
        stage.progress(done, count);
    }
    Ok(match done {
        done if done == count => End::Done,
        done => End::Late(super::stage::ratio(done, count)),
    })
}

fn list(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        entry?.metadata()?;
    }
    Ok(())
}

fn first_bytes(path: &Path) -> io::Result<()> {
    let mut bytes = [0; FIRST_BYTES];
    File::open(path)?.read_exact_at(&mut bytes, 0)
}
