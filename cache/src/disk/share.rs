//! The directory of one share: its lock and its format.
//!
//! One owner at a time, by `flock(2)` on `lock`, which the kernel releases however the owner dies.
//! The pid in it is only for people.

use crate::disk::file;
use crate::disk::layout::{SharePaths, format_line};
use crate::disk::{DiskError, io_error};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use wormhole_protocol::ShareId;

/// [`owner`] holds the lock for a moment; that moment must not look like an owner.
const LOCK_RETRIES: u32 = 3;
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// A share's directory, owned for as long as this lives.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) paths: SharePaths,
    _lock: File,
}

impl Owned {
    /// Makes the directory if need be, and owns it.
    pub(crate) fn open(root: &Path, share: ShareId) -> Result<Self, DiskError> {
        let paths = SharePaths::new(root, share);
        file::make_dir(&paths.dir).map_err(io_error(&paths.dir))?;
        let owned = Self::lock(paths)?;
        let private = std::fs::Permissions::from_mode(0o700);
        let dir = &owned.paths.dir;
        std::fs::set_permissions(dir, private).map_err(io_error(dir))?;
        for dir in [owned.paths.data_dir(), owned.paths.packs_dir()] {
            file::make_dir(&dir).map_err(io_error(&dir))?;
        }
        owned.check_format(share)?;
        Ok(owned)
    }

    /// Owns an existing directory.
    pub(crate) fn lock(paths: SharePaths) -> Result<Self, DiskError> {
        let path = paths.lock();
        let mut patience = LOCK_RETRIES;
        loop {
            let lock = file::open_or_create(&path).map_err(io_error(&path))?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) if patience > 0 => {
                    patience -= 1;
                    std::thread::sleep(LOCK_RETRY);
                    continue;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let pid = pid_in(&lock);
                    return Err(DiskError::InUse { pid });
                }
                other => other.map_err(|e| io_error(&path)(e.into()))?,
            }
            // The previous owner may have removed the directory between our open and our lock.
            let ours = lock.metadata().map_err(io_error(&path))?;
            match std::fs::symlink_metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    file::make_dir(&paths.dir).map_err(io_error(&paths.dir))?;
                    continue;
                }
                Err(error) => return Err(io_error(&path)(error)),
            }
            // A full disk must not keep anyone from reading the cache: the pid is a courtesy.
            let _ = lock.set_len(0);
            let _ = file::write_at(&lock, std::process::id().to_string().as_bytes(), 0);
            return Ok(Self { paths, _lock: lock });
        }
    }

    fn check_format(&self, share: ShareId) -> Result<(), DiskError> {
        let path = self.paths.format();
        let wanted = format_line(share);
        let mut found = String::new();
        match file::open_read(&path) {
            Ok(file) => {
                // Not UTF-8 is as foreign as any other text.
                let _ = file.take(256).read_to_string(&mut found);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&path)(error)),
        }
        if found == wanted {
            return Ok(());
        }
        // Whoever died while writing it left a beginning of it, and nothing else in the directory.
        if !wanted.starts_with(&found) {
            let found = found.trim_end().to_owned();
            return Err(DiskError::Format { path, found });
        }
        let file = file::open_or_create(&path).map_err(io_error(&path))?;
        file::write_at(&file, wanted.as_bytes(), 0).map_err(io_error(&path))
    }
}

/// Who owns a share's directory now, if anyone does.
pub(crate) fn owner(paths: &SharePaths) -> io::Result<Option<u32>> {
    let lock = match file::open_read(&paths.lock()) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(pid_in(&lock))),
        Err(error) => Err(error.into()),
    }
}

/// The pid a lock file names; 0 if it names none.
fn pid_in(lock: &File) -> u32 {
    let mut text = [0; 16];
    let read = file::read_at(lock, &mut text, 0).unwrap_or(0);
    let text = std::str::from_utf8(&text[..read]).unwrap_or("");
    text.trim().parse().unwrap_or(0)
}
