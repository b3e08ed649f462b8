//! Wormhole's types as fuser's: errors to errno (the one table), attributes, kinds, times.

use super::super::error::FsError;
use super::super::inodes::Ino;
use fuser::{Errno, FileAttr, FileType, INodeNo};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wormhole_protocol::limits::CHUNK_BYTES;
use wormhole_protocol::{Attr, Fault, FileKind, Timestamp};

/// Whose the files appear to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// All belong to the mounting user.
    Mounter {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// The host's numbers.
    Host,
}

/// The errno of an error, as POSIX names it.
pub(super) fn errno(error: FsError) -> Errno {
    match error {
        FsError::Fault(fault) => errno_of_fault(fault),
        FsError::Stale => Errno::ESTALE,
        // A read that timed out is an I/O error to programs; ETIMEDOUT would surprise most.
        FsError::Io | FsError::TimedOut => Errno::EIO,
        FsError::BadHandle => Errno::EBADF,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::Range => Errno::ERANGE,
        FsError::Killed => Errno::EINTR,
    }
}

fn errno_of_fault(fault: Fault) -> Errno {
    match fault {
        Fault::NotFound => Errno::ENOENT,
        Fault::Denied => Errno::EACCES,
        Fault::Stale => Errno::ESTALE,
        Fault::NotDirectory => Errno::ENOTDIR,
        Fault::IsDirectory => Errno::EISDIR,
        Fault::WrongKind | Fault::Invalid => Errno::EINVAL,
        Fault::NameTooLong => Errno::ENAMETOOLONG,
        Fault::Loop => Errno::ELOOP,
        Fault::ReadOnly => Errno::EROFS,
        Fault::Exhausted => Errno::EAGAIN,
        Fault::NoAttribute => Errno::ENODATA,
        Fault::TooLarge => Errno::E2BIG,
        Fault::Unsupported => Errno::EOPNOTSUPP,
        Fault::Io | Fault::Changed | Fault::Closing => Errno::EIO,
    }
}

/// The kind of a node.
pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Attributes as the kernel takes them. What no kernel accepts (a size beyond `off_t`) is cut.
pub(super) fn file_attr(ino: Ino, attr: &Attr, owner: Owner) -> FileAttr {
    let (uid, gid) = match owner {
        Owner::Mounter { uid, gid } => (uid, gid),
        Owner::Host => (attr.uid, attr.gid),
    };
    FileAttr {
        ino: INodeNo(ino.0),
        size: attr.size.min(i64::MAX as u64),
        blocks: attr.blocks,
        atime: system_time(attr.accessed),
        mtime: system_time(attr.modified),
        ctime: system_time(attr.changed),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.mode & 0o7777,
        nlink: attr.links,
        uid,
        gid,
        rdev: encode_device(attr.rdev),
        // What programs take as the best size of a read.
        blksize: u32::try_from(CHUNK_BYTES).unwrap_or(4096),
        flags: 0,
    }
}

/// Attributes of no node.
pub(super) fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::Directory,
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.secs().unsigned_abs());
    let second = if time.secs() < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(time.nanos().into())))
        .unwrap_or(UNIX_EPOCH)
}

/// The 32 bits in which FUSE carries a device number (`new_encode_dev` of the kernel).
fn encode_device(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_errno() {
        let table = [
            (Fault::NotFound, libc::ENOENT),
            (Fault::Denied, libc::EACCES),
            (Fault::Stale, libc::ESTALE),
            (Fault::NotDirectory, libc::ENOTDIR),
            (Fault::IsDirectory, libc::EISDIR),
            (Fault::WrongKind, libc::EINVAL),
            (Fault::NameTooLong, libc::ENAMETOOLONG),
            (Fault::Loop, libc::ELOOP),
            (Fault::Invalid, libc::EINVAL),
            (Fault::ReadOnly, libc::EROFS),
            (Fault::Io, libc::EIO),
            (Fault::Exhausted, libc::EAGAIN),
            (Fault::NoAttribute, libc::ENODATA),
            (Fault::TooLarge, libc::E2BIG),
            (Fault::Unsupported, libc::EOPNOTSUPP),
            (Fault::Changed, libc::EIO),
            (Fault::Closing, libc::EIO),
        ];
        assert_eq!(table.len(), Fault::ALL.len());
        for (fault, expected) in table {
            let got = errno(FsError::Fault(fault));
            assert_eq!(got, Errno::from_i32(expected), "{fault:?}");
        }
        assert_eq!(errno(FsError::TimedOut), Errno::EIO);
        assert_eq!(errno(FsError::Killed), Errno::EINTR);
        assert_eq!(errno(FsError::Stale), Errno::ESTALE);
        assert_eq!(errno(FsError::BadHandle), Errno::EBADF);
        assert_eq!(errno(FsError::Range), Errno::ERANGE);
    }

    #[test]
    fn times_before_1970_and_at_the_ends_do_not_panic() {
        let quarter_before = Timestamp::new(-1, 750_000_000).unwrap();
        assert_eq!(
            system_time(quarter_before),
            UNIX_EPOCH - Duration::from_millis(250)
        );
        for secs in [i64::MIN, i64::MAX] {
            system_time(Timestamp::new(secs, 999_999_999).unwrap());
        }
    }

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(encode_device(rustix::fs::makedev(1, 3)), 0x103);
        assert_eq!(
            encode_device(rustix::fs::makedev(0x103, 0x12345)),
            0x1231_0345
        );
    }
}
