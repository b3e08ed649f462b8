//! Files and their bytes: opened under a number, written, allocated, made durable, closed.

use super::super::fault;
use super::super::find::find;
use super::super::held::{Open, Room};
use super::super::limits::WRITE_OUT_BYTES;
use super::super::meta;
use super::super::session::Core;
use super::act::Act;
use super::place::Place;
use super::{attrs, owner};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, fallocate, fdatasync, fsync, ftruncate, openat, tell,
    unlinkat,
};
use rustix::io::{Errno, ReadWriteFlags, pwrite, pwritev2};
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{
    Access, AfterWrite, Allocate, Attr, Change, Extent, Fault, FileKind, NodeRef, OpenId, Reply,
    SyncWhat,
};

/// Attempts to create or open an entry that others create and remove meanwhile.
const CREATE_TRIES: usize = 8;

/// Does one of the changes of files.
pub(super) fn apply(
    core: &Core,
    act: &Act<'_>,
    change: &Change,
    bytes: &[u8],
) -> Result<Reply, Fault> {
    match change {
        Change::Open {
            node,
            access,
            truncate,
            open,
        } => open_node(core, act, node, (*access, *truncate), *open),
        Change::Create {
            dir,
            name,
            mode,
            exclusive,
            truncate,
            open,
        } => {
            owner::check(core, act)?;
            let place = Place::to_make(core, dir, name)?;
            let how = How {
                mode: *mode,
                exclusive: *exclusive,
                truncate: *truncate,
            };
            create(core, act, &place, how, *open)
        }
        Change::Write { open, .. }
        | Change::Append { open, .. }
        | Change::Allocate { open, .. } => {
            let open = core.held.writable(*open)?;
            let done = change_bytes(core, act, &open, change, bytes);
            if done.is_err() {
                // A part of it may be there.
                act.through(&open.fd, open.path.as_ref());
            }
            done
        }
        Change::Sync { open, what } => {
            let open = core.held.open(*open)?;
            sync_open(&open, *what).map(|()| Reply::Done)
        }
        Change::SyncDir { dir } => sync_dir(core, dir),
        _ => Err(Fault::Invalid),
    }
}

fn open_node(
    core: &Core,
    act: &Act<'_>,
    node: &NodeRef,
    (access, truncate): (Access, bool),
    number: OpenId,
) -> Result<Reply, Fault> {
    if truncate && !access.writes() {
        return Err(Fault::Invalid);
    }
    let room = core.held.room()?;
    let found = core.with_descriptors(|| find(core, node))?;
    found.is_file()?;
    let (fd, readable) = reopen(core, &found.fd, access)?;
    let attr = match truncate {
        true => {
            let emptied = empty(core, act, &fd);
            act.through(&fd, Some(&node.path));
            emptied?;
            act.done();
            super::place::attr_now(core, &fd)?
        }
        false => found.attr(core)?,
    };
    let names = core.service.other_names();
    names.found(found.id(), found.stx.stx_nlink.into(), &node.path);
    let path = Some(node.path.clone());
    let open = Open::new(found.id(), fd, access, readable, room).at(path);
    core.held.hold(number, open);
    Ok(Reply::Attr(attr))
}

/// Opens the regular file behind `node` again; and whether what was opened reads. A file that may be written
/// and not read can still be written.
pub(super) fn reopen(
    core: &Core,
    node: &OwnedFd,
    access: Access,
) -> Result<(OwnedFd, bool), Fault> {
    let root = core.service.share().root();
    let open =
        |flags| core.with_descriptors(|| root.reopen_for(node, flags).map_err(fault::of_change));
    if !access.writes() {
        return Ok((open(OFlags::RDONLY)?, true));
    }
    match open(OFlags::RDWR) {
        Ok(fd) => Ok((fd, true)),
        Err(Fault::Denied) => Ok((open(OFlags::WRONLY)?, false)),
        Err(fault) => Err(fault),
    }
}

