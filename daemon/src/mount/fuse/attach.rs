//! Attaching a FUSE device to the tree as root: mount(2) itself, so that the mount table shows the type
//! `fuse.wormhole`. (fuser's own call drops the subtype; fusermount3, which others use, sets it.)

use fuser::SessionACL;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The type in the mount table.
const FS_TYPE: &str = "fuse.wormhole";

/// Mounts a new FUSE connection at `mountpoint`; the descriptor is its device.
pub(super) fn attach(
    mountpoint: &Path,
    source: &str,
    acl: SessionACL,
    default_permissions: bool,
    flags: MountFlags,
) -> io::Result<OwnedFd> {
    let device = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let mut options = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid}",
        device.as_raw_fd()
    );
    if acl != SessionACL::Owner {
        options.push_str(",allow_other");
    }
    if default_permissions {
        options.push_str(",default_permissions");
    }
    let options = CString::new(options)?;
    let flags = flags | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
    mount(source, mountpoint, FS_TYPE, flags, options.as_c_str())?;
    Ok(device)
}
