//! Names given and taken: directories, links, renames.
//!
//! What a program has open stays with it: if the name of an open file goes, the host is told to keep the
//! file open for this mount.

use super::{Found, Vfs, name_of};
use crate::mount::error::FsError;
use crate::mount::inodes::{Ino, Node};
use crate::mount::opens::NOBODY;
use crate::rpc::Body;
use std::sync::Arc;
use tokio::time::Instant;
use wormhole_protocol::{
    Access, Attr, Caller, Change, LinkTarget, Name, NewNode, OpenId, RenameHow, Reply,
};

impl Vfs {
    /// Makes a directory.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn make_dir(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        mode: u16,
    ) -> Result<Found, FsError> {
        let (node, name) = (self.inodes.get(dir)?, name_of(name)?);
        let change = Change::MakeDir {
            dir: node.reference()?,
            name: name.clone(),
            mode,
        };
        let asked = Instant::now();
        let found = self.make(caller, &node, &name, change).await?;
        self.beliefs.made_dir(&found.node, asked);
        Ok(found)
    }

    /// Makes a node of any other kind.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn make_node(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        mode: u16,
        kind: NewNode,
    ) -> Result<Found, FsError> {
        let (node, name) = (self.inodes.get(dir)?, name_of(name)?);
        let change = Change::MakeNode {
            dir: node.reference()?,
            name: name.clone(),
            mode,
            kind,
        };
        self.make(caller, &node, &name, change).await
    }

    /// Makes a symlink.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn symlink(
        &self,
        caller: Caller,
        dir: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<Found, FsError> {
        let (node, name) = (self.inodes.get(dir)?, name_of(name)?);
        let change = Change::Symlink {
            dir: node.reference()?,
            name: name.clone(),
            target: LinkTarget::new(target).map_err(|_| FsError::NameTooLong)?,
        };
        self.make(caller, &node, &name, change).await
    }

    /// Gives a node another name.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn link(
        &self,
        caller: Caller,
        ino: Ino,
        dir: Ino,
        name: &[u8],
    ) -> Result<Found, FsError> {
        let (linked, node) = (self.inodes.get(ino)?, self.inodes.get(dir)?);
        let name = name_of(name)?;
        self.settle(&linked).await;
        let change = Change::Link {
            node: linked.reference()?,
            dir: node.reference()?,
            name: name.clone(),
        };
        self.make(caller, &node, &name, change).await
    }

    async fn make(
        &self,
        caller: Caller,
        dir: &Arc<Node>,
        name: &Name,
        change: Change,
    ) -> Result<Found, FsError> {
        self.early.settle_name(dir, name).await;
        let asked = Instant::now();
        let reply = self.change(caller, change, Body::empty()).await;
        match reply.map_err(|error| self.gone(dir, error))? {
            Reply::Made {
                attr,
                dir: dir_attr,
            } => self.made(dir, name, &attr, &dir_attr, asked),
            _ => Err(FsError::Io),
        }
    }

    /// Takes note of a node that was made, as was asked at `asked`, and counts the lookup.
    pub(super) fn made(
        &self,
        dir: &Arc<Node>,
        name: &Name,
        attr: &Attr,
        dir_attr: &Attr,
        asked: Instant,
    ) -> Result<Found, FsError> {
        self.beliefs
            .renamed(dir, name, Some(*attr), Some(dir_attr), asked);
        let heard = self.beliefs.of_change(Some(dir.id), asked);
        let of_attr = self.beliefs.of_entry(attr, heard);
        let node = self.inodes.remember(dir, name, attr, of_attr)?;
        node.learn_alone(attr, of_attr.asked_at(asked));
        self.found(dir, name, attr, heard, Some(node))
    }

    /// Takes a name from what is no directory.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn unlink(&self, caller: Caller, dir: Ino, name: &[u8]) -> Result<(), FsError> {
        let (dir, name) = (self.inodes.get(dir)?, name_of(name)?);
        self.early.settle_name(&dir, &name).await;
        let victim = self.keep_open(&dir, &name);
        let change = Change::Unlink {
            dir: dir.reference()?,
            name: name.clone(),
            keep: victim.as_ref().map(|(_, id)| *id),
        };
        self.remove(caller, &dir, &name, change, victim).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn remove_dir(&self, caller: Caller, dir: Ino, name: &[u8]) -> Result<(), FsError> {
        let (dir, name) = (self.inodes.get(dir)?, name_of(name)?);
        self.early.settle_beneath(&dir, &name).await;
        let change = Change::RemoveDir {
            dir: dir.reference()?,
            name: name.clone(),
        };
        self.remove(caller, &dir, &name, change, None).await
    }

    async fn remove(
        &self,
        caller: Caller,
        dir: &Arc<Node>,
        name: &Name,
        change: Change,
        victim: Option<(Arc<Node>, OpenId)>,
    ) -> Result<(), FsError> {
        let asked = Instant::now();
        let (dir_attr, left) = match self.change(caller, change, Body::empty()).await? {
            Reply::Removed { dir, left } => (Some(dir), left),
            Reply::Done => (None, None),
            _ => return Err(FsError::Io),
        };
        self.beliefs
            .renamed(dir, name, None, dir_attr.as_ref(), asked);
        self.leave(left, dir, name);
        self.lost_name(left, victim, asked);
        Ok(())
    }

    /// Renames.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn rename(
        &self,
        caller: Caller,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        how: RenameHow,
    ) -> Result<(), FsError> {
        let (from_dir, from_name) = (self.inodes.get(from.0)?, name_of(from.1)?);
        let (to_dir, to_name) = (self.inodes.get(to.0)?, name_of(to.1)?);
        self.early.settle_beneath(&from_dir, &from_name).await;
        self.early.settle_beneath(&to_dir, &to_name).await;
        let victim = match how {
            RenameHow::Replace => self.keep_open(&to_dir, &to_name),
            RenameHow::NoReplace | RenameHow::Exchange => None,
        };
        let change = Change::Rename {
            from: from_dir.reference()?,
            from_name: from_name.clone(),
            to: to_dir.reference()?,
            to_name: to_name.clone(),
            how,
            keep: victim.as_ref().map(|(_, id)| *id),
        };
        let asked = Instant::now();
        let Reply::Renamed {
            attr,
            from: from_attr,
            to: to_attr,
            other,
        } = self.change(caller, change, Body::empty()).await?
        else {
            return Err(FsError::Io);
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
            .renamed(&from_dir, &from_name, exchanged, Some(&from_attr), asked);
        self.beliefs
            .renamed(&to_dir, &to_name, Some(attr), Some(&to_attr), asked);
        self.moved(&attr, &to_dir, &to_name, asked);
        self.leave(Some(attr), &from_dir, &from_name);
        match exchanged {
            Some(attr) => {
                self.moved(&attr, &from_dir, &from_name, asked);
                self.leave(Some(attr), &to_dir, &to_name);
            }
            None => {
                self.leave(other, &to_dir, &to_name);
                self.lost_name(other, victim, asked);
            }
        }
        Ok(())
    }

    fn moved(&self, attr: &Attr, dir: &Arc<Node>, name: &Name, asked: Instant) {
        let node = self.inodes.by_id(attr.id);
        if let Some(node) = &node {
            node.move_to(dir, name);
            let heard = self.beliefs.of_change(node.covered_by(), asked);
            node.learn_change(attr, heard.asked_at(asked));
        }
        self.beliefs.changed(attr, node.as_deref(), asked);
    }

    /// What is still there after it lost a name is not to be looked for under that.
    fn leave(&self, left: Option<Attr>, dir: &Node, name: &Name) {
        if let Some(node) = left.and_then(|left| self.inodes.by_id(left.id)) {
            node.leave(dir.id, name);
        }
    }

    /// If a program has the entry open, a number under which the host is to keep it.
    fn keep_open(&self, dir: &Arc<Node>, name: &Name) -> Option<(Arc<Node>, OpenId)> {
        let node = self.handles.open_at(dir, name)?;
        Some((node, self.opens.number()))
    }

    /// A name went: what it named may be there still.
    fn lost_name(&self, left: Option<Attr>, victim: Option<(Arc<Node>, OpenId)>, asked: Instant) {
        if let Some(left) = &left {
            let node = self.inodes.by_id(left.id);
            if let Some(node) = &node {
                let heard = self.beliefs.of_change(node.covered_by(), asked);
                node.learn_change(left, heard.asked_at(asked));
            }
            self.beliefs.changed(left, node.as_deref(), asked);
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
