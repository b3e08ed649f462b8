//! A TUN device: what the kernel sends into it is read from a descriptor, a packet at a time.
//!
//! Source: the kernel's Documentation/networking/tuntap.rst.

use rustix::fs::{Mode, OFlags, open};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Makes the device `name` in the network namespace of the calling thread. Packets are bare IP, whole
/// (the kernel cuts what it would have a card cut), one to a read or write, which never block.
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
        libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).map_err(io::Error::other)?;
    // SAFETY: the descriptor is a TUN device's, and TUNSETIFF takes a pointer to an ifreq that lives
    // through the call.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    match done {
        0.. => Ok(device),
        _ => Err(io::Error::last_os_error()),
    }
}
