//! Changes that programs are told are done before the host is asked: of a mount with [`Durability::Memory`].
//!
//! Only what cannot but succeed: to files in a directory this mount holds alone and was given files in, or to files it
//! made itself. Whoever looks at such a file, or at such a name, waits until the host has answered.
//!
//! Invariants
//! - What is done to one file, and to one name, is done in the order in which programs did it.
//! - A name is given to a file, or taken from it, when the host has what was written to it before.

use super::changer::Entry;
use super::durable::written;
use super::{Found, Vfs};
use crate::mount::changes::Patience;
use crate::mount::durability::Durability;
use crate::mount::early::{Lately, Moving};
use crate::mount::error::FsError;
use crate::mount::inodes::{Hold, Node};
use crate::mount::pending::Pend;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wormhole_protocol::{Attr, AttrChange, Caller, FileKind, RenameHow, SetTime, Timestamp};

/// Set-user-ID and set-group-ID: whether they can be had is for the host to say.
const SET_ID: u16 = 0o6000;
/// Whoever may change a directory may not remove what is in it.
const STICKY: u16 = 0o1000;

/// What lasts until a change was answered.
struct Underway {
    _pend: Pend,
    /// The file can be found.
    _hold: Option<Hold>,
    /// Who looks at these names waits.
    _names: [Option<Moving>; 2],
    /// Who is about to move what is above it waits.
    _late: Lately,
}

impl Vfs {
    /// Sets attributes of a file that was made here, if that can be told before it is done: what they will be.
    pub(super) fn set_later(
        &self,
        caller: Caller,
        node: &Arc<Node>,
        set: AttrChange,
    ) -> Option<Attr> {
        let is_plain = set.size.is_none()
            && set.uid.is_none()
            && set.gid.is_none()
            && set.mode.is_none_or(|mode| mode & SET_ID == 0);
        let is_link = node.attr().kind == FileKind::Symlink && set.mode.is_some();
        if !self.answers_early() || !node.is_ours() || !is_plain || is_link {
            return None;
        }
        let underway = self.underway(node, [None, None]);
        let changer = self.changer(Patience::Endless, caller);
        let (pending, early, file) = (self.pending.clone(), self.early.clone(), node.clone());
        node.put_off(async move {
            written(&file).await;
            // What was done in a directory before leaves its own time there.
            early.settle_in(file.id).await;
            if let Err(error) = changer.set(file.at_host(), set).await {
                pending.lost(&file.shown_path(), error);
            }
            drop(underway);
        });
        Some(as_if_set(node.with_dirty_size(node.attr()), set))
    }

    /// Takes a name from a file, if that can be told before it is done: whether it can.
    pub(super) fn unlink_later(&self, caller: Caller, entry: Entry<'_>) -> bool {
        let Some(node) = self.movable(entry) else {
            return false;
        };
        if self.handles.open_at(entry.0, entry.1).is_some() {
            return false;
        }
        let Some(leaving) = self.early.begin_move(entry, None, Some(node.id)) else {
            return false;
        };
        let underway = self.underway(&node, [Some(leaving), None]);
        let changer = self.changer(Patience::Endless, caller);
        let (pending, file) = (self.pending.clone(), node.clone());
        let (dir, name) = (entry.0.clone(), entry.1.clone());
        node.put_off(async move {
            written(&file).await;
            if let Err(error) = changer.unlink((&dir, &name), None).await {
                pending.lost(&dir.shown_path_of(&name), error);
            }
            drop(underway);
        });
        true
    }

    /// Gives a file another name, if that can be told before it is done: whether it can.
    pub(super) fn rename_later(
        &self,
        caller: Caller,
        from: Entry<'_>,
        to: Entry<'_>,
        how: RenameHow,
    ) -> bool {
        let is_same = from.0.id == to.0.id && from.1 == to.1;
        let Some(node) = self.movable(from).filter(|_| !is_same) else {
            return false;
        };
        let is_free = self.beliefs.knows_absent(to.0, to.1);
        let victim = match how {
            RenameHow::Replace if !is_free => {
                // Two names of one file stay as they are (rename(2)).
                let other = self.movable(to).filter(|victim| victim.id != node.id);
                other.filter(|_| self.may_go(to))
            }
            _ => None,
        };
        if how == RenameHow::Exchange || !is_free && victim.is_none() {
            return false;
        }
        let Some(coming) = self.early.begin_move(to, Some(node.id), None) else {
            return false;
        };
        // Last: from here on the making of the file is no longer waited for by its name.
        let Some(leaving) = self.early.begin_move(from, None, Some(node.id)) else {
            return false;
        };
        let underway = self.underway(&node, [Some(leaving), Some(coming)]);
        let changer = self.changer(Patience::Endless, caller);
        let (pending, file) = (self.pending.clone(), node.clone());
        let (from, to) = (
            (from.0.clone(), from.1.clone()),
            (to.0.clone(), to.1.clone()),
        );
        node.put_off(async move {
            written(&file).await;
            if let Some(late) = victim.and_then(|victim| victim.late()) {
                late.await;
            }
            let (from, to) = ((&from.0, &from.1), (&to.0, &to.1));
            if let Err(error) = changer
                .rename(from, to, how, None, Some(file.at_host().id))
                .await
            {
                pending.lost(&to.0.shown_path_of(to.1), error);
            }
            drop(underway);
        });
        true
    }

