//! Opening files, reading and closing them.

use super::{Opened, Vfs, just_told};
use crate::mount::beliefs::gone_is_stale;
use crate::mount::error::FsError;
use crate::mount::handles::{HandleId, OpenHow};
use crate::mount::inodes::{Ino, Node};
use crate::mount::notify::Forget;
use crate::mount::opens::HostOpen;
use crate::mount::passthrough::{Conflict, Way};
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;
use wormhole_protocol::{Access, Attr, Caller, Fault};

/// What is read of a file to see whether it can be.
const FIRST_BYTES: u64 = 16 * 1024;

impl Vfs {
    /// Opens a file. To read it costs nothing while its attributes are believed; to write it, the host
    /// is asked.
    ///
    /// # Errors
    /// [`FsError::Fault`] with [`Fault::ReadOnly`] when asked to write where nothing may be.
    pub async fn open(&self, caller: Caller, ino: Ino, how: OpenHow) -> Result<Opened, FsError> {
        if how.writes && !self.access.writes() {
            return Err(FsError::Fault(Fault::ReadOnly));
        }
        let node = self.inodes.get(ino)?;
        if node.is_retired() {
            return Err(FsError::Stale);
        }
        self.made_first(&node).await?;
        if how.writes || how.direct {
            let Ok(way) = self.passthrough.open_otherwise(&node) else {
                return Err(self.renumber(&node).await);
            };
            return self.open_with(caller, &node, how, way).await;
        }
        let attr = self.attr_to_read(&node).await?;
        self.wanted.opened(&node, &self.bulk.stats);
        let content = self.fetcher.key_of(&node, &attr);
        match self.passthrough.open_to_read(&node, &attr, content).await {
            Ok(way) => self.opened(caller, &node, how, (attr, None), way),
            Err(Conflict) => Err(self.renumber(&node).await),
        }
    }

    /// The kernel has a file open in a way that does not go with another it was asked for. It is to look
    /// again, and finds the same file under another number.
    pub(super) async fn renumber(&self, node: &Node) -> FsError {
        self.inodes.retire(node);
        if let Some(notify) = self.notify.get() {
            notify.forget(Forget::attributes_of(node.ino)).await;
        }
        FsError::Stale
    }

    async fn open_with(
        &self,
        caller: Caller,
        node: &Arc<Node>,
        how: OpenHow,
        way: Way,
    ) -> Result<Opened, FsError> {
        let told = if how.writes {
            let open = match how.truncates {
                true => self.open_emptied(caller, node).await,
                false => self.open_to_write(caller, node).await,
            };
            let open = open.map_err(|error| self.gone(node, error))?;
            (node.attr(), Some(open))
        } else {
            (self.attr_to_read(node).await?, None)
        };
        self.opened(caller, node, how, told, way)
    }

    fn opened(
        &self,
        caller: Caller,
        node: &Arc<Node>,
        how: OpenHow,
        (attr, host): (Attr, Option<Arc<HostOpen>>),
        way: Way,
    ) -> Result<Opened, FsError> {
        let keep_cache = node.take_kernel_version(attr.version);
        let whole = way.whole().cloned();
        let handles = &self.handles;
        Ok(Opened {
            handle: handles.open_file(caller, node.clone(), how, host, way),
            keep_cache,
            whole,
        })
    }

    /// An open at the host to write through: the one there is, if it serves, else a new one.
    async fn open_to_write(
        &self,
        caller: Caller,
        node: &Arc<Node>,
    ) -> Result<Arc<HostOpen>, FsError> {
        if self.opens.shared(caller, node, &node.attr()).is_some() {
            // What decided that it may be written could have changed on the host.
            let attr = self.beliefs.attr(node).await?;
            if let Some(open) = self.opens.shared(caller, node, &attr) {
                return Ok(open);
            }
        }
        self.opens.open(caller, node, Access::ReadWrite).await
    }

    /// The same of a file that is cut to nothing, in one request if it needs an open of its own.
    async fn open_emptied(
        &self,
        caller: Caller,
        node: &Arc<Node>,
    ) -> Result<Arc<HostOpen>, FsError> {
        if self.opens.shared(caller, node, &node.attr()).is_some() {
            let open = self.open_to_write(caller, node).await?;
            self.empty(caller, node).await?;
            return Ok(open);
        }
        // Bytes that were written before must not come afterwards.
        self.settle(node).await?;
        let own = self.own_bytes.cut(node, 0);
        let asked = Instant::now();
        let (open, attr) = self.opens.open_emptied(caller, node).await?;
        own.cut(attr.size, asked);
        self.beliefs.changed_alone(node, &attr, asked);
        Ok(open)
    }

    /// Attributes of a node that is being opened to read. Its name may have gone to another file since the
    /// kernel looked it up, a moment ago: then this is the one that was there, if it can be read yet. However
    /// long ago that was if the kernel is told to forget names: then this open began before it was. If it
    /// cannot be read (a program on the host has replaced it), the kernel is to look the name up again.
    async fn attr_to_read(&self, node: &Arc<Node>) -> Result<Attr, FsError> {
        let recent = just_told(node) || self.beliefs.guards_name(node);
        match self.beliefs.attr(node).await {
            Err(FsError::Stale) if recent => {
                let tried = self.fetcher.try_read(node, FIRST_BYTES).await;
                tried.map(|()| node.attr()).map_err(gone_is_stale)
            }
            other => other,
        }
    }

    /// Reads up to `len` bytes; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn read(&self, handle: HandleId, offset: u64, len: u64) -> Result<Bytes, FsError> {
        let file = self.handles.file(handle)?;
        if let Some(known) = self.own_bytes.complete(&file.node, &self.beliefs)
            && let Some(bytes) = self.own_bytes.read(&file.node, known, offset, len)
        {
            return Ok(bytes);
        }
        // What was written here is read from the host, where the rest of the file is.
        self.settle(&file.node).await?;
        if offset == 0 {
            self.bulk.observe(&file.node);
        }
        let end = offset.saturating_add(len);
        let ahead = file.observe(offset, end, self.fetcher.window_max_bytes());
        self.fetcher
            .read(&file.node, offset, len, ahead, &file.cancel)
            .await
            .map_err(|error| self.gone(&file.node, error))
    }

    /// How long a file is that is being written and of which all is known that it holds ([`crate::mount::own_bytes`]).
    pub(super) fn own_size(&self, node: &Arc<Node>) -> Option<u64> {
        let known = self.own_bytes.complete(node, &self.beliefs)?;
        self.own_bytes.size(node, known)
    }

    /// Closes a file or directory.
    pub fn release(&self, handle: HandleId) {
        self.handles.close(handle);
    }
}
