//! Where the data and the holes of a file are.
//!
//! `lseek(2)` moves the offset of the descriptor it is asked of. Those that are kept open are used by other
//! requests, and an append reads its place off one; so each search opens the file anew.

use super::fault;
use super::find::find;
use super::session::Core;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use wormhole_protocol::limits::OFFSET_MAX;
use wormhole_protocol::{Fault, NodeRef, SeekWhat};

/// Where, from `offset` on, what is looked for begins in the regular file `node`.
///
/// # Errors
/// [`Fault::NoData`] if nowhere; else as for a read.
pub(super) fn seek(core: &Core, node: &NodeRef, offset: u64, what: SeekWhat) -> Result<u64, Fault> {
    let file = reopened(core, node)?;
    search(&file, offset, what)
}

/// The regular file meant, with an offset of its own: the one the mount holds open, else the one at the
/// path.
fn reopened(core: &Core, node: &NodeRef) -> Result<OwnedFd, Fault> {
    let found = find(core, node)?;
    found.is_file()?;
    let root = core.service.share().root();
    root.reopen_file(&found.fd).map_err(fault::of)
}

fn search(file: impl AsFd, offset: u64, what: SeekWhat) -> Result<u64, Fault> {
    if offset > OFFSET_MAX {
        return Err(Fault::Invalid);
    }
    let from = match what {
        SeekWhat::Data => SeekFrom::Data(offset),
        SeekWhat::Hole => SeekFrom::Hole(offset),
    };
    rustix::fs::seek(file, from).map_err(|e| match e {
        Errno::NXIO => Fault::NoData,
        other => fault::of(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn data_and_holes_are_found_and_the_end_is_a_hole() {
        let file = tempfile::tempfile().unwrap();
        let mib = 1 << 20;
        file.write_all_at(b"x", 4 * mib).unwrap();
        file.set_len(8 * mib).unwrap();
        let data = |from| search(&file, from, SeekWhat::Data);
        let hole = |from| search(&file, from, SeekWhat::Hole);
        let first = data(0).unwrap();
        // A file system without holes says that all is data.
        if first > 0 {
            assert!(first <= 4 * mib && first > 3 * mib, "{first}");
            assert_eq!(hole(0), Ok(0));
            assert!(hole(4 * mib).unwrap() < 5 * mib);
            assert_eq!(data(7 * mib), Err(Fault::NoData));
        }
        assert_eq!(data(4 * mib), Ok(4 * mib));
        assert_eq!(hole(8 * mib - 1).map(|at| at >= 8 * mib - 1), Ok(true));
        assert_eq!(data(8 * mib), Err(Fault::NoData), "nothing at the end");
        assert_eq!(hole(8 * mib), Err(Fault::NoData));
        assert_eq!(data(u64::MAX), Err(Fault::Invalid));
    }
}
