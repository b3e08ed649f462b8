//! Reserved files: without names, for a mount that makes files before it asks.
//!
//! They are made where they will be named (`O_TMPFILE`), so that owner, group and file system are those of that
//! directory, and are this host's own until then (mode 0600). A directory that has a default ACL, or a file system that
//! cannot, has none; nor has a host that acts for its mounts' users.
//!
//! They belong to a mount as what it holds open does, and take up the same room. Each serves one name.
//!
//! Lock: `files`, leaf.

use super::change::has_default_acl;
use super::held::Room;
use super::limits::{MOUNT_RESERVED_MAX, RESERVED_KEPT};
use super::list;
use super::meta;
use super::session::{Class, Core};
use crate::rpc::{Sink, SinkClosed};
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, openat};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use wormhole_protocol::{Attr, Fault, FileId, NodeRef, RelPath, Reply};

/// The reserved files of one mount.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    files: Mutex<HashMap<FileId, ReservedFile>>,
}

/// A file without a name.
#[derive(Debug)]
pub(super) struct ReservedFile {
    /// In which directory.
    pub(super) dir: FileId,
    /// Open for reading and writing.
    pub(super) fd: OwnedFd,
    /// What it takes up.
    pub(super) room: Room,
    since: Instant,
}

impl Reserved {
    /// Takes the file `id` that was reserved in `dir`.
    pub(super) fn take(&self, id: FileId, dir: FileId) -> Option<ReservedFile> {
        let mut files = self.files.lock();
        files.get(&id).filter(|file| file.dir == dir)?;
        files.remove(&id)
    }

    /// Keeps a file, or takes it back; whether there is room.
    pub(super) fn put(&self, id: FileId, file: ReservedFile) -> bool {
        let mut files = self.files.lock();
        let has_room = files.len() < MOUNT_RESERVED_MAX;
        if has_room {
            files.insert(id, file);
        }
        has_room
    }

    /// Lets go of what nobody named for long.
    pub(super) fn sweep(&self, now: Instant) {
        let young = |file: &ReservedFile| now.saturating_duration_since(file.since) < RESERVED_KEPT;
        self.files.lock().retain(|_, file| young(file));
    }

    fn is_full(&self) -> bool {
        self.files.lock().len() >= MOUNT_RESERVED_MAX
    }

    fn dirs(&self) -> HashSet<FileId> {
        self.files.lock().values().map(|file| file.dir).collect()
    }

    /// Lets go of what had been reserved in these directories by then.
    fn forget(&self, dirs: &HashSet<FileId>, then: Instant) {
        let stays = |file: &ReservedFile| file.since >= then || !dirs.contains(&file.dir);
        self.files.lock().retain(|_, file| stays(file));
    }
}

/// Answers a mount that wants a directory for itself alone, and files to name in it.
pub(super) async fn serve(
    core: &Arc<Core>,
    dir: NodeRef,
    count: u8,
    sink: &mut dyn Sink,
) -> Result<(), SinkClosed> {
    let slot = core.slot(Class::Small).await;
    let work = move |core: &Core| reserve(core, &dir, count);
    let done = core.on_disk(&slot, work).await.and_then(|done| done);
    let reply = done.map_or_else(Reply::Fault, Reply::Reserved);
    core.reply(sink, reply).await
}

/// Leases the directory that was just made at `path`, and reserves up to `count` files in it: its attributes under the
/// lease, and the files. None if it cannot be leased, or if there is something in it.
pub(super) fn in_new_dir(
    core: &Core,
    path: &RelPath,
    id: FileId,
    count: u8,
) -> Option<(Attr, Vec<Attr>)> {
    let dir = NodeRef {
        path: path.clone(),
        expect: Some(id),
    };
    let (attr, mut listing) = core.with_descriptors(|| list::open(core, &dir)).ok()?;
    if !listing.leased {
        return None;
    }
    let seen = list::look(core, &mut listing, 1).ok()?;
    let is_empty = seen.last && seen.entries.is_empty();
    is_empty.then(|| (attr, reserve(core, &dir, count).unwrap_or_default()))
}

fn reserve(core: &Core, dir: &NodeRef, count: u8) -> Result<Vec<Attr>, Fault> {
    let node = core.with_descriptors(|| core.service.share().root().node(&dir.path))?;
    let id = meta::file_id(&meta::stat_expected(&node, dir.expect)?);
    let leases = core.service.leases();
    let may = !core.service.rules().map_users && !has_default_acl(&node);
    if !may || !leases.claim(core.key(), core.number, (id, &dir.path)) {
        return Ok(Vec::new());
    }
    Ok(more(core, &node, (id, &dir.path), count))
}

/// Reserves up to `count` files in a directory its mount holds alone, as many as can be.
pub(super) fn more(core: &Core, dir: &OwnedFd, at: (FileId, &RelPath), count: u8) -> Vec<Attr> {
    if count == 0 || !core.service.leases().is_sole(core.key(), at) {
        return Vec::new();
    }
    (0..count).map_while(|_| one(core, dir, at.0)).collect()
}

fn one(core: &Core, dir: &OwnedFd, id: FileId) -> Option<Attr> {
    let reserved = &core.held.reserved;
    if reserved.is_full() {
        let leases = core.service.leases();
        let (mut shared, then) = (reserved.dirs(), Instant::now());
        shared.retain(|dir| !leases.is_alone(core.key(), *dir));
        reserved.forget(&shared, then);
        if reserved.is_full() {
            return None;
        }
    }
    let room = core.held.spare_room()?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = openat(dir, c".", flags, Mode::RUSR | Mode::WUSR).ok()?;
    let now = meta::now();
    let stx = meta::stat(&fd).ok()?;
    let attr = core.resources().versions.attr(&fd, &stx, now).ok()?;
    let file = ReservedFile {
        dir: id,
        fd,
        room,
        since: Instant::now(),
    };
    reserved.put(attr.id, file).then_some(attr)
}
