//! Files to read, new ones each time.
//!
//! "Cold" means that nobody has ever asked for these bytes: a name and an inode no cache has seen. So
//! every cold iteration reads a file that was made for it. Content is pseudo-random, so that nothing
//! on the way can compress it, and different in each file.

use crate::files::content::Writer;
use crate::record::Data;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// SplitMix64: a seeded stream of numbers, the same on every machine.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The numbers `0..count` in random order.
    pub fn shuffled(&mut self, count: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..count).collect();
        for last in (1..numbers.len()).rev() {
            let other = self.number() % (last as u64 + 1);
            let other = usize::try_from(other).unwrap_or(last);
            numbers.swap(last, other);
        }
        numbers
    }
}

/// Makes files beneath one folder, none twice.
pub struct Tree {
    folder: PathBuf,
    made: u64,
}

impl Tree {
    /// A tree in `folder`, which exists.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
            made: 0,
        }
    }

    fn fresh_name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-{}", self.made)
    }

    /// Makes a file of `bytes` bytes; returns its name.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn fresh_file(&mut self, bytes: u64) -> io::Result<String> {
        let name = self.fresh_name("file");
        fill(&self.folder.join(&name), bytes, self.made)?;
        Ok(name)
    }

    /// Makes a folder of `files` files of `bytes` bytes; returns its name. The files are `0`, `1`, ..
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn fresh_folder(&mut self, files: u64, bytes: u64) -> io::Result<String> {
        let name = self.fresh_name("folder");
        let folder = self.folder.join(&name);
        fs::create_dir(&folder)?;
        for i in 0..files {
            fill(&folder.join(i.to_string()), bytes, self.made ^ (i << 32))?;
        }
        Ok(name)
    }

    /// Removes what `fresh_*` made.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.folder.join(name);
        if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    }
}

fn fill(path: &Path, bytes: u64, seed: u64) -> io::Result<()> {
    Writer::new(Data::Random).create(path, bytes, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_their_size_and_differ() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut tree = Tree::new(dir.path());
        let sizes = [0, 1, 4097, (1 << 20) + 3];
        let contents = sizes.map(|bytes| {
            let name = tree.fresh_file(bytes).expect("a file");
            let content = fs::read(dir.path().join(&name)).expect("its content");
            assert_eq!(content.len() as u64, bytes);
            tree.remove(&name).expect("removed");
            content
        });
        assert_ne!(contents[2][..100], contents[3][..100]);

        let folder = tree.fresh_folder(3, 16).expect("a folder");
        let names = fs::read_dir(dir.path().join(&folder))
            .expect("listed")
            .count();
        assert_eq!(names, 3);
        tree.remove(&folder).expect("removed");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn shuffled_numbers_are_all_there() {
        let mut numbers = Random(1).shuffled(1000);
        assert_ne!(numbers, (0..1000).collect::<Vec<_>>());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    }
}
