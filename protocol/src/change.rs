//! What a mount may ask a host to change, and what it holds there.
//!
//! Every change travels in [`crate::Request::Change`], so that one look tells a reader from a writer: a
//! session that only reads has all of them refused in one place.
//!
//! **Exactly once.** A change carries a [`Seq`], given by the mount, rising, never used for another. The host
//! keeps each answer until the mount has said (`settled`) that it needs it no more; a change that
//! arrives again, on another connection of the same mount within the same life of the host, is answered from
//! there and not done again.
//!
//! **Opens.** What must outlive a name (a file being written, one that was unlinked while open, one with
//! locks) is opened at the host under an [`OpenId`], also given by the mount. It outlives the connection, and
//! ends with [`Change::Close`], with the mount, or with the host's life.
//!
//! Where a comment says "and bytes", so many raw bytes follow the request's frame on its stream.

use crate::attr::Timestamp;
use crate::codec::{Decode, Encode, validated};
use crate::limits::{OFFSET_MAX, WRITE_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use crate::message::NodeRef;
use crate::name::{LinkTarget, Name, XattrName};
use crate::reserve::NewFile;
use std::fmt;

/// The number of a change within the life of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Seq(pub u64);

/// The number of something a mount holds open at the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct OpenId(pub u64);

/// The user on whose behalf a mount asks. A host that does not map users ignores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What may be done with a share, or with something that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub enum Access {
    /// Only look.
    #[default]
    Read,
    /// Look and change.
    ReadWrite,
}

impl Access {
    /// Whether it includes changing.
    pub const fn writes(self) -> bool {
        matches!(self, Self::ReadWrite)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read-only",
            Self::ReadWrite => "read-write",
        })
    }
}

/// An extent of a file: where it begins and how long it is, both within `off_t`, at least one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent((u64, u64));

impl Extent {
    /// The `len` bytes from `offset`; `None` if empty or beyond `off_t`.
    pub const fn new(offset: u64, len: u64) -> Option<Self> {
        match offset.checked_add(len) {
            Some(end) if len > 0 && end <= OFFSET_MAX => Some(Self((offset, len))),
            _ => None,
        }
    }

    /// First byte.
    pub const fn offset(self) -> u64 {
        self.0.0
    }

    /// Number of bytes; never 0, though clippy asks for an `is_empty`.
    #[expect(clippy::len_without_is_empty, reason = "an extent is never empty")]
    pub const fn len(self) -> u64 {
        self.0.1
    }

    /// One past the last byte.
    pub const fn end(self) -> u64 {
        self.0.0 + self.0.1
    }
}

impl TryFrom<(u64, u64)> for Extent {
    type Error = ();
    fn try_from((offset, len): (u64, u64)) -> Result<Self, ()> {
        Self::new(offset, len).ok_or(())
    }
}
validated!(Extent, (u64, u64), |e: &Extent| &e.0);

/// A time to set (`utimensat(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum SetTime {
    /// The host's present.
    Now,
    /// This one.
    At(Timestamp),
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct AttrChange {
    /// Permission bits with set-id and sticky.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length of the content.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<SetTime>,
    /// Last change of the content.
    pub modified: Option<SetTime>,
}

/// A kind of node that `mknod(2)` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum NewNode {
    /// An empty regular file.
    File,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
    /// A character device of this number (`makedev(3)`).
    CharDevice(u64),
    /// A block device of this number.
    BlockDevice(u64),
}

/// What a rename does with what has the new name (`renameat2(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum RenameHow {
    /// It is gone.
    Replace,
    /// It stays, and the rename fails with [`crate::Fault::Exists`].
    NoReplace,
    /// The two change places.
    Exchange,
}

/// What is done to the space of a file (`fallocate(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Allocate {
    /// Space is reserved; the file grows to the end of the extent.
    Grow,
    /// Space is reserved; the length stays.
    KeepSize,
    /// A hole is made; the length stays.
    PunchHole,
    /// Zeros; the file grows to the end of the extent.
    Zero,
    /// Zeros; the length stays.
    ZeroKeepSize,
}

/// What setting an extended attribute asks of the present one (`setxattr(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum XattrHow {
    /// Nothing.
    Set,
    /// That there is none, else [`crate::Fault::Exists`].
    Create,
    /// That there is one, else [`crate::Fault::NoAttribute`].
    Replace,
}

/// What is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum SyncWhat {
    /// Bytes and all attributes (`fsync(2)`).
    All,
    /// Bytes, and what is needed to find them (`fdatasync(2)`).
    Data,
}

/// The number of raw bytes that follow a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BodyLen(u32);

impl BodyLen {
    /// So many; `None` beyond [`WRITE_BYTES_MAX`].
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes as usize <= WRITE_BYTES_MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// As a number.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for BodyLen {
    type Error = ();
    fn try_from(bytes: u32) -> Result<Self, ()> {
        Self::new(bytes).ok_or(())
    }
}
validated!(BodyLen, u32, |b: &BodyLen| &b.0);

/// What is done to a file once bytes were written to it, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct AfterWrite {
    /// Attributes are set, as [`Change::SetAttr`] does; not the length. The bytes are there though it fails.
    pub set: Option<AttrChange>,
    /// The file is made durable, as [`Change::Sync`] does. If it fails, so does the write.
    pub sync: Option<SyncWhat>,
}

