//! A change being done: on whose behalf, and who else has to hear of it.

use super::super::leases::{self, Touch, Wait};
use super::super::meta;
use super::super::resolve::Root;
use super::super::session::Core;
use rustix::fd::OwnedFd;
use rustix::fs::readlink;
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use wormhole_protocol::{Caller, Change, FileId, Name, NodeRef, OpenId, RelPath, RenameHow};

/// What `/proc` says behind the path of what is open and has lost its name there.
const REMOVED: &[u8] = b" (deleted)";

/// See the module.
pub(super) struct Act<'a> {
    core: &'a Core,
    /// On whose behalf.
    pub(super) caller: Caller,
    under_way: Cell<Option<leases::Change>>,
    waits: RefCell<Vec<Wait>>,
}

impl<'a> Act<'a> {
    /// `change` begins: nothing of it was done yet.
    pub(super) fn begin(core: &'a Core, caller: Caller, change: &Change) -> Self {
        let leases = core.service.leases();
        let under_way = if leaves_traces(change) {
            leases.begin(core.key(), || touches(core, change))
        } else {
            None
        };
        Self {
            core,
            caller,
            under_way: Cell::new(under_way),
            waits: RefCell::default(),
        }
    }

    /// Something is to be written to what is open under a number.
    pub(super) fn writing(core: &'a Core, caller: Caller, to: OpenId) -> Self {
        Self::through_open(core, caller, to, false)
    }

    /// What is open under a number is to be closed. Each has a window of its own, as short as can be: what others close
    /// at the same place meanwhile is hidden from its mount.
    pub(super) fn closing(core: &'a Core, caller: Caller, open: OpenId) -> Self {
        Self::through_open(core, caller, open, true)
    }

    fn through_open(core: &'a Core, caller: Caller, open: OpenId, closes: bool) -> Self {
        let leases = core.service.leases();
        let touched = || opened(core, open, closes).into_iter().collect();
        Self {
            core,
            caller,
            under_way: Cell::new(leases.begin(core.key(), touched)),
            waits: RefCell::default(),
        }
    }

    /// All of it is done. What it is answered with must be looked at after this; whether this is news.
    pub(super) fn done(&self) -> bool {
        let Some(under_way) = self.under_way.take() else {
            return false;
        };
        self.waits.borrow_mut().extend(under_way.done());
        true
    }

    /// The same, in a directory that its mount may hold alone.
    pub(super) fn done_in(&self, dir: FileId) {
        if let Some(under_way) = self.under_way.take() {
            self.waits.borrow_mut().extend(under_way.done_in(dir));
        }
    }

    /// A file changed as well, of which the kernel does not tell who watches it at `path`.
    pub(super) fn also(&self, id: FileId, path: &RelPath) {
        let Some(under_way) = self.under_way.take() else {
            return;
        };
        match entry_at(self.core, path, id) {
            Some((dir, name)) => under_way.mark(dir, &name),
            None => under_way.end_all(),
        }
        self.under_way.set(Some(under_way));
    }

    /// A file was changed through `fd`, or may have been. If the name it was opened by is gone, the kernel tells
    /// nobody of that: whoever knows it by the name that is left hears of it from here. That may be `path`.
    /// With several left nobody believes anything for long.
    pub(super) fn through(&self, fd: &OwnedFd, path: Option<&RelPath>) {
        let Some(under_way) = self.under_way.take() else {
            return;
        };
        if lost_its_name(fd)
            && let Ok(stx) = meta::stat(fd)
            && stx.stx_nlink == 1
        {
            let id = meta::file_id(&stx);
            let known = self.core.service.other_names().of(id);
            let mut paths = path.into_iter().chain(&known);
            match paths.find_map(|path| entry_at(self.core, path, id)) {
                Some((dir, name)) => under_way.mark_for_all(dir, &name),
                None => under_way.end_all(),
            }
        }
        self.under_way.set(Some(under_way));
    }

