//! When what was changed is on the host: close, fsync, and waiting for either.
//!
//! What that means for `close` is the mount's [`Durability`]. With `Memory` it returns at once, and whoever
//! then looks at the file through this mount waits in its place.

use super::Vfs;
use crate::mount::durability::Durability;
use crate::mount::error::FsError;
use crate::mount::handles::{FileHandle, HandleId};
use crate::mount::inodes::Node;
use crate::mount::opens::NOBODY;
use crate::rpc::Body;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use wormhole_protocol::{Change, LockOwner, Name, SyncWhat};

/// Between two looks whether the host is connected, by whoever waits for it.
const LOOK: Duration = Duration::from_millis(500);

impl Vfs {
    /// A descriptor is being closed: what was written through it is on the host when this returns, or is on its way
    /// there, as the mount's durability says; and the locks of `owner` are free.
    ///
    /// # Errors
    /// What failed since the last fsync through this handle.
    pub async fn flush(&self, handle: HandleId, owner: LockOwner) -> Result<(), FsError> {
        let file = self.handles.file(handle)?;
        let written = match self.durability {
            _ if !file.how.writes => Ok(()),
            // What was written under a lock is on the host before others may have it.
            Durability::Memory if !self.is_locked(&file.node) => self.close_later(&file),
            Durability::Strict | Durability::Memory => {
                let settled = self.settle(&file.node).await;
                settled.and_then(|()| self.closed(&file))
            }
        };
        self.unlock_all(&file, owner).await;
        written
    }

    /// What became of all that was written through a handle.
    fn closed(&self, file: &FileHandle) -> Result<(), FsError> {
        let (own_bytes, id) = (&self.own_bytes, file.node.id);
        match file.error().or_else(|| file.node.unmade()) {
            Some(error) => {
                own_bytes.forget(id);
                Err(error)
            }
            None => {
                own_bytes.closed(id);
                Ok(())
            }
        }
    }

    fn close_later(&self, file: &Arc<FileHandle>) -> Result<(), FsError> {
        let node = file.node.clone();
        if is_applied(&node) || file.error().is_some() || node.unmade().is_some() {
            return self.closed(file);
        }
        // What a process inherited or duplicated is closed as often.
        if std::mem::replace(&mut *file.closes.lock(), true) {
            return Ok(());
        }
        let held = (self.pending.begin(), self.inodes.hold(&node));
        let (pending, own_bytes) = (self.pending.clone(), self.own_bytes.clone());
        let (mark, closed) = (file.error_mark(), file.clone());
        tokio::spawn(async move {
            closed_and_applied(&closed).await;
            let failed = node.writer().and_then(|writer| writer.error_after(mark));
            match failed.or_else(|| node.unmade()) {
                Some(error) => {
                    own_bytes.forget(node.id);
                    pending.lost(&node.shown_path(), error);
                }
                None => own_bytes.closed(node.id),
            }
            drop(held);
        });
        Ok(())
    }

    fn is_locked(&self, node: &Arc<Node>) -> bool {
        let opens = self.handles.hosts_of(node);
        opens.iter().any(|open| !open.locks().lock().is_empty())
    }

    /// What was written is on the host's disk when this returns.
    ///
    /// # Errors
    /// What failed since the last fsync through this handle, and what the host's disk said.
    pub async fn fsync(&self, handle: HandleId, what: SyncWhat) -> Result<(), FsError> {
        let file = self.handles.file(handle)?;
        if !self.access.writes() {
            return Ok(());
        }
        self.make_durable(&file, what).await
    }

    pub(super) async fn make_durable(
        &self,
        file: &Arc<FileHandle>,
        what: SyncWhat,
    ) -> Result<(), FsError> {
        let is_durable = self.send_durably(file, what).await?;
        self.settle(&file.node).await?;
        if let Some(error) = file.take_error() {
            return Err(error);
        }
        if is_durable {
            return Ok(());
        }
        let host = self.host_open(NOBODY, file).await?;
        host.require()?;
        let change = Change::Sync {
            open: host.now().id,
            what,
        };
        self.change(NOBODY, change, Body::empty()).await.map(drop)
    }

    /// Sends what was written, and has the file made durable with it where that is one message. Whether it was.
    async fn send_durably(&self, file: &FileHandle, what: SyncWhat) -> Result<bool, FsError> {
        // What was put off of it is to be durable as well.
        let writer = file.node.writer().filter(|_| file.node.late().is_none());
        match (writer, file.delivered()) {
            (Some(writer), Some(to)) => self.in_time(writer.flush_durably(to, what)).await,
            _ => Ok(false),
        }
    }

