//! The words of Wormhole on the wire.
//!
//! This crate is the ground floor: it does no I/O, reads no clock and spawns nothing, so that every
//! test of it is deterministic. It says what may be sent ([`message`]), how it is written as bytes
//! ([`codec`]), how large anything may be ([`limits`]), and what a ticket is ([`ticket`]).
//!
//! Invariants
//! - A value that exists is valid: a [`Name`] is never `..`, a [`ByteRange`] never overflows.
//! - Decoding never panics, never loops and never allocates beyond the limit of its frame.
//! - Bulk bytes (file contents) never pass through the codec.

#![warn(missing_docs)]

pub mod attr;
pub mod change;
pub mod codec;
pub mod digest;
pub mod fault;
pub mod id;
pub mod lease;
pub mod limits;
pub mod lock;
pub mod many;
pub mod message;
pub mod name;
pub mod range;
pub mod reserve;
pub mod revalidate;
pub mod ticket;
pub mod tree;
pub mod version;
pub mod vouch;

pub use attr::{Attr, ContentVersion, FileKind, StatFs, Timestamp};
pub use change::{
    Access, AfterWrite, Allocate, AttrChange, BodyLen, Caller, Change, Extent, NewNode, OpenId,
    RenameHow, Seq, SetTime, SyncWhat, XattrHow,
};
pub use digest::{ListingDigest, ListingDigester};
pub use fault::Fault;
pub use id::{Epoch, FileId, MountId, ShareId};
pub use lease::{Leased, NameNews, News, Push, WantedName};
pub use lock::{Lock, LockConflict, LockKind, LockMode, LockOwner, LockRange};
pub use many::{FileFrame, FileWanted, KnownContent};
pub use message::{
    Entry, Hello, HelloReply, ListFrame, NodeRef, ReadUrgency, Refusal, Reply, Request, SeekWhat,
    SessionLimits, Welcome,
};
pub use name::{LinkTarget, Name, RelPath, XattrName};
pub use range::{BlockMask, ByteRange, ChunkIndex};
pub use reserve::{MadeDir, Named, NewFile};
pub use revalidate::{KnownListing, Verdict};
pub use ticket::{HostKey, Proof, Secret, Ticket, TicketError, TicketId};
pub use tree::{TreeDecoder, TreeEncoder, TreeError, TreeFrame};
pub use version::{Features, WireVersion};
pub use vouch::{BytesDigest, WrittenFile};
