//! What is said: the hello, requests, replies, frames of a listing.
//!
//! Life of a session: the mount opens a stream and sends [`Hello`]; the host answers [`HelloReply`].
//! Then each request has a bidirectional stream of its own: one [`Request`] frame, answered by one
//! [`Reply`] frame and, for reads and listings, a payload until the end of the stream:
//! - after [`Reply::Data`]: exactly `len` raw bytes of the file;
//! - after [`Reply::Listing`], leased or not: [`ListFrame`]s, the last marked so;
//! - after [`Reply::Listening`]: [`crate::Push`]es, some with bytes of files, as long as the session lasts.
//! - after [`Reply::Tree`]: a stream of zstd, of [`crate::TreeFrame`]s ([`crate::tree`]);
//! - after [`Reply::Many`]: a [`crate::FileFrame`] for each file, with its raw bytes.
//!
//! Raw bytes may follow a request as well, as many as [`Change::body_len`] says.
//!
//! A host that cannot finish a payload resets the stream with [`Fault::code`]. A mount that no longer
//! wants one stops it. Only an all-or-nothing answer travels in [`Reply::Fault`].

use crate::attr::{Attr, StatFs};
use crate::change::{Access, Caller, Change, OpenId, Seq};
use crate::codec::{Decode, Encode};
use crate::digest::ListingDigest;
use crate::fault::Fault;
use crate::id::{Epoch, FileId, MountId, ShareId};
use crate::lease::{Leased, WantedName};
use crate::lock::{Lock, LockConflict, LockMode, LockOwner};
use crate::many::FileWanted;
use crate::name::{LinkTarget, Name, RelPath, XattrName};
use crate::range::ByteRange;
use crate::reserve::{MadeDir, Named};
use crate::revalidate::{KnownListing, Verdict};
use crate::ticket::{Proof, TicketId};
use crate::version::Features;
use crate::vouch::WrittenFile;

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
    /// What the session may do: what both the ticket and the host allow.
    pub access: Access,
    /// The host still holds what this mount had open, its locks and its answers; else that is to be
    /// asked for again.
    pub resumed: bool,
    /// The host acts as the user a change names ([`Caller`]).
    pub maps_users: bool,
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
    /// Most that a mount may hold open at once.
    pub opens_max: u32,
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

/// What is looked for in a file (`lseek(2)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum SeekWhat {
    /// The next byte that is stored.
    Data,
    /// The next byte that is not; the end of a file counts as a hole.
    Hole,
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
    /// Where data or a hole begins → [`Reply::Offset`]; [`Fault::NoData`] if nowhere.
    Seek {
        /// The file.
        node: NodeRef,
        /// From where on.
        offset: u64,
        /// What is looked for.
        what: SeekWhat,
    },
    /// A change → what [`Change`] says.
    Change {
        /// Its number.
        seq: Seq,
        /// Of all changes before this one the mount has its answer, or wants none.
        settled: Seq,
        /// On whose behalf.
        caller: Caller,
        /// What.
        change: Change,
    },
    /// Takes a lock, or changes its mode → [`Reply::Attr`] of the file, which whoever had the lock before may
    /// have changed. Asking twice does no harm.
    Lock {
        /// Of what, whose.
        lock: Lock,
        /// How it excludes others.
        mode: LockMode,
        /// Waits while somebody else has it, at most a while: then [`Fault::Locked`], and the mount may
        /// ask again. Else that is the answer at once.
        wait: bool,
    },
    /// Gives up a lock, or a part of it → [`Reply::Done`].
    Unlock {
        /// Of what, whose.
        lock: Lock,
    },
    /// Gives up all record locks of an owner on what is open → [`Reply::Done`].
    UnlockAll {
        /// Of what.
        open: OpenId,
        /// Whose.
        owner: LockOwner,
    },
    /// Who is in the way of a record lock → [`Reply::Conflict`].
    TestLock {
        /// The lock.
        lock: Lock,
        /// How it would exclude others.
        mode: LockMode,
    },
    /// Begins to listen: from now on answers grant leases, and what changes under them is told
    /// ([`crate::lease`]) → [`Reply::Listening`] and [`crate::Push`]es. Leases this mount held before, in this
    /// or an earlier session, end.
    Listen,
    /// All pushes of the session up to this one were taken, and the kernel told → [`Reply::Heard`].
    /// The session's leases last another term; [`Fault::Invalid`] if it does not listen.
    Heard {
        /// The number of the last one; 0 for none.
        through: u64,
        /// Files whose bytes are to come with the news of their next change, at most
        /// [`crate::limits::HEARD_WANTED_MAX`].
        wanted: Vec<WantedName>,
    },
    /// Small files of one directory, whole → [`Reply::Many`], and for each in this order a
    /// [`crate::FileFrame`] and its bytes. Ahead of need: whoever waits for a file asks for that one.
    ReadMany {
        /// The directory.
        dir: NodeRef,
        /// The files, at most [`crate::limits::READ_MANY_FILES_MAX`].
        files: Vec<FileWanted>,
    },
    /// Which of many listings still hold → [`Reply::Revalidated`].
    Revalidate {
        /// The listings, at most [`crate::limits::REVALIDATE_DIRS_MAX`].
        listings: Vec<KnownListing>,
    },
    /// A directory and all beneath it, with all entries → [`Reply::Tree`] and the bytes of a
    /// [`crate::TreeEncoder`]. At the lowest priority: it must be in nobody's way.
    Tree {
        /// The directory.
        dir: NodeRef,
        /// Of how many entries, at most [`crate::limits::TREE_ENTRIES_MAX`].
        entries_max: u32,
    },
    /// Asks for the sole lease of a directory, and for files to name in it ([`crate::reserve`]) →
    /// [`Reply::Reserved`]. What was reserved before stays so.
    Reserve {
        /// The directory, on which the session has a lease.
        dir: NodeRef,
        /// How many files, at most [`crate::limits::RESERVED_FILES_MAX`].
        count: u8,
    },
    /// Which of these files hold just what the mount wrote to them → [`Reply::Vouched`].
    Vouch {
        /// The files, at most [`crate::limits::VOUCH_FILES_MAX`].
        files: Vec<WrittenFile>,
    },
}