impl AfterWrite {
    /// Nothing.
    pub const NOTHING: Self = Self {
        set: None,
        sync: None,
    };
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Change {
    /// Opens a regular file under a number → [`crate::Reply::Attr`].
    Open {
        /// The file.
        node: NodeRef,
        /// For what.
        access: Access,
        /// It is cut to nothing (`O_TRUNC`); only to be written.
        truncate: bool,
        /// Under which number.
        open: OpenId,
    },
    /// Opens the entry of a directory under a number for reading and writing, and makes an empty regular
    /// file of it if there is none → [`crate::Reply::Made`].
    Create {
        /// The directory.
        dir: NodeRef,
        /// The entry.
        name: Name,
        /// Permission bits of a new file; the umask has been taken off.
        mode: u16,
        /// An entry that is there is [`crate::Fault::Exists`] (`O_EXCL`).
        exclusive: bool,
        /// A file that is there is cut to nothing (`O_TRUNC`).
        truncate: bool,
        /// Under which number.
        open: OpenId,
    },
    /// Ends opens; their locks go with them → [`crate::Reply::Done`], also if there are none such.
    Close {
        /// Which, at most [`crate::limits::CLOSE_MAX`].
        opens: Vec<OpenId>,
    },
    /// Writes, and bytes → [`crate::Reply::Attr`], or [`crate::Reply::Unset`].
    Write {
        /// What.
        open: OpenId,
        /// Where.
        offset: u64,
        /// How much follows.
        len: BodyLen,
        /// What is done then.
        after: AfterWrite,
    },
    /// Writes at the end, wherever that is by then, and bytes → [`crate::Reply::Appended`].
    Append {
        /// What.
        open: OpenId,
        /// How much follows.
        len: BodyLen,
    },
    /// Allocates or frees space → [`crate::Reply::Attr`].
    Allocate {
        /// Of what.
        open: OpenId,
        /// Which extent.
        extent: Extent,
        /// How.
        how: Allocate,
    },
    /// Copies within the host (`copy_file_range(2)`) → [`crate::Reply::Copied`].
    Copy {
        /// From what.
        from: NodeRef,
        /// From where on.
        from_offset: u64,
        /// To what.
        to: OpenId,
        /// Where.
        extent: Extent,
    },
    /// Makes a file durable → [`crate::Reply::Done`].
    Sync {
        /// Which.
        open: OpenId,
        /// What of it.
        what: SyncWhat,
    },
    /// Makes a directory's names durable → [`crate::Reply::Done`].
    SyncDir {
        /// Which.
        dir: NodeRef,
    },
    /// Sets attributes; never of what a symlink leads to → [`crate::Reply::Attr`].
    SetAttr {
        /// Of what.
        node: NodeRef,
        /// Which.
        set: AttrChange,
    },
    /// Makes a directory → [`crate::Reply::MadeDir`].
    MakeDir {
        /// In which.
        dir: NodeRef,
        /// Its name.
        name: Name,
        /// Permission bits; the umask has been taken off.
        mode: u16,
        /// How many files are to be reserved in it, at most [`crate::limits::RESERVED_FILES_MAX`].
        reserve: u8,
    },
    /// Makes a node → [`crate::Reply::Made`].
    MakeNode {
        /// In which directory.
        dir: NodeRef,
        /// Its name.
        name: Name,
        /// Permission bits; the umask has been taken off.
        mode: u16,
        /// Of what kind.
        kind: NewNode,
    },
    /// Makes a symlink → [`crate::Reply::Made`].
    Symlink {
        /// In which directory.
        dir: NodeRef,
        /// Its name.
        name: Name,
        /// Where it leads.
        target: LinkTarget,
    },
    /// Gives a node another name → [`crate::Reply::Made`].
    Link {
        /// The node.
        node: NodeRef,
        /// In which directory.
        dir: NodeRef,
        /// The new name.
        name: Name,
    },
    /// Takes a name from what is no directory → [`crate::Reply::Removed`].
    Unlink {
        /// The directory.
        dir: NodeRef,
        /// The name.
        name: Name,
        /// If a regular file goes that way, it stays open under this number.
        keep: Option<OpenId>,
    },
    /// Removes an empty directory → [`crate::Reply::Removed`].
    RemoveDir {
        /// In which.
        dir: NodeRef,
        /// Its name.
        name: Name,
    },
    /// Renames → [`crate::Reply::Renamed`].
    Rename {
        /// From which directory.
        from: NodeRef,
        /// The old name.
        from_name: Name,
        /// To which directory.
        to: NodeRef,
        /// The new name.
        to_name: Name,
        /// What happens to what has it.
        how: RenameHow,
        /// If a regular file is replaced, it stays open under this number.
        keep: Option<OpenId>,
    },
    /// Sets an extended attribute, and bytes: its value → [`crate::Reply::Attr`].
    SetXattr {
        /// Of what.
        node: NodeRef,
        /// Which.
        name: XattrName,
        /// What is asked of the present one.
        how: XattrHow,
        /// How long the value is.
        len: BodyLen,
    },
    /// Removes an extended attribute → [`crate::Reply::Attr`].
    RemoveXattr {
        /// Of what.
        node: NodeRef,
        /// Which.
        name: XattrName,
    },
    /// Gives a reserved file its name, and bytes → [`crate::Reply::Named`].
    NameReserved(NewFile),
}

impl Change {
    /// How many raw bytes follow it.
    pub const fn body_len(&self) -> usize {
        match self {
            Self::Write { len, .. } | Self::Append { len, .. } | Self::SetXattr { len, .. } => {
                len.bytes() as usize
            }
            Self::NameReserved(new) => new.len.bytes() as usize,
            _ => 0,
        }
    }
}

const _: () = assert!(XATTR_VALUE_BYTES_MAX <= WRITE_BYTES_MAX);
const _: () = assert!(WRITE_BYTES_MAX <= u32::MAX as usize);
