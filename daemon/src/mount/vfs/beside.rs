//! What others of the mount need of the file system besides its operations.

use super::Vfs;
use crate::mount::beliefs::PrefetchMetadata;
use crate::mount::error::FsError;
use crate::mount::inodes::{Ino, Node};
use crate::mount::passthrough::Passthrough;
use crate::mount::tree_file::{Keeping, TreeFile};
use crate::mount::watch::Taps;
use std::sync::Arc;
use std::time::Duration;

impl Vfs {
    /// Says what is fetched of names and attributes before anybody asks.
    pub fn prefetch_metadata(&self, how: PrefetchMetadata) {
        self.beliefs.prefetch(how, self.inodes.root());
    }

    /// Knows again what an earlier mount of the share knew of its directories, and has it remembered for a later one;
    /// none where there is no disk cache, or nothing is to be believed.
    pub fn keep_tree(&self) -> Option<Keeping> {
        let disk = self.fetcher.disk()?.clone();
        if self.beliefs.believes_nothing() {
            return None;
        }
        let (beliefs, inodes) = (self.beliefs.clone(), self.inodes.clone());
        Some(TreeFile::keep(disk, beliefs, inodes))
    }

    /// Which files the kernel reads by itself.
    pub fn passthrough(&self) -> &Arc<Passthrough> {
        &self.passthrough
    }

    /// Who hears that the host has told something.
    pub fn taps(&self) -> &Taps {
        &self.taps
    }

    /// Whether the host can be asked now.
    pub fn is_connected(&self) -> bool {
        self.remote.is_connected()
    }

    /// How long what is under no lease is believed.
    pub fn short_term(&self) -> Duration {
        self.beliefs.short_term()
    }

    /// The node of a number that was looked up.
    ///
    /// # Errors
    /// [`FsError::Stale`] if it never was, or was forgotten.
    pub fn node(&self, ino: Ino) -> Result<Arc<Node>, FsError> {
        self.inodes.get(ino)
    }
}