/// Opens the regular file behind `node`, which is about to lose its name, as well as it can be.
pub(super) fn keep(core: &Core, node: &OwnedFd) -> Option<Open> {
    let stx = meta::stat(node).ok()?;
    if meta::kind(&stx) != Some(FileKind::File) {
        return None;
    }
    let room = core.held.room().ok()?;
    let (access, opened) = match reopen(core, node, Access::ReadWrite) {
        Ok(opened) => (Access::ReadWrite, opened),
        Err(_) => (Access::Read, reopen(core, node, Access::Read).ok()?),
    };
    let (fd, readable) = opened;
    Some(Open::new(meta::file_id(&stx), fd, access, readable, room))
}

/// How an entry is created.
#[derive(Clone, Copy)]
struct How {
    mode: u16,
    exclusive: bool,
    truncate: bool,
}

fn create(
    core: &Core,
    act: &Act<'_>,
    place: &Place,
    how: How,
    number: OpenId,
) -> Result<Reply, Fault> {
    let mut room = core.held.room()?;
    for _ in 0..CREATE_TRIES {
        let open = match create_new(core, act, place, how.mode, room) {
            Err((Fault::Exists, again)) if !how.exclusive => {
                match open_present(core, act, place, how.truncate, again) {
                    // It went between the two looks.
                    Err((Fault::NotFound, again)) => {
                        room = again;
                        continue;
                    }
                    opened => opened,
                }
            }
            created => created,
        };
        let open = open.map_err(|(fault, _)| fault)?;
        act.done();
        let attr = super::place::attr_now(core, &open.fd)?;
        let dir = place.dir_attr(core)?;
        core.held.hold(number, open.at(place.path.clone()));
        return Ok(Reply::Made { attr, dir });
    }
    Err(Fault::Exhausted)
}

fn create_new(
    core: &Core,
    act: &Act<'_>,
    place: &Place,
    mode: u16,
    room: Room,
) -> Result<Open, (Fault, Room)> {
    // Exclusively: nothing that is there is opened, so nothing can block, act or be followed.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let bits = Mode::from_raw_mode(u32::from(mode & 0o7777));
    let made = core.with_descriptors(|| {
        openat(&place.dir, &place.name, flags, bits).map_err(fault::of_change)
    });
    let fd = match made {
        Ok(fd) => fd,
        Err(fault) => return Err((fault, room)),
    };
    let settled = owner::settle(core, act, &place.dir, &fd, Some(mode));
    match settled.and_then(|()| meta::stat(&fd).map_err(fault::of)) {
        Ok(stx) => {
            let id = meta::file_id(&stx);
            Ok(Open::new(id, fd, Access::ReadWrite, true, room))
        }
        Err(fault) => {
            // Best effort: the failure is what counts.
            let _ = unlinkat(&place.dir, &place.name, AtFlags::empty());
            Err((fault, room))
        }
    }
}

fn open_present(
    core: &Core,
    act: &Act<'_>,
    place: &Place,
    truncate: bool,
    room: Room,
) -> Result<Open, (Fault, Room)> {
    let opened = || {
        let node = place.node(core)?;
        let stx = meta::stat(&node).map_err(fault::of)?;
        match meta::kind(&stx) {
            Some(FileKind::File) => {}
            Some(FileKind::Directory) => return Err(Fault::IsDirectory),
            // The mount would have followed it, had it known.
            Some(FileKind::Symlink) => return Err(Fault::Stale),
            _ => return Err(Fault::WrongKind),
        }
        let (fd, readable) = reopen(core, &node, Access::ReadWrite)?;
        if truncate {
            empty(core, act, &fd)?;
        }
        if let Some(path) = &place.path {
            let names = core.service.other_names();
            names.found(meta::file_id(&stx), stx.stx_nlink.into(), path);
        }
        Ok((meta::file_id(&stx), fd, readable))
    };
    match opened() {
        Ok((id, fd, readable)) => Ok(Open::new(id, fd, Access::ReadWrite, readable, room)),
        Err(fault) => Err((fault, room)),
    }
}

