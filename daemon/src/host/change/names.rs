//! Entries of directories: made, linked, removed, renamed.

use super::super::fault;
use super::super::find::find;
use super::super::meta;
use super::super::reserve;
use super::super::session::Core;
use super::act::Act;
use super::content::keep;
use super::owner;
use super::place::{Look, Place, attr_now};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FileType, Mode, RenameFlags, linkat, mkdirat, mknodat, renameat_with, symlinkat,
    unlinkat,
};
use rustix::process::geteuid;
use std::time::Instant;
use wormhole_protocol::{
    Attr, Change, Fault, FileKind, LinkTarget, MadeDir, NewNode, NodeRef, OpenId, RenameHow, Reply,
};

/// Does one of the changes of names.
pub(super) fn apply(core: &Core, act: &Act<'_>, change: &Change) -> Result<Reply, Fault> {
    match change {
        Change::MakeDir {
            dir,
            name,
            mode,
            reserve,
        } => {
            let place = Place::to_make(core, dir, name)?;
            let made = make(core, act, &place, New::Dir, Some(*mode))?;
            Ok(Reply::MadeDir(leased(core, &place, made, *reserve)))
        }
        Change::MakeNode {
            dir,
            name,
            mode,
            kind,
        } => {
            let place = Place::to_make(core, dir, name)?;
            make(core, act, &place, New::Node(*kind), Some(*mode)).map(Reply::from)
        }
        Change::Symlink { dir, name, target } => {
            let place = Place::to_make(core, dir, name)?;
            make(core, act, &place, New::Symlink(target), None).map(Reply::from)
        }
        Change::Link { node, dir, name } => {
            link(core, act, node, &Place::to_make(core, dir, name)?)
        }
        Change::Unlink {
            dir,
            name,
            keep: kept,
        } => unlink(core, act, &Place::of(core, dir, name)?, *kept),
        Change::RemoveDir { dir, name } => remove_dir(core, act, &Place::of(core, dir, name)?),
        Change::Rename {
            from,
            from_name,
            to,
            to_name,
            how,
            keep: kept,
        } => {
            let from = Place::of(core, from, from_name)?;
            let to = Place::to_make(core, to, to_name)?;
            rename(core, act, (&from, &to), *how, *kept)
        }
        _ => Err(Fault::Invalid),
    }
}

/// What was made: its attributes, and those of the directory it is in.
struct Made {
    attr: Attr,
    dir: Attr,
}

impl From<Made> for Reply {
    fn from(Made { attr, dir }: Made) -> Self {
        Self::Made { attr, dir }
    }
}

/// What is made.
#[derive(Clone, Copy)]
enum New<'a> {
    Dir,
    Node(NewNode),
    Symlink(&'a LinkTarget),
}

impl New<'_> {
    fn kind(self) -> FileKind {
        match self {
            Self::Dir => FileKind::Directory,
            Self::Symlink(_) => FileKind::Symlink,
            Self::Node(NewNode::File) => FileKind::File,
            Self::Node(NewNode::Fifo) => FileKind::Fifo,
            Self::Node(NewNode::Socket) => FileKind::Socket,
            Self::Node(NewNode::CharDevice(_)) => FileKind::CharDevice,
            Self::Node(NewNode::BlockDevice(_)) => FileKind::BlockDevice,
        }
    }

    fn make(self, place: &Place, mode: u16) -> Result<(), Fault> {
        let (dir, name) = (&place.dir, &place.name);
        let bits = Mode::from_raw_mode(u32::from(mode & 0o7777));
        let node = |kind, device| mknodat(dir, name, kind, bits, device);
        let made = match self {
            Self::Dir => mkdirat(dir, name, bits),
            Self::Symlink(target) => symlinkat(target.as_bytes(), dir, name),
            Self::Node(NewNode::File) => node(FileType::RegularFile, 0),
            Self::Node(NewNode::Fifo) => node(FileType::Fifo, 0),
            Self::Node(NewNode::Socket) => node(FileType::Socket, 0),
            Self::Node(NewNode::CharDevice(device)) => node(FileType::CharacterDevice, device),
            Self::Node(NewNode::BlockDevice(device)) => node(FileType::BlockDevice, device),
        };
        made.map_err(fault::of_change)
    }
}

