//! A tree of files for want of a better one: varied, and the same for the same seed.
//!
//! Sizes around the edges of blocks and chunks, empty files, names that shells stumble over, symlinks
//! in, out and dangling, odd modes and times with nanoseconds; the rest of the size is large files.

use std::fs::{DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Sizes where something could be off by one: a block is 4 KiB, a chunk 128 KiB.
const EDGES: [u64; 11] = [
    0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073, 262_144, 1_048_575, 5_000_000,
];
/// Names that are hard on whoever takes them for text.
const NAMES: [&[u8]; 6] = [
    b"with blank",
    b"new\nline",
    b"-rf",
    b"\xff\xfe not text",
    "\u{fc}nic\u{f6}de".as_bytes(),
    b"'quoted' \"twice\" $HOME \\ *",
];
/// Largest of the files that make up the size.
const LARGE_BYTES: u64 = 64 << 20;
/// Small files in each of the directories of them.
const SMALL_PER_DIRECTORY: u64 = 50;
/// Share of the size that goes into small files: one part in this many.
const SMALL_PART: u64 = 16;
/// Mean size of a small file, about that of source code.
const SMALL_BYTES: u64 = 16 << 10;
/// Most small files, however large the tree.
const SMALL_FILES_MAX: u64 = 5_000;
/// Bytes written at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Makes a tree of `bytes` bytes (or the least a varied one needs, a few MiB) at `root`. `progress` is
/// told how many bytes were written and says whether to go on.
///
/// # Errors
/// The file system's. A tree broken off is left as it is.
pub(super) fn generate(
    root: &Path,
    bytes: u64,
    seed: u64,
    progress: &mut dyn FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut tree = Tree {
        root: root.to_owned(),
        random: Random(seed),
        left: bytes,
        progress,
    };
    tree.directory(Path::new(""))?;
    tree.edges()?;
    tree.names()?;
    tree.small(bytes / SMALL_PART)?;
    tree.large()?;
    tree.links()?;
    tree.times()
}

struct Tree<'a> {
    root: PathBuf,
    random: Random,
    left: u64,
    progress: &'a mut dyn FnMut(u64) -> bool,
}

impl Tree<'_> {
    fn edges(&mut self) -> io::Result<()> {
        self.directory(Path::new("edges"))?;
        for size in EDGES {
            // The small ones always; a tree of a few kilobytes has no use for the others.
            if size <= self.left {
                self.file(
                    &Path::new("edges").join(format!("{size}-bytes")),
                    size,
                    0o644,
                )?;
            }
        }
        Ok(())
    }

    fn names(&mut self) -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let directory = Path::new("names");
        self.directory(directory)?;
        let longest = [b'n'; 255];
        for name in NAMES.into_iter().chain([&longest[..]]) {
            let path = directory.join(std::ffi::OsStr::from_bytes(name));
            let size = self.random.below(2000).min(self.left);
            match self.file(&path, size, 0o600) {
                // Some file systems want names to be text.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) if error.raw_os_error() == Some(libc::EILSEQ) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn small(&mut self, bytes: u64) -> io::Result<()> {
        for index in 0..(bytes / SMALL_BYTES).min(SMALL_FILES_MAX) {
            let number = index / SMALL_PER_DIRECTORY;
            let directory = PathBuf::from(format!("small/{:02}/{number:03}", number / 10));
            if index % SMALL_PER_DIRECTORY == 0 {
                self.directory(&directory)?;
            }
            // Many that are small, few that are larger.
            let size = self.random.below(SMALL_BYTES * 2) >> self.random.below(4);
            let mode = [0o644, 0o640, 0o755, 0o600][usize::from(self.random.byte() & 3)];
            self.file(
                &directory.join(format!("file-{index}")),
                size.min(self.left),
                mode,
            )?;
        }
        Ok(())
    }

    fn large(&mut self) -> io::Result<()> {
        self.directory(Path::new("large"))?;
        let mut index = 0;
        while self.left > 0 {
            let path = PathBuf::from(format!("large/file-{index}"));
            self.file(&path, self.left.min(LARGE_BYTES), 0o644)?;
            index += 1;
        }
        Ok(())
    }

    fn links(&mut self) -> io::Result<()> {
        self.directory(Path::new("links"))?;
        let links = self.root.join("links");
        symlink("../edges/1-bytes", links.join("in"))?;
        symlink("/etc/hostname", links.join("out"))?;
        symlink("nowhere", links.join("dangling"))?;
        symlink("loop", links.join("loop"))
    }

    /// Directories get their times last, when nothing is made in them any more.
    fn times(&mut self) -> io::Result<()> {
        for name in ["edges", "names", "large", "links", ""] {
            let times = self.some_times();
            File::open(self.root.join(name))?.set_times(times)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let path = self.root.join(path);
        DirBuilder::new().recursive(true).mode(0o755).create(path)
    }

    fn file(&mut self, path: &Path, size: u64, mode: u32) -> io::Result<()> {
        let path = self.root.join(path);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut rest = size;
        while rest > 0 {
            let n = usize::try_from(rest).unwrap_or(usize::MAX).min(PIECE_BYTES);
            self.random.fill(&mut piece[..n]);
            file.write_all(&piece[..n])?;
            rest -= n as u64;
            if !(self.progress)(n as u64) {
                self.left = 0;
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        self.left = self.left.saturating_sub(size);
        file.set_permissions(Permissions::from_mode(mode))?;
        file.set_times(self.some_times())
    }

    /// A time in the last decades, to the nanosecond.
    fn some_times(&mut self) -> FileTimes {
        let seconds = 1_000_000_000 + self.random.below(700_000_000);
        let nanos = self.random.below(1_000_000_000);
        let time = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanos);
        FileTimes::new().set_modified(time).set_accessed(time)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): fast, seeded, and good enough to not compress.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is small beside 2^64, so that the bias does not matter here.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            piece.copy_from_slice(&random[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::MetadataExt;

    fn make(bytes: u64, seed: u64) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        let mut told = 0;
        generate(&root, bytes, seed, &mut |n| {
            told += n;
            true
        })
        .unwrap();
        assert_eq!(told, bytes);
        let mut found = BTreeMap::new();
        let mut open = vec![root.clone()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    open.push(entry.path());
                } else if metadata.is_file() {
                    let content = std::fs::read(entry.path()).unwrap();
                    let path = entry.path().strip_prefix(&root).unwrap().to_owned();
                    found.insert(path, (metadata.mode(), metadata.mtime_nsec(), content));
                }
            }
        }
        found
    }

    #[test]
    fn a_seed_makes_a_tree_of_exactly_the_size() {
        let tree = make(9 << 20, 7);
        let total: usize = tree.values().map(|(_, _, content)| content.len()).sum();
        assert_eq!(total, 9 << 20);
        assert!(tree == make(9 << 20, 7));
        assert!(tree != make(9 << 20, 8));
        assert!(tree.contains_key(Path::new("edges/0-bytes")));
        assert!(tree.keys().any(|path| path.starts_with("small")));
        assert!(tree.values().any(|(_, nanos, _)| nanos % 1000 != 0));
    }

    #[test]
    fn small_trees_are_possible() {
        for bytes in [0, 1, 5000, 1 << 20] {
            let total: usize = make(bytes, 1).values().map(|(_, _, c)| c.len()).sum();
            assert_eq!(total as u64, bytes);
        }
    }

    #[test]
    fn it_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let made = generate(&dir.path().join("tree"), 1 << 30, 1, &mut |_| false);
        assert_eq!(made.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}
