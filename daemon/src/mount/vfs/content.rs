//! Bytes written, space allocated, and what makes them durable.
//!
//! What is written is taken into memory and goes to the host from there (`write`); whoever looks at the file
//! through this mount waits until it is there. `close` waits as well and tells what failed.

use super::{Opened, Vfs, name_of};
use crate::mount::beliefs::Beliefs;
use crate::mount::changes::{Changes, Patience};
use crate::mount::early::FirstBytes;
use crate::mount::error::FsError;
use crate::mount::handles::{FileHandle, HandleId, OpenHow};
use crate::mount::inodes::{Ino, Node};
use crate::mount::opens::HostOpen;
use crate::mount::own_bytes::OwnBytes;
use crate::mount::vfs::Found;
use crate::mount::write::{Deliver, Delivered};
use crate::rpc::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{
    Access, AfterWrite, Allocate, Attr, AttrChange, BodyLen, Caller, Change, Extent, Fault, Reply,
    Request, SeekWhat,
};

/// Makes a file and opens it: how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateHow {
    /// Permission bits; the umask has been taken off.
    pub mode: u16,
    /// Only if there is none (`O_EXCL`).
    pub exclusive: bool,
    /// One that is there loses its content (`O_TRUNC`).
    pub truncate: bool,
}

/// Where the dirty data of a node goes: to what the host has open.
struct Delivery {
    /// On whose behalf: the host takes set-id bits away from what others write.
    caller: Caller,
    open: Arc<HostOpen>,
    changes: Arc<Changes>,
    beliefs: Arc<Beliefs>,
    own_bytes: Arc<OwnBytes>,
    patience: Patience,
}

impl Delivery {
    async fn deliver(
        &self,
        offset: u64,
        body: Body,
        after: AfterWrite,
    ) -> Result<Delivered, FsError> {
        self.open.require()?;
        if let Some(making) = self.open.node.making() {
            let body = body.clone();
            let first = FirstBytes {
                offset,
                body,
                after,
            };
            if let Some(written) = making.send_along(self.caller, first).await {
                return written;
            }
            making.finish().await;
            self.open.require()?;
        }
        let open = self.open.now();
        let change = Change::Write {
            open: open.id,
            offset,
            len: body_len(body.len())?,
            after,
        };
        let asked = Instant::now();
        let asking = self
            .changes
            .ask_with(self.patience, self.caller, change, body);
        let (attr, unset) = match asking.await? {
            Reply::Attr(attr) => (attr, None),
            Reply::Unset { attr, fault } => (attr, Some(fault)),
            _ => return Err(FsError::Io),
        };
        if attr.id != open.node.id {
            return Err(FsError::Io);
        }
        let heard = self.beliefs.of_change(open.node.covered_by(), asked);
        open.node.learn_change(&attr, heard.asked_at(asked));
        self.beliefs.changed(&attr, Some(&open.node), asked);
        Ok(Delivered { attr, unset })
    }
}

impl Deliver for Delivery {
    fn write(
        &self,
        offset: u64,
        body: Body,
        after: AfterWrite,
    ) -> BoxFuture<'_, Result<Delivered, FsError>> {
        async move {
            let delivered = self.deliver(offset, body, after).await;
            delivered.inspect_err(|_| {
                // The file is not what was written: nobody is to read that.
                self.own_bytes.forget(self.open.node.id);
                if after != AfterWrite::NOTHING {
                    // It may well be, and only what was to be done then was not. The host tells others of that, and us with the answer.
                    self.beliefs.disbelieve(&self.open.node);
                }
            })
        }
        .boxed()
    }

    fn caller(&self) -> Caller {
        self.caller
    }
}

fn body_len(len: usize) -> Result<BodyLen, FsError> {
    u32::try_from(len)
        .ok()
        .and_then(BodyLen::new)
        .ok_or(FsError::Fault(Fault::TooLarge))
}