fn empty(core: &Core, act: &Act<'_>, file: &OwnedFd) -> Result<(), Fault> {
    ftruncate(file, 0).map_err(fault::of_change)?;
    owner::written(core, act, file).map(drop)
}

fn change_bytes(
    core: &Core,
    act: &Act<'_>,
    open: &Open,
    change: &Change,
    bytes: &[u8],
) -> Result<Reply, Fault> {
    match change {
        Change::Write { offset, after, .. } => {
            write(open, *offset, bytes)?;
            let (attr, unset) = finish(core, act, open, *after)?;
            Ok(match unset {
                Some(fault) => Reply::Unset { attr, fault },
                None => Reply::Attr(attr),
            })
        }
        Change::Append { .. } => append(core, act, open, bytes),
        Change::Allocate { extent, how, .. } => allocate(core, act, open, *extent, *how),
        _ => Err(Fault::Invalid),
    }
}

fn write(open: &Open, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
    let end = offset.checked_add(bytes.len() as u64);
    if end.is_none_or(|end| end > OFFSET_MAX) {
        return Err(Fault::FileTooLarge);
    }
    write_at(&open.fd, bytes, offset)?;
    begin_writing_out(open, offset + bytes.len() as u64);
    Ok(())
}

/// Bytes were written: what is done then. The attributes after it, and why they could not be set.
fn finish(
    core: &Core,
    act: &Act<'_>,
    open: &Open,
    after: AfterWrite,
) -> Result<(Attr, Option<Fault>), Fault> {
    let Some(set) = after.set else {
        let attr = owner::after_writing(core, act, open)?;
        sync_after(open, after)?;
        return Ok((attr, None));
    };
    // Bits that writing takes away may be given back.
    owner::written(core, act, &open.fd)?;
    let unset = attrs::set_open(core, act, open, &set).err();
    act.through(&open.fd, open.path.as_ref());
    act.done();
    let attr = super::place::attr_now(core, &open.fd)?;
    sync_after(open, after)?;
    Ok((attr, unset))
}

/// Makes a file durable if that is to be done once it was written to.
pub(super) fn sync_after(open: &Open, after: AfterWrite) -> Result<(), Fault> {
    after.sync.map_or(Ok(()), |what| sync_open(open, what))
}

