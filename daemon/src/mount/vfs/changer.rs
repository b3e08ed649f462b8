//! Asks the host to change entries and attributes, and takes note of the answers; for who waits, and for who does not.
//!
//! Not here: whether it may be asked now, and what must be on the host before (`names`, `late`).

use super::Vfs;
use crate::mount::beliefs::Beliefs;
use crate::mount::changes::{Changes, Patience};
use crate::mount::error::FsError;
use crate::mount::inodes::{Inodes, Node};
use crate::mount::opens::{NOBODY, Opens};
use crate::mount::own_bytes::OwnBytes;
use crate::rpc::{Body, Remote};
use std::sync::Arc;
use tokio::time::Instant;
use wormhole_protocol::{
    Access, Attr, AttrChange, Caller, Change, FileId, Name, NodeRef, OpenId, RenameHow, Reply,
    Request,
};

/// An entry: its directory, and its name there.
pub(super) type Entry<'a> = (&'a Arc<Node>, &'a Name);

/// A file that programs have open whose name goes, and the number under which the host is to keep it.
pub(super) type Victim = (Arc<Node>, OpenId);

/// Who asks, with how much patience and on whose behalf, and what learns from the answers.
pub(super) struct Changer {
    patience: Patience,
    caller: Caller,
    changes: Arc<Changes>,
    beliefs: Arc<Beliefs>,
    inodes: Arc<Inodes>,
    opens: Arc<Opens>,
    own_bytes: Arc<OwnBytes>,
    remote: Arc<dyn Remote>,
}

impl Vfs {
    pub(super) fn changer(&self, patience: Patience, caller: Caller) -> Changer {
        Changer {
            patience,
            caller,
            changes: self.changes.clone(),
            beliefs: self.beliefs.clone(),
            inodes: self.inodes.clone(),
            opens: self.opens.clone(),
            own_bytes: self.own_bytes.clone(),
            remote: self.remote.clone(),
        }
    }
}

impl Changer {
    async fn ask(&self, change: Change) -> Result<Reply, FsError> {
        let asking = self
            .changes
            .ask_with(self.patience, self.caller, change, Body::empty());
        asking.await
    }

    /// Sets attributes.
    pub(super) async fn set(&self, node: &Arc<Node>, set: AttrChange) -> Result<Attr, FsError> {
        let change = Change::SetAttr {
            node: node.reference()?,
            set,
        };
        let own = set.size.map(|size| self.own_bytes.cut(node, size));
        let asked = Instant::now();
        match self.ask(change).await? {
            Reply::Attr(attr) if attr.id == node.id => {
                if let Some(own) = own {
                    own.cut(attr.size, asked);
                }
                self.beliefs.changed_alone(node, &attr, asked);
                Ok(attr)
            }
            _ => Err(FsError::Io),
        }
    }

    /// Gives a node another name.
    pub(super) async fn link(&self, node: &Arc<Node>, to: Entry<'_>) -> Result<(), FsError> {
        let (dir, name) = to;
        let change = Change::Link {
            node: node.reference()?,
            dir: dir.reference()?,
            name: name.clone(),
        };
        let asked = Instant::now();
        let (attr, dir_attr) = match self.ask(change).await {
            Ok(Reply::Made { attr, dir }) => (attr, Some(dir)),
            Ok(_) => return Err(FsError::Io),
            Err(error) => (self.found_at(to, Some(node.id), error).await?, None),
        };
        self.beliefs
            .renamed(dir, name, Some(attr), dir_attr.as_ref(), asked);
        self.moved(&attr, dir, name, asked);
        Ok(())
    }

    /// Takes a name from what is no directory.
    pub(super) async fn unlink(
        &self,
        (dir, name): Entry<'_>,
        victim: Option<Victim>,
    ) -> Result<(), FsError> {
        let file = self.beliefs.known(dir, name);
        let change = Change::Unlink {
            dir: dir.reference()?,
            name: name.clone(),
            keep: victim.as_ref().map(|(_, id)| *id),
        };
        let left = self.remove((dir, name), change, victim).await?;
        if let (None, Some(file)) = (left, file) {
            self.own_bytes.forget(file.id);
        }
        Ok(())
    }

    /// Removes an empty directory.
    pub(super) async fn remove_dir(&self, (dir, name): Entry<'_>) -> Result<(), FsError> {
        let change = Change::RemoveDir {
            dir: dir.reference()?,
            name: name.clone(),
        };
        self.remove((dir, name), change, None).await.map(drop)
    }

