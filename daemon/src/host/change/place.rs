//! Where an entry is changed: a directory, pinned, and one name in it.

use super::super::fault;
use super::super::meta;
use super::super::resolve::Root;
use super::super::session::Core;
use rustix::fd::OwnedFd;
use rustix::fs::Statx;
use std::ffi::CString;
use wormhole_protocol::{Attr, Fault, FileId, Name, NodeRef, RelPath, Timestamp};

/// An entry of a directory; whether there is one is another question.
pub(super) struct Place {
    /// The directory (`O_PATH`).
    pub(super) dir: OwnedFd,
    /// The name.
    pub(super) name: CString,
    /// Its path, unless that is too long to be one.
    pub(super) path: Option<RelPath>,
}

impl Place {
    /// The entry `name` of `dir`, which is there already or is nothing.
    ///
    /// # Errors
    /// [`Fault::NotFound`] if it is hidden; what finding `dir` says.
    pub(super) fn of(core: &Core, dir: &NodeRef, name: &Name) -> Result<Self, Fault> {
        Self::find(core, dir, name, Fault::NotFound)
    }

    /// The same, to be made: what is hidden cannot be.
    ///
    /// # Errors
    /// [`Fault::NotPermitted`] if it is hidden; what finding `dir` says.
    pub(super) fn to_make(core: &Core, dir: &NodeRef, name: &Name) -> Result<Self, Fault> {
        Self::find(core, dir, name, Fault::NotPermitted)
    }

    fn find(core: &Core, dir: &NodeRef, name: &Name, hidden: Fault) -> Result<Self, Fault> {
        let root = core.service.share().root();
        let fd = core.with_descriptors(|| root.node(&dir.path))?;
        meta::stat_expected(&fd, dir.expect)?;
        if root.hides_entry(&dir.path, name.as_bytes()) {
            return Err(hidden);
        }
        Ok(Self {
            dir: fd,
            name: CString::new(name.as_bytes()).map_err(|_| Fault::Invalid)?,
            path: dir.path.join(name).ok(),
        })
    }

    /// What is there now (`O_PATH`); a symlink itself.
    pub(super) fn node(&self, core: &Core) -> Result<OwnedFd, Fault> {
        core.with_descriptors(|| {
            Root::entry(&self.dir, &self.name).map_err(|errno| match fault::of_change(errno) {
                // It is one name: no symlink was in the way.
                Fault::Loop | Fault::CrossDevice => Fault::Stale,
                other => other,
            })
        })
    }

    /// Whether something hidden lies beneath it.
    pub(super) fn covers_hidden(&self, core: &Core) -> bool {
        let root = core.service.share().root();
        self.path
            .as_ref()
            .is_some_and(|path| root.hides_beneath(path))
    }

    /// Attributes of the directory now.
    pub(super) fn dir_attr(&self, core: &Core) -> Result<Attr, Fault> {
        attr_now(core, &self.dir)
    }
}

/// Attributes of the node behind `fd` now.
pub(super) fn attr_now(core: &Core, fd: &OwnedFd) -> Result<Attr, Fault> {
    Look::at(fd)?.attr(core)
}

/// What the kernel says of a node at some moment.
pub(super) struct Look<'a> {
    node: &'a OwnedFd,
    /// What it says.
    pub(super) stx: Statx,
    now: Timestamp,
}

impl<'a> Look<'a> {
    /// Looks at what is behind a descriptor.
    pub(super) fn at(node: &'a OwnedFd) -> Result<Self, Fault> {
        let now = meta::now();
        let stx = meta::stat(node).map_err(fault::of)?;
        Ok(Self { node, stx, now })
    }

    /// As attributes.
    pub(super) fn attr(&self, core: &Core) -> Result<Attr, Fault> {
        let versions = &core.resources().versions;
        versions.attr(self.node, &self.stx, self.now)
    }

    /// Its identity.
    pub(super) fn id(&self) -> FileId {
        meta::file_id(&self.stx)
    }
}