fn make(
    core: &Core,
    act: &Act<'_>,
    place: &Place,
    new: New<'_>,
    mode: Option<u16>,
) -> Result<Made, Fault> {
    owner::check(core, act)?;
    let device = matches!(new.kind(), FileKind::CharDevice | FileKind::BlockDevice);
    if device && !core.service.rules().allow_devices {
        return Err(Fault::NotPermitted);
    }
    new.make(place, mode.unwrap_or(0o777))?;
    let node = made_just_now(core, place, new.kind())?;
    if let Err(fault) = owner::settle(core, act, &place.dir, &node, mode) {
        let flags = if new.kind() == FileKind::Directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        // Best effort: the failure is what counts.
        let _ = unlinkat(&place.dir, &place.name, flags);
        return Err(fault);
    }
    act.done();
    Ok(Made {
        attr: attr_now(core, &node)?,
        dir: place.dir_attr(core)?,
    })
}

/// Leases a directory to the mount that made it, unless something is in it already: it knows all there is in it then, and
/// need not ask before it makes files there.
fn leased(core: &Core, place: &Place, made: Made, reserve: u8) -> MadeDir {
    let Made { attr, dir } = made;
    let path = place.path.as_ref();
    match path.and_then(|path| reserve::in_new_dir(core, path, attr.id, reserve)) {
        Some((attr, reserved)) => MadeDir {
            attr,
            dir,
            leased: true,
            reserved,
        },
        None => MadeDir {
            attr,
            dir,
            leased: false,
            reserved: Vec::new(),
        },
    }
}

/// The node that was just made. Somebody may have put another in its place, whose owner and mode are not to be
/// touched: what is new is of its kind, our own, and has one name.
fn made_just_now(core: &Core, place: &Place, kind: FileKind) -> Result<OwnedFd, Fault> {
    let node = place.node(core)?;
    let stx = meta::stat(&node).map_err(fault::of)?;
    let one_name = kind == FileKind::Directory || stx.stx_nlink == 1;
    let ours = stx.stx_uid == geteuid().as_raw() || !core.service.rules().map_users;
    if meta::kind(&stx) == Some(kind) && one_name && ours {
        Ok(node)
    } else {
        Err(Fault::Stale)
    }
}

fn link(core: &Core, act: &Act<'_>, node: &NodeRef, place: &Place) -> Result<Reply, Fault> {
    let found = core.with_descriptors(|| find(core, node))?;
    match found.kind()? {
        FileKind::Directory => return Err(Fault::NotPermitted),
        FileKind::Symlink => link_symlink(core, node, place)?,
        _ => {
            let root = core.service.share().root();
            let linked = root.link(&found.fd, &place.dir, &place.name);
            linked.map_err(fault::of_change)?;
        }
    }
    let names = core.service.other_names();
    for path in [Some(&node.path), place.path.as_ref()]
        .into_iter()
        .flatten()
    {
        names.note(found.id(), path);
    }
    // Its other names have one more beside them.
    act.also(found.id(), &node.path);
    act.done();
    Ok(Reply::Made {
        attr: attr_now(core, &found.fd)?,
        dir: place.dir_attr(core)?,
    })
}

/// A symlink cannot be named by a descriptor without privileges, only by its own name; so what came of it is
/// looked at afterwards.
fn link_symlink(core: &Core, node: &NodeRef, place: &Place) -> Result<(), Fault> {
    let (path, name) = node.path.split().ok_or(Fault::Invalid)?;
    let dir = NodeRef { path, expect: None };
    let from = Place::of(core, &dir, &name)?;
    let wanted = Look::at(&from.node(core)?)?.id();
    if node.expect.is_some_and(|id| id != wanted) {
        return Err(Fault::Stale);
    }
    let linked = linkat(
        &from.dir,
        &from.name,
        &place.dir,
        &place.name,
        AtFlags::empty(),
    );
    linked.map_err(fault::of_change)?;
    if Look::at(&place.node(core)?)?.id() != wanted {
        let _ = unlinkat(&place.dir, &place.name, AtFlags::empty());
        return Err(Fault::Stale);
    }
    Ok(())
}