    async fn remove(
        &self,
        (dir, name): Entry<'_>,
        change: Change,
        victim: Option<Victim>,
    ) -> Result<Option<Attr>, FsError> {
        let asked = Instant::now();
        let (dir_attr, left) = match self.ask(change).await? {
            Reply::Removed { dir, left } => (Some(dir), left),
            Reply::Done => (None, None),
            _ => return Err(FsError::Io),
        };
        self.beliefs
            .renamed(dir, name, None, dir_attr.as_ref(), asked);
        self.leave(left, dir, name);
        self.lost_name(left, victim, asked);
        Ok(left)
    }

    /// Renames `file`, if it is known which.
    pub(super) async fn rename(
        &self,
        (from, from_name): Entry<'_>,
        (to, to_name): Entry<'_>,
        how: RenameHow,
        victim: Option<Victim>,
        file: Option<FileId>,
    ) -> Result<(), FsError> {
        let change = Change::Rename {
            from: from.reference()?,
            from_name: from_name.clone(),
            to: to.reference()?,
            to_name: to_name.clone(),
            how,
            keep: victim.as_ref().map(|(_, id)| *id),
        };
        let asked = Instant::now();
        let (attr, from_attr, to_attr, other) = match self.ask(change).await {
            Ok(Reply::Renamed {
                attr,
                from,
                to,
                other,
            }) => (attr, Some(from), Some(to), other),
            Ok(_) => return Err(FsError::Io),
            // The host was restarted, and does not know whether it did that.
            Err(error) => (
                self.found_at((to, to_name), file, error).await?,
                None,
                None,
                None,
            ),
        };
        if how == RenameHow::Replace && other.is_some_and(|other| other.id == attr.id) {
            // Two names of one file stay as they are (rename(2)), and the host kept nothing.
            if let Some((_, id)) = victim {
                self.opens.close(id);
            }
            return Ok(());
        }
        let exchanged = other.filter(|_| how == RenameHow::Exchange);
        self.beliefs
            .renamed(from, from_name, exchanged, from_attr.as_ref(), asked);
        self.beliefs
            .renamed(to, to_name, Some(attr), to_attr.as_ref(), asked);
        self.moved(&attr, to, to_name, asked);
        self.leave(Some(attr), from, from_name);
        match exchanged {
            Some(attr) => {
                self.moved(&attr, from, from_name, asked);
                self.leave(Some(attr), to, to_name);
            }
            None => {
                self.leave(other, to, to_name);
                self.lost_name(other, victim, asked);
            }
        }
        Ok(())
    }

    /// The attributes of `file`, if it has that name; else it failed with `error`.
    async fn found_at(
        &self,
        (dir, name): Entry<'_>,
        file: Option<FileId>,
        error: FsError,
    ) -> Result<Attr, FsError> {
        if file.is_none() || error != FsError::Io {
            return Err(error);
        }
        let path = dir.reference()?.path.join(name);
        let node = NodeRef {
            path: path.map_err(|_| FsError::NameTooLong)?,
            expect: file,
        };
        let request = Request::Getattr { node };
        match self.remote.call_patiently(request, Body::empty()).await {
            Ok(answer) => match answer.reply {
                Reply::Attr(attr) => Ok(attr),
                _ => Err(error),
            },
            Err(_) => Err(error),
        }
    }

    fn moved(&self, attr: &Attr, dir: &Arc<Node>, name: &Name, asked: Instant) {
        let node = self.inodes.by_id(attr.id);
        if let Some(node) = &node {
            node.move_to(dir, name);
        }
        self.changed(attr, node.as_deref(), asked);
    }

    /// What is still there after it lost a name is not to be looked for under that.
    fn leave(&self, left: Option<Attr>, dir: &Node, name: &Name) {
        if let Some(node) = left.and_then(|left| self.inodes.by_id(left.id)) {
            node.leave(dir.id, name);
        }
    }

    fn changed(&self, attr: &Attr, node: Option<&Node>, asked: Instant) {
        if let Some(node) = node {
            let heard = self.beliefs.of_change(node.covered_with(attr), asked);
            node.learn_change(attr, heard.asked_at(asked));
        }
        self.beliefs.changed(attr, node, asked);
    }

    /// A name went: what it named may be there still.
    fn lost_name(&self, left: Option<Attr>, victim: Option<Victim>, asked: Instant) {
        if let Some(left) = &left {
            let node = self.inodes.by_id(left.id);
            self.changed(left, node.as_deref(), asked);
        }
        if let Some((node, id)) = victim {
            // Kept for what the host opened, which is another file if somebody was faster.
            match left {
                Some(left) if left.id == node.id => {
                    let open = self.opens.opened(NOBODY, id, node.clone(), Access::Read);
                    node.keep(open);
                }
                _ => self.opens.close(id),
            }
        }
    }
}
