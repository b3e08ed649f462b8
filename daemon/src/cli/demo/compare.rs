//! Whether the mount shows what the folder holds: names, kinds, modes, sizes, times, and every byte.
//!
//! The folder is listed once; then a few threads take entries off that list, read both sides in step
//! and compare. What differs is noted, never a reason to stop.

use crate::path_text::PathText;
use crate::shutdown::Shutdown;
use indicatif::ProgressBar;
use parking_lot::Mutex;
use rustix::fs::Advice;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::num::NonZero;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Readers at once.
const READERS: usize = 4;
/// Bytes compared at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Most entries of a folder.
const ENTRIES_MAX: usize = 4_000_000;
/// Most differences that are described; all are counted.
const MISMATCHES_MAX: usize = 100;

/// What the folder holds.
pub(super) struct Listing {
    root: PathBuf,
    /// Paths beneath the root, the root itself (empty) first.
    entries: Vec<Entry>,
}

struct Entry {
    path: PathBuf,
    kind: Kind,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Symlink,
    Special,
}

impl Kind {
    fn of(metadata: &Metadata) -> Self {
        match metadata.file_type() {
            kind if kind.is_dir() => Self::Directory,
            kind if kind.is_file() => Self::File,
            kind if kind.is_symlink() => Self::Symlink,
            _ => Self::Special,
        }
    }
}

impl Listing {
    /// Lists `root`. Directories that cannot be read are kept as such, without what is in them.
    ///
    /// # Errors
    /// The root cannot be looked at, there is too much in it, or the end was asked for.
    pub(super) fn of(root: &Path, shutdown: &Shutdown) -> io::Result<Self> {
        let mut listing = Self {
            root: root.to_owned(),
            entries: vec![Entry::of(root, PathBuf::new())?],
        };
        let mut next = 0;
        while let Some(entry) = listing.entries.get(next) {
            next += 1;
            if entry.kind != Kind::Directory {
                continue;
            }
            let directory = entry.path.clone();
            for name in names(&root.join(&directory)).unwrap_or_default() {
                // One that vanished meanwhile shows as a difference of the directory, if at all.
                listing
                    .entries
                    .extend(Entry::of(root, directory.join(name)));
            }
            if listing.entries.len() > ENTRIES_MAX {
                return Err(io::Error::other(format!(
                    "there are more than {ENTRIES_MAX} files in it; choose a smaller folder"
                )));
            }
            if shutdown.is_requested() {
                return Err(io::Error::other("ended on request"));
            }
        }
        Ok(listing)
    }

    fn count(&self, kind: Kind) -> u64 {
        self.entries.iter().filter(|e| e.kind == kind).count() as u64
    }

    /// Regular files.
    pub(super) fn files(&self) -> u64 {
        self.count(Kind::File)
    }

    /// Directories, the root included.
    pub(super) fn directories(&self) -> u64 {
        self.count(Kind::Directory)
    }

    /// Symlinks.
    pub(super) fn symlinks(&self) -> u64 {
        self.count(Kind::Symlink)
    }

    /// Bytes of all regular files.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// The largest file, if there is one with anything in it.
    pub(super) fn largest_file(&self) -> Option<&Path> {
        let files = self.entries.iter().filter(|e| e.bytes > 0);
        Some(&files.max_by_key(|e| e.bytes)?.path)
    }
}

impl Entry {
    fn of(root: &Path, path: PathBuf) -> io::Result<Self> {
        let metadata = root.join(&path).symlink_metadata()?;
        let kind = Kind::of(&metadata);
        Ok(Self {
            path,
            kind,
            bytes: if kind == Kind::File {
                metadata.len()
            } else {
                0
            },
        })
    }
}

fn names(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    directory
        .read_dir()?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

/// Which time it is that everything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// The first: everything comes from the host.
    Cold,
    /// Once more: the kernel is asked to forget each file first, so that our caches answer.
    Warm,
}

