//! What is measured: the workloads, by name.
//!
//! A *family* is run as one job on one mount and yields one or more *workloads*, the rows of a report:
//! the family `seq-read` reads a file that was never touched (`seq-read-cold`), again
//! (`seq-read-again`), and once more after the page cache was dropped (`seq-read-dropped`).
//!
//! [`run`] does a family's [`Job`] and says what happens as [`Report`]s; a [`Tally`] makes [`Outcome`]s
//! of them. What every family holds to:
//!
//! - Cold means files nobody has asked this mount for. Warm means known: three untimed passes come
//!   before the timed ones, and the page cache may answer.
//! - Whoever runs late stops between two operations and is told apart ([`Report::Timeout`]); what was
//!   reached until then counts. An operation that does not return is ended from outside
//!   ([`crate::worker`]).
//! - Only what a workload is about is timed: opening the files it needs, listing what must be listed
//!   before and dropping caches are not.

mod first_byte;
mod fresh;
mod job;
mod parallel;
mod random;
mod scrub;
mod sequential;
mod small;
mod stage;
mod stat;
mod tally;
mod tree;
mod write;

#[cfg(test)]
pub(crate) mod tests;

pub use job::{Job, Report};
pub use tally::{Outcome, Tally};

use crate::record::Better;
use serde::{Deserialize, Serialize};
use stage::Turn;

/// A row of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Its name in reports.
    pub name: &'static str,
    /// The family it belongs to.
    pub family: Family,
    /// Unit of its samples.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
    /// What it shows, in one sentence.
    pub about: &'static str,
}

/// Workloads that are run together, in the order of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// From the start of the mount command to the first successful `stat`.
    Mount,
    /// Open a file and read its first bytes.
    FirstByte,
    /// Read a large file from start to end.
    SeqRead,
    /// Read a large file as a video player does that is dragged about.
    Scrub,
    /// Read 4 KiB here and there.
    Random,
    /// `stat` files.
    Stat,
    /// List a large directory.
    Readdir,
    /// Walk a tree.
    Walk,
    /// Read many small files.
    SmallFiles,
    /// Read one file in four parts at once.
    Parallel,
    /// Read ten files at once.
    Concurrent,
    /// See what was changed on the host.
    Fresh,
    /// Write a large file.
    Write,
    /// Create many small files.
    Create,
}

impl Family {
    /// All, in the order of a run.
    pub const ALL: [Self; 14] = [
        Self::Mount,
        Self::FirstByte,
        Self::SeqRead,
        Self::Scrub,
        Self::Random,
        Self::Stat,
        Self::Readdir,
        Self::Walk,
        Self::SmallFiles,
        Self::Parallel,
        Self::Concurrent,
        Self::Fresh,
        Self::Write,
        Self::Create,
    ];

    /// Its name in `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::FirstByte => "first-byte",
            Self::SeqRead => "seq-read",
            Self::Scrub => "scrub",
            Self::Random => "random",
            Self::Stat => "stat",
            Self::Readdir => "readdir",
            Self::Walk => "walk",
            Self::SmallFiles => "small-files",
            Self::Parallel => "parallel",
            Self::Concurrent => "concurrent",
            Self::Fresh => "fresh",
            Self::Write => "write",
            Self::Create => "create",
        }
    }

    /// Its workloads, in the order they are run.
    pub fn workloads(self) -> impl Iterator<Item = &'static Workload> {
        WORKLOADS.iter().filter(move |w| w.family == self)
    }

    /// Whether it needs a peer that can write.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Create)
    }
}

/// Does `job`, in this thread and those it starts, and reports what happens. Returns when every workload
/// of the family has ended, or one failed. [`Family::Mount`] is nothing that happens on a mount: it is
/// reported as failed.
pub fn run(job: &Job, report: &mut dyn FnMut(Report)) {
    let mut turn = Turn::new(job, report);
    match job.family {
        Family::Mount => turn.refuse("mounting is measured by whoever mounts"),
        Family::FirstByte => first_byte::run(&mut turn),
        Family::SeqRead => sequential::run(&mut turn),
        Family::Scrub => scrub::run(&mut turn),
        Family::Random => random::run(&mut turn),
        Family::Stat => stat::run(&mut turn),
        Family::Readdir => tree::run_readdir(&mut turn),
        Family::Walk => tree::run_walk(&mut turn),
        Family::SmallFiles => small::run(&mut turn),
        Family::Parallel => parallel::run_parts(&mut turn),
        Family::Concurrent => parallel::run_files(&mut turn),
        Family::Fresh => fresh::run(&mut turn),
        Family::Write => write::run_large(&mut turn),
        Family::Create => write::run_small(&mut turn),
    }
}

macro_rules! workloads {
    ($($name:literal $family:ident $unit:literal $better:ident $about:literal;)*) => {
        /// Every workload, in the order of a report.
        pub const WORKLOADS: &[Workload] = &[$(Workload {
            name: $name,
            family: Family::$family,
            unit: $unit,
            better: Better::$better,
            about: $about,
        }),*];
    };
}

workloads! {
    "mount" Mount "ms" Lower "from the start of the mount command to the first successful stat";
    "first-byte-cold" FirstByte "ms" Lower "open and first KiB of a file never touched, in a listed directory";
    "first-byte-warm" FirstByte "ms" Lower "the same of a file that was read before";
    "seq-read-cold" SeqRead "MB/s" Higher "a large file never touched, from start to end";
    "seq-read-again" SeqRead "MB/s" Higher "the same file again";
    "seq-read-dropped" SeqRead "MB/s" Higher "the same file after the page cache was dropped";
    "scrub" Scrub "frames" Lower "late frames of a video played at 24 frames a second, with jumps, each reading";
    "random-qd1" Random "IOPS" Higher "4 KiB at random places, one at a time";
    "random-qd16" Random "IOPS" Higher "4 KiB at random places, 16 at a time";
    "stat-cold" Stat "ms" Lower "stat of a file never touched, in a directory never listed";
    "stat-warm" Stat "ms" Lower "stat of a file known already";
    "readdir-names" Readdir "ms" Lower "list the names of 1,000 entries";
    "readdir-attrs" Readdir "ms" Lower "list 1,000 entries and stat each";
    "walk-cold" Walk "files/s" Higher "walk a tree of small directories and stat everything, never touched";
    "walk-again" Walk "files/s" Higher "walk it again";
    "small-serial" SmallFiles "files/s" Higher "read files of 10 KiB never touched, one after the other";
    "small-16" SmallFiles "files/s" Higher "read files of 10 KiB never touched, with 16 threads";
    "parallel-4" Parallel "MB/s" Higher "one file never touched, read in four parts at once";
    "concurrent-10" Concurrent "MB/s" Higher "ten files never touched, read at once";
    "fresh-stat" Fresh "ms" Lower "until stat shows that a file was replaced on the host";
    "fresh-read" Fresh "ms" Lower "until open and read bring what was written to a file on the host";
    "write-seq" Write "MB/s" Higher "write a large file, fsync, close";
    "create" Create "files/s" Higher "create, write and close files of 4 KiB in a known directory, one after the other";
    "create-16" Create "files/s" Higher "the same with 16 threads, each in a directory of its own (in one, the kernel creates one at a time)";
    "create-fsync" Create "files/s" Higher "create, write, fsync and close files of 4 KiB, one after the other";
}
