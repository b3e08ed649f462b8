//! The bare file system: no peer, but the limit of what any of them can reach on this machine.

use super::{Mounted, Peer, PeerError, Served, Site, describe};
use crate::record::PeerInfo;
use std::path::{Path, PathBuf};

/// See the module.
pub(super) struct Local;

impl Peer for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn info(&self, _site: &Site) -> PeerInfo {
        describe(
            self.name(),
            Ok(rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned()),
            &["the shared folder itself, without a link: a limit, not a peer"],
            "close: in the page cache; fsync: on this machine's disk",
        )
    }

    fn writes(&self) -> bool {
        true
    }

    fn serve(
        &self,
        _site: &Site,
        share: &Path,
        _folder: &Path,
    ) -> Result<Box<dyn Served>, PeerError> {
        Ok(Box::new(Share(share.to_path_buf())))
    }
}

/// The folder, as server and as mount.
struct Share(PathBuf);

impl Served for Share {
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    fn mount(
        &mut self,
        _site: &Site,
        _path: &Path,
        _folder: &Path,
    ) -> Result<Box<dyn Mounted>, PeerError> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

impl Mounted for Share {
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    fn root(&self) -> &Path {
        &self.0
    }

    fn poll(&mut self) -> Result<bool, PeerError> {
        Ok(true)
    }

    fn kill(&mut self) {}

    fn unmount(self: Box<Self>) -> Result<(), PeerError> {
        Ok(())
    }
}
