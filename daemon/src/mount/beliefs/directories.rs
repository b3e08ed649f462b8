//! A set of directories that does not grow without end: of each it is known that it is in, or that it may be.
//!
//! Not here: what is so of a directory in it. That says the owner of the set.
//!
//! Lock: `noted`, a leaf.

use parking_lot::Mutex;
use std::collections::HashSet;
use wormhole_protocol::FileId;

/// Directories told apart; beyond them it may be any.
const DIRECTORIES_MAX: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(super) struct Directories {
    noted: Mutex<HashSet<FileId>>,
}

impl Directories {
    /// Puts `dir` in. Whether that was news.
    pub(super) fn note(&self, dir: FileId) -> bool {
        let mut noted = self.noted.lock();
        noted.len() <= DIRECTORIES_MAX && noted.insert(dir)
    }

    /// Whether `dir` is in, or may be.
    pub(super) fn may_include(&self, dir: FileId) -> bool {
        let noted = self.noted.lock();
        noted.len() > DIRECTORIES_MAX || noted.contains(&dir)
    }

    /// None is in any more.
    pub(super) fn forget(&self) {
        self.noted.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(inode: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            birth: 0,
        }
    }

    #[test]
    fn what_was_noted_is_in_until_it_is_forgotten() {
        let directories = Directories::default();
        assert!(!directories.may_include(dir(1)));
        assert!(directories.note(dir(1)));
        assert!(!directories.note(dir(1)));
        assert!(directories.may_include(dir(1)) && !directories.may_include(dir(2)));
        directories.forget();
        assert!(!directories.may_include(dir(1)) && directories.note(dir(1)));
    }

    #[test]
    fn beyond_what_can_be_told_apart_it_may_be_any() {
        let directories = Directories::default();
        for inode in 0..=DIRECTORIES_MAX as u64 {
            directories.note(dir(inode));
        }
        assert!(directories.may_include(dir(u64::MAX)));
        directories.forget();
        assert!(!directories.may_include(dir(0)));
    }
}