impl Vfs {
    /// Makes a file and opens it for reading and writing.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn create(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        create: CreateHow,
        how: OpenHow,
    ) -> Result<(Found, Opened), FsError> {
        let (dir, name) = (self.inodes.get(dir)?, name_of(name)?);
        self.settle_name(&dir, &name).await?;
        if self.answers_early() {
            self.in_time(self.early.coming(&dir)).await?;
        }
        if let Some(made) = self.create_early(caller, &dir, &name, create, how) {
            return made;
        }
        let id = self.opens.number();
        let undo = self.opens.undo(id);
        let change = Change::Create {
            dir: dir.reference()?,
            name: name.clone(),
            mode: create.mode,
            exclusive: create.exclusive,
            // Not before what was written to a file that is there has arrived.
            truncate: false,
            open: id,
        };
        let asked = Instant::now();
        let reply = self.change(caller, change, Body::empty()).await;
        let Reply::Made {
            attr,
            dir: dir_attr,
        } = reply.map_err(|error| self.gone(&dir, error))?
        else {
            return Err(FsError::Io);
        };
        let mut found = self.made(&dir, &name, &attr, &dir_attr, asked)?;
        // What was written here may have arrived after it was found empty, and been answered before that was.
        if create.truncate && (found.attr.size > 0 || found.node.writer().is_some()) {
            let emptied = self.empty(caller, &found.node).await;
            (found.attr, found.ttl) = emptied.inspect_err(|_| self.forget(found.node.ino, 1))?;
        }
        let way = match self.passthrough.open_otherwise(&found.node) {
            Ok(way) => way,
            Err(_) => {
                // It was there, and somebody reads it from the disk cache.
                self.renumber(&found.node).await;
                self.forget(found.node.ino, 1);
                found = self.made(&dir, &name, &found.attr, &dir_attr, asked)?;
                let way = self.passthrough.open_otherwise(&found.node);
                way.map_err(|_| FsError::Stale)?
            }
        };
        undo.disarm();
        if create.exclusive {
            found.node.made_here();
        }
        // Nothing was put into it since it was found empty, by us or others.
        let node = &found.node;
        let is_empty = attr.size == 0 && node.attr().size == 0 && node.writer().is_none();
        if is_empty && !self.beliefs.is_crossed(dir.id, &name, asked) {
            self.own_bytes.begin(node, asked, 0);
        }
        let open = self
            .opens
            .opened(caller, id, found.node.clone(), Access::ReadWrite);
        let keep_cache = found.node.take_kernel_version(attr.version);
        let handle = self
            .handles
            .open_file(caller, found.node.clone(), how, Some(open), way);
        let opened = Opened {
            handle,
            keep_cache,
            whole: None,
        };
        Ok((found, opened))
    }

    pub(super) async fn empty(
        &self,
        caller: Caller,
        node: &Node,
    ) -> Result<(Attr, Duration), FsError> {
        let set = AttrChange {
            size: Some(0),
            ..AttrChange::default()
        };
        self.setattr(caller, node.ino, set).await
    }

    /// Takes what is to be written, all of it; waits while too much is on its way.
    ///
    /// # Errors
    /// [`FsError::BadHandle`] for a handle that was not opened to write. What fails later is told by the next
    /// write, and again by [`Self::flush`] and [`Self::fsync`].
    pub async fn write(&self, handle: HandleId, offset: u64, data: &[u8]) -> Result<(), FsError> {
        let file = self.handles.file(handle)?;
        let host = writable(&file)?;
        host.require()?;
        if file.how.appends {
            self.append(&file, host, data).await?;
        } else {
            self.gather(&file, host, offset, data).await?;
        }
        if let Some(what) = file.how.syncs {
            self.make_durable(&file, what).await?;
        }
        Ok(())
    }

    /// The same, without a copy, if that needs no waiting; `None` if it does: then it is to be asked for with
    /// [`Self::write`]. A part of `data` may have been taken already; taking it again changes nothing.
    pub fn write_now(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
    ) -> Option<Result<(), FsError>> {
        let file = self.handles.file(handle).ok()?;
        // These ask the host at once, and must not ask twice.
        if file.how.appends || file.how.syncs.is_some() {
            return None;
        }
        self.write(handle, offset, data).now_or_never()
    }

    /// Takes what the kernel had in its page cache, because programs stored it in mapped memory: it belongs
    /// where it is, through whichever handle of the file it comes.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_back(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
    ) -> Result<(), FsError> {
        let file = self.handles.file(handle)?;
        let host = writable(&file)?;
        host.require()?;
        self.gather(&file, host, offset, data).await
    }

    async fn gather(
        &self,
        file: &FileHandle,
        host: &Arc<HostOpen>,
        offset: u64,
        data: &[u8],
    ) -> Result<(), FsError> {
        let to = file.delivery(|| {
            Arc::new(Delivery {
                caller: file.caller,
                open: host.clone(),
                changes: self.changes.clone(),
                beliefs: self.beliefs.clone(),
                own_bytes: self.own_bytes.clone(),
                patience: self.durability.patience(),
            })
        });
        if let Some(error) = file.take_write_error() {
            return Err(error);
        }
        if let Some(late) = file.node.late() {
            // What was done to it before this must not be done after.
            self.in_time(late).await?;
        }
        let writer = file.node.writer_in(&self.buffer);
        let change = self.own_bytes.write(&file.node, offset);
        self.in_time(writer.write(to, offset, data)).await??;
        change.wrote(offset, data);
        Ok(())
    }

    /// Only the host knows where the end is: others may append as well.
    async fn append(&self, file: &FileHandle, host: &HostOpen, data: &[u8]) -> Result<(), FsError> {
        self.settle(&file.node).await?;
        let change = Change::Append {
            open: host.id,
            len: body_len(data.len())?,
        };
        let body = Body::from(Bytes::copy_from_slice(data));
        let own = self.own_bytes.change(&file.node, false);
        let asked = Instant::now();
        match self.changes.ask(file.caller, change, body).await? {
            Reply::Appended { offset, attr } if attr.id == file.node.id => {
                own.appended(offset, data);
                self.beliefs.changed_alone(&file.node, &attr, asked);
                Ok(())
            }
            _ => Err(FsError::Io),
        }
    }

    /// Allocates or frees space.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn allocate(
        &self,
        handle: HandleId,
        offset: u64,
        len: u64,
        how: Allocate,
    ) -> Result<(), FsError> {
        let file = self.handles.file(handle)?;
        let host = writable(&file)?;
        host.require()?;
        self.settle(&file.node).await?;
        let change = Change::Allocate {
            open: host.id,
            extent: Extent::new(offset, len).ok_or(FsError::Fault(Fault::FileTooLarge))?,
            how,
        };
        let _unknown = self.own_bytes.change(&file.node, false);
        let asked = Instant::now();
        match self.change(file.caller, change, Body::empty()).await? {
            Reply::Attr(attr) => {
                self.beliefs.changed_alone(&file.node, &attr, asked);
                Ok(())
            }
            _ => Err(FsError::Io),
        }
    }

    /// Copies on the host, without moving the bytes here. Says how many.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn copy(
        &self,
        from: (HandleId, u64),
        to: (HandleId, u64),
        len: u64,
    ) -> Result<u64, FsError> {
        let (source, target) = (self.handles.file(from.0)?, self.handles.file(to.0)?);
        let host = writable(&target)?;
        host.require()?;
        self.settle(&source.node).await?;
        self.settle(&target.node).await?;
        let change = Change::Copy {
            from: source.node.reference()?,
            from_offset: from.1,
            to: host.id,
            extent: Extent::new(to.1, len).ok_or(FsError::Fault(Fault::FileTooLarge))?,
        };
        let _unknown = self.own_bytes.change(&target.node, false);
        let asked = Instant::now();
        match self.change(target.caller, change, Body::empty()).await? {
            Reply::Copied { len, attr } => {
                self.beliefs.changed_alone(&target.node, &attr, asked);
                Ok(len)
            }
            _ => Err(FsError::Io),
        }
    }

    /// Where data or a hole begins, from `offset` on.
    ///
    /// # Errors
    /// [`Fault::NoData`] if nowhere.
    pub async fn seek(
        &self,
        handle: HandleId,
        offset: u64,
        what: SeekWhat,
    ) -> Result<u64, FsError> {
        let file = self.handles.file(handle)?;
        self.settle(&file.node).await?;
        let request = Request::Seek {
            node: file.node.reference()?,
            offset,
            what,
        };
        let answer = self.ask(request, |stats| &stats.seek).await;
        match answer.map_err(|error| self.gone(&file.node, error))?.reply {
            Reply::Offset(offset) => Ok(offset),
            _ => Err(FsError::Io),
        }
    }

    /// What the host has open for a handle; opened now if it is the first time that it is needed.
    pub(super) async fn host_open<'a>(
        &self,
        caller: Caller,
        file: &'a FileHandle,
    ) -> Result<&'a Arc<HostOpen>, FsError> {
        file.host_or(|| self.opens.open(caller, &file.node, Access::Read))
            .await
    }
}

fn writable(file: &FileHandle) -> Result<&Arc<HostOpen>, FsError> {
    file.host()
        .filter(|_| file.how.writes)
        .ok_or(FsError::BadHandle)
}
