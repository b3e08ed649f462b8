//! Every maximum of the protocol, in one place.
//!
//! Units stand last in the names. Relations between limits are asserted at compile time, so that a
//! change which breaks one does not build.

/// Bytes of the length prefix before every frame (u32, little endian).
pub const FRAME_PREFIX_BYTES: usize = 4;

/// Longest encoded [`crate::Hello`].
pub const HELLO_BYTES_MAX: usize = 1024;
/// Longest encoded [`crate::HelloReply`].
pub const HELLO_REPLY_BYTES_MAX: usize = 2048;
/// Longest encoded [`crate::Request`]: two paths, two names and change.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Longest encoded [`crate::Reply`] header: the largest is an extended attribute's value.
pub const REPLY_BYTES_MAX: usize = XATTR_VALUE_BYTES_MAX + 4096;
/// Longest encoded [`crate::ListFrame`].
pub const LIST_FRAME_BYTES_MAX: usize = 256 * 1024;

/// Longest name of a directory entry (`NAME_MAX`, limits.h of Linux).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path beneath the share root (`PATH_MAX` less the final NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest symlink target.
pub const LINK_TARGET_BYTES_MAX: usize = 4095;
/// Longest name of an extended attribute (`XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Largest value of an extended attribute (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Most names a list of extended attributes may hold.
pub const XATTR_NAMES_MAX: usize = 1024;

/// Most entries in one frame of a listing.
pub const LIST_FRAME_ENTRIES_MAX: usize = 256;
/// Most names in one [`crate::Push`].
pub const PUSH_NAMES_MAX: usize = LIST_FRAME_ENTRIES_MAX;
/// Longest encoded [`crate::Push`].
pub const PUSH_BYTES_MAX: usize = LIST_FRAME_BYTES_MAX;
/// Most bytes of files that follow one [`crate::Push`]: later ones wait for them.
pub const PUSH_CONTENT_BYTES_MAX: usize = 64 * 1024;
/// Most files one [`crate::Request::Heard`] may name as wanted.
pub const HEARD_WANTED_MAX: usize = 32;

/// Most entries one [`crate::Request::Tree`] may ask for.
pub const TREE_ENTRIES_MAX: u32 = 1_000_000;
/// Longest encoded [`crate::TreeFrame`]: a frame of a listing, and the path of its directory.
pub const TREE_FRAME_BYTES_MAX: usize = LIST_FRAME_BYTES_MAX + PATH_BYTES_MAX + 512;
/// Frames a tree may have beyond two for each entry.
pub const TREE_FRAMES_SPARE: usize = 16;
/// How far back zstd may refer in a tree: what a decoder must keep (2^18 bytes), and
/// most of what an encoder takes.
pub const TREE_WINDOW_LOG: u32 = 18;
/// How hard zstd tries.
pub const TREE_LEVEL: i32 = 3;

/// Most entries a mount accepts in one directory before it gives up on the host.
pub const LIST_ENTRIES_MAX: usize = 4_000_000;

/// Most entries of a listing that has a [`crate::ListingDigest`]: what a host looks at before it answers
/// a mount that names one.
pub const LIST_DIGEST_ENTRIES_MAX: usize = 65_536;

/// Unit of cache keys, eviction and hashing.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// Smallest piece that is fetched; a chunk may be partly present.
pub const BLOCK_BYTES: usize = 4 * 1024;
/// Blocks of a chunk; one bit each in a [`crate::BlockMask`].
pub const CHUNK_BLOCKS: usize = CHUNK_BYTES / BLOCK_BYTES;

/// Longest range one read request may name.
pub const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most raw bytes that follow one request.
pub const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most files of one directory that are asked for at once; their names must fit a request.
pub const READ_MANY_FILES_MAX: usize = 256;
/// Largest file that comes among many.
pub const READ_MANY_FILE_BYTES_MAX: usize = CHUNK_BYTES;
/// Longest encoded [`crate::FileFrame`].
pub const FILE_FRAME_BYTES_MAX: usize = 256;
/// Largest offset a file can have (`off_t`).
pub const OFFSET_MAX: u64 = i64::MAX as u64;

/// Most addresses in a ticket.
pub const TICKET_ADDRESSES_MAX: usize = 8;
/// Bytes of a ticket's secret: 128 bits.
pub const TICKET_SECRET_BYTES: usize = 16;
/// Longest ticket, in characters.
pub const TICKET_CHARS_MAX: usize = 512;

/// Most requests one session may have open at once; the transport's stream limit.
pub const SESSION_REQUESTS_MAX: u32 = 256;

/// How far the number of a change may be ahead of the oldest that is not settled: the host keeps the answers
/// between.
pub const CHANGES_AHEAD_MAX: u32 = SESSION_REQUESTS_MAX;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(CHUNK_BLOCKS == 32, "a chunk's block mask is one u32");
const _: () = assert!(READ_BYTES_MAX.is_multiple_of(CHUNK_BYTES as u64));
// A rename names two directories and two entries; a symlink a directory, an entry and a target.
const _: () = assert!(2 * (PATH_BYTES_MAX + NAME_BYTES_MAX) + 512 <= REQUEST_BYTES_MAX);
const _: () =
    assert!(PATH_BYTES_MAX + NAME_BYTES_MAX + LINK_TARGET_BYTES_MAX + 512 <= REQUEST_BYTES_MAX);
const _: () = assert!(LINK_TARGET_BYTES_MAX < REPLY_BYTES_MAX);
// A frame of the longest names with their attributes must fit.
const _: () = assert!(LIST_FRAME_ENTRIES_MAX * (NAME_BYTES_MAX + 256) <= LIST_FRAME_BYTES_MAX);
const _: () = assert!(LIST_FRAME_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(PUSH_NAMES_MAX * (NAME_BYTES_MAX + 256) <= PUSH_BYTES_MAX);
/// Most files that are reserved at once.
pub const RESERVED_FILES_MAX: u8 = 32;
/// Most opens that are ended at once.
pub const CLOSE_MAX: usize = 64;
/// Most files a host is asked at once to vouch for; their paths must fit a request.
pub const VOUCH_FILES_MAX: usize = 64;
/// Most bytes they may have together: the host reads all of them before it answers.
pub const VOUCH_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Most listings that are revalidated at once; their paths must fit a request.
pub const REVALIDATE_DIRS_MAX: usize = 128;

// The decoder counts numbers at their full width, against twice the frame.
const _: () = assert!(READ_MANY_FILES_MAX * 80 + PATH_BYTES_MAX + 512 <= 2 * REQUEST_BYTES_MAX);
const _: () = assert!(READ_MANY_FILE_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(REVALIDATE_DIRS_MAX * 128 <= REQUEST_BYTES_MAX);
const _: () = assert!(HEARD_WANTED_MAX * (NAME_BYTES_MAX + 64) + 64 <= REQUEST_BYTES_MAX);
const _: () = assert!(REVALIDATE_DIRS_MAX * 256 <= REPLY_BYTES_MAX);
const _: () = assert!(VOUCH_FILES_MAX * 128 + PATH_BYTES_MAX <= REQUEST_BYTES_MAX);
const _: () = assert!(VOUCH_FILES_MAX * 256 <= REPLY_BYTES_MAX);
const _: () = assert!((RESERVED_FILES_MAX as usize + 2) * 256 <= REPLY_BYTES_MAX);
