//! Names of files that have, or had, several: where a file may be found once the name it was opened by is gone.
//!
//! The kernel tells of changes under the name by which a file was opened, and of none once that is removed.
//! If the file has another name, whoever knows it by that must hear of them all the same. Which name that is
//! nobody can ask the kernel; here are those that were mentioned lately. Each is looked at before it is
//! relied upon: what is here may be old, and need not be complete.
//!
//! Lock: `files`, leaf.

use super::limits::{NAMED_FILES_MAX, NAMES_OF_FILE_MAX};
use lru::LruCache;
use parking_lot::Mutex;
use wormhole_protocol::{FileId, RelPath};

/// See the module.
#[derive(Debug)]
pub(super) struct OtherNames {
    /// The name mentioned last stands last.
    files: Mutex<LruCache<FileId, Vec<RelPath>>>,
}

impl Default for OtherNames {
    fn default() -> Self {
        Self {
            files: Mutex::new(LruCache::sparse(NAMED_FILES_MAX)),
        }
    }
}

impl OtherNames {
    /// A file that has several names has this one.
    pub(super) fn note(&self, id: FileId, path: &RelPath) {
        let mut files = self.files.lock();
        keep(files.get_or_insert_mut(id, Vec::new), path);
    }

    /// A file was found at `path`, with so many names: worth noting if it has several, or had.
    pub(super) fn found(&self, id: FileId, links: u64, path: &RelPath) {
        if links > 1 {
            self.note(id, path);
        } else if let Some(names) = self.files.lock().get_mut(&id) {
            keep(names, path);
        }
    }

    /// Where a file may be, the likeliest first. If that is not known, it is noted from now on.
    pub(super) fn of(&self, id: FileId) -> Vec<RelPath> {
        let mut files = self.files.lock();
        let names = files.get_or_insert(id, Vec::new);
        names.iter().rev().cloned().collect()
    }
}

fn keep(names: &mut Vec<RelPath>, path: &RelPath) {
    names.retain(|known| known != path);
    names.push(path.clone());
    let surplus = names.len().saturating_sub(NAMES_OF_FILE_MAX);
    names.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(inode: u64) -> FileId {
        FileId {
            device: 1,
            inode,
            birth: 0,
        }
    }

    fn path(n: usize) -> RelPath {
        RelPath::new(format!("d/{n}")).unwrap()
    }

    #[test]
    fn names_of_files_that_have_several_or_had_are_known() {
        let names = OtherNames::default();
        names.found(id(1), 1, &path(1));
        assert_eq!(names.of(id(1)), []);
        names.found(id(1), 1, &path(1));
        assert_eq!(names.of(id(1)), [path(1)], "noted since it was asked for");
        names.found(id(2), 2, &path(1));
        names.found(id(2), 1, &path(2));
        names.note(id(2), &path(1));
        assert_eq!(names.of(id(2)), [path(1), path(2)]);
    }

    #[test]
    fn so_many_names_of_so_many_files_are_known() {
        let names = OtherNames::default();
        for n in 0..=NAMES_OF_FILE_MAX {
            names.note(id(1), &path(n));
        }
        let known = names.of(id(1));
        assert_eq!(known.len(), NAMES_OF_FILE_MAX);
        assert!(!known.contains(&path(0)));
        for inode in 2..2 + NAMED_FILES_MAX.get() as u64 {
            names.note(id(inode), &path(1));
        }
        assert_eq!(names.of(id(1)), []);
    }
}
