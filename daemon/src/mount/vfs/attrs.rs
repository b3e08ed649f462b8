//! Attributes told and set, extended ones too.

use super::durable::is_applied;
use super::{PATIENCE_ROOT, Vfs, just_told};
use crate::mount::changes::Patience;
use crate::mount::early::FirstBytes;
use crate::mount::error::FsError;
use crate::mount::handles::HandleId;
use crate::mount::inodes::{Ino, Node};
use crate::mount::notify::Forget;
use crate::rpc::Body;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::limits::XATTR_VALUE_BYTES_MAX;
use wormhole_protocol::{
    Attr, AttrChange, BodyLen, Caller, Change, Fault, Reply, Request, SetTime, XattrHow, XattrName,
};

impl Vfs {
    /// Attributes, and how much longer the kernel may believe them.
    ///
    /// With a handle the kernel asks for the length alone, to read or to append (`fuse_update_attributes` in Linux's
    /// `fs/fuse/dir.c`; `fstat` comes without): that of a file which was made here and is being written is known.
    ///
    /// # Errors
    /// [`FsError::Stale`] if the node is no longer where it was and nothing holds it open.
    pub async fn getattr(
        &self,
        ino: Ino,
        handle: Option<HandleId>,
    ) -> Result<(Attr, Duration), FsError> {
        let open = handle.and_then(|id| self.handles.file(id).ok());
        let node = match &open {
            Some(file) => file.node.clone(),
            None => self.inodes.get(ino)?,
        };
        if let Some(attr) = Self::attr_before_made(&node) {
            return Ok((attr, Duration::ZERO));
        }
        if open.is_some()
            && node.late().is_none()
            && let Some(size) = self.own_size(&node)
        {
            return Ok((
                Attr {
                    size,
                    ..node.attr()
                },
                Duration::ZERO,
            ));
        }
        if node.is_retired() {
            // What the host tells of the file, it tells of the node that has its name now.
            let node = self.inodes.by_id(node.id).unwrap_or(node);
            let (attr, _) = self.attr_of(&node).await?;
            return Ok((attr, Duration::ZERO));
        }
        if node.ino == Ino::ROOT {
            return self.root_attr(&node).await;
        }
        let recent = just_told(&node);
        match self.attr_of(&node).await {
            // Unlinked or renamed over, but open or found a moment ago: what was last known of it stays
            // true enough.
            Err(FsError::Stale) if open.is_some() || recent => Ok((node.attr(), Duration::ZERO)),
            other => other,
        }
    }

    /// Attributes of the root are always to be had: umount(8), `df` and shells look at the mount point,
    /// and must not hang with the host.
    async fn root_attr(&self, root: &Arc<Node>) -> Result<(Attr, Duration), FsError> {
        if self.remote.is_connected()
            && let Ok(told) = tokio::time::timeout(PATIENCE_ROOT, self.attr_of(root)).await
        {
            return told;
        }
        Ok((root.attr(), Duration::ZERO))
    }

    async fn attr_of(&self, node: &Arc<Node>) -> Result<(Attr, Duration), FsError> {
        self.settle(node).await?;
        let attr = self.beliefs.attr(node).await?;
        Ok((attr, self.beliefs.attr_ttl(node)))
    }

