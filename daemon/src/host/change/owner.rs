//! Whose a new node is, and with which mode; and what a write does to set-id bits.
//!
//! The mode a mount asks for has its caller's umask taken off, and this process has a umask of its own, which
//! belongs to all its threads and must not be set to serve one request. So a node that came out with less than
//! was asked is given the rest afterwards; not where the directory has a default ACL, for there the kernel
//! asks no umask, and has made of the mode what the ACL says.

use super::super::fault;
use super::super::held::Open;
use super::super::resolve::Root;
use super::super::session::Core;
use super::act::Act;
use super::place::{Look, attr_now};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Gid, Mode, Uid, chownat, getxattr};
use wormhole_protocol::{Attr, Caller, Fault};

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXECUTES: u16 = 0o0010;
const KIND: u16 = 0o17_0000;
const DIRECTORY: u16 = 0o04_0000;
/// What remains of the mode of a new directory (mkdir(2)).
const NEW_DIRECTORY: u16 = 0o1777;
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Checks that a mount that acts for its users names one.
pub(super) fn check(core: &Core, act: &Act<'_>) -> Result<(), Fault> {
    // The largest number means "no change" to the kernel.
    let Caller { uid, gid } = act.caller;
    let nobody = uid == u32::MAX || gid == u32::MAX;
    if maps_users(core) && nobody {
        return Err(Fault::Invalid);
    }
    Ok(())
}

/// Gives `node`, just made in `dir`, to its maker, with the mode that was asked, if it has one.
pub(super) fn settle(
    core: &Core,
    act: &Act<'_>,
    dir: &OwnedFd,
    node: &OwnedFd,
    mode: Option<u16>,
) -> Result<(), Fault> {
    if maps_users(core) {
        let inherits = Look::at(dir)?.stx.stx_mode & SET_GID != 0;
        let group = (!inherits).then_some(act.caller.gid);
        set_owner(node, Some(act.caller.uid), group)?;
    }
    let Some(mode) = mode else {
        return Ok(());
    };
    let now = Look::at(node)?.stx.stx_mode;
    let wanted = if now & KIND == DIRECTORY {
        // The kernel hands the bit down.
        (mode & NEW_DIRECTORY) | (now & SET_GID)
    } else {
        mode & 0o7777
    };
    if now & 0o7777 == wanted {
        return Ok(());
    }
    let wanted = if has_default_acl(dir) {
        (wanted & 0o7000) | (now & 0o777)
    } else {
        wanted
    };
    set_mode(core, node, wanted)
}

/// Sets the owner of the node behind `fd` itself.
pub(super) fn set_owner(fd: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Fault> {
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Fault::Invalid);
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(fault::of_change)
}

/// Sets the mode of the node behind `fd`, which is no symlink.
pub(super) fn set_mode(core: &Core, fd: &OwnedFd, mode: u16) -> Result<(), Fault> {
    let mode = Mode::from_raw_mode(u32::from(mode & 0o7777));
    let root = core.service.share().root();
    root.set_mode(fd, mode).map_err(fault::of_change)
}

/// Looks at a file that was written to. A host that acts for users is privileged, so its kernel takes no
/// set-id bit from what it writes: for a caller who is not, it is taken here.
pub(super) fn written<'a>(
    core: &Core,
    act: &Act<'_>,
    file: &'a OwnedFd,
) -> Result<Look<'a>, Fault> {
    let look = Look::at(file)?;
    let mode = look.stx.stx_mode;
    let mut dropped = mode & SET_UID;
    if mode & GROUP_EXECUTES != 0 {
        dropped |= mode & SET_GID;
    }
    if dropped == 0 || !maps_users(core) || act.caller.uid == 0 {
        return Ok(look);
    }
    set_mode(core, file, mode & !dropped)?;
    Look::at(file)
}

/// The same, when nothing is left to be done: the attributes that are the answer.
pub(super) fn after_writing(core: &Core, act: &Act<'_>, open: &Open) -> Result<Attr, Fault> {
    let look = written(core, act, &open.fd)?;
    act.through(&open.fd, open.path.as_ref());
    if act.done() {
        attr_now(core, &open.fd)
    } else {
        look.attr(core)
    }
}

fn maps_users(core: &Core) -> bool {
    core.service.rules().map_users
}

/// Whether what is made in a directory inherits an access control list.
pub(in super::super) fn has_default_acl(dir: &OwnedFd) -> bool {
    getxattr(Root::proc_path(dir), DEFAULT_ACL, &mut [0_u8; 0]).is_ok()
}