fn unlink(core: &Core, act: &Act<'_>, place: &Place, kept: Option<OpenId>) -> Result<Reply, Fault> {
    let node = place.node(core)?;
    if Look::at(&node)?.attr(core)?.kind == FileKind::Directory {
        return Err(Fault::IsDirectory);
    }
    let open = kept.and_then(|number| Some((number, keep(core, &node)?)));
    depart(core, &node)?;
    unlinkat(&place.dir, &place.name, AtFlags::empty()).map_err(fault::of_change)?;
    if let Some((number, open)) = open {
        core.held.hold(number, open);
    }
    act.done();
    Ok(Reply::Removed {
        dir: place.dir_attr(core)?,
        left: left(core, &node)?,
    })
}

/// A file may be about to lose its last name: readers, of whom this host knows nothing, are to find it
/// without a moment between. Should it stay after all, nothing is lost by that.
fn depart(core: &Core, node: &OwnedFd) -> Result<(), Fault> {
    let look = Look::at(node)?;
    let is_file = meta::kind(&look.stx) == Some(FileKind::File);
    if is_file && look.stx.stx_nlink == 1 {
        let again = node.try_clone().map_err(|_| Fault::Exhausted)?;
        let departed = core.service.departed();
        departed.keep(look.id(), again, Instant::now());
    }
    Ok(())
}

/// Attributes of what lost a name, if it is still there: under other names, or held open.
fn left(core: &Core, node: &OwnedFd) -> Result<Option<Attr>, Fault> {
    let look = Look::at(node)?;
    if look.stx.stx_nlink > 0 || core.held.open_of(look.id()).is_some() {
        return look.attr(core).map(Some);
    }
    core.files.forget(look.id());
    Ok(None)
}

fn remove_dir(core: &Core, act: &Act<'_>, place: &Place) -> Result<Reply, Fault> {
    if place.covers_hidden(core) {
        return Err(Fault::NotEmpty);
    }
    unlinkat(&place.dir, &place.name, AtFlags::REMOVEDIR).map_err(fault::of_change)?;
    act.done();
    Ok(Reply::Removed {
        dir: place.dir_attr(core)?,
        left: None,
    })
}

fn rename(
    core: &Core,
    act: &Act<'_>,
    (from, to): (&Place, &Place),
    how: RenameHow,
    kept: Option<OpenId>,
) -> Result<Reply, Fault> {
    // What is hidden is hidden by its path, which therefore must stay.
    if from.covers_hidden(core) || to.covers_hidden(core) {
        return Err(Fault::NotPermitted);
    }
    let _alone = core.service.renaming();
    let node = from.node(core)?;
    let victim = match to.node(core) {
        Err(Fault::NotFound) => None,
        found => Some(found?),
    };
    let flags = match how {
        RenameHow::Replace => RenameFlags::empty(),
        RenameHow::NoReplace => RenameFlags::NOREPLACE,
        RenameHow::Exchange => RenameFlags::EXCHANGE,
    };
    let open = match &victim {
        Some(victim) if how == RenameHow::Replace && !same(&node, victim)? => {
            depart(core, victim)?;
            kept.and_then(|number| Some((number, keep(core, victim)?)))
        }
        _ => None,
    };
    let renamed = renameat_with(&from.dir, &from.name, &to.dir, &to.name, flags);
    renamed.map_err(fault::of_change)?;
    if let Some((number, open)) = open {
        core.held.hold(number, open);
    }
    act.done();
    let other = match victim {
        Some(victim) if is_dir(&victim)? && how == RenameHow::Replace => None,
        Some(victim) => left(core, &victim)?,
        None => None,
    };
    let attr = attr_now(core, &node)?;
    if let Some(path) = &to.path {
        let names = core.service.other_names();
        names.found(attr.id, attr.links.into(), path);
    }
    Ok(Reply::Renamed {
        attr,
        from: from.dir_attr(core)?,
        to: to.dir_attr(core)?,
        other,
    })
}

fn same(a: &OwnedFd, b: &OwnedFd) -> Result<bool, Fault> {
    Ok(Look::at(a)?.id() == Look::at(b)?.id())
}

fn is_dir(node: &OwnedFd) -> Result<bool, Fault> {
    let stx = meta::stat(node).map_err(fault::of)?;
    Ok(meta::kind(&stx) == Some(FileKind::Directory))
}
