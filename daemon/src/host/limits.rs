//! Every maximum of the host role, in one place. Units stand last in the names.

use std::num::NonZeroUsize;
use std::time::Duration;
use wormhole_protocol::digest::DIGESTER_BYTES;
use wormhole_protocol::limits::{
    CHANGES_AHEAD_MAX, LIST_FRAME_BYTES_MAX, PUSH_NAMES_MAX, SESSION_REQUESTS_MAX,
    TREE_FRAME_BYTES_MAX, WRITE_BYTES_MAX, XATTR_VALUE_BYTES_MAX,
};

/// Sessions at once, over all shares.
pub(super) const SESSIONS_MAX: usize = 64;
/// Shares of one host process.
pub(super) const SHARES_MAX: usize = 64;

/// Small requests (attributes, names) of one session that run at once.
pub(super) const SESSION_SMALL_MAX: usize = 24;
/// Demand reads of one session that run at once.
pub(super) const SESSION_DEMAND_MAX: usize = 16;
/// Reads ahead of one session that run at once. Classes have slots of their own, so that reads ahead
/// which wait for a slow link never keep out the read somebody waits for.
pub(super) const SESSION_AHEAD_MAX: usize = 16;
/// Listings of one session that run at once.
pub(super) const SESSION_LISTINGS_MAX: usize = 8;
/// Changes of names and attributes of one session that run at once.
pub(super) const SESSION_CHANGES_MAX: usize = 24;
/// Changes with bytes behind them of one session that are received or run at once: as many segments of a
/// mebibyte as fill a fast long path.
pub(super) const SESSION_WRITES_MAX: usize = 32;
/// Trees of one session that run at once; each holds an encoder.
pub(super) const SESSION_TREES_MAX: usize = 2;
/// Syncs, writes that sync, allocations and copies of one session that run at once: they take long, and others must not wait.
pub(super) const SESSION_SLOW_MAX: usize = 8;
/// Disk operations at once, over all sessions: threads of the blocking pool.
pub(super) const EXECUTING_MAX: usize = 256;

/// First piece of a read: small, so that the first bytes leave early.
pub(super) const FIRST_SEGMENT_BYTES: usize = 128 * 1024;
/// Every further piece of a read.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;
/// First piece of an answer with many files: a file of this length, or a few that are shorter.
pub(super) const FIRST_BATCH_BYTES: usize = 32 * 1024;
/// Files of such an answer that are opened before their turn: what a disk gains by knowing more is little.
pub(super) const OPENED_AHEAD_MAX: usize = 8;
/// Most bytes handed to the transport at once: what a mount on the slowest link worth serving
/// (26 kbit/s) takes before it counts as stalled.
pub(super) const BITE_BYTES: usize = 64 * 1024;
/// Attempts to read a first segment that keeps changing under the read.
pub(super) const FIRST_SEGMENT_TRIES: usize = 8;

/// Unit in which buffer memory is counted.
pub(super) const BUDGET_UNIT_BYTES: usize = 1024;
/// Buffer bytes set aside for each session's demand reads, listings and attributes.
pub(super) const RESERVE_DEMAND_BYTES: usize = 640 * 1024;
/// Buffer bytes set aside for each session's reads ahead.
pub(super) const RESERVE_AHEAD_BYTES: usize = 512 * 1024;
/// Buffer bytes one session may hold, what is set aside for it included.
pub(super) const SESSION_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Buffer bytes all sessions may hold, what is set aside included.
pub(super) const HOST_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Of a session's bytes, those that come from what all sessions share.
pub(super) const SESSION_EXTRA_BYTES: usize =
    SESSION_BYTES_MAX - RESERVE_DEMAND_BYTES - RESERVE_AHEAD_BYTES;
/// What all sessions share beyond the reserves.
pub(super) const HOST_SHARED_BYTES: usize =
    HOST_BYTES_MAX - SESSIONS_MAX * (RESERVE_DEMAND_BYTES + RESERVE_AHEAD_BYTES);
/// Bytes of bodies set aside for each session: a segment of the size mounts send.
pub(super) const RESERVE_WRITE_BYTES: usize = 1024 * 1024;
/// Bytes of bodies one session may hold beyond that.
pub(super) const SESSION_WRITE_EXTRA_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of bodies all sessions may hold beyond what is set aside.
pub(super) const HOST_WRITE_SHARED_BYTES: usize = 64 * 1024 * 1024;
/// Unused buffers kept for reuse.
pub(super) const POOL_IDLE_BYTES: usize = 8 * 1024 * 1024;
/// A session that holds buffers without taking any for this long loses the reply it stalls.
pub(super) const STALL: Duration = Duration::from_secs(20);

