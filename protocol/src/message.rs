//! What is said: the hello, requests, replies, frames of a listing.
//!
//! Life of a session: the mount opens a stream and sends [`Hello`]; the host answers [`HelloReply`].
//! Then each request has a bidirectional stream of its own: one [`Request`] frame, answered by one
//! [`Reply`] frame and, for reads and listings, a payload until the end of the stream:
//! - after [`Reply::Data`]: exactly `len` raw bytes of the file;
//! - after [`Reply::Listing`]: [`ListFrame`]s, the last marked so.
//!
//! A host that cannot finish a payload resets the stream with [`Fault::code`]. A mount that no longer
//! wants one stops it. Only an all-or-nothing answer travels in [`Reply::Fault`].

use crate::attr::{Attr, StatFs};
use crate::codec::{Decode, Encode};
use crate::digest::ListingDigest;
use crate::fault::Fault;
use crate::id::{Epoch, FileId, MountId, ShareId};
use crate::name::{LinkTarget, Name, RelPath, XattrName};
use crate::range::ByteRange;
use crate::ticket::{Proof, TicketId};
use crate::version::Features;

/// The first frame of a session, from the mount.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Oldest wire version the mount speaks.
    pub oldest: u16,
    /// Newest wire version the mount speaks.
    pub newest: u16,
    /// Optional abilities of the mount.
    pub features: Features,
    /// Which ticket it holds; derived from the secret, and of no use without it.
    pub ticket: TicketId,
    /// That it holds the ticket's secret, bound to this TLS session.
    pub proof: Proof,
    /// Which mount this is, across reconnects.
    pub mount: MountId,
}

/// The host's answer to [`Hello`].
#[expect(clippy::large_enum_variant, reason = "one per session, moved once")]
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum HelloReply {
    /// Come in.
    Welcome(Welcome),
    /// No session; says nothing about any share.
    Refused(Refusal),
}

/// Everything a mount needs to answer its first `stat`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// Wire version of the session.
    pub version: u16,
    /// Abilities both sides have.
    pub features: Features,
    /// The share's identity.
    pub share: ShareId,
    /// The share's name, for people.
    pub name: Name,
    /// The host's life.
    pub epoch: Epoch,
    /// What the host bounds.
    pub limits: SessionLimits,
    /// Attributes of the share root.
    pub root: Attr,
}

/// Bounds a host sets for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SessionLimits {
    /// Requests that may be open at once.
    pub requests_max: u32,
    /// Longest range of one read.
    pub read_bytes_max: u64,
}

/// Why a session was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Refusal {
    /// The host knows no such ticket, or the proof is wrong. The two are not told apart.
    UnknownTicket,
    /// The ticket was good once.
    Expired,
    /// As many mounts as the ticket allows are there.
    TooManyMounts,
    /// No common wire version.
    Version {
        /// Oldest the host speaks.
        oldest: u16,
        /// Newest the host speaks.
        newest: u16,
    },
    /// The host serves as many sessions as it can.
    Busy,
    /// The hello was malformed.
    Malformed,
}

/// A node: where it is, and which one is believed to be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NodeRef {
    /// Path beneath the share root.
    pub path: RelPath,
    /// The file the mount believes to be there; another one is [`Fault::Stale`].
    pub expect: Option<FileId>,
}

/// How urgent a read is; the host orders its streams by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ReadUrgency {
    /// Someone waits for the first bytes.
    Demand,
    /// Read ahead of need.
    Ahead,
}

/// What a mount asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Request {
    /// Attributes of `name` in `dir` → [`Reply::Attr`].
    Lookup {
        /// The directory.
        dir: NodeRef,
        /// The entry.
        name: Name,
    },
    /// Attributes → [`Reply::Attr`].
    Getattr {
        /// The node.
        node: NodeRef,
    },
    /// Target of a symlink → [`Reply::Link`].
    Readlink {
        /// The symlink.
        node: NodeRef,
    },
    /// All entries with their attributes → [`Reply::Listing`] and frames, or [`Reply::Unchanged`].
    List {
        /// The directory.
        dir: NodeRef,
        /// The listing the mount has; if it still holds, that is all the answer says.
        known: Option<ListingDigest>,
    },
    /// A range of a file → [`Reply::Data`] and the bytes.
    Read {
        /// The file.
        node: NodeRef,
        /// Which bytes; the answer is cut at the end of the file.
        range: ByteRange,
        /// How urgent.
        urgency: ReadUrgency,
    },
    /// Figures of the file system → [`Reply::StatFs`].
    StatFs,
    /// Value of an extended attribute → [`Reply::Xattr`].
    GetXattr {
        /// The node.
        node: NodeRef,
        /// Which attribute.
        name: XattrName,
    },
    /// Names of the extended attributes → [`Reply::XattrNames`].
    ListXattr {
        /// The node.
        node: NodeRef,
    },
}

/// What a host answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// It did not work.
    Fault(Fault),
    /// Attributes of the node.
    Attr(Attr),
    /// Target of the symlink.
    Link(LinkTarget),
    /// Attributes of the directory; [`ListFrame`]s follow.
    Listing(Attr),
    /// The file as it was when the range was read; `len` raw bytes follow.
    Data {
        /// Attributes of the file; all bytes are of `attr.version`.
        attr: Attr,
        /// Bytes that follow: the range, cut at the end of the file.
        len: u64,
    },
    /// Figures of the file system.
    StatFs(StatFs),
    /// Value of the extended attribute.
    Xattr(Vec<u8>),
    /// Names of the extended attributes.
    XattrNames(Vec<XattrName>),
    /// Attributes of the directory; its listing is the one the mount named.
    Unchanged(Attr),
}

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Its attributes.
    pub attr: Attr,
}

/// Some entries of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ListFrame {
    /// The entries, in the host's order.
    pub entries: Vec<Entry>,
    /// Whether this is the last frame.
    pub last: bool,
}
