//! Dirty data: what programs wrote and the host does not have yet.
//!
//! ```text
//!   write ── Writer ── Dirty            which segments there are, and which may be sent
//!               │ └─── WriteBuffer      room for all files of the mount; who finds none waits
//!               └───── Deliver ── link  one segment at a time goes to the host
//! ```
//!
//! A write ends when its bytes are in a [`Writer`]; they travel later, in segments, many at once. What was
//! taken is sent whatever becomes of the program that wrote it. A segment that fails is given up, as Linux
//! does with a page that could not be written back, and the error is kept for those who ask ([`ErrorMark`]).
//!
//! Invariants
//! - Bytes of two writes that overlap reach the host in the order of the writes.
//! - Dirty data takes no more memory than the [`WriteBuffer`] has; what holds little counts as a page.
//! - Nothing is sent twice from here: that a segment is done exactly once is up to [`Deliver`].
//!
//! Locks: the `state` of a [`Writer`], a leaf.
//!
//! Not here: which file it is, its attributes, when to flush (`vfs`).

mod buffer;
mod dirty;
mod errors;
mod spares;
mod writer;

pub use buffer::WriteBuffer;
pub use errors::ErrorMark;
pub use writer::{Answered, Writer};

use super::error::FsError;
use crate::rpc::Body;
use dirty::Bounds;
use futures_util::future::BoxFuture;
use std::time::Duration;
use wormhole_protocol::limits::{SESSION_REQUESTS_MAX, WRITE_BYTES_MAX};
use wormhole_protocol::{AfterWrite, Attr, Caller, Fault};

/// Longest piece that is sent at once. Longer ones cost less for each byte, but more has to be sent again
/// after a lost connection.
pub const SEGMENT_BYTES: usize = 1024 * 1024;
/// Memory is counted in pieces of this size, because even a byte costs a segment.
const PAGE_BYTES: usize = 4096;
/// Segments of one file that may be under way.
const FILE_SEGMENTS_MAX: usize = 64;
/// And of all files: half of the requests a session may have open, so that others find a place.
const MOUNT_SEGMENTS_MAX: usize = 128;
/// A segment to which nothing was added for so long is sent: nobody knows whether more will come.
const IDLE: Duration = Duration::from_millis(20);
/// And one that is so old, even if a little is added all the time.
const AGE_MAX: Duration = Duration::from_secs(1);

const BOUNDS: Bounds = Bounds {
    segment_bytes: SEGMENT_BYTES,
    page_bytes: PAGE_BYTES,
    in_flight_max: FILE_SEGMENTS_MAX,
};

const _: () = assert!(SEGMENT_BYTES <= WRITE_BYTES_MAX);
const _: () = assert!(SEGMENT_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(FILE_SEGMENTS_MAX <= MOUNT_SEGMENTS_MAX);
const _: () = assert!(2 * MOUNT_SEGMENTS_MAX <= SESSION_REQUESTS_MAX as usize);

/// What a file is like once a segment was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Its attributes.
    pub attr: Attr,
    /// Why they could not be set, if they were to be.
    pub unset: Option<Fault>,
}

/// Where a file's dirty data goes; knows which open file at the host it belongs to.
pub trait Deliver: Send + Sync + 'static {
    /// Writes `body` at `offset` of the file, exactly once, and does then what `after` says.
    fn write(
        &self,
        offset: u64,
        body: Body,
        after: AfterWrite,
    ) -> BoxFuture<'_, Result<Delivered, FsError>>;

    /// On whose behalf.
    fn caller(&self) -> Caller;
}
