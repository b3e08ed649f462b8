//! Directories of which the kernel was told that some name is not there, so that it may still believe so.
//!
//! Lock: `shown`, a leaf.

use parking_lot::Mutex;
use std::collections::HashSet;
use wormhole_protocol::FileId;

/// Directories remembered; beyond them it may be any.
const DIRECTORIES_MAX: usize = 65_536;

/// Directories of which the kernel may believe that a name is not there.
#[derive(Default)]
pub(super) struct Absences {
    shown: Mutex<HashSet<FileId>>,
}

impl Absences {
    /// The kernel is about to be told. Whether that is the first time since it forgot all names.
    pub(super) fn show(&self, dir: FileId) -> bool {
        let mut shown = self.shown.lock();
        shown.len() <= DIRECTORIES_MAX && shown.insert(dir)
    }

    /// Whether the kernel may believe so of a name in `dir`.
    pub(super) fn may_be_shown(&self, dir: FileId) -> bool {
        let shown = self.shown.lock();
        shown.len() > DIRECTORIES_MAX || shown.contains(&dir)
    }

    /// The kernel is about to forget all names.
    pub(super) fn forget(&self) {
        self.shown.lock().clear();
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
    fn what_was_shown_is_remembered_until_it_is_forgotten() {
        let absences = Absences::default();
        assert!(!absences.may_be_shown(dir(1)));
        assert!(absences.show(dir(1)));
        assert!(!absences.show(dir(1)));
        assert!(absences.may_be_shown(dir(1)) && !absences.may_be_shown(dir(2)));
        absences.forget();
        assert!(!absences.may_be_shown(dir(1)) && absences.show(dir(1)));
    }

    #[test]
    fn beyond_what_can_be_remembered_it_may_be_any() {
        let absences = Absences::default();
        for inode in 0..=DIRECTORIES_MAX as u64 {
            absences.show(dir(inode));
        }
        assert!(absences.may_be_shown(dir(u64::MAX)));
    }
}
