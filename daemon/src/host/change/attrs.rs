//! Attributes of nodes: mode, owner, length, times, extended ones.

use super::super::fault;
use super::super::find::{Found, find};
use super::super::held::Open;
use super::super::resolve::Root;
use super::super::session::Core;
use super::act::Act;
use super::owner;
use super::place::attr_now;
use rustix::fs::{
    AtFlags, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, ftruncate,
    removexattr, setxattr, utimensat,
};
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{
    AttrChange, Change, Fault, FileKind, NodeRef, Reply, SetTime, XattrHow, XattrName,
};

/// Does one of the changes of attributes.
pub(super) fn apply(
    core: &Core,
    act: &Act<'_>,
    change: &Change,
    bytes: &[u8],
) -> Result<Reply, Fault> {
    match change {
        Change::SetAttr { node, set } => set_attr(core, act, node, set),
        Change::SetXattr {
            node, name, how, ..
        } => set_xattr(core, act, node, name, *how, bytes),
        Change::RemoveXattr { node, name } => remove_xattr(core, act, node, name),
        _ => Err(Fault::Invalid),
    }
}

/// In this order: a new owner takes set-id bits away, which a mode that was asked for gives back; and times
/// come last, because all before leave their own.
fn set_attr(core: &Core, act: &Act<'_>, node: &NodeRef, set: &AttrChange) -> Result<Reply, Fault> {
    let found = core.with_descriptors(|| find(core, node))?;
    let done = set_each(core, act, &found, set);
    act.through(&found.fd, Some(&node.path));
    done?;
    act.done();
    Ok(Reply::Attr(attr_now(core, &found.fd)?))
}

/// Sets attributes of what is open, but for its length, which was just written.
pub(super) fn set_open(
    core: &Core,
    act: &Act<'_>,
    open: &Open,
    set: &AttrChange,
) -> Result<(), Fault> {
    if set.size.is_some() {
        return Err(Fault::Invalid);
    }
    set_each(core, act, &Found::open(open)?, set)
}

fn set_each(core: &Core, act: &Act<'_>, found: &Found, set: &AttrChange) -> Result<(), Fault> {
    let symlink = found.kind()? == FileKind::Symlink;
    if symlink && set.mode.is_some() {
        return Err(Fault::Unsupported);
    }
    if let Some(size) = set.size {
        set_size(core, act, found, size)?;
    }
    if set.uid.is_some() || set.gid.is_some() {
        owner::set_owner(&found.fd, set.uid, set.gid)?;
    }
    if let Some(mode) = set.mode {
        owner::set_mode(core, &found.fd, mode)?;
    }
    if set.accessed.is_some() || set.modified.is_some() {
        set_times(found, set)?;
    }
    Ok(())
}

fn set_size(core: &Core, act: &Act<'_>, found: &Found, size: u64) -> Result<(), Fault> {
    found.is_file().map_err(|fault| match fault {
        Fault::WrongKind => Fault::Invalid,
        other => other,
    })?;
    if size > OFFSET_MAX {
        return Err(Fault::FileTooLarge);
    }
    // Who opened a file for writing may cut it, whatever its mode has become.
    let held = core.held.open_of(found.id());
    if let Some(open) = held.filter(|open| open.access.writes()) {
        ftruncate(&open.fd, size).map_err(fault::of_change)?;
        act.through(&open.fd, open.path.as_ref());
    } else {
        let root = core.service.share().root();
        let fd = core.with_descriptors(|| {
            let opened = root.reopen_for(&found.fd, OFlags::WRONLY);
            opened.map_err(fault::of_change)
        })?;
        ftruncate(&fd, size).map_err(fault::of_change)?;
    }
    owner::written(core, act, &found.fd).map(|_| ())
}

fn set_times(found: &Found, set: &AttrChange) -> Result<(), Fault> {
    let times = Timestamps {
        last_access: timespec(set.accessed),
        last_modification: timespec(set.modified),
    };
    utimensat(&found.fd, c"", &times, AtFlags::EMPTY_PATH).map_err(fault::of_change)
}

fn timespec(time: Option<SetTime>) -> Timespec {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        None => special(UTIME_OMIT),
        Some(SetTime::Now) => special(UTIME_NOW),
        Some(SetTime::At(at)) => Timespec {
            tv_sec: at.secs(),
            tv_nsec: at.nanos().into(),
        },
    }
}

fn set_xattr(
    core: &Core,
    act: &Act<'_>,
    node: &NodeRef,
    name: &XattrName,
    how: XattrHow,
    value: &[u8],
) -> Result<Reply, Fault> {
    let found = changed_xattrs(core, node, name)?;
    let flags = match how {
        XattrHow::Set => XattrFlags::empty(),
        XattrHow::Create => XattrFlags::CREATE,
        XattrHow::Replace => XattrFlags::REPLACE,
    };
    let path = Root::proc_path(&found.fd);
    setxattr(path, name.as_bytes(), value, flags).map_err(fault::of_change)?;
    act.through(&found.fd, Some(&node.path));
    act.done();
    // With an access control list the mode changed too.
    attr_now(core, &found.fd).map(Reply::Attr)
}

fn remove_xattr(
    core: &Core,
    act: &Act<'_>,
    node: &NodeRef,
    name: &XattrName,
) -> Result<Reply, Fault> {
    let found = changed_xattrs(core, node, name)?;
    let path = Root::proc_path(&found.fd);
    removexattr(path, name.as_bytes()).map_err(fault::of_change)?;
    act.through(&found.fd, Some(&node.path));
    act.done();
    attr_now(core, &found.fd).map(Reply::Attr)
}

/// Linux keeps `user.` attributes on files and directories, access control lists on all but symlinks
/// (xattr(7), acl(5)). What leads elsewhere is not touched; setting one opens nothing.
fn changed_xattrs(core: &Core, node: &NodeRef, name: &XattrName) -> Result<Found, Fault> {
    let found = core.with_descriptors(|| find(core, node))?;
    match found.kind()? {
        FileKind::File | FileKind::Directory => Ok(found),
        FileKind::Symlink => Err(Fault::NotPermitted),
        _ if name.is_acl() => Ok(found),
        _ => Err(Fault::NotPermitted),
    }
}
