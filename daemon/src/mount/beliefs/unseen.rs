//! Directories in which a name may lead elsewhere than the kernel was last told, without the host having spoken of
//! it yet: an answer to a question of this mount's own, a renewal or a listing, was faster than the news. Or what was
//! known there was dropped, so that nobody can tell.
//!
//! The news then says nothing that is new here, and must be told to the kernel all the same.
//!
//! Lock: `dirs`, a leaf; taken under those of `names` and `listings`, so that whoever sees what replaced something
//! sees the mark as well.

use parking_lot::Mutex;
use std::collections::HashSet;
use wormhole_protocol::FileId;

/// Directories remembered; beyond them it may be any.
const DIRECTORIES_MAX: usize = 65_536;

/// Directories of which the kernel may believe what this mount does not any more.
#[derive(Default)]
pub(super) struct Unseen {
    dirs: Mutex<HashSet<FileId>>,
}

impl Unseen {
    /// Something that was known of names in `dir` was replaced or dropped.
    pub(super) fn note(&self, dir: FileId) {
        let mut dirs = self.dirs.lock();
        if dirs.len() <= DIRECTORIES_MAX {
            dirs.insert(dir);
        }
    }

    /// Whether the kernel may believe otherwise of a name in `dir`.
    pub(super) fn may_be(&self, dir: FileId) -> bool {
        let dirs = self.dirs.lock();
        dirs.len() > DIRECTORIES_MAX || dirs.contains(&dir)
    }

    /// The kernel is about to forget all names.
    pub(super) fn forget(&self) {
        self.dirs.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_told_apart_and_beyond_them_it_may_be_any() {
        let dir = |inode| FileId {
            device: 1,
            inode,
            birth: 0,
        };
        let unseen = Unseen::default();
        unseen.note(dir(0));
        assert!(unseen.may_be(dir(0)) && !unseen.may_be(dir(1)));
        for inode in 0..=DIRECTORIES_MAX as u64 {
            unseen.note(dir(inode));
        }
        assert!(unseen.may_be(dir(u64::MAX)));
        unseen.forget();
        assert!(!unseen.may_be(dir(0)));
    }
}