    /// Who has to hear of it before it is answered.
    pub(super) fn into_waits(self) -> Vec<Wait> {
        self.waits.into_inner()
    }
}

/// Whether a change leaves anything that others could see.
fn leaves_traces(change: &Change) -> bool {
    !matches!(
        change,
        Change::Open {
            truncate: false,
            ..
        } | Change::Sync { .. }
            | Change::SyncDir { .. }
            | Change::Copy { .. }
            | Change::Close { .. }
    )
}

/// The names a change touches, as far as they are known. Of what is not among them its own mount hears as well.
fn touches(core: &Core, change: &Change) -> Vec<Touch> {
    let name = |dir: &NodeRef, name, names| {
        let path = dir.path.join(name).ok()?;
        Some(Touch {
            path,
            names,
            closes: false,
        })
    };
    let touched: [Option<Touch>; 2] = match change {
        Change::Create { dir, name: n, .. }
        | Change::MakeDir { dir, name: n, .. }
        | Change::MakeNode { dir, name: n, .. }
        | Change::Symlink { dir, name: n, .. }
        | Change::Link { dir, name: n, .. }
        | Change::Unlink { dir, name: n, .. }
        | Change::RemoveDir { dir, name: n } => [name(dir, n, 1), None],
        Change::Rename {
            from,
            from_name,
            to,
            to_name,
            how,
            ..
        } => {
            let times = if *how == RenameHow::Exchange { 2 } else { 1 };
            [name(from, from_name, times), name(to, to_name, times)]
        }
        Change::NameReserved(new) => [name(&new.dir, &new.name, 1), None],
        Change::Write { open, .. }
        | Change::Append { open, .. }
        | Change::Allocate { open, .. } => [opened(core, *open, false), None],
        Change::Open {
            node,
            truncate: true,
            ..
        }
        | Change::SetAttr { node, .. }
        | Change::SetXattr { node, .. }
        | Change::RemoveXattr { node, .. } => {
            let there = node
                .expect
                .is_none_or(|id| id_at(core, &node.path) == Some(id));
            [there.then(|| content(node.path.clone(), false)), None]
        }
        // A copy is made of writings, and each close has a window of its own.
        Change::Open {
            truncate: false, ..
        }
        | Change::Close { .. }
        | Change::Sync { .. }
        | Change::SyncDir { .. }
        | Change::Copy { .. } => [None, None],
    };
    touched.into_iter().flatten().collect()
}

fn content(path: RelPath, closes: bool) -> Touch {
    Touch {
        path,
        names: 0,
        closes,
    }
}

/// What is open, if it still is where it was opened.
fn opened(core: &Core, number: OpenId, closes: bool) -> Option<Touch> {
    let open = core.held.open(number).ok()?;
    let path = open.path.as_ref()?;
    (id_at(core, path) == Some(open.id)).then(|| content(path.clone(), closes))
}

/// Whether the name is gone by which something was opened; some others look as if theirs were.
fn lost_its_name(fd: &OwnedFd) -> bool {
    let path = readlink(Root::proc_path(fd), Vec::new());
    path.is_ok_and(|path| path.to_bytes().ends_with(REMOVED))
}

/// The directory and the name at `path`, if that leads to a file.
fn entry_at(core: &Core, path: &RelPath, id: FileId) -> Option<(FileId, Name)> {
    let (dir, name) = path.split()?;
    let dir = core.service.share().root().node(&dir).ok()?;
    let entry = CString::new(name.as_bytes()).ok()?;
    let found = meta::file_id(&meta::stat_entry(&dir, &entry).ok()?);
    let dir = meta::file_id(&meta::stat(&dir).ok()?);
    (found == id).then_some((dir, name))
}

fn id_at(core: &Core, path: &RelPath) -> Option<FileId> {
    let node = core.service.share().root().node(path).ok()?;
    meta::stat(&node).ok().map(|stx| meta::file_id(&stx))
}
