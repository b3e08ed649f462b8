//! The small requests: one node is looked at, one header answers.

use super::budget::Purpose;
use super::fault;
use super::find::{Found, find};
use super::meta;
use super::seek;
use super::session::{Class, Core};
use super::xattrs;
use crate::rpc::{Sink, SinkClosed};
use rustix::fd::OwnedFd;
use rustix::fs::{fstatvfs, readlinkat_raw};
use std::ffi::CString;
use std::sync::Arc;
use wormhole_protocol::limits::{LINK_TARGET_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use wormhole_protocol::{
    Attr, Fault, FileKind, Leased, LinkTarget, Name, NodeRef, RelPath, Reply, Request, StatFs,
};

/// Answers any request but reads and listings.
pub(super) async fn serve(
    core: &Arc<Core>,
    request: Request,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let slot = core.slot(Class::Small).await;
    // Only extended attributes make answers of any size.
    let _memory = match request {
        Request::GetXattr { .. } | Request::ListXattr { .. } => {
            Some(core.memory(XATTR_VALUE_BYTES_MAX, Purpose::Demand).await)
        }
        _ => None,
    };
    let done = core
        .briefly_on_disk(&slot, move |core| {
            core.with_descriptors(|| answer(core, &request))
        })
        .await
        .and_then(|done| done);
    core.reply(sink, done.unwrap_or_else(Reply::Fault)).await
}

fn answer(core: &Core, request: &Request) -> Result<Reply, Fault> {
    Ok(match request {
        Request::Lookup { dir, name } => lookup(core, dir, name)?,
        Request::Getattr { node } => getattr(core, node)?,
        Request::Readlink { node } => Reply::Link(readlink(core, node)?),
        Request::StatFs => Reply::StatFs(statfs(core)?),
        Request::GetXattr { node, name } => {
            let (fd, kind) = node_and_kind(core, node)?;
            Reply::Xattr(xattrs::value(&fd, kind, name)?)
        }
        Request::ListXattr { node } => {
            let (fd, kind) = node_and_kind(core, node)?;
            Reply::XattrNames(xattrs::names(&fd, kind)?)
        }
        Request::Seek { node, offset, what } => {
            Reply::Offset(seek::seek(core, node, *offset, *what)?)
        }
        // Served elsewhere, and nothing else may fall through to here.
        _ => return Err(Fault::Invalid),
    })
}

fn lookup(core: &Core, dir: &NodeRef, name: &Name) -> Result<Reply, Fault> {
    let root = core.service.share().root();
    let fd = root.node(&dir.path)?;
    let id = meta::file_id(&meta::stat_expected(&fd, dir.expect)?);
    let leased = core.lease(&fd, id, &dir.path);
    let entry = if root.hides_entry(&dir.path, name.as_bytes()) {
        Err(Fault::NotFound)
    } else {
        entry(core, &fd, name)
    };
    if let (Ok(attr), Ok(path)) = (&entry, dir.path.join(name)) {
        seen(core, attr, &path);
    }
    match entry {
        Ok(attr) if leased => Ok(under_lease(Leased::Attr(attr))),
        Err(Fault::NotFound) if leased => Ok(under_lease(Leased::Absent)),
        entry => entry.map(Reply::Attr),
    }
}

/// What is called `name` in a directory.
fn entry(core: &Core, dir: &OwnedFd, name: &Name) -> Result<Attr, Fault> {
    let name = CString::new(name.as_bytes()).map_err(|_| Fault::Invalid)?;
    let now = meta::now();
    // One component, not followed: it cannot lead anywhere else.
    let stx = meta::stat_entry(dir, &name).map_err(fault::of)?;
    let versions = &core.resources().versions;
    versions.entry_attr((dir, &name), &stx, now)
}

/// A mount knows a file by this name from now on.
fn seen(core: &Core, attr: &Attr, path: &RelPath) {
    if attr.kind == FileKind::File {
        let names = core.service.other_names();
        names.found(attr.id, attr.links.into(), path);
    }
}

/// An answer that holds until the mount is told otherwise.
pub(super) fn under_lease(answer: Leased) -> Reply {
    Reply::Leased { answer }
}

fn getattr(core: &Core, node: &NodeRef) -> Result<Reply, Fault> {
    let found = find(core, node)?;
    let leased = if found.kind()? == FileKind::Directory {
        leased_dir(core, node, &found)
    } else {
        leased_entry(core, node, &found)
    };
    match leased {
        Some(attr) => Ok(under_lease(Leased::Attr(attr))),
        None => found.attr(core).map(Reply::Attr),
    }
}

/// Attributes of a directory under its own lease, if there is one.
fn leased_dir(core: &Core, node: &NodeRef, found: &Found) -> Option<Attr> {
    if !core.lease(&found.fd, found.id(), &node.path) {
        return None;
    }
    let now = meta::now();
    let stx = meta::stat(&found.fd).ok()?;
    let versions = &core.resources().versions;
    versions.attr(&found.fd, &stx, now).ok()
}

/// Attributes of anything else under the lease of the directory it is in, if it still is.
fn leased_entry(core: &Core, node: &NodeRef, found: &Found) -> Option<Attr> {
    if !core.service.leases().are_used() {
        return None;
    }
    let (path, name) = node.path.split()?;
    let dir = core.service.share().root().node(&path).ok()?;
    let id = meta::file_id(&meta::stat(&dir).ok()?);
    let attr = || entry(core, &dir, &name).ok();
    let leased = core.lease(&dir, id, &path).then(attr).flatten();
    let leased = leased.filter(|attr| attr.id == found.id());
    leased.inspect(|attr| seen(core, attr, &node.path))
}

fn readlink(core: &Core, node: &NodeRef) -> Result<LinkTarget, Fault> {
    let (fd, kind) = node_and_kind(core, node)?;
    if kind != FileKind::Symlink {
        return Err(Fault::WrongKind);
    }
    // One byte more than may be, to tell a target that was cut.
    let mut target = vec![0; LINK_TARGET_BYTES_MAX + 1];
    let len = readlinkat_raw(&fd, c"", target.as_mut_slice()).map_err(fault::of)?;
    if len > LINK_TARGET_BYTES_MAX {
        return Err(Fault::TooLarge);
    }
    target.truncate(len);
    LinkTarget::new(target).map_err(|_| Fault::Io)
}

fn statfs(core: &Core) -> Result<StatFs, Fault> {
    let s = fstatvfs(core.service.share().root().fd()).map_err(fault::of)?;
    let narrow = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
    Ok(StatFs {
        fragment_bytes: narrow(s.f_frsize),
        block_bytes: narrow(s.f_bsize),
        blocks: s.f_blocks,
        blocks_free: s.f_bfree,
        blocks_available: s.f_bavail,
        files: s.f_files,
        files_free: s.f_ffree,
        name_bytes_max: narrow(s.f_namemax),
    })
}

fn node_and_kind(core: &Core, node: &NodeRef) -> Result<(Arc<OwnedFd>, FileKind), Fault> {
    let found = find(core, node)?;
    let kind = found.kind()?;
    Ok((found.fd, kind))
}