    /// Gives a file another name besides, if that can be told before it is done: what is found there.
    pub(super) fn link_later(
        &self,
        caller: Caller,
        node: &Arc<Node>,
        to: Entry<'_>,
    ) -> Option<Found> {
        let attr = node.attr();
        let may = self.answers_early() && node.is_ours() && attr.kind == FileKind::File;
        if !may || !self.beliefs.knows_absent(to.0, to.1) {
            return None;
        }
        let coming = self.early.begin_move(to, Some(node.id), None)?;
        if !self.inodes.count(node) {
            return None;
        }
        let underway = self.underway(node, [Some(coming), None]);
        let changer = self.changer(Patience::Endless, caller);
        let (pending, file) = (self.pending.clone(), node.clone());
        let (dir, name) = (to.0.clone(), to.1.clone());
        node.put_off(async move {
            written(&file).await;
            if let Err(error) = changer.link(file.at_host(), (&dir, &name)).await {
                pending.lost(&dir.shown_path_of(&name), error);
            }
            drop(underway);
        });
        let attr = Attr {
            links: attr.links.saturating_add(1),
            ..node.with_dirty_size(attr)
        };
        Some(Found {
            node: node.clone(),
            attr,
            ttl: Duration::ZERO,
            name_ttl: Duration::ZERO,
        })
    }

    /// Where a name leads to which something is done later. The attributes are a guess, and to be asked for.
    pub(super) fn lookup_early(&self, (dir, name): Entry<'_>) -> Option<Result<Found, Duration>> {
        if !self.answers_early() {
            return None;
        }
        let Some(id) = self.early.leads(dir, name)? else {
            return Some(Err(Duration::ZERO));
        };
        let node = self.inodes.by_id(id)?;
        let attr = node.with_dirty_size(node.attr());
        self.inodes.count(&node).then(|| {
            Ok(Found {
                node,
                attr,
                ttl: Duration::ZERO,
                name_ttl: Duration::ZERO,
            })
        })
    }

    /// The file an entry is known to be, under a lease, if it has no other name or was made here; or that is being made
    /// under it.
    fn movable(&self, (dir, name): Entry<'_>) -> Option<Arc<Node>> {
        if !self.answers_early() || dir.attr().mode & STICKY != 0 {
            return None;
        }
        if let Some(made) = self.early.making_at(dir, name) {
            return self.inodes.by_id(made);
        }
        let attr = self.beliefs.known_leased(dir, name)?;
        let node = self.inodes.by_id(attr.id)?;
        let is_plain = attr.kind == FileKind::File && (attr.links == 1 || node.is_ours());
        is_plain.then_some(node)
    }

    /// Whether nobody needs a file any more.
    fn may_go(&self, (dir, name): Entry<'_>) -> bool {
        let is_new = self.early.making_at(dir, name).is_some();
        !is_new && self.handles.open_at(dir, name).is_none()
    }

    /// Waits while it is being asked whether this mount may have a directory for itself, if a change in it need not wait
    /// then: that takes no longer than the change would.
    pub(super) async fn claimed(&self, dir: &Node) -> Result<(), FsError> {
        match self.answers_early() {
            true => self.in_time(self.early.claiming(dir)).await,
            false => Ok(()),
        }
    }

    /// Names of a directory were changed the slow way: wants the next ones not to be.
    pub(super) fn want_late(&self, dir: &Arc<Node>) {
        if self.answers_early() {
            self.early.want(dir);
        }
    }

    /// Files will be made in a directory that was just made.
    pub(super) fn expect_files(&self, dir: &Arc<Node>) {
        if self.answers_early() {
            self.early.expect(dir);
        }
    }

    pub(super) fn answers_early(&self) -> bool {
        self.durability == Durability::Memory && self.access.writes()
    }

    fn underway(&self, node: &Arc<Node>, names: [Option<Moving>; 2]) -> Underway {
        Underway {
            _pend: self.pending.begin(),
            _hold: self.inodes.hold(node),
            _names: names,
            _late: self.early.begin_late(node),
        }
    }
}

/// What attributes will be, as far as can be known here.
fn as_if_set(attr: Attr, set: AttrChange) -> Attr {
    let now = now().unwrap_or(attr.changed);
    let time = |set: Option<SetTime>, old| match set {
        None => old,
        Some(SetTime::Now) => now,
        Some(SetTime::At(at)) => at,
    };
    Attr {
        mode: set.mode.unwrap_or(attr.mode),
        accessed: time(set.accessed, attr.accessed),
        modified: time(set.modified, attr.modified),
        changed: now,
        ..attr
    }
}

fn now() -> Option<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Timestamp::new(since.as_secs().try_into().ok()?, since.subsec_nanos())
}
