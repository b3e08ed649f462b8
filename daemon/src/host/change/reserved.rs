//! Reserved files get their names, and their first bytes.

use super::super::fault;
use super::super::held::Open;
use super::super::meta;
use super::super::reserve::{ReservedFile, more};
use super::super::session::Core;
use super::act::Act;
use super::attrs;
use super::content::{reopen, sync_after, write_at};
use super::place::{Place, attr_now};
use super::{owner, place};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW, futimens, unlinkat};
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{Access, Fault, FileId, Named, NewFile, Reply};

/// Gives a reserved file its name.
pub(super) fn name(
    core: &Core,
    act: &Act<'_>,
    new: &NewFile,
    bytes: &[u8],
) -> Result<Reply, Fault> {
    let end = new.offset.checked_add(bytes.len() as u64);
    if end.is_none_or(|end| end > OFFSET_MAX) {
        return Err(Fault::FileTooLarge);
    }
    let place = Place::to_make(core, &new.dir, &new.name)?;
    let dir = place::Look::at(&place.dir)?.id();
    // It would have to inherit what was not there when it was reserved.
    if owner::has_default_acl(&place.dir) {
        return Err(Fault::Changed);
    }
    let reserved = &core.held.reserved;
    let file = reserved.take(new.file, dir).ok_or(Fault::NotOpen)?;
    // Whatever has that name by now keeps it.
    let root = core.service.share().root();
    if let Err(errno) = root.link(&file.fd, &place.dir, &place.name) {
        reserved.put(new.file, file);
        return Err(fault::of_change(errno));
    }
    let ReservedFile {
        fd: nameless, room, ..
    } = file;
    let opened = dress(core, act, &place, new);
    drop(nameless);
    let fd = opened.inspect_err(|_| {
        // Best effort: the failure is what counts.
        if is_there(core, &place, new.file) {
            let _ = unlinkat(&place.dir, &place.name, AtFlags::empty());
        }
    })?;
    let open = Open::new(new.file, fd, Access::ReadWrite, true, room);
    let written = write(core, &open.fd, new.offset, bytes);
    let unset = match (&written, &new.after.set) {
        (Ok(()), Some(set)) => attrs::set_open(core, act, &open, set).err(),
        _ => None,
    };
    act.done_in(dir);
    let attr = attr_now(core, &open.fd)?;
    let written = written.and_then(|()| sync_after(&open, new.after));
    let named = Named {
        attr,
        dir: place.dir_attr(core)?,
        unwritten: written.err(),
        unset,
        reserved: more(core, &place.dir, (dir, &new.dir.path), new.refill),
    };
    core.held.hold(new.open, open.at(place.path));
    Ok(Reply::Named(named))
}

/// Makes of the file, which has its name now, what a new one looks like. It is opened by that name: who
/// watches the directory is told of what is written that way, and not of what is through a descriptor from
/// before.
fn dress(core: &Core, act: &Act<'_>, place: &Place, new: &NewFile) -> Result<OwnedFd, Fault> {
    let node = place.node(core)?;
    if meta::file_id(&meta::stat(&node).map_err(fault::of)?) != new.file {
        return Err(Fault::Stale);
    }
    let (opened, readable) = reopen(core, &node, Access::ReadWrite)?;
    if !readable {
        return Err(Fault::Denied);
    }
    // It was made a while ago.
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let now = Timestamps {
        last_access: now,
        last_modification: now,
    };
    futimens(&opened, &now).map_err(fault::of_change)?;
    owner::settle(core, act, &place.dir, &opened, None)?;
    // There is no default ACL to make something else of it.
    owner::set_mode(core, &opened, new.mode & 0o777)?;
    Ok(opened)
}

fn is_there(core: &Core, place: &Place, id: FileId) -> bool {
    let found = place
        .node(core)
        .ok()
        .and_then(|node| meta::stat(&node).ok());
    found.is_some_and(|stx| meta::file_id(&stx) == id)
}

/// Writes; if the disk is full, once more without what is only kept for late readers.
fn write(core: &Core, fd: &OwnedFd, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
    match write_at(fd, bytes, offset) {
        Err(Fault::NoSpace | Fault::Quota) if core.service.departed().clear() => {
            write_at(fd, bytes, offset)
        }
        done => done,
    }
}