    /// Sets attributes; says what they are then, and how long the kernel may believe it.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn setattr(
        &self,
        caller: Caller,
        ino: Ino,
        set: AttrChange,
    ) -> Result<(Attr, Duration), FsError> {
        let node = self.inodes.get(ino)?;
        if set == AttrChange::default() {
            // Who gives a file he is writing to himself does not ask what it is like.
            return match is_applied(&node) {
                true => self.getattr(ino, None).await,
                false => Ok((node.with_dirty_size(node.attr()), Duration::ZERO)),
            };
        }
        if let Some(attr) = Self::mode_before_made(caller, &node, set) {
            return Ok((attr, Duration::ZERO));
        }
        if let Some(attr) = self.set_later(caller, &node, set) {
            return Ok((attr, Duration::ZERO));
        }
        self.require_writes()?;
        if let Some(told) = self.set_along(caller, &node, set).await? {
            return Ok(told);
        }
        // Bytes that were written before must not be cut off, or time-stamped, afterwards.
        self.settle(&node).await?;
        let changer = self.changer(Patience::OfPrograms, caller);
        let attr = changer.set(&node, set).await;
        let attr = attr.map_err(|error| self.gone(&node, error))?;
        Ok((attr, self.beliefs.attr_ttl(&node)))
    }

    /// Sets attributes with what was just written, if all that is one message, or as a file gets its name; none if neither
    /// can be.
    async fn set_along(
        &self,
        caller: Caller,
        node: &Arc<Node>,
        set: AttrChange,
    ) -> Result<Option<(Attr, Duration)>, FsError> {
        // What was put off before comes first.
        if set.size.is_some() || node.late().is_some() {
            return Ok(None);
        }
        let done = match (node.making(), node.writer()) {
            (Some(making), _) if node.is_clean() => {
                let named = making.send_along(caller, FirstBytes::only_setting(set));
                let named = self.in_time(named).await?.transpose();
                let delivered = named.map_err(|error| self.gone(node, error))?;
                delivered.map(|delivered| delivered.unset)
            }
            (_, Some(writer)) => self.in_time(writer.flush_setting(caller, set)).await?,
            _ => None,
        };
        match done {
            Some(None) => Ok(Some(self.told_after_setting(node, set).await)),
            // The host finds room for some, if it is asked for that alone.
            None | Some(Some(Fault::NoSpace | Fault::Quota)) => Ok(None),
            Some(Some(fault)) => Err(FsError::Fault(fault)),
        }
    }

    /// What is known of a node once attributes were set.
    async fn told_after_setting(&self, node: &Arc<Node>, set: AttrChange) -> (Attr, Duration) {
        let attr = node.with_dirty_size(node.attr());
        if shows(&attr, set) {
            return (attr, self.beliefs.attr_ttl(node));
        }
        // Another answer came later and seemed newer, or it is another file at the host by now.
        self.beliefs.disbelieve(node);
        let told = self.attr_of(node).await;
        told.unwrap_or((attr, Duration::ZERO))
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// [`Fault::NoAttribute`] for one that is not there or never travels.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, FsError> {
        let node = self.inodes.get(ino)?;
        // The kernel asks for one of these before it writes.
        let name = XattrName::new(name).map_err(|_| FsError::Fault(Fault::NoAttribute))?;
        self.made_first(&node).await?;
        if self.has_no_xattrs(&node).await {
            return Err(FsError::Fault(Fault::NoAttribute));
        }
        let request = Request::GetXattr {
            node: node.reference()?,
            name,
        };
        let answer = self.ask(request, |stats| &stats.xattr).await;
        match answer.map_err(|error| self.gone(&node, error))?.reply {
            Reply::Xattr(value) => Ok(value),
            _ => Err(FsError::Io),
        }
    }

    /// The names of the extended attributes.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<XattrName>, FsError> {
        let node = self.inodes.get(ino)?;
        self.made_first(&node).await?;
        if self.has_no_xattrs(&node).await {
            return Ok(Vec::new());
        }
        let request = Request::ListXattr {
            node: node.reference()?,
        };
        let answer = self.ask(request, |stats| &stats.xattr).await;
        match answer.map_err(|error| self.gone(&node, error))?.reply {
            Reply::XattrNames(names) => Ok(names),
            _ => Err(FsError::Io),
        }
    }

    /// Whether a node is known to have none: its attributes say so, and who copies or lists many files asks of each.
    async fn has_no_xattrs(&self, node: &Arc<Node>) -> bool {
        let attr = self.beliefs.attr(node).await;
        attr.is_ok_and(|attr| !attr.xattrs)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] for one that never travels; what the host answered.
    pub async fn setxattr(
        &self,
        caller: Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), FsError> {
        let node = self.inodes.get(ino)?;
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(FsError::Fault(Fault::TooLarge));
        }
        let len = u32::try_from(value.len()).ok().and_then(BodyLen::new);
        let change = Change::SetXattr {
            node: node.reference()?,
            name: xattr_name(name)?,
            how,
            len: len.ok_or(FsError::Fault(Fault::TooLarge))?,
        };
        let body = Body::from(Bytes::copy_from_slice(value));
        self.set_xattr(caller, &node, change, body).await
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn removexattr(&self, caller: Caller, ino: Ino, name: &[u8]) -> Result<(), FsError> {
        let node = self.inodes.get(ino)?;
        let change = Change::RemoveXattr {
            node: node.reference()?,
            name: xattr_name(name)?,
        };
        self.set_xattr(caller, &node, change, Body::empty()).await
    }

    /// The change time moves with it, and with an access control list the mode: the kernel, which hears of
    /// success alone, is told to ask.
    async fn set_xattr(
        &self,
        caller: Caller,
        node: &Arc<Node>,
        change: Change,
        body: Body,
    ) -> Result<(), FsError> {
        self.settle(node).await?;
        let asked = Instant::now();
        let reply = self.change(caller, change, body).await;
        self.early.forget(node.id);
        match reply.map_err(|error| self.gone(node, error))? {
            Reply::Attr(attr) => self.beliefs.changed_alone(node, &attr, asked),
            // Found done after a restart of the host.
            Reply::Done => node.doubt(Instant::now()),
            _ => return Err(FsError::Io),
        }
        if let Some(notify) = self.notify.get() {
            notify.forget(Forget::attributes_of(node.ino)).await;
        }
        Ok(())
    }
}

/// Whether what was set is seen in `attr`.
fn shows(attr: &Attr, set: AttrChange) -> bool {
    let is_other = |at, time| matches!(time, Some(SetTime::At(time)) if time != at);
    set.mode.is_none_or(|mode| attr.mode == mode & 0o7777)
        && set.uid.is_none_or(|uid| attr.uid == uid)
        && set.gid.is_none_or(|gid| attr.gid == gid)
        && !is_other(attr.modified, set.modified)
        && !is_other(attr.accessed, set.accessed)
}

fn xattr_name(name: &[u8]) -> Result<XattrName, FsError> {
    XattrName::new(name).map_err(|_| FsError::Fault(Fault::Unsupported))
}