/// What a comparison found.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Bytes that were the same on both sides.
    pub(super) bytes: u64,
    /// How long it took.
    pub(super) elapsed: Duration,
    /// How long one reader waited for the mount, on average.
    pub(super) reading: Duration,
    /// Files that this user may not read in the folder either.
    pub(super) unreadable: u64,
    /// Differences.
    pub(super) mismatch_count: u64,
    /// The first of them, in words.
    pub(super) mismatches: Vec<String>,
}

impl Outcome {
    /// Bytes per second through the mount. Reading the folder for comparison is not counted.
    pub(super) fn bytes_per_sec(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
        let bytes = self.bytes as f64;
        bytes / self.reading.as_secs_f64().max(1e-9)
    }
}

/// Compares what is mounted at `mount` with `listing`.
pub(super) fn compare(
    listing: &Listing,
    mount: &Path,
    pass: Pass,
    shutdown: &Shutdown,
    bar: &ProgressBar,
) -> Outcome {
    let work = Work {
        listing,
        mount,
        pass,
        bar,
        next: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
        reading_nanos: AtomicU64::new(0),
        unreadable: AtomicU64::new(0),
        mismatch_count: AtomicU64::new(0),
        mismatches: Mutex::new(Vec::new()),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| work.run(shutdown));
        }
    });
    let readers = NonZero::<u64>::MIN.saturating_add(READERS as u64 - 1);
    Outcome {
        bytes: work.bytes.load(Relaxed),
        elapsed: begun.elapsed(),
        reading: Duration::from_nanos(work.reading_nanos.load(Relaxed) / readers),
        unreadable: work.unreadable.load(Relaxed),
        mismatch_count: work.mismatch_count.load(Relaxed),
        mismatches: work.mismatches.into_inner(),
    }
}

struct Work<'a> {
    listing: &'a Listing,
    mount: &'a Path,
    pass: Pass,
    bar: &'a ProgressBar,
    next: AtomicUsize,
    bytes: AtomicU64,
    reading_nanos: AtomicU64,
    unreadable: AtomicU64,
    mismatch_count: AtomicU64,
    mismatches: Mutex<Vec<String>>,
}

