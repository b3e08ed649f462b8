//! Which files a family has, by name: known to who makes them and to who reads them.

use crate::sizes::{FRESH_FILE_BYTES, Sizes, WALK_DIRECTORY_FILES};
use crate::workload::Family;

/// The one large file of a family.
pub(crate) const LARGE: &str = "large";
/// Files that are read at random: one for each queue depth.
pub(crate) const RANDOM: [&str; 2] = ["qd1", "qd16"];
/// Folders of small files: those read serially, and those read with threads.
pub(crate) const SMALL: [&str; 2] = ["serial", "many"];
/// Folders that are listed: for names, and with attributes.
pub(crate) const LISTED: [&str; 2] = ["names", "attrs"];
/// Files that are read at once.
pub(crate) const CONCURRENT: u32 = 10;

/// Files that are changed on the host.
pub(crate) const FRESH_FILES: u32 = 10;

/// Files of a directory whose file is looked up.
const STAT_DIRECTORY_FILES: u32 = 10;
/// Small files of one directory.
const SMALL_DIRECTORY_FILES: u32 = 100;
/// Directories in a directory of the tree that is walked.
const WALK_FAN_OUT: u32 = 25;

/// A file that is to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Its path beneath the family's folder.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Planned {
    fn new(name: String, bytes: u64) -> Self {
        Self { name, bytes }
    }
}

/// All files of `family`.
pub(crate) fn files(family: Family, sizes: &Sizes) -> Vec<Planned> {
    let large = |bytes| vec![Planned::new(LARGE.to_owned(), bytes)];
    match family {
        Family::Mount | Family::Write | Family::Create => Vec::new(),
        Family::FirstByte => (0..sizes.latency_samples)
            .map(|i| Planned::new(flat(i), sizes.first_byte_file_bytes))
            .collect(),
        Family::SeqRead => large(sizes.seq_file_bytes),
        Family::Scrub => large(sizes.video_bytes()),
        Family::Random => RANDOM
            .map(|name| Planned::new(name.to_owned(), sizes.random_file_bytes))
            .into(),
        Family::Stat => stat_files(sizes),
        Family::Readdir => listed_files(sizes),
        Family::Walk => (0..sizes.walk_files)
            .map(|i| Planned::new(walked(i), 0))
            .collect(),
        Family::SmallFiles => small_files(sizes),
        Family::Parallel => large(sizes.parallel_file_bytes),
        Family::Concurrent => (0..CONCURRENT)
            .map(|i| Planned::new(concurrent(i), sizes.concurrent_file_bytes))
            .collect(),
        Family::Fresh => (0..FRESH_FILES)
            .map(|i| Planned::new(flat(i), FRESH_FILE_BYTES))
            .collect(),
    }
}

/// A file of a flat folder.
pub(crate) fn flat(i: u32) -> String {
    format!("f{i:05}")
}

/// One of the files that are read at once.
pub(crate) fn concurrent(i: u32) -> String {
    format!("{LARGE}-{i}")
}

/// A directory in which one file is looked up.
pub(crate) fn stat_directory(i: u32) -> String {
    format!("d{i:05}")
}

/// The file that is looked up there: neither the first nor the last.
pub(crate) fn stat_file(i: u32) -> String {
    format!("{}/f5", stat_directory(i))
}

/// A directory that is listed.
pub(crate) fn listed(kind: &str, i: u32) -> String {
    format!("{kind}-{i:05}")
}

/// A small file of one of the [`SMALL`] folders.
pub(crate) fn small(kind: &str, i: u32) -> String {
    format!("{kind}/{:03}/{}", i / SMALL_DIRECTORY_FILES, flat(i))
}

fn walked(i: u32) -> String {
    let directory = i / WALK_DIRECTORY_FILES;
    format!(
        "d{:02}/d{:02}/f{:02}",
        directory / WALK_FAN_OUT,
        directory % WALK_FAN_OUT,
        i % WALK_DIRECTORY_FILES
    )
}

fn stat_files(sizes: &Sizes) -> Vec<Planned> {
    (0..sizes.latency_samples)
        .flat_map(|i| (0..STAT_DIRECTORY_FILES).map(move |j| (i, j)))
        .map(|(i, j)| Planned::new(format!("{}/f{j}", stat_directory(i)), 0))
        .collect()
}

fn listed_files(sizes: &Sizes) -> Vec<Planned> {
    let entries = sizes.readdir_entries;
    LISTED
        .into_iter()
        .flat_map(|kind| (0..sizes.readdir_samples).map(move |i| listed(kind, i)))
        .flat_map(|folder| (0..entries).map(move |j| format!("{folder}/e{j:04}")))
        .map(|name| Planned::new(name, 0))
        .collect()
}

fn small_files(sizes: &Sizes) -> Vec<Planned> {
    let counts = [sizes.small_serial_files, sizes.small_parallel_files];
    SMALL
        .into_iter()
        .zip(counts)
        .flat_map(|(kind, count)| (0..count).map(move |i| small(kind, i)))
        .map(|name| Planned::new(name, sizes.small_file_bytes))
        .collect()
}
