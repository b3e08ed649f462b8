//! From a node in a request to the node: what the mount holds open, else what is at the path.
//!
//! An open outlives names: a file that was unlinked or renamed is still the one the mount means, as long as
//! it holds it.

use super::fault;
use super::held::Open;
use super::meta;
use super::session::Core;
use rustix::fd::OwnedFd;
use rustix::fs::Statx;
use std::sync::Arc;
use wormhole_protocol::{Attr, Fault, FileId, FileKind, NodeRef, Timestamp};

/// A node, and what it was like when it was found.
pub(super) struct Found {
    /// `O_PATH`, or open if the mount holds it so.
    pub(super) fd: Arc<OwnedFd>,
    /// What the kernel says.
    pub(super) stx: Statx,
    /// When it was asked.
    now: Timestamp,
}

impl Found {
    /// What is open.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(open: &Open) -> Result<Self, Fault> {
        let (fd, now) = (open.fd.clone(), meta::now());
        let stx = meta::stat(&fd).map_err(fault::of)?;
        Ok(Self { fd, stx, now })
    }

    /// Its kind.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] if there is no word for it.
    pub(super) fn kind(&self) -> Result<FileKind, Fault> {
        meta::kind(&self.stx).ok_or(Fault::Unsupported)
    }

    /// Its identity.
    pub(super) fn id(&self) -> FileId {
        meta::file_id(&self.stx)
    }

    /// Its attributes when it was found.
    pub(super) fn attr(&self, core: &Core) -> Result<Attr, Fault> {
        let versions = &core.resources().versions;
        versions.attr(&*self.fd, &self.stx, self.now)
    }

    /// Checks that its content can be read or written.
    pub(super) fn is_file(&self) -> Result<(), Fault> {
        match self.kind()? {
            FileKind::File => Ok(()),
            FileKind::Directory => Err(Fault::IsDirectory),
            _ => Err(Fault::WrongKind),
        }
    }
}

/// Finds `node`.
///
/// # Errors
/// [`Fault::Stale`] if another is there than the mount believes; else what the kernel says.
pub(super) fn find(core: &Core, node: &NodeRef) -> Result<Found, Fault> {
    let held = node.expect.and_then(|id| core.held.open_of(id));
    let fd = match held {
        Some(open) => open.fd.clone(),
        None => Arc::new(core.service.share().root().node(&node.path)?),
    };
    let now = meta::now();
    let stx = meta::stat_expected(&fd, node.expect)?;
    Ok(Found { fd, stx, now })
}
