//! Stat: the attributes of a file.
//!
//! Cold: each sample is a file in a directory of its own that was never listed and nothing in it asked
//! for, so that a peer which fetches a whole directory at the first question does not have the answers
//! to all the others. The directory itself was looked up before, untimed. Warm: some of the same files,
//! over and over.

use super::first_byte::{cold, warm_up};
use super::stage::Turn;
use crate::files::layout::{stat_directory, stat_file};
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

pub(super) fn run(turn: &mut Turn<'_>) {
    let job = turn.job;
    let samples = job.sizes.latency_samples;
    let paths: Vec<PathBuf> = (0..samples)
        .map(|i| job.folder.join(stat_file(i)))
        .collect();
    let mut reached = 0;
    let goes_on = turn.stage("stat-cold", 0.65, |stage| {
        // All of them first: what a peer then fetches on its own is not in the way of a sample.
        for i in 0..samples {
            if stage.late() {
                break;
            }
            look(&job.folder.join(stat_directory(i)))?;
        }
        cold(stage, &paths, &mut reached, look)
    });
    if goes_on && reached == 0 {
        turn.skip("stat-warm");
    } else if goes_on {
        let warm = &paths[..reached.min(job.sizes.warm_files as usize)];
        turn.stage("stat-warm", 1.0, |stage| {
            warm_up(stage, warm, paths.len(), look)
        });
    }
}

fn look(path: &Path) -> io::Result<()> {
    fs::symlink_metadata(path).map(|_: Metadata| ())
}