/// Descriptors of regular files one session keeps open.
pub(super) const SESSION_OPEN_FILES_MAX: usize = 256;
/// Descriptors of regular files all sessions keep open, if the process may have that many.
pub(super) const HOST_OPEN_FILES_MAX: usize = 8192;
/// A kept descriptor nobody read through for this long is closed: it may be all that keeps a deleted
/// file's space taken.
pub(super) const OPEN_FILE_IDLE: Duration = Duration::from_secs(600);
/// How often idle descriptors are looked for.
pub(super) const OPEN_FILE_SWEEP: Duration = Duration::from_secs(60);

/// Files kept for readers after their last name went, for each share.
pub(super) const DEPARTED_MAX: usize = 256;
/// How long they are: a mount may believe in a name, and open it without asking, for ten seconds.
pub(super) const DEPARTED_KEPT: Duration = Duration::from_secs(12);

/// What one mount may hold open for writing, for locks, or after its name has gone.
pub(super) const HELD_OPENS_MAX: usize = 4096;
/// What all mounts may hold open so, if the process may have that many descriptors.
pub(super) const HOST_HELD_OPENS_MAX: usize = 64 * 1024;
/// Mounts of a share for which something is held: those that are there, and those lost in the last minute.
pub(super) const HELD_MOUNTS_MAX: usize = 256;
/// How long a lost mount's opens, locks and answers wait for its return.
pub(super) const HELD_KEPT: Duration = Duration::from_secs(60);
/// Changes of one mount that run, or whose answers it has not settled.
pub(super) const ANSWERS_MAX: usize = (CHANGES_AHEAD_MAX + SESSION_REQUESTS_MAX) as usize;
/// Most bytes copied within the host before it is asked whether to go on.
pub(super) const COPY_STEP_BYTES: usize = 64 * 1024 * 1024;
/// The same where the kernel cannot copy, and the bytes pass through a buffer of this size.
pub(super) const COPY_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes of a file written in order that the disk is told to begin with at once; and of the newest, those it
/// is not told of yet.
pub(super) const WRITE_OUT_BYTES: u64 = 8 * 1024 * 1024;

/// Owners of locks of one mount, each with a descriptor for every file it has locks on.
pub(super) const LOCK_OWNERS_MAX: usize = 1024;
/// Requests of one mount that wait for locks: few enough to leave streams for what ends the waiting.
pub(super) const LOCK_WAITS_MAX: usize = 128;
/// How long a request waits for a lock before the mount has to ask again.
pub(super) const LOCK_WAIT_MAX: Duration = Duration::from_secs(10);
/// First interval at which a lock that a program of the host has is tried again.
pub(super) const LOCK_POLL_MIN: Duration = Duration::from_millis(10);
/// Longest such interval; each is twice the last.
pub(super) const LOCK_POLL_MAX: Duration = Duration::from_millis(250);

/// How long a lease holds after its mount was heard of.
pub(super) const LEASE_TERM: Duration = Duration::from_secs(10);
/// A mount that let others wait in vain for what it should have heard is granted no leases for so long.
pub(super) const FENCED: Duration = Duration::from_secs(60);
/// Directories that are watched, if the user may watch so many: a half of what he may is left to his other
/// programs.
pub(super) const WATCHES_MAX: usize = 128 * 1024;
/// A directory is watched at least so long before another takes its place.
pub(super) const WATCH_KEPT_MIN: Duration = Duration::from_secs(60);
/// How often is looked for watches that nobody needs any more.
pub(super) const LEASE_SWEEP: Duration = Duration::from_secs(5);
/// How long events are let gather before they are read, unless a change reads them.
pub(super) const EVENTS_GATHER: Duration = Duration::from_millis(1);
/// Files of which a session wants to have the bytes when they change.
pub(super) const WANTED_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// For how many changes each.
pub(super) const WANTED_CHANGES: u8 = 2;
/// Files with several names of which names are remembered.
pub(super) const NAMED_FILES_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Names of each.
pub(super) const NAMES_OF_FILE_MAX: usize = 4;
/// Directories one mount holds alone.
pub(super) const SOLE_LEASES_MAX: usize = 256;
/// And those it was told to share for want of room, and has not answered.
pub(super) const SOLE_RECALLS_MAX: usize = 256;
/// A directory that had to be shared is leased to nobody alone for so long.
pub(super) const SOLE_REST: Duration = Duration::from_secs(10);
/// Reserved files of one mount.
pub(super) const MOUNT_RESERVED_MAX: usize = 1280;
/// Opens that are left to those who need them before anything is kept in stock.
pub(super) const SPARE_OPENS_MIN: usize = 1024;
/// How long a reserved file waits to be named, at the least; it is found out with the next sweep.
pub(super) const RESERVED_KEPT: Duration = Duration::from_secs(60);
/// Pushes that wait for one mount: directories of which there is news.
pub(super) const PUSHES_WAITING_MAX: usize = 4096;
/// Names in all these pushes.
pub(super) const PUSH_NAMES_WAITING_MAX: usize = 16 * 1024;

