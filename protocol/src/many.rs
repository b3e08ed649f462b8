//! Many small files of one directory in one answer.
//!
//! A mount that sees the files of a directory being read in turn asks for the next ones before anybody
//! does. The answer holds, for each file asked for and in that order, a [`FileFrame`], and after one that
//! says so the file's bytes, raw, all of one version. What has changed since the mount heard of it is only
//! said to have: its bytes would be of no use to whoever waits for those of the version known.

use crate::attr::{Attr, ContentVersion};
use crate::codec::{Decode, Encode};
use crate::fault::Fault;
use crate::id::FileId;
use crate::name::Name;

/// One of the files asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct FileWanted {
    /// Its name in the directory.
    pub name: Name,
    /// What the mount believes it to be; none = whatever it is.
    pub known: Option<KnownContent>,
}

/// A version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct KnownContent {
    /// The file; another one is [`Fault::Stale`].
    pub file: FileId,
    /// The version; another one is [`Fault::Changed`].
    pub version: ContentVersion,
}

/// What became of one of the files asked for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FileFrame {
    /// All its bytes follow.
    Content {
        /// Its attributes; none if it is what the mount knows.
        attr: Option<Attr>,
        /// How many bytes; at most [`crate::limits::READ_MANY_FILE_BYTES_MAX`].
        len: u32,
    },
    /// Nothing follows: it is not there ([`Fault::NotFound`]), another file or version, too long
    /// ([`Fault::TooLarge`]), no regular file ([`Fault::WrongKind`]), or cannot be read.
    Not(Fault),
}
