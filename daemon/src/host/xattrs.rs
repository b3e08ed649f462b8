//! Extended attributes of nodes, as far as they travel ([`XattrName`]).
//!
//! Not here: setting them (`change/attrs.rs`).
//!
//! Invariant: nothing is opened. Names and values are read through a descriptor, or by path through `/proc` where Linux
//! has no call for that; what is read is never followed anywhere else than to the node itself.

use super::fault;
use super::resolve::Root;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{flistxattr, getxattr, listxattr, llistxattr};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use wormhole_protocol::limits::{XATTR_NAMES_MAX, XATTR_VALUE_BYTES_MAX};
use wormhole_protocol::{Fault, FileKind, XattrName};

/// Names of more bytes than this are taken to be some that travel; the kernel's are a few dozen.
const NAMES_BYTES: usize = 256;

/// Whether the node behind `fd` (which may be `O_PATH`, but no symlink's) may have any.
pub(super) fn any(fd: impl AsFd) -> bool {
    let mut names = [0; NAMES_BYTES];
    let len = match flistxattr(&fd, &mut names[..]) {
        // It is `O_PATH`.
        Err(Errno::BADF) => listxattr(Root::proc_path(&fd), &mut names[..]),
        len => len,
    };
    may_be(&names, len)
}

/// Whether the entry `name`, one component, of directory `dir` may have any; a symlink itself.
pub(super) fn any_of_entry(dir: impl AsFd, name: &CStr) -> bool {
    let mut names = [0; NAMES_BYTES];
    let len = list_at(dir.as_fd(), name, &mut names);
    let len = len.unwrap_or_else(|| {
        let mut path = Root::proc_path(&dir).into_bytes();
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
        llistxattr(path, &mut names[..])
    });
    may_be(&names, len)
}

/// listxattrat(2), which Linux has since 6.13 and takes a third of the time. `None` where there is no such call, or none is allowed.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn list_at(dir: BorrowedFd<'_>, name: &CStr, names: &mut [u8]) -> Option<Result<usize, Errno>> {
    use std::os::fd::AsRawFd;
    /// Its number (asm-generic/unistd.h).
    const LISTXATTRAT: libc::c_long = 465;
    // SAFETY: the descriptor is open and the name ends with NUL, both for as long as the call takes; of `names` the
    // kernel writes no more than the length that is given.
    let len = unsafe {
        libc::syscall(
            LISTXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            names.as_mut_ptr(),
            names.len(),
        )
    };
    match usize::try_from(len) {
        Ok(len) => Some(Ok(len)),
        Err(_) => match Errno::from_io_error(&io::Error::last_os_error()) {
            None | Some(Errno::NOSYS | Errno::PERM) => None,
            Some(error) => Some(Err(error)),
        },
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn list_at(_: BorrowedFd<'_>, _: &CStr, _: &mut [u8]) -> Option<Result<usize, Errno>> {
    None
}

/// Not, if it is sure that there are none.
fn may_be(names: &[u8], len: Result<usize, Errno>) -> bool {
    match len {
        Ok(len) => names
            .get(..len)
            .is_none_or(|list| travelling(list).next().is_some()),
        // The file system keeps none.
        Err(Errno::OPNOTSUPP) => false,
        Err(_) => true,
    }
}

/// The names of those of the node behind `fd` (which may be `O_PATH`).
///
/// # Errors
/// Whatever the kernel says.
pub(super) fn names(fd: impl AsFd, kind: FileKind) -> Result<Vec<XattrName>, Fault> {
    if !keeps_users(kind) {
        return Ok(Vec::new());
    }
    // The kernel's own limit (XATTR_LIST_MAX) is the same.
    let mut list = vec![0_u8; XATTR_VALUE_BYTES_MAX];
    let len = listxattr(Root::proc_path(&fd), list.as_mut_slice()).map_err(fault::of)?;
    Ok(travelling(&list[..len]).take(XATTR_NAMES_MAX).collect())
}

/// The value of one of the node behind `fd` (which may be `O_PATH`).
///
/// # Errors
/// [`Fault::NoAttribute`] where there can be none; else whatever the kernel says.
pub(super) fn value(fd: impl AsFd, kind: FileKind, name: &XattrName) -> Result<Vec<u8>, Fault> {
    if !keeps_users(kind) && (kind == FileKind::Symlink || !name.is_acl()) {
        return Err(Fault::NoAttribute);
    }
    let mut value = vec![0; XATTR_VALUE_BYTES_MAX];
    let path = Root::proc_path(&fd);
    let len = getxattr(path, name.as_bytes(), value.as_mut_slice()).map_err(fault::of)?;
    value.truncate(len);
    value.shrink_to_fit();
    Ok(value)
}

/// Linux keeps `user.` attributes on regular files and directories only (xattr(7)).
fn keeps_users(kind: FileKind) -> bool {
    matches!(kind, FileKind::File | FileKind::Directory)
}

fn travelling(list: &[u8]) -> impl Iterator<Item = XattrName> {
    list.split(|b| *b == 0)
        .filter_map(|name| XattrName::new(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, XattrFlags, open, setxattr};
    use std::fs;

    #[test]
    fn either_way_of_asking_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("none"), "x").unwrap();
        fs::write(at("some"), "x").unwrap();
        std::os::unix::fs::symlink("some", at("link")).unwrap();
        let set = setxattr(at("some"), "user.x", b"", XattrFlags::empty());
        let path = |path| open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        let root = path(at(""));
        for (name, has) in [("none", false), ("link", false), ("some", set.is_ok())] {
            let entry = std::ffi::CString::new(name).unwrap();
            assert_eq!(any_of_entry(&root, &entry), has, "{name}");
            let mut names = [0; NAMES_BYTES];
            let by_path = llistxattr(at(name), &mut names[..]);
            assert_eq!(may_be(&names, by_path), has, "{name}");
            if name != "link" {
                assert_eq!(any(path(at(name))), has, "{name}");
                assert_eq!(any(fs::File::open(at(name)).unwrap()), has, "{name}");
            }
        }
        assert!(any_of_entry(&root, c"gone"), "nobody knows");
    }
}