/// Has the disk begin with a file that is being written from its start to its end, so that little is left to
/// do when it is synced. What was written last may come in any order, and is left alone for a while; so are
/// short files, which may be gone soon, and writes that go back.
fn begin_writing_out(open: &Open, end: u64) {
    let begun = open.begun_bytes.load(Ordering::Relaxed);
    let Some(until) = end.checked_sub(WRITE_OUT_BYTES) else {
        return;
    };
    if until < begun + WRITE_OUT_BYTES {
        return;
    }
    let exchanged =
        open.begun_bytes
            .compare_exchange(begun, until, Ordering::Relaxed, Ordering::Relaxed);
    // Another write was first, or these are beyond what the kernel counts in.
    let (Ok(_), Ok(from), Ok(len)) = (
        exchanged,
        libc::off64_t::try_from(begun),
        libc::off64_t::try_from(until - begun),
    ) else {
        return;
    };
    // SAFETY: takes numbers only, and the descriptor is open as long as `open` is.
    // What the disk says to it is told at the sync, as after any writing out.
    unsafe {
        libc::sync_file_range(open.fd.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_at(fd: &OwnedFd, bytes: &[u8], offset: u64) -> Result<(), Fault> {
    let mut written = 0;
    while written < bytes.len() {
        match pwrite(fd, &bytes[written..], offset + written as u64) {
            Ok(0) => return Err(Fault::Io),
            Ok(n) => written += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(fault::of_change(e)),
        }
    }
    Ok(())
}

fn append(core: &Core, act: &Act<'_>, open: &Open, bytes: &[u8]) -> Result<Reply, Fault> {
    let offset = {
        let _alone = open.appending.lock();
        append_alone(&open.fd, bytes)?
    };
    let attr = owner::after_writing(core, act, open)?;
    Ok(Reply::Appended { offset, attr })
}

/// Writes at the end and says where that was. The kernel finds the end and writes in one step; the offset of
/// the descriptor, which nothing else uses, is afterwards where the bytes end.
fn append_alone(fd: &OwnedFd, bytes: &[u8]) -> Result<u64, Fault> {
    /// "Where the descriptor stands" (pwritev2(2)).
    const AT_DESCRIPTOR: u64 = u64::MAX;
    if bytes.is_empty() {
        return Ok(meta::stat(fd).map_err(fault::of)?.stx_size);
    }
    let mut begin = None;
    let mut written = 0;
    while written < bytes.len() {
        let rest = [IoSlice::new(&bytes[written..])];
        match pwritev2(fd, &rest, AT_DESCRIPTOR, ReadWriteFlags::APPEND) {
            Ok(n) if n > 0 => {
                let end = tell(fd).map_err(fault::of)?;
                begin = begin.or(Some(end.saturating_sub(n as u64)));
                written += n;
            }
            Err(Errno::INTR) => {}
            failed => {
                let fault = failed.err().map_or(Fault::Io, fault::of_change);
                take_back(fd, begin, written);
                return Err(fault);
            }
        }
    }
    begin.ok_or(Fault::Io)
}

/// Cuts off what was appended of a whole that was not, if nobody has written after it.
fn take_back(fd: &OwnedFd, begin: Option<u64>, written: usize) {
    let size = meta::stat(fd).map(|stx| stx.stx_size).ok();
    if let Some(begin) = begin
        && size == Some(begin + written as u64)
    {
        let _ = ftruncate(fd, begin);
    }
}

fn allocate(
    core: &Core,
    act: &Act<'_>,
    open: &Open,
    extent: Extent,
    how: Allocate,
) -> Result<Reply, Fault> {
    let flags = match how {
        Allocate::Grow => FallocateFlags::empty(),
        Allocate::KeepSize => FallocateFlags::KEEP_SIZE,
        Allocate::PunchHole => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        Allocate::Zero => FallocateFlags::ZERO_RANGE,
        Allocate::ZeroKeepSize => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
    };
    loop {
        match fallocate(&open.fd, flags, extent.offset(), extent.len()) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(e) => return Err(fault::of_change(e)),
        }
    }
    let attr = owner::after_writing(core, act, open)?;
    Ok(Reply::Attr(attr))
}

/// Makes a file durable. The kernel tells each descriptor once of bytes it could not write, and may have dropped them
/// then: an open whose sync failed never syncs again.
fn sync_open(open: &Open, what: SyncWhat) -> Result<(), Fault> {
    if open.broken.load(Ordering::Relaxed) {
        return Err(Fault::Io);
    }
    let synced = match what {
        SyncWhat::All => fsync(&open.fd),
        SyncWhat::Data => fdatasync(&open.fd),
    };
    match synced {
        Ok(()) => Ok(()),
        Err(e) => {
            open.broken.store(true, Ordering::Relaxed);
            Err(fault::of_change(e))
        }
    }
}

fn sync_dir(core: &Core, dir: &NodeRef) -> Result<Reply, Fault> {
    let root = core.service.share().root();
    let fd = core.with_descriptors(|| {
        let found = find(core, dir)?;
        root.reopen_dir(&found.fd).map_err(fault::of)
    })?;
    match fsync(&fd) {
        // A file system that has nothing to do for a directory says so.
        Ok(()) | Err(Errno::INVAL) => Ok(Reply::Done),
        Err(e) => Err(fault::of_change(e)),
    }
}
