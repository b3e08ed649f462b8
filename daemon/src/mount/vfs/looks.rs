//! Targets of symlinks, and figures of the file system: told once, and shown for a while.

use super::{PATIENCE_ROOT, Vfs};
use crate::mount::error::FsError;
use crate::mount::inodes::Ino;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{LinkTarget, Reply, Request, StatFs};

/// How old figures may be that are shown: what others take of the disk is seen so late.
const FIGURES_AGE_MAX: Duration = Duration::from_secs(30);
/// The same once this mount has changed something.
const FIGURES_AGE_CHANGED: Duration = Duration::from_secs(1);
/// Shown when the host never told.
const FIGURES_UNKNOWN: StatFs = StatFs {
    fragment_bytes: 4096,
    block_bytes: 4096,
    blocks: 0,
    blocks_free: 0,
    blocks_available: 0,
    files: 0,
    files_free: 0,
    name_bytes_max: 255,
};

/// What the host said of its file system.
#[derive(Clone, Copy)]
pub(super) struct Figures {
    said: StatFs,
    asked: Instant,
    /// Changes this mount had asked for by then.
    changes: u64,
}

impl Vfs {
    /// The target of a symlink. As long as its attributes are believed it is asked for once: a link that leads
    /// elsewhere is another.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn readlink(&self, ino: Ino) -> Result<LinkTarget, FsError> {
        let node = self.inodes.get(ino)?;
        let known = self.beliefs.known_attr(&node);
        if let Some(attr) = known
            && let Some(target) = self.links.get(node.id, attr.version)
        {
            return Ok(target);
        }
        let request = Request::Readlink {
            node: node.reference()?,
        };
        let answer = self.ask(request, |stats| &stats.readlink).await;
        match answer.map_err(|error| self.gone(&node, error))?.reply {
            Reply::Link(target) => {
                if let Some(attr) = known {
                    self.links.put(node.id, attr.version, target.clone());
                }
                Ok(target)
            }
            _ => Err(FsError::Io),
        }
    }

    /// Figures of the host's file system; the last known ones while they are new enough, and while the host does
    /// not answer.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn statfs(&self) -> Result<StatFs, FsError> {
        let known = *self.figures.lock();
        let changes = self.changes.stats().changes.load(Relaxed);
        if let Some(known) = known
            && known.asked.elapsed() < self.figures_age_max(known.changes == changes)
        {
            return Ok(known.said);
        }
        let known = known.map_or(FIGURES_UNKNOWN, |known| known.said);
        if !self.remote.is_connected() {
            return Ok(known);
        }
        let now = Instant::now();
        let question = self.ask(Request::StatFs, |stats| &stats.statfs);
        let Ok(answer) = tokio::time::timeout(PATIENCE_ROOT, question).await else {
            return Ok(known);
        };
        let Reply::StatFs(said) = answer?.reply else {
            return Err(FsError::Io);
        };
        *self.figures.lock() = Some(Figures {
            said,
            asked: now,
            changes,
        });
        Ok(said)
    }

    fn figures_age_max(&self, unchanged: bool) -> Duration {
        match (self.beliefs.believes_nothing(), unchanged) {
            (true, _) => Duration::ZERO,
            (false, true) => FIGURES_AGE_MAX,
            (false, false) => FIGURES_AGE_CHANGED,
        }
    }
}
