//! What a mount knows of its host's names, in a file beside the contents.
//!
//! ```text
//! magic 8, version u32, zero u32, share 16
//! sections: length u32, sum 32, bytes
//! end: length 0, sum 32
//! ```
//! All numbers are little endian. A sum is the BLAKE3 hash of the sum before it and the section's bytes, the first
//! one's of the header: so what is missing, damaged, in another order or another share's is found, and so is a file
//! that ends early. What the bytes mean, the mount knows. The file is replaced as a whole. It is not synced: one
//! that a loss of power spoilt is found out.
//!
//! Sections are given out as they are read, each once it is checked: what comes after damage is lost, what came
//! before is as good as it was.

use crate::disk::file;
use crate::disk::layout::{SharePaths, array};
use crate::disk::limits::{TREE_BYTES_MAX, TREE_SECTION_BYTES_MAX};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use wormhole_protocol::ShareId;

const MAGIC: [u8; 8] = *b"wormtree";
const VERSION: u32 = 3;
const SUM_BYTES: usize = 32;
const HEAD_BYTES: usize = 4 + SUM_BYTES;

/// How reading the file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeFile {
    /// There is none.
    Absent,
    /// All of it was given out.
    Whole,
    /// Whoever took it wants no more.
    Enough,
    /// What followed the sections that were given out cannot be believed, or is of another version.
    Damaged,
}

fn header(share: ShareId) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(share.0);
    bytes
}

fn sum(before: &[u8; SUM_BYTES], bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(bytes);
    *hasher.finalize().as_bytes()
}

/// Reads the file; each section, once it is checked, goes to `take`, which says whether it wants more.
pub(crate) fn read(
    paths: &SharePaths,
    share: ShareId,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> io::Result<TreeFile> {
    let file = match file::open_read(&paths.tree()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TreeFile::Absent),
        other => other?,
    };
    match sections(&file, share, take) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(TreeFile::Damaged),
        other => other,
    }
}

fn sections(
    file: &File,
    share: ShareId,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> io::Result<TreeFile> {
    let mut file = BufReader::new(file.take(TREE_BYTES_MAX));
    let wanted = header(share);
    let mut found = vec![0; wanted.len()];
    file.read_exact(&mut found)?;
    if found != wanted {
        return Ok(TreeFile::Damaged);
    }
    let mut before = *blake3::hash(&wanted).as_bytes();
    let mut bytes = Vec::new();
    loop {
        let mut head = [0; HEAD_BYTES];
        file.read_exact(&mut head)?;
        let len = u32::from_le_bytes(array(&head, 0)) as usize;
        if len > TREE_SECTION_BYTES_MAX {
            return Ok(TreeFile::Damaged);
        }
        bytes.resize(len, 0);
        file.read_exact(&mut bytes)?;
        let promised: [u8; SUM_BYTES] = array(&head, 4);
        before = sum(&before, &bytes);
        if before != promised {
            return Ok(TreeFile::Damaged);
        }
        if len == 0 {
            return Ok(TreeFile::Whole);
        }
        if !take(&bytes) {
            return Ok(TreeFile::Enough);
        }
    }
}

/// Writes the file anew, in place of the one there is, of at most `bytes_max` bytes. `next` puts a section into what
/// it is given, or leaves it empty at the end; sections for which there is no room are left out. The bytes it takes.
pub(crate) fn write(
    paths: &SharePaths,
    share: ShareId,
    bytes_max: u64,
    next: &mut dyn FnMut(&mut Vec<u8>),
) -> io::Result<u64> {
    let new = paths.new_tree();
    file::remove(&new)?;
    let written = write_new(file::create(&new)?, share, bytes_max, next);
    match written {
        Ok(bytes) => {
            std::fs::rename(&new, paths.tree())?;
            Ok(bytes)
        }
        Err(error) => {
            // The first error says more.
            let _ = file::remove(&new);
            Err(error)
        }
    }
}

fn write_new(
    file: File,
    share: ShareId,
    bytes_max: u64,
    next: &mut dyn FnMut(&mut Vec<u8>),
) -> io::Result<u64> {
    let mut file = BufWriter::new(file);
    let header = header(share);
    file.write_all(&header)?;
    let mut before = *blake3::hash(&header).as_bytes();
    let mut written = (header.len() + HEAD_BYTES) as u64;
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        next(&mut bytes);
        let takes = (HEAD_BYTES + bytes.len()) as u64;
        if written + takes > bytes_max.min(TREE_BYTES_MAX) || bytes.len() > TREE_SECTION_BYTES_MAX {
            bytes.clear();
        }
        before = sum(&before, &bytes);
        // Sections are bounded far below 4 GiB.
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        file.write_all(&len.to_le_bytes())?;
        file.write_all(&before)?;
        file.write_all(&bytes)?;
        if bytes.is_empty() {
            file.flush()?;
            return Ok(written);
        }
        written += takes;
    }
}

