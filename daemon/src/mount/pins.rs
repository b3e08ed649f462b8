//! Pins: subtrees that stay in the disk cache.
//!
//! The cache keeps contents under a name ([`wormhole_cache::Disk::pin`]); here the name is a path beneath the
//! share's root, and its contents are what was found beneath it. A pin is looked through when it is made, and
//! again with every mount: then what changed meanwhile is brought and kept instead.

use super::vfs::Vfs;
use super::warm::{Contents, Progress, WarmError, Warmer, Warmth};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wormhole_cache::PinError;

/// Why something could not be pinned or unpinned.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It could not be looked through or brought.
    #[error(transparent)]
    Warm(#[from] WarmError),
    /// Not all of it could be looked into.
    #[error("not all of it could be looked through: {0}")]
    Survey(String),
    /// The cache would not keep it.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Nothing of that name is pinned.
    #[error("it is not pinned")]
    NotPinned,
    /// The mount is ending.
    #[error("the mount is ending")]
    Ending,
}

/// A pin, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinSnapshot {
    /// The path beneath the share's root.
    pub path: PathBuf,
    /// Files in it.
    pub files: u64,
    /// The room they take when all of them are here.
    pub bytes: u64,
    /// What is the matter with it, if anything is.
    pub note: Option<String>,
}

/// The pins of a mount.
#[derive(Default)]
pub struct Pins {
    /// By path: what went wrong when it was last brought.
    notes: Mutex<HashMap<Vec<u8>, String>>,
}

impl Pins {
    /// Keeps what is beneath `path`, and brings it. Dropping the future ends the bringing; what is pinned
    /// stays pinned.
    ///
    /// # Errors
    /// [`KeepError`]; nothing is pinned that was not before, then.
    pub async fn pin(
        &self,
        warmer: &Warmer,
        path: &Path,
        progress: &Progress,
    ) -> Result<(), KeepError> {
        let contents = warmer.contents(path, progress).await?;
        if let Some(failure) = progress.snapshot().first_failure {
            // What could not be looked into must not fall out of a pin.
            return Err(KeepError::Survey(failure));
        }
        self.keep(warmer, path, contents.clone()).await?;
        let here = warmer.bring(path, progress).await?;
        // What changed meanwhile is here in another version than was surveyed.
        if !same(&contents, &here) && progress.snapshot().failed == 0 {
            self.keep(warmer, path, here).await?;
        }
        self.note(path, &progress.snapshot());
        Ok(())
    }

    async fn keep(
        &self,
        warmer: &Warmer,
        path: &Path,
        contents: Contents,
    ) -> Result<(), KeepError> {
        let (disk, name) = (warmer.disk().clone(), path.as_os_str().as_bytes().to_vec());
        let kept = tokio::task::spawn_blocking(move || disk.pin(&name, &contents)).await;
        Ok(kept.map_err(|_| KeepError::Ending)??)
    }

    /// Gives a pin up; its contents stay until there is no room for them.
    ///
    /// # Errors
    /// [`KeepError::NotPinned`].
    pub async fn unpin(&self, warmer: &Warmer, path: &Path) -> Result<(), KeepError> {
        let (disk, name) = (warmer.disk().clone(), path.as_os_str().as_bytes().to_vec());
        self.notes.lock().remove(&name);
        let unpinned = tokio::task::spawn_blocking(move || disk.unpin(&name)).await;
        match unpinned.map_err(|_| KeepError::Ending)?? {
            true => Ok(()),
            false => Err(KeepError::NotPinned),
        }
    }

    /// Looks through all pins of an earlier mount, one after the other, and brings what changed.
    pub async fn refresh(&self, vfs: &Arc<Vfs>) {
        let Ok(warmer) = Warmer::new(vfs) else {
            return;
        };
        for pin in warmer.disk().pins() {
            let path = path_of(&pin.name);
            let progress = Progress::default();
            match self.pin(&warmer, &path, &progress).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(
                        "what is pinned at {} was not renewed: {error}",
                        path.display()
                    );
                    self.notes.lock().insert(pin.name, error.to_string());
                }
            }
        }
    }

    fn note(&self, path: &Path, end: &Warmth) {
        let name = path.as_os_str().as_bytes().to_vec();
        let mut notes = self.notes.lock();
        match &end.first_failure {
            Some(failure) => {
                let note = format!("{} could not be brought, the first {failure}", end.failed);
                notes.insert(name, note);
            }
            None => drop(notes.remove(&name)),
        }
    }

    /// All pins, by path.
    pub fn snapshot(&self, vfs: &Vfs) -> Vec<PinSnapshot> {
        let Some(disk) = vfs.fetcher().disk() else {
            return Vec::new();
        };
        let notes = self.notes.lock().clone();
        let pins = disk.pins().into_iter();
        pins.map(|pin| PinSnapshot {
            note: match pin.fits {
                true => notes.get(&pin.name).cloned(),
                false => Some("it does not fit into the disk cache any more: not kept".to_owned()),
            },
            path: path_of(&pin.name),
            files: pin.contents,
            bytes: pin.bytes,
        })
        .collect()
    }
}

fn path_of(name: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(name.to_vec()))
}

fn same(a: &Contents, b: &Contents) -> bool {
    let sorted = |contents: &Contents| {
        let mut digests: Vec<_> = contents.iter().map(|(key, _)| key.digest()).collect();
        digests.sort_unstable();
        digests.dedup();
        digests
    };
    sorted(a) == sorted(b)
}
