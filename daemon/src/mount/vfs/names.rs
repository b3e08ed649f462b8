//! Names given and taken: directories, links, renames.
//!
//! What a program has open stays with it: if the name of an open file goes, the host is told to keep the
//! file open for this mount.

use super::{Found, Vfs, name_of};
use crate::mount::changes::Patience;
use crate::mount::error::FsError;
use crate::mount::inodes::{Ino, Node};
use crate::rpc::Body;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wormhole_protocol::{
    Attr, Caller, Change, LinkTarget, Name, NewNode, OpenId, RenameHow, Reply,
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
        self.settle_name(&node, &name).await?;
        let at = node.reference()?;
        let path = at.path.join(&name).map_err(|_| FsError::NameTooLong)?;
        let change = Change::MakeDir {
            dir: at,
            name: name.clone(),
            mode,
            reserve: self.early.wanted_in_new_dir(self.answers_early()),
        };
        let asked = Instant::now();
        let reply = self.change(caller, change, Body::empty()).await;
        let Reply::MadeDir(made) = reply.map_err(|error| self.gone(&node, error))? else {
            return Err(FsError::Io);
        };
        let id = made.attr.id;
        // The host has spoken of it while this was on its way: which of the two is later, nobody knows.
        let crossed = self.beliefs.own_attr(id, asked).is_some();
        let mut found = self.made(&node, &name, &made.attr, &made.dir, asked)?;
        let new = &found.node;
        let leased = made.leased && !crossed;
        // That may be under a lease of its own now.
        let (attr, ttl) = self.beliefs.made_dir(new, &made.attr, leased, asked);
        (found.attr, found.ttl) = (attr.unwrap_or(found.attr), ttl);
        if crossed {
            new.doubt(Instant::now());
            found.ttl = Duration::ZERO;
        } else {
            self.early.given(new, &path, made.reserved, asked);
        }
        new.made_here();
        self.expect_files(new);
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
        let found = self.make(caller, &node, &name, change).await?;
        found.node.made_here();
        Ok(found)
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
        let found = self.make(caller, &node, &name, change).await?;
        found.node.made_here();
        Ok(found)
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
        self.claimed(&node).await?;
        if let Some(found) = self.link_later(caller, &linked, (&node, &name)) {
            return Ok(found);
        }
        self.settle(&linked).await?;
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
        self.settle_name(dir, name).await?;
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
        self.claimed(&dir).await?;
        if self.unlink_later(caller, (&dir, &name)) {
            return Ok(());
        }
        self.settle_beneath(&dir, &name).await?;
        self.require_writes()?;
        let victim = self.keep_open(&dir, &name);
        self.want_late(&dir);
        let changer = self.changer(Patience::OfPrograms, caller);
        changer.unlink((&dir, &name), victim).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the host answered.
    pub async fn remove_dir(&self, caller: Caller, dir: Ino, name: &[u8]) -> Result<(), FsError> {
        let (dir, name) = (self.inodes.get(dir)?, name_of(name)?);
        self.settle_beneath(&dir, &name).await?;
        self.require_writes()?;
        let changer = self.changer(Patience::OfPrograms, caller);
        changer.remove_dir((&dir, &name)).await
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
        let (from, to) = ((&from_dir, &from_name), (&to_dir, &to_name));
        self.claimed(&to_dir).await?;
        if self.rename_later(caller, from, to, how) {
            return Ok(());
        }
        self.require_writes()?;
        self.settle_beneath(&from_dir, &from_name).await?;
        self.settle_beneath(&to_dir, &to_name).await?;
        let victim = match how {
            RenameHow::Replace => self.keep_open(&to_dir, &to_name),
            RenameHow::NoReplace | RenameHow::Exchange => None,
        };
        self.want_late(&to_dir);
        let changer = self.changer(Patience::OfPrograms, caller);
        changer.rename(from, to, how, victim, None).await
    }

    /// If a program has the entry open, a number under which the host is to keep it.
    fn keep_open(&self, dir: &Arc<Node>, name: &Name) -> Option<(Arc<Node>, OpenId)> {
        let node = self.handles.open_at(dir, name)?;
        Some((node, self.opens.number()))
    }
}
