//! From the kernel's errors to the closed set of the wire: the one table.

use rustix::io::Errno;
use wormhole_protocol::Fault;

/// The fault that tells a mount what `errno` means to it.
pub(super) fn of(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT => Fault::NotFound,
        Errno::ACCESS | Errno::PERM => Fault::Denied,
        Errno::NOTDIR => Fault::NotDirectory,
        Errno::ISDIR => Fault::IsDirectory,
        Errno::NAMETOOLONG => Fault::NameTooLong,
        // A symlink where the mount believes a directory (it never sends one in the middle of a path),
        // or a way out of the share: what it knows is out of date.
        Errno::LOOP | Errno::XDEV | Errno::STALE => Fault::Stale,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => Fault::Exhausted,
        Errno::INVAL => Fault::Invalid,
        Errno::ROFS => Fault::ReadOnly,
        Errno::NODATA => Fault::NoAttribute,
        Errno::RANGE | Errno::TOOBIG | Errno::OVERFLOW | Errno::FBIG => Fault::TooLarge,
        Errno::OPNOTSUPP | Errno::NOSYS => Fault::Unsupported,
        Errno::NXIO | Errno::NODEV => Fault::WrongKind,
        _ => Fault::Io,
    }
}

/// The same for what changes something, where some errors mean more than to a reader.
pub(super) fn of_change(errno: Errno) -> Fault {
    match errno {
        Errno::PERM => Fault::NotPermitted,
        Errno::EXIST => Fault::Exists,
        Errno::NOTEMPTY => Fault::NotEmpty,
        Errno::NOSPC => Fault::NoSpace,
        Errno::DQUOT => Fault::Quota,
        Errno::FBIG => Fault::FileTooLarge,
        Errno::XDEV => Fault::CrossDevice,
        Errno::BUSY => Fault::Busy,
        Errno::MLINK => Fault::TooManyLinks,
        Errno::TXTBSY => Fault::TextBusy,
        Errno::LOOP => Fault::Loop,
        other => of(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        for (errno, fault) in [
            (Errno::NOENT, Fault::NotFound),
            (Errno::ACCESS, Fault::Denied),
            (Errno::NOTDIR, Fault::NotDirectory),
            (Errno::LOOP, Fault::Stale),
            (Errno::XDEV, Fault::Stale),
            (Errno::MFILE, Fault::Exhausted),
            (Errno::NODATA, Fault::NoAttribute),
            (Errno::NAMETOOLONG, Fault::NameTooLong),
            (Errno::IO, Fault::Io),
            (Errno::BADF, Fault::Io),
        ] {
            assert_eq!(of(errno), fault, "{errno}");
        }
        for (errno, fault) in [
            (Errno::PERM, Fault::NotPermitted),
            (Errno::ACCESS, Fault::Denied),
            (Errno::EXIST, Fault::Exists),
            (Errno::NOTEMPTY, Fault::NotEmpty),
            (Errno::NOSPC, Fault::NoSpace),
            (Errno::DQUOT, Fault::Quota),
            (Errno::FBIG, Fault::FileTooLarge),
            (Errno::XDEV, Fault::CrossDevice),
            (Errno::BUSY, Fault::Busy),
            (Errno::MLINK, Fault::TooManyLinks),
            (Errno::TXTBSY, Fault::TextBusy),
            (Errno::ROFS, Fault::ReadOnly),
            (Errno::IO, Fault::Io),
        ] {
            assert_eq!(of_change(errno), fault, "{errno}");
        }
    }
}
