//! A TUN device: what the kernel sends into it is read from a descriptor.
//!
//! Source: the kernel's Documentation/networking/tuntap.rst.

use rustix::fs::{Mode, OFlags, open};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Makes the device `name` in the network namespace of the calling thread. A read or a write is of one
/// packet, bare IP after a `virtio_net_hdr`, and never blocks. The kernel takes it for a card that cuts what
/// is long and fills in checksums.
pub(crate) fn open_tun(name: &str) -> io::Result<OwnedFd> {
    let device = open(
        "/dev/net/tun",
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    // SAFETY: all zeros is a valid ifreq: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR)
            .map_err(io::Error::other)?;
    // SAFETY: the descriptor is a TUN device's, and TUNSETIFF takes a pointer to an ifreq that lives
    // through the call.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    // What a kernel does not know (UDP before 6.2) it cuts itself.
    if !may_leave_undone(&device, tcp | udp) {
        may_leave_undone(&device, tcp);
    }
    Ok(device)
}

/// Tells the kernel what it may leave undone in packets it hands over; whether it knows all of that.
fn may_leave_undone(device: &OwnedFd, offloads: libc::c_uint) -> bool {
    // SAFETY: the descriptor is a TUN device's, and TUNSETOFFLOAD takes flags, no pointer.
    unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) == 0 }
}