/// Attempts to resolve a path while renames or mounts race with it (`EAGAIN` of openat2(2)).
pub(super) const RESOLVE_TRIES: usize = 16;
/// Paths beneath a share that are hidden from mounts.
pub(super) const HIDDEN_MAX: usize = 8;

/// Entries in the first frame of a listing: few, so that a reader can start.
pub(super) const FIRST_FRAME_ENTRIES: usize = 32;
/// Names a listing reads ahead of the frames it makes of them.
pub(super) const GETDENTS_BYTES: usize = 16 * 1024;

/// Plain text of a batch of a tree: some 1,500 entries.
pub(super) const TREE_BATCH_BYTES: usize = 128 * 1024;
/// What a batch of a tree may hold while it is made and sent: the batch, the frame beyond it.
pub(super) const TREE_GRANT_BYTES: usize = TREE_BATCH_BYTES + TREE_FRAME_BYTES_MAX;
/// Directories that wait for their turn in a tree.
pub(super) const TREE_QUEUE_MAX: usize = 65_536;
/// Bytes of their paths.
pub(super) const TREE_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes a listing holds while its digest is made: the entries at hand and what is kept of those before them.
pub(super) const LIST_DIGEST_BYTES: usize = LIST_FRAME_BYTES_MAX + DIGESTER_BYTES;

/// Tickets of one share, expired ones included.
pub(super) const TICKETS_MAX: usize = 256;
/// How long an expired ticket is remembered, so that its holder is told so.
pub(super) const EXPIRED_KEPT_SECS: u64 = 30 * 24 * 3600;
/// How long the seat of a lost mount is kept for its return.
pub(super) const SEAT_KEPT: Duration = Duration::from_secs(60);
/// Seats of one ticket, whatever it allows: sessions, and mounts lost in the last minute.
pub(super) const SEATS_MAX: usize = 4096;
/// Failed proofs answered as such in a burst; the rest is answered `Busy`.
pub(super) const FAILURES_BURST: f64 = 32.0;
/// Failed proofs per second answered as such after a burst.
pub(super) const FAILURES_PER_SEC: f64 = 2.0;
/// Largest state file that is read.
pub(super) const STATE_BYTES_MAX: u64 = 1024 * 1024;

const _: () = assert!(
    SESSION_SMALL_MAX + SESSION_DEMAND_MAX + SESSION_AHEAD_MAX + SESSION_LISTINGS_MAX == 64,
    "what one session runs at once"
);
const _: () = assert!(
    SESSION_CHANGES_MAX + SESSION_WRITES_MAX + SESSION_SLOW_MAX == 64,
    "what one session changes at once"
);
// The largest body can always be had once others have ended.
const _: () = assert!(WRITE_BYTES_MAX <= SESSION_WRITE_EXTRA_BYTES);
const _: () = assert!(SESSION_WRITE_EXTRA_BYTES <= HOST_WRITE_SHARED_BYTES);
const _: () = assert!(COPY_BUFFER_BYTES <= RESERVE_WRITE_BYTES);
const _: () = assert!(SESSIONS_MAX < HELD_MOUNTS_MAX);
const _: () = assert!(MOUNT_RESERVED_MAX < HELD_OPENS_MAX / 2);
// A few for each directory that is held alone.
const _: () = assert!(MOUNT_RESERVED_MAX > 4 * SOLE_LEASES_MAX);
const _: () = assert!(SPARE_OPENS_MIN < HOST_HELD_OPENS_MAX);
const _: () = assert!(PUSH_NAMES_MAX <= PUSH_NAMES_WAITING_MAX);
// Whoever holds nothing can always read a whole segment, and so make progress.
const _: () = assert!(RESERVE_DEMAND_BYTES >= SEGMENT_BYTES + FIRST_SEGMENT_BYTES);
const _: () = assert!(RESERVE_AHEAD_BYTES >= SEGMENT_BYTES);
const _: () = assert!(RESERVE_DEMAND_BYTES >= LIST_FRAME_BYTES_MAX);
const _: () = assert!(RESERVE_AHEAD_BYTES >= TREE_GRANT_BYTES);
const _: () = assert!(RESERVE_DEMAND_BYTES >= LIST_DIGEST_BYTES);
const _: () = assert!(RESERVE_DEMAND_BYTES >= XATTR_VALUE_BYTES_MAX);
const _: () = assert!(HOST_SHARED_BYTES >= SESSION_EXTRA_BYTES);
// A mount whose every stream waited for a lock could not give one up.
const _: () = assert!(2 * LOCK_WAITS_MAX <= SESSION_REQUESTS_MAX as usize);
