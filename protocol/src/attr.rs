//! What a node is: kind, attributes, content version.

use crate::codec::{Decode, Encode, validated};
use crate::id::FileId;

/// The kind of a node (`S_IFMT` of inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe; listed, never opened by the host.
    Fifo,
    /// Unix domain socket; listed, never opened by the host.
    Socket,
    /// Character device; listed, never opened by the host.
    CharDevice,
    /// Block device; listed, never opened by the host.
    BlockDevice,
}

/// A point in time: seconds since 1970 (may be negative) and nanoseconds below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp((i64, u32));

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self((0, 0));

    /// A timestamp, if `nanos` is below 10^9.
    pub const fn new(secs: i64, nanos: u32) -> Option<Self> {
        if nanos < 1_000_000_000 {
            Some(Self((secs, nanos)))
        } else {
            None
        }
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.0
    }

    /// Nanoseconds after [`Self::secs`].
    pub const fn nanos(self) -> u32 {
        self.0.1
    }
}

impl TryFrom<(i64, u32)> for Timestamp {
    type Error = ();
    fn try_from((secs, nanos): (i64, u32)) -> Result<Self, ()> {
        Self::new(secs, nanos).ok_or(())
    }
}
validated!(Timestamp, (i64, u32), |t: &Timestamp| &t.0);

/// A version of a file's content. Opaque: only equality means anything.
///
/// Two equal versions of one file promise equal bytes. The host never gives the same version twice
/// to contents that differ, even where the file system's clock is too coarse to tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ContentVersion(pub [u8; 16]);

/// The attributes of a node (`statx(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Attr {
    /// Identity on the host's disk.
    pub id: FileId,
    /// Kind.
    pub kind: FileKind,
    /// Permission bits with set-id and sticky (`mode & 07777`).
    pub mode: u16,
    /// Hard links.
    pub links: u32,
    /// Owner, as the host numbers it.
    pub uid: u32,
    /// Group, as the host numbers it.
    pub gid: u32,
    /// Device number of a device node (`makedev(3)`), else 0.
    pub rdev: u64,
    /// Length of the content in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the node.
    pub changed: Timestamp,
    /// Extended attributes may be there ([`crate::XattrName`]); if not set, there is none to be asked for.
    pub xattrs: bool,
    /// Version of the content.
    pub version: ContentVersion,
}

/// Figures of the file system beneath the share (`statvfs(3)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct StatFs {
    /// Fundamental block size in bytes.
    pub fragment_bytes: u32,
    /// Preferred I/O size in bytes.
    pub block_bytes: u32,
    /// Size in fragments.
    pub blocks: u64,
    /// Free fragments.
    pub blocks_free: u64,
    /// Free fragments for unprivileged users.
    pub blocks_available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_bytes_max: u32,
}