/// What a host answers.
#[expect(clippy::large_enum_variant, reason = "one per request, moved once")]
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
    /// It was done.
    Done,
    /// It is there now.
    Made {
        /// Its attributes.
        attr: Attr,
        /// Those of the directory it is in.
        dir: Attr,
    },
    /// The name is gone.
    Removed {
        /// Attributes of the directory.
        dir: Attr,
        /// What it named, if that is still there: under other names, or open.
        left: Option<Attr>,
    },
    /// It has its new name.
    Renamed {
        /// Its attributes.
        attr: Attr,
        /// Those of the directory it was in.
        from: Attr,
        /// Those of the directory it is in.
        to: Attr,
        /// What was replaced or changed places, if it is still there.
        other: Option<Attr>,
    },
    /// The bytes are at the end of the file.
    Appended {
        /// Where they begin.
        offset: u64,
        /// Attributes of the file.
        attr: Attr,
    },
    /// Some bytes were copied, all unless the source ended.
    Copied {
        /// How many.
        len: u64,
        /// Attributes of the file that was copied to.
        attr: Attr,
    },
    /// A place in a file.
    Offset(u64),
    /// A lock that is in the way, if any.
    Conflict(Option<LockConflict>),
    /// An answer that holds until a push says otherwise.
    Leased {
        /// The answer.
        answer: Leased,
    },
    /// [`crate::Push`]es follow.
    Listening {
        /// How long leases last, in milliseconds.
        term_ms: u32,
    },
    /// So it is noted.
    Heard {
        /// The number of the last push made for the session when this was asked; 0 for none.
        pushed: u64,
    },
    /// Attributes of the directory; [`crate::FileFrame`]s follow, each with its bytes.
    Many(Attr),
    /// What has become of each listing, in the order they were named.
    Revalidated(Vec<Verdict>),
    /// [`crate::TreeFrame`]s follow, compressed.
    Tree,
    /// Files without names; none if there is no sole lease to be had.
    Reserved(Vec<Attr>),
    /// The reserved file has its name.
    Named(Named),
    /// For each file in the order they were named: its attributes, if its bytes are those that were named, and
    /// of `attr.version`. None if they are not, or if nobody can say yet, so soon after a change.
    Vouched(Vec<Option<Attr>>),
    /// The directory is there now.
    MadeDir(MadeDir),
    /// The bytes were written, but the attributes could not be set.
    Unset {
        /// What they are.
        attr: Attr,
        /// Why.
        fault: Fault,
    },
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
