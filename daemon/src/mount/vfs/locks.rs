//! Locks: taken at the host, so that all mounts and the host's own programs see them.

use super::Vfs;
use crate::mount::error::FsError;
use crate::mount::handles::{FileHandle, HandleId};
use crate::mount::inodes::Node;
use crate::mount::opens::{HostOpen, NOBODY};
use crate::mount::stats::add;
use std::sync::Arc;
use tokio::time::Instant;
use wormhole_protocol::{
    Access, Attr, Fault, Lock, LockConflict, LockKind, LockMode, LockOwner, LockRange, OpenId,
    Reply, Request,
};

/// A lock as a program asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub owner: LockOwner,
    /// Which kind.
    pub kind: LockKind,
    /// Of which bytes.
    pub range: LockRange,
}

impl Wanted {
    fn through(self, open: OpenId) -> Lock {
        Lock {
            open,
            owner: self.owner,
            kind: self.kind,
            range: self.range,
        }
    }
}

/// A lock that was asked for. If no answer comes, or nobody waits for it any more (the program was
/// interrupted, or killed), it may have been granted, and must go with the other locks of its owner.
struct Unanswered<'a> {
    host: &'a HostOpen,
    lock: Lock,
}

impl Unanswered<'_> {
    /// The answer is there.
    fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.host.locks().lock().doubt(&self.lock);
    }
}

impl Vfs {
    /// Takes a lock, or changes how it excludes others; waits for it if `wait`.
    ///
    /// # Errors
    /// [`Fault::Locked`] if somebody else has it.
    pub async fn lock(
        &self,
        handle: HandleId,
        wanted: Wanted,
        mode: LockMode,
        wait: bool,
    ) -> Result<(), FsError> {
        let file = self.handles.file(handle)?;
        let host = self.lockable(&file, wanted.kind).await?;
        let lock = wanted.through(host.id);
        loop {
            let unanswered = Unanswered { host, lock };
            let asked = self.ask_lock(Request::Lock { lock, mode, wait }).await;
            if matches!(asked, Ok(_) | Err(FsError::Fault(_))) {
                unanswered.end();
            }
            match asked {
                Err(FsError::Fault(Fault::Locked)) if wait => {}
                Ok(Reply::Attr(attr)) => {
                    self.forget_lock(&file, &lock);
                    host.locks().lock().granted(&lock, mode);
                    self.refresh(&file.node, &attr).await;
                    return Ok(());
                }
                Ok(_) => return Err(FsError::Io),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whoever had the lock before may have changed the file: what was read of it without the lock is not
    /// believed any more, by the kernel neither.
    async fn refresh(&self, node: &Node, attr: &Attr) {
        self.own_bytes.forget(node.id);
        // Locks of other extents of a file this mount is writing: those bytes are its own.
        // If the host is lost meanwhile, so may be the lock, which is told when it is used.
        let _ = self.settle(node).await;
        node.learn_change(attr, Instant::now());
        let version = node.attr().version;
        if !node.take_kernel_version(version)
            && let Some(notify) = self.notify.get()
        {
            notify.forget_pages(node.ino).await;
        }
    }

    /// Gives up a lock, or a part of it. What was written under it is on the host before others may have it.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn unlock(&self, handle: HandleId, wanted: Wanted) -> Result<(), FsError> {
        let file = self.handles.file(handle)?;
        self.settle(&file.node).await?;
        let host = self.lockable(&file, wanted.kind).await?;
        let lock = wanted.through(host.id);
        self.forget_lock(&file, &lock);
        host.locks().lock().released(&lock);
        self.ask_lock(Request::Unlock { lock }).await.map(drop)
    }

    /// An owner may have locked the same bytes through another open of the file.
    fn forget_lock(&self, file: &FileHandle, lock: &Lock) {
        for open in self.handles.hosts_of(&file.node) {
            open.locks().lock().released(lock);
        }
    }

    /// Who is in the way of a lock.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn test_lock(
        &self,
        handle: HandleId,
        wanted: Wanted,
        mode: LockMode,
    ) -> Result<Option<LockConflict>, FsError> {
        let file = self.handles.file(handle)?;
        let lock = wanted.through(self.lockable(&file, wanted.kind).await?.id);
        match self.ask_lock(Request::TestLock { lock, mode }).await? {
            Reply::Conflict(conflict) => Ok(conflict),
            _ => Err(FsError::Io),
        }
    }

    /// A process closed a descriptor of the file: its record locks there go, as POSIX has it.
    pub(super) async fn unlock_all(&self, file: &FileHandle, owner: LockOwner) {
        for open in self.handles.hosts_of(&file.node) {
            if open.locks().lock().release_all(owner) {
                let request = Request::UnlockAll {
                    open: open.id,
                    owner,
                };
                if let Err(error) = self.ask_lock(request).await {
                    tracing::debug!("locks were not given up: {error}");
                }
            }
        }
    }

    async fn lockable<'a>(
        &self,
        file: &'a FileHandle,
        kind: LockKind,
    ) -> Result<&'a Arc<HostOpen>, FsError> {
        if !self.access.writes() {
            return Err(FsError::Fault(Fault::ReadOnly));
        }
        self.made_first(&file.node).await?;
        let open = || self.opens.open(NOBODY, &file.node, Access::Read);
        let host = match kind {
            LockKind::Record => self.host_open(NOBODY, file).await?,
            LockKind::Flock => file.flock_or(open).await?,
        };
        host.require()?;
        Ok(host)
    }

    async fn ask_lock(&self, request: Request) -> Result<Reply, FsError> {
        add(&self.changes.stats().locks, 1);
        Ok(self.remote.call(request).await?.reply)
    }
}
