//! What all sessions of the process share: threads, buffer memory, descriptors, seats at the table.

use super::budget;
use super::leases::Allowance;
use super::limits::{
    EXECUTING_MAX, HELD_MOUNTS_MAX, HOST_HELD_OPENS_MAX, HOST_OPEN_FILES_MAX,
    HOST_WRITE_SHARED_BYTES, SESSIONS_MAX, WATCHES_MAX,
};
use super::meta::Versions;
use super::pool::Pool;
use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use wormhole_protocol::Epoch;

/// The host's bounds, shared by its shares and their sessions.
#[derive(Debug)]
pub(super) struct Resources {
    /// One permit per session.
    pub(super) sessions: Arc<Semaphore>,
    /// One permit per disk operation.
    pub(super) executing: Arc<Semaphore>,
    /// Buffer memory beyond the sessions' reserves.
    pub(super) shared_bytes: Arc<Semaphore>,
    /// Kept descriptors beyond the sessions' reserves.
    pub(super) shared_files: Arc<Semaphore>,
    /// Kept descriptors set aside for each session.
    pub(super) reserved_files: usize,
    /// Memory for bodies beyond the sessions' reserves.
    pub(super) shared_write_bytes: Arc<Semaphore>,
    /// What mounts hold open beyond their reserves.
    pub(super) shared_opens: Arc<Semaphore>,
    /// What each mount may hold open whatever others do.
    pub(super) reserved_opens: usize,
    /// Buffers.
    pub(super) pool: Arc<Pool>,
    /// Content versions.
    pub(super) versions: Versions,
    /// Directories that are watched.
    pub(super) watches: Arc<Allowance>,
    closing: watch::Sender<bool>,
}

impl Resources {
    /// For one life of the host. Half of the descriptors the process may have now is used to keep files open
    /// that are read, and a quarter for those that mounts hold open: raise the limit before.
    pub(super) fn new(epoch: Epoch) -> Self {
        Self::watching(epoch, WATCHES_MAX)
    }

    /// The same, with at most so many directories watched.
    pub(super) fn watching(epoch: Epoch, watches: usize) -> Self {
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = usize::try_from(allowed / 2)
            .unwrap_or(usize::MAX)
            .clamp(SESSIONS_MAX / 4, HOST_OPEN_FILES_MAX);
        let opens = usize::try_from(allowed / 4)
            .unwrap_or(usize::MAX)
            .clamp(SESSIONS_MAX / 4, HOST_HELD_OPENS_MAX);
        Self {
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            executing: Arc::new(Semaphore::new(EXECUTING_MAX)),
            shared_bytes: budget::shared(),
            shared_files: Arc::new(Semaphore::new(files / 2)),
            reserved_files: files / 2 / SESSIONS_MAX,
            shared_write_bytes: budget::semaphore(HOST_WRITE_SHARED_BYTES),
            shared_opens: Arc::new(Semaphore::new(opens / 2)),
            reserved_opens: opens / 2 / HELD_MOUNTS_MAX,
            pool: Arc::default(),
            versions: Versions::new(epoch),
            watches: Arc::new(Allowance::new(
                watches.min(super::watch::most_of_user() / 2),
            )),
            closing: watch::Sender::new(false),
        }
    }

    /// From now on, nobody is admitted and no request begun.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Whether the host is ending.
    pub(super) fn closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when the host is ending.
    pub(super) async fn closed(&self) {
        // An error would mean that it has ended.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}
