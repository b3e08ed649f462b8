//! A file that was made early, and that the host cannot make of what it had reserved: because it was restarted, or
//! has not heard of this mount for a minute. Programs have the file open, or were told that it is there.
//!
//! So it is made again, as another file under the same name. What was written goes there, and whoever looks the name up
//! finds that one.

use super::{Early, FirstBytes, FsError, Taken};
use crate::mount::changes::Patience;
use crate::mount::inodes::Node;
use crate::mount::opens::HostOpen;
use crate::rpc::Body;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;
use wormhole_protocol::{Attr, BodyLen, Caller, Change, Fault, NodeRef, OpenId, Reply, Request};

impl Early {
    /// What became of the first bytes.
    pub(super) async fn remake(
        &self,
        taken: &Taken,
        caller: Caller,
        node: &Arc<Node>,
        open: &HostOpen,
        bytes: FirstBytes,
    ) -> Result<Result<Attr, FsError>, FsError> {
        let (id, attr) = match self.create(taken, caller, node, open).await {
            // The name may be its own: given before the host was restarted.
            Err(FsError::Fault(Fault::Exists)) => {
                let attr = self.named_before(taken).await?;
                self.beliefs.disbelieve(node);
                (open.id, attr)
            }
            made => made?,
        };
        if bytes.body.is_empty() {
            return Ok(Ok(attr));
        }
        Ok(self.write_first(caller, id, bytes).await)
    }

    async fn create(
        &self,
        taken: &Taken,
        caller: Caller,
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
            .ask_with(self.patience, caller, change, Body::empty());
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
        let making = &taken.making;
        let path = taken.dir.path.join(&making.name);
        let node = NodeRef {
            path: path.map_err(|_| FsError::NameTooLong)?,
            expect: Some(taken.attr.id),
        };
        let request = Request::Getattr { node };
        let answer = match self.patience {
            Patience::OfPrograms => self.remote.call(request),
            Patience::Endless => self.remote.call_patiently(request, Body::empty()),
        };
        match answer.await.map(|answer| answer.reply) {
            Ok(Reply::Attr(attr)) if attr.id == taken.attr.id => Ok(attr),
            _ => Err(FsError::Fault(Fault::Exists)),
        }
    }

    async fn write_first(
        &self,
        caller: Caller,
        open: OpenId,
        FirstBytes { offset, body, sync }: FirstBytes,
    ) -> Result<Attr, FsError> {
        let len = u32::try_from(body.len()).ok().and_then(BodyLen::new);
        let change = Change::Write {
            open,
            offset,
            len: len.ok_or(FsError::Io)?,
            sync,
        };
        let asking = self.changes.ask_with(self.patience, caller, change, body);
        match asking.await? {
            Reply::Attr(attr) => Ok(attr),
            _ => Err(FsError::Io),
        }
    }
}
