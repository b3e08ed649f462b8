//! Reserved files: what lets a mount create a file without waiting for its host.
//!
//! A mount that holds the *sole* lease of a directory knows which names there are in it, and that no other mount
//! looks or changes anything there before this one was told that the lease is shared
//! ([`crate::News::Shared`]). With that lease the host hands out files without names
//! ([`crate::Request::Reserve`]), so that the identity of a file that is about to be made is known before the host
//! is asked for it. A change ([`NewFile`]) gives such a file a name, and writes its first bytes.
//!
//! A mount says that it has heard that the lease is shared ([`crate::Request::Heard`]) only once all it made that
//! way in the directory was answered.
//!
//! Programs of the host know of no leases: that somebody was faster is [`crate::Fault::Exists`], as ever.

use crate::attr::Attr;
use crate::change::{AfterWrite, BodyLen, OpenId};
use crate::codec::{Decode, Encode};
use crate::fault::Fault;
use crate::id::FileId;
use crate::message::NodeRef;
use crate::name::Name;

/// A reserved file gets its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NewFile {
    /// The directory it was reserved in.
    pub dir: NodeRef,
    /// The name; one that is there is [`Fault::Exists`].
    pub name: Name,
    /// Permission bits; the umask has been taken off.
    pub mode: u16,
    /// Which reserved file; [`Fault::NotOpen`] if there is none such.
    pub file: FileId,
    /// Under which number it is open from then on.
    pub open: OpenId,
    /// How many are to be reserved in its place, at most [`crate::limits::RESERVED_FILES_MAX`].
    pub refill: u8,
    /// Where its first bytes belong.
    pub offset: u64,
    /// How many follow.
    pub len: BodyLen,
    /// What is done then. That it could not be made durable is told as if its bytes could not be written.
    pub after: AfterWrite,
}

/// What became of a [`NewFile`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Named {
    /// Its attributes.
    pub attr: Attr,
    /// Those of the directory.
    pub dir: Attr,
    /// Why its bytes could not be written, or not made durable. It is there all the same.
    pub unwritten: Option<Fault>,
    /// Why its attributes could not be set.
    pub unset: Option<Fault>,
    /// Further reserved files, as many as there could be; none if the lease is shared.
    pub reserved: Vec<Attr>,
}

/// A directory that was made.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MadeDir {
    /// Its attributes.
    pub attr: Attr,
    /// Those of the directory it is in.
    pub dir: Attr,
    /// It is leased, and was empty when it was.
    pub leased: bool,
    /// Files reserved in it, as many as there could be; none if it is not held alone.
    pub reserved: Vec<Attr>,
}