    /// The names in a directory are on the host's disk when this returns.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn fsync_dir(&self, handle: HandleId) -> Result<(), FsError> {
        let dir = self.handles.dir(handle)?;
        if !self.access.writes() {
            return Ok(());
        }
        self.settle(&dir.node).await?;
        let change = Change::SyncDir {
            dir: dir.node.reference()?,
        };
        self.change(NOBODY, change, Body::empty()).await.map(drop)
    }

    /// Waits until all that was done to a node is on the host; of a directory, all that was done to names in it. What
    /// failed is told to who did it.
    ///
    /// # Errors
    /// [`FsError::TimedOut`] if what is done later has waited for a lost host longer than programs do.
    pub(super) async fn settle(&self, node: &Node) -> Result<(), FsError> {
        self.in_time(async {
            applied(node).await;
            self.early.settle_in(node.id).await;
        })
        .await
    }

    /// Waits until a node that is being made was made, or was not; of a directory, for what is done to names in it.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub(super) async fn made_first(&self, node: &Node) -> Result<(), FsError> {
        self.in_time(async {
            if let Some(making) = node.making() {
                making.finish().await;
            }
            if let Some(late) = node.late() {
                late.await;
            }
            self.early.settle_in(node.id).await;
        })
        .await
    }

    /// Waits for what is being done to a name.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub(super) async fn settle_name(&self, dir: &Arc<Node>, name: &Name) -> Result<(), FsError> {
        self.in_time(async {
            if let Some(late) = dir.late() {
                late.await;
            }
            self.early.settle_name(dir, name).await;
        })
        .await
    }

    /// A name is about to lead elsewhere: waits for what is being done to it, to what has it, and beneath.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub(super) async fn settle_beneath(&self, dir: &Arc<Node>, name: &Name) -> Result<(), FsError> {
        self.in_time(self.early.settle_beneath(dir, name)).await
    }

    /// Waits for what is being done later, which itself waits for a lost host for ever, as long as programs do.
    pub(super) async fn in_time<T>(&self, done: impl Future<Output = T>) -> Result<T, FsError> {
        match self.durability {
            // What is done has a limit of its own.
            Durability::Strict => Ok(done.await),
            Durability::Memory => {
                let done = pin!(done);
                tokio::select! {
                    biased;
                    done = done => Ok(done),
                    () = self.cut_off() => Err(FsError::TimedOut),
                }
            }
        }
    }

    /// Resolves when the host has been away for as long as programs wait.
    async fn cut_off(&self) {
        loop {
            if self.remote.is_connected() {
                sleep(LOOK).await;
                continue;
            }
            let back = timeout(self.timeout, self.remote.session()).await;
            if back.is_err() || !self.remote.is_connected() {
                return;
            }
        }
    }

    /// Sends all that programs were told is done, and waits until the host has answered: as long as something
    /// arrives every now and then. Whether it all was.
    pub async fn drain(&self, patience: Duration) -> bool {
        let all = async {
            self.buffer.drain().await;
            self.early.settle_all().await;
            self.pending.none().await;
        };
        let mut all = pin!(all);
        let mut arrived = self.arrived();
        loop {
            tokio::select! {
                biased;
                () = &mut all => return true,
                () = sleep(patience) => {}
            }
            if std::mem::replace(&mut arrived, self.arrived()) == arrived {
                return false;
            }
        }
    }

    /// Moves whenever the host has answered something.
    fn arrived(&self) -> (u64, u64) {
        let written = self.buffer.stats().written_bytes;
        (written, self.changes.stats().answered.load(Relaxed))
    }
}

/// Waits until what was written before any close of a file so far is on the host.
async fn closed_and_applied(file: &FileHandle) {
    loop {
        applied(&file.node).await;
        let mut closes = file.closes.lock();
        if is_applied(&file.node) {
            *closes = false;
            return;
        }
    }
}

/// Whether nothing is to be waited for.
pub(super) fn is_applied(node: &Node) -> bool {
    node.is_clean() && node.making().is_none() && node.late().is_none()
}

/// Waits until what was written to a node, or put off, is on the host, and the node itself.
async fn applied(node: &Node) {
    written(node).await;
    if let Some(late) = node.late() {
        late.await;
    }
}

/// Waits until what was written to a node is on the host, and the node itself.
pub(super) async fn written(node: &Node) {
    if let Some(writer) = node.writer()
        && !writer.is_clean()
    {
        writer.flush().await;
    }
    if let Some(making) = node.making() {
        making.finish().await;
    }
}
