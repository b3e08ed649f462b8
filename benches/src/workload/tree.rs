//! Directories: list a large one, walk many small ones.
//!
//! Each listing is of a directory never listed before. A walk is what `find -ls` does: every directory
//! is listed and everything in it looked at, by one thread.

use super::Job;
use super::first_byte::cold;
use super::stage::{End, Stage, Turn};
use crate::files::layout::{LISTED, listed};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) fn run_readdir(turn: &mut Turn<'_>) {
    let job = turn.job;
    let [names, attributes] = LISTED;
    let goes_on = turn.stage("readdir-names", 0.45, |stage| {
        list_each(stage, job, names, false)
    });
    if goes_on {
        turn.stage("readdir-attrs", 1.0, |stage| {
            list_each(stage, job, attributes, true)
        });
    }
}

fn list_each(stage: &mut Stage<'_>, job: &Job, kind: &str, attributes: bool) -> io::Result<End> {
    let sizes = &job.sizes;
    let expected = sizes.readdir_entries as usize;
    let folders: Vec<PathBuf> = (0..sizes.readdir_samples)
        .map(|i| job.folder.join(listed(kind, i)))
        .collect();
    cold(stage, &folders, &mut 0, |folder| {
        match list(folder, attributes)? {
            entries if entries == expected => Ok(()),
            entries => Err(io::Error::other(format!(
                "a directory of {expected} entries has {entries}"
            ))),
        }
    })
}

/// How many entries there are.
fn list(folder: &Path, attributes: bool) -> io::Result<usize> {
    let mut entries = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if attributes {
            entry.metadata()?;
        }
        entries += 1;
    }
    Ok(entries)
}

pub(super) fn run_walk(turn: &mut Turn<'_>) {
    let job = turn.job;
    let whole = u64::from(job.sizes.walk_files);
    let goes_on = turn.stage("walk-cold", 0.65, |stage| walk(stage, &job.folder, whole));
    if goes_on {
        turn.stage("walk-again", 1.0, |stage| walk(stage, &job.folder, whole));
    }
}

/// Counts files; directories are looked at as well.
fn walk(stage: &mut Stage<'_>, folder: &Path, whole: u64) -> io::Result<End> {
    stage.start_clock();
    let mut files = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            if stage.late() {
                return Ok(stage.end_at(files, whole.max(files + 1)));
            }
            let entry = entry?;
            if entry.metadata()?.is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
            }
            stage.amount(files, whole);
        }
    }
    if files != whole {
        return Err(io::Error::other(format!(
            "a tree of {whole} files has {files}"
        )));
    }
    Ok(stage.end_at(files, whole))
}
