//! A file that was made early, and that the host cannot make of what it had reserved: because it was restarted, or
//! has not heard of this mount for a minute. Programs have the file open, or were told that it is there.
//!
//! So it is made again, as another file under the same name. What was written goes there, and whoever looks the name up
//! finds that one.

use super::{Early, FirstBytes, FsError, Taken};
use crate::mount::changes::Patience;
use crate::mount::inodes::Node;
use crate::mount::opens::HostOpen;
use crate::mount::write::Delivered;
use crate::rpc::Body;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;
use wormhole_protocol::{
    Attr, AttrChange, BodyLen, Caller, Change, Fault, FileId, NodeRef, OpenId, Reply, Request,
};

impl Taken {
    /// The file that has the name, if it is `file`.
    fn named(&self, file: FileId) -> Result<NodeRef, FsError> {
        let path = self.dir.path.join(&self.making.name);
        Ok(NodeRef {
            path: path.map_err(|_| FsError::NameTooLong)?,
            expect: Some(file),
        })
    }
}

impl Early {
    /// What became of the first bytes.
    pub(super) async fn remake(
        &self,
        taken: &Taken,
        node: &Arc<Node>,
        open: &HostOpen,
        bytes: FirstBytes,
    ) -> Result<Result<Delivered, FsError>, FsError> {
        let (id, attr) = match self.create(taken, node, open).await {
            // The name may be its own: given before the host was restarted.
            Err(FsError::Fault(Fault::Exists)) => {
                let attr = self.named_before(taken).await?;
                self.beliefs.disbelieve(node);
                (open.id, attr)
            }
            made => made?,
        };
        let caller = taken.making.caller;
        Ok(match (bytes.body.is_empty(), bytes.after.set) {
            (false, _) => self.write_first(caller, id, bytes).await,
            (true, Some(set)) => self.set_first(taken, attr.id, set).await,
            (true, None) => Ok(Delivered { attr, unset: None }),
        })
    }

    async fn create(
        &self,
        taken: &Taken,
        node: &Arc<Node>,
        open: &HostOpen,
    ) -> Result<(OpenId, Attr), FsError> {
        let making = &taken.making;
        let id = open.opens().number();
        let change = Change::Create {
            dir: taken.dir.clone(),
            name: making.name.clone(),
            mode: making.mode.load(Relaxed),
            exclusive: true,
            truncate: false,
            open: id,
        };
        let asked = Instant::now();
        let asking = self
            .changes
            .ask_with(self.patience, making.caller, change, Body::empty());
        let Reply::Made { attr, dir } = asking.await? else {
            return Err(FsError::Io);
        };
        self.beliefs
            .renamed(&making.dir, &making.name, Some(attr), Some(&dir), asked);
        let remade = Node::detached(&making.dir, &making.name, &attr);
        let _ = making.remade.set(open.replaced(id, remade));
        self.beliefs.disbelieve(node);
        Ok((id, attr))
    }

    /// Attributes of what has the name, if that is the file that was reserved.
    async fn named_before(&self, taken: &Taken) -> Result<Attr, FsError> {
        let request = Request::Getattr {
            node: taken.named(taken.attr.id)?,
        };
        let answer = match self.patience {
            Patience::OfPrograms => self.remote.call(request),
            Patience::Endless => self.remote.call_patiently(request, Body::empty()),
        };
        match answer.await.map(|answer| answer.reply) {
            Ok(Reply::Attr(attr)) if attr.id == taken.attr.id => Ok(attr),
            _ => Err(FsError::Fault(Fault::Exists)),
        }
    }

    async fn set_first(
        &self,
        taken: &Taken,
        made: FileId,
        set: AttrChange,
    ) -> Result<Delivered, FsError> {
        let node = taken.named(made)?;
        let (caller, change) = (taken.making.caller, Change::SetAttr { node, set });
        let asking = self
            .changes
            .ask_with(self.patience, caller, change, Body::empty());
        match asking.await? {
            Reply::Attr(attr) => Ok(Delivered { attr, unset: None }),
            _ => Err(FsError::Io),
        }
    }

    async fn write_first(
        &self,
        caller: Caller,
        open: OpenId,
        FirstBytes {
            offset,
            body,
            after,
        }: FirstBytes,
    ) -> Result<Delivered, FsError> {
        let len = u32::try_from(body.len()).ok().and_then(BodyLen::new);
        let change = Change::Write {
            open,
            offset,
            len: len.ok_or(FsError::Io)?,
            after,
        };
        let asking = self.changes.ask_with(self.patience, caller, change, body);
        match asking.await? {
            Reply::Attr(attr) => Ok(Delivered { attr, unset: None }),
            Reply::Unset { attr, fault } => Ok(Delivered {
                attr,
                unset: Some(fault),
            }),
            _ => Err(FsError::Io),
        }
    }
}