impl Work<'_> {
    fn run(&self, shutdown: &Shutdown) {
        let mut buffers = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        while !shutdown.is_requested() {
            let Some(entry) = self.listing.entries.get(self.next.fetch_add(1, Relaxed)) else {
                return;
            };
            if let Err(difference) = self.entry(entry, &mut buffers, shutdown) {
                self.mismatch_count.fetch_add(1, Relaxed);
                let mut mismatches = self.mismatches.lock();
                if mismatches.len() < MISMATCHES_MAX {
                    let path = PathText::from(entry.path.as_path());
                    mismatches.push(format!("{path}: {difference}"));
                }
            }
        }
    }

    fn entry(
        &self,
        entry: &Entry,
        buffers: &mut (Vec<u8>, Vec<u8>),
        shutdown: &Shutdown,
    ) -> Result<(), String> {
        let ours = join(&self.listing.root, &entry.path);
        let theirs = join(self.mount, &entry.path);
        let expected = ours.symlink_metadata().map_err(in_folder)?;
        let shown = theirs.symlink_metadata().map_err(in_mount)?;
        attributes(&expected, &shown)?;
        match entry.kind {
            Kind::Directory => self.same_names(&ours, &theirs),
            Kind::Symlink => {
                let expected = std::fs::read_link(&ours).map_err(in_folder)?;
                let shown = std::fs::read_link(&theirs).map_err(in_mount)?;
                same(
                    "points to",
                    &PathText::from(expected),
                    &PathText::from(shown),
                )
            }
            Kind::File => self.same_content(&ours, &theirs, buffers, shutdown),
            Kind::Special => Ok(()),
        }
    }

    fn same_names(&self, ours: &Path, theirs: &Path) -> Result<(), String> {
        let expected = match names(ours) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return self.refused_too(names(theirs).err());
            }
            other => other.map_err(in_folder)?,
        };
        let shown = names(theirs).map_err(in_mount)?;
        let mut differing = expected.symmetric_difference(&shown);
        match differing.next() {
            None => Ok(()),
            Some(name) => {
                let side = if shown.contains(name) {
                    "mount"
                } else {
                    "folder"
                };
                let name = PathText::from(Path::new(name));
                Err(format!(
                    "{name} only in the {side}; {} more differ",
                    differing.count()
                ))
            }
        }
    }

    fn same_content(
        &self,
        ours: &Path,
        theirs: &Path,
        (expected, shown): &mut (Vec<u8>, Vec<u8>),
        shutdown: &Shutdown,
    ) -> Result<(), String> {
        let mut ours = match File::open(ours) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return self.refused_too(File::open(theirs).err());
            }
            other => other.map_err(in_folder)?,
        };
        let mut theirs = self.timed(|| File::open(theirs)).map_err(in_mount)?;
        if self.pass == Pass::Warm {
            // Best effort: pages that stay are read from the kernel's cache, and are compared as well.
            let _ = rustix::fs::fadvise(&theirs, 0, None, Advice::DontNeed);
        }
        let mut offset = 0;
        while !shutdown.is_requested() {
            let n = fill(&mut ours, expected).map_err(in_folder)?;
            let m = self.timed(|| fill(&mut theirs, shown)).map_err(in_mount)?;
            let common = expected[..n.min(m)].iter().zip(&shown[..n.min(m)]);
            if let Some(at) = common.into_iter().position(|(a, b)| a != b) {
                return Err(format!("differs at byte {}", offset + at as u64));
            }
            same("ends at byte", &(offset + n as u64), &(offset + m as u64))?;
            offset += n as u64;
            self.bytes.fetch_add(n as u64, Relaxed);
            self.bar.inc(n as u64);
            if n < PIECE_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// What the folder refuses the mount must refuse too.
    fn refused_too(&self, error: Option<io::Error>) -> Result<(), String> {
        self.unreadable.fetch_add(1, Relaxed);
        match error {
            Some(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Some(error) => Err(format!(
                "permission denied in the folder, in the mount: {error}"
            )),
            None => Err("can be read in the mount, but not in the folder".to_owned()),
        }
    }

    fn timed<T>(&self, call: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = call();
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.reading_nanos.fetch_add(nanos, Relaxed);
        result
    }
}

/// `root` itself for an empty path, without a slash behind it.
fn join(root: &Path, path: &Path) -> PathBuf {
    match path.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(path),
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn attributes(expected: &Metadata, shown: &Metadata) -> Result<(), String> {
    let kind = expected.file_type();
    same("is of kind", &Kind::of(expected), &Kind::of(shown))?;
    let special = |m: &Metadata| (m.file_type().is_fifo(), m.file_type().is_socket());
    same("is of kind", &special(expected), &special(shown))?;
    same(
        "has mode",
        &format!("{:o}", expected.mode() & 0o7777),
        &format!("{:o}", shown.mode() & 0o7777),
    )?;
    if !kind.is_dir() {
        same("has size", &expected.len(), &shown.len())?;
    }
    let time = |m: &Metadata| format!("{}.{:09}", m.mtime(), m.mtime_nsec());
    same("was modified at", &time(expected), &time(shown))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, shown: &T) -> Result<(), String> {
    match expected == shown {
        true => Ok(()),
        false => Err(format!("{what} {expected:?}, in the mount {shown:?}")),
    }
}

fn in_folder(error: io::Error) -> String {
    format!("in the folder: {error} (did it change meanwhile?)")
}

fn in_mount(error: io::Error) -> String {
    format!("in the mount: {error}")
}

#[cfg(test)]
mod tests;