/// Bytes the file takes, and when it was written; none if there is no such file.
pub(crate) fn look(paths: &SharePaths) -> Option<std::fs::Metadata> {
    let found = std::fs::symlink_metadata(paths.tree()).ok()?;
    found.is_file().then_some(found)
}

/// Removes the file, and what a write that was cut short left.
pub(crate) fn remove(paths: &SharePaths) -> io::Result<()> {
    file::remove(&paths.new_tree())?;
    file::remove(&paths.tree())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: ShareId = ShareId([7; 16]);

    fn paths(root: &tempfile::TempDir) -> SharePaths {
        let paths = SharePaths::new(root.path(), SHARE);
        file::make_dir(&paths.dir).unwrap();
        paths
    }

    fn put(paths: &SharePaths, bytes_max: u64, sections: &[&[u8]]) -> u64 {
        let mut left = sections.iter();
        let mut next = |out: &mut Vec<u8>| out.extend(left.next().copied().unwrap_or_default());
        write(paths, SHARE, bytes_max, &mut next).unwrap()
    }

    fn get(paths: &SharePaths, share: ShareId) -> (TreeFile, Vec<Vec<u8>>) {
        let mut found = Vec::new();
        let end = read(paths, share, &mut |section| {
            found.push(section.to_vec());
            true
        });
        (end.unwrap(), found)
    }

    #[test]
    fn sections_come_back_and_every_damage_is_found() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(&root);
        assert_eq!(get(&paths, SHARE), (TreeFile::Absent, vec![]));
        let sections: [&[u8]; 2] = [b"first", b"second"];
        let bytes = put(&paths, u64::MAX, &sections);
        assert_eq!(bytes, look(&paths).unwrap().len());
        let whole = sections.map(<[u8]>::to_vec).to_vec();
        assert_eq!(get(&paths, SHARE), (TreeFile::Whole, whole.clone()));
        let sound = std::fs::read(paths.tree()).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut bad = sound.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(paths.tree(), &bad).unwrap();
            let (end, found) = get(&paths, SHARE);
            assert_eq!(end, TreeFile::Damaged, "bit {bit}");
            assert!(whole.starts_with(&found), "bit {bit}");
        }
        for len in 0..sound.len() {
            std::fs::write(paths.tree(), &sound[..len]).unwrap();
            assert_eq!(get(&paths, SHARE).0, TreeFile::Damaged, "{len} bytes");
        }
    }

    #[test]
    fn another_shares_file_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(&root);
        put(&paths, u64::MAX, &[b"first"]);
        let other = get(&paths, ShareId([8; 16]));
        assert_eq!(other, (TreeFile::Damaged, vec![]));
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(&root);
        let bytes = put(&paths, 200, &[&[1; 50], &[2; 500], &[3; 10]]);
        assert!(bytes <= 200);
        assert_eq!(get(&paths, SHARE), (TreeFile::Whole, vec![vec![1; 50]]));
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(&root);
        let mut bytes = header(SHARE);
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend([0; 64]);
        std::fs::write(paths.tree(), bytes).unwrap();
        assert_eq!(get(&paths, SHARE).0, TreeFile::Damaged);
    }
}
