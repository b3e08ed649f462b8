//! The folder of a run, and what earlier runs left behind.
//!
//! Processes, mounts and networks of a run end with its sandbox; its files do not. So each run has one
//! folder for all of them, locked as long as the run lives. The next run removes folders that nobody
//! holds: what a killed run left.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = "wormhole-bench-";
const LOCK: &str = "lock";

/// A folder for everything a run writes; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    // Dropped, and so unlocked, after the folder is gone.
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// A new folder in `place`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn make(place: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
        let lock = File::create_new(folder.path().join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(self) -> io::Result<()> {
        self.folder.close()
    }
}

/// Removes the folders of runs in `place` that are no more. Returns which.
///
/// # Errors
/// If `place` cannot be listed, or such a folder not be removed.
pub fn remove_stale(place: &Path) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) || !entry.file_type()?.is_dir() {
            continue;
        }
        // Without a lock file it is being made this instant, or it is nobody's to remove.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(entry.path())?;
            removed.push(entry.path());
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_runs_that_are_no_more_are_stale() {
        let place = tempfile::tempdir().expect("a folder");
        let alive = Scratch::make(place.path()).expect("a run");
        let killed = place.path().join("wormhole-bench-killed");
        fs::create_dir(&killed).expect("a folder");
        fs::write(killed.join(LOCK), "").expect("a lock");
        let foreign = place.path().join("wormhole-bench-notes");
        fs::create_dir(&foreign).expect("a folder");

        let removed = remove_stale(place.path()).expect("removed");
        assert_eq!(removed, std::slice::from_ref(&killed));
        assert!(!killed.exists() && foreign.exists() && alive.path().exists());

        let path = alive.path().to_owned();
        alive.remove().expect("removed");
        assert!(!path.exists());
    }
}
