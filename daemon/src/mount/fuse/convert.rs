//! Wormhole's types as fuser's: errors to errno (the one table), attributes, kinds, times.

use super::super::error::FsError;
use super::super::inodes::Ino;
use crate::mount::handles::OpenHow;
use fuser::{Errno, FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wormhole_protocol::limits::CHUNK_BYTES;
use wormhole_protocol::{
    Allocate, Attr, Caller, Fault, FileKind, NewNode, RenameHow, SetTime, SyncWhat, Timestamp,
    XattrHow,
};

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
        FsError::TooManyOpen => Errno::ENFILE,
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
        Fault::Exists => Errno::EEXIST,
        Fault::NotEmpty => Errno::ENOTEMPTY,
        Fault::NoSpace => Errno::ENOSPC,
        Fault::Quota => Errno::EDQUOT,
        Fault::FileTooLarge => Errno::EFBIG,
        Fault::CrossDevice => Errno::EXDEV,
        Fault::Busy => Errno::EBUSY,
        Fault::TooManyLinks => Errno::EMLINK,
        Fault::TextBusy => Errno::ETXTBSY,
        Fault::Locked => Errno::EAGAIN,
        Fault::NotPermitted => Errno::EPERM,
        Fault::NoData => Errno::ENXIO,
        Fault::Deadlock => Errno::EDEADLK,
        Fault::Io | Fault::Changed | Fault::Closing | Fault::NotOpen | Fault::Settled => Errno::EIO,
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

/// On whose behalf the kernel asks.
pub(super) fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
    }
}

/// The permission bits, set-id and sticky of a mode.
pub(super) fn permission_bits(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

/// A time to set. Of a time before 1970 fuser makes one as far before as its seconds and nanoseconds
/// together, though the nanoseconds count forward (`system_time_from_time`).
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    let TimeOrNow::SpecificTime(time) = time else {
        return SetTime::Now;
    };
    let (since, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since, 1),
        Err(before) => (before.duration(), -1),
    };
    let secs = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let time = Timestamp::new(sign * secs, since.subsec_nanos());
    SetTime::At(time.unwrap_or(Timestamp::EPOCH))
}

/// What fsync(2) or fdatasync(2) asks for.
pub(super) fn what_to_sync(data_only: bool) -> SyncWhat {
    if data_only {
        SyncWhat::Data
    } else {
        SyncWhat::All
    }
}

/// The flags of renameat2(2); `None` for those that cannot be had.
pub(super) fn rename_how(flags: RenameFlags) -> Option<RenameHow> {
    if flags.is_empty() {
        Some(RenameHow::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameHow::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameHow::Exchange)
    } else {
        None
    }
}

/// The flags of setxattr(2).
pub(super) fn xattr_how(flags: i32) -> Option<XattrHow> {
    match flags {
        0 => Some(XattrHow::Set),
        libc::XATTR_CREATE => Some(XattrHow::Create),
        libc::XATTR_REPLACE => Some(XattrHow::Replace),
        _ => None,
    }
}

/// The mode of fallocate(2); `None` for those that cannot be had.
pub(super) fn allocate_how(mode: i32) -> Option<Allocate> {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(Allocate::Grow),
        libc::FALLOC_FL_KEEP_SIZE => Some(Allocate::KeepSize),
        PUNCH => Some(Allocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Some(Allocate::Zero),
        ZERO_KEEP => Some(Allocate::ZeroKeepSize),
        _ => None,
    }
}

/// What mknod(2) makes; `None` for what it cannot.
pub(super) fn new_node(mode: u32, device: u32) -> Option<NewNode> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(NewNode::File),
        libc::S_IFIFO => Some(NewNode::Fifo),
        libc::S_IFSOCK => Some(NewNode::Socket),
        libc::S_IFCHR => Some(NewNode::CharDevice(decode_device(device))),
        libc::S_IFBLK => Some(NewNode::BlockDevice(decode_device(device))),
        _ => None,
    }
}

/// How open(2) flags open a file.
///
/// The kernel cuts a write at the pages it has, and keeps what is appended where it believes the end to be: so
/// an append passes its cache, comes whole, and is read back from where it really went. After a synchronous
/// write it asks to sync by itself, but not past its cache.
pub(super) fn open_how(flags: i32) -> OpenHow {
    let appends = flags & libc::O_APPEND != 0;
    let direct = appends || flags & libc::O_DIRECT != 0;
    let syncs = match flags & libc::O_SYNC {
        libc::O_SYNC => Some(SyncWhat::All),
        0 => None,
        _ => Some(SyncWhat::Data),
    };
    OpenHow {
        writes: flags & libc::O_ACCMODE != libc::O_RDONLY,
        appends,
        syncs: syncs.filter(|_| direct),
        direct,
        truncates: flags & libc::O_TRUNC != 0,
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

/// The device number of those 32 bits (`new_decode_dev` of the kernel).
fn decode_device(device: u32) -> u64 {
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    rustix::fs::makedev((device >> 8) & 0xfff, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_set_as_it_was_meant() {
        // What fuser makes of -1 s and 750,000,000 ns.
        let made = UNIX_EPOCH - Duration::new(1, 750_000_000);
        let meant = Timestamp::new(-1, 750_000_000).unwrap();
        let set = |time| set_time(TimeOrNow::SpecificTime(time));
        assert_eq!(set(made), SetTime::At(meant));
        assert_eq!(
            set(UNIX_EPOCH - Duration::from_secs(5)),
            SetTime::At(Timestamp::new(-5, 0).unwrap())
        );
        assert_eq!(
            set(UNIX_EPOCH + Duration::new(7, 1)),
            SetTime::At(Timestamp::new(7, 1).unwrap())
        );
        assert_eq!(set_time(TimeOrNow::Now), SetTime::Now);
    }

    #[test]
    fn devices_come_back_as_they_went() {
        for (major, minor) in [(1, 3), (0xfff, 0xf_ffff), (8, 0x1234), (0, 0)] {
            let device = rustix::fs::makedev(major, minor);
            assert_eq!(decode_device(encode_device(device)), device);
        }
    }

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
            (Fault::Exists, libc::EEXIST),
            (Fault::NotEmpty, libc::ENOTEMPTY),
            (Fault::NoSpace, libc::ENOSPC),
            (Fault::Quota, libc::EDQUOT),
            (Fault::FileTooLarge, libc::EFBIG),
            (Fault::CrossDevice, libc::EXDEV),
            (Fault::Busy, libc::EBUSY),
            (Fault::TooManyLinks, libc::EMLINK),
            (Fault::TextBusy, libc::ETXTBSY),
            (Fault::Locked, libc::EAGAIN),
            (Fault::NotPermitted, libc::EPERM),
            (Fault::NoData, libc::ENXIO),
            (Fault::NotOpen, libc::EIO),
            (Fault::Settled, libc::EIO),
            (Fault::Deadlock, libc::EDEADLK),
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
        assert_eq!(errno(FsError::TooManyOpen), Errno::ENFILE);
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
