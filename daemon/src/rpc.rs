//! The seam between the two roles: a mount calls, a host serves.
//!
//! [`Remote`] is what a mount knows of a host; [`Serve`] what a transport knows of one. Between them
//! stand QUIC (`transport`) or, in tests, nothing but memory ([`loopback`]). Neither side can tell.
//!
//! Not here: sockets, reconnecting (`mount::link`), what any request means.

pub mod loopback;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::io::AsyncRead;
use wormhole_protocol::{Fault, Hello, Refusal, Reply, Request, Welcome};

/// The bytes behind a reply, as they arrive. Dropping it before its end cancels the rest at the host.
///
/// A fault in mid-stream shows as an [`std::io::Error`] that wraps a [`CallError`]; see
/// [`CallError::from_io`].
pub type Payload = Box<dyn AsyncRead + Send + Unpin>;

/// The raw bytes behind a request, in pieces. Cheap to clone, so that a request can be sent again.
#[derive(Debug, Clone, Default)]
pub struct Body {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Body {
    /// None.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a piece at the end.
    pub fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.pieces.push(piece);
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order.
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }
}

impl From<Bytes> for Body {
    fn from(piece: Bytes) -> Self {
        Self {
            len: piece.len(),
            pieces: vec![piece],
        }
    }
}

/// A reply header, and its payload (empty for most replies).
pub struct Answer {
    /// The header; never [`Reply::Fault`], which is [`CallError::Fault`].
    pub reply: Reply,
    /// What follows it.
    pub payload: Payload,
}

/// Why a call brought no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The host answered that it cannot.
    #[error("the host answered: {0:?}")]
    Fault(Fault),
    /// The connection is gone, or went during the call: asking again may work.
    #[error("the connection to the host was lost")]
    Link,
    /// The host broke the protocol; the connection has been closed.
    #[error("the host broke the protocol")]
    Violation,
    /// The deadline passed while there was no connection.
    #[error("no answer from the host in time")]
    TimedOut,
    /// A change was asked of a life of the host that is over: whether it was done is not known.
    #[error("the host was restarted before it answered")]
    Restarted,
}

impl CallError {
    /// The call error inside an error of a [`Payload`]; any other I/O error is a lost link.
    pub fn from_io(error: &std::io::Error) -> Self {
        error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Self>())
            .copied()
            .unwrap_or(Self::Link)
    }
}

impl From<CallError> for std::io::Error {
    fn from(error: CallError) -> Self {
        Self::other(error)
    }
}

/// What is known of the path to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathEstimate {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Highest rate at which payload arrived lately, bytes per second; 0 if nothing was measured.
    pub bytes_per_sec: u64,
}

impl PathEstimate {
    /// Bandwidth-delay product: bytes in flight that fill the path.
    pub fn bdp_bytes(&self) -> u64 {
        let micros = u64::try_from(self.rtt.as_micros()).unwrap_or(u64::MAX);
        self.bytes_per_sec.saturating_mul(micros) / 1_000_000
    }
}

/// A host, as a mount sees it.
pub trait Remote: Send + Sync + 'static {
    /// Asks, with raw bytes behind the request: as many as [`wormhole_protocol::Change::body_len`] says.
    /// Dropping the future cancels the request, unless it is a change: that may be done all the same.
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>>;

    /// Asks what needs no bytes. Dropping the future cancels the request.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Answer, CallError>> {
        self.call_with(request, Body::empty())
    }

    /// As [`Self::call_with`], and waits for a lost connection however long that takes: for what nobody waits for and
    /// nobody would ask again.
    fn call_patiently(
        &self,
        request: Request,
        body: Body,
    ) -> BoxFuture<'_, Result<Answer, CallError>> {
        self.call_with(request, body)
    }

    /// The session this one calls over now, for what belongs to that alone; waits for one. `None`: it is one
    /// itself.
    fn session(&self) -> BoxFuture<'_, Option<std::sync::Arc<dyn Remote>>> {
        Box::pin(std::future::ready(None))
    }

    /// The path as measured so far.
    fn path(&self) -> PathEstimate;

    /// Whether an answer can be had now; a call made while not would wait.
    fn is_connected(&self) -> bool {
        true
    }

    /// Figures of the connection beneath, for people; `None` if there is none.
    fn wire(&self) -> Option<serde_json::Value> {
        None
    }

    /// Resolves when the connection is gone for good.
    fn closed(&self) -> BoxFuture<'_, ()>;
}

/// The mount stopped the stream or is gone; whoever serves may stop too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads this reply any more")]
pub struct SinkClosed;

/// Where an answer goes. Back-pressure is in the futures: they wait while the mount does not read.
pub trait Sink: Send {
    /// Sends the header; once, first.
    fn reply(&mut self, reply: Reply) -> BoxFuture<'_, Result<(), SinkClosed>>;

    /// Sends payload. `bytes` is freed when the mount has acknowledged it.
    fn send(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), SinkClosed>>;

    /// Breaks off a payload that cannot be finished.
    fn abort(&mut self, fault: Fault);

    /// Orders this stream against others of the session: higher first. Default 0.
    fn prioritize(&mut self, priority: i32);
}

/// The raw bytes behind a request did not come: the connection is gone, or the mount gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes behind a request did not come")]
pub struct SourceBroken;

/// Where the raw bytes behind a request come from.
pub trait Source: Send {
    /// Adds the next pieces to `pieces`; none at the end. How many bytes come in all is the mount's word: to be
    /// counted.
    fn next<'a>(
        &'a mut self,
        pieces: &'a mut Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), SourceBroken>>;
}

/// A source of nothing.
impl Source for () {
    fn next<'a>(&'a mut self, _: &'a mut Vec<Bytes>) -> BoxFuture<'a, Result<(), SourceBroken>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Pieces at hand.
impl Source for std::vec::IntoIter<Bytes> {
    fn next<'a>(
        &'a mut self,
        pieces: &'a mut Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), SourceBroken>> {
        pieces.extend(Iterator::next(self));
        Box::pin(std::future::ready(Ok(())))
    }
}

/// One admitted session on the host's side. Dropping the last reference ends it.
pub trait Serve: Send + Sync + 'static {
    /// Answers one request. Cancelled by dropping the future, but for a change whose bytes have all come:
    /// that is done, and its answer kept. An error only says that nobody listens any more; what went wrong
    /// with the request itself went into the sink.
    fn serve<'a>(
        &'a self,
        request: Request,
        source: &'a mut dyn Source,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), SinkClosed>>;

    /// The mount closed the session on purpose, not the link by accident: nothing need be kept for
    /// its return. To be called before the session is dropped.
    fn goodbye(&self) {}
}

/// Who decides about a hello.
pub trait Gate: Send + Sync + 'static {
    /// Admits or refuses. `binding` was exported from the TLS session the hello came on.
    fn admit<'a>(
        &'a self,
        hello: &'a Hello,
        binding: &'a [u8; 32],
    ) -> BoxFuture<'a, Result<Admission, Refusal>>;
}

/// An admitted session.
pub struct Admission {
    /// What the mount is told.
    pub welcome: Welcome,
    /// Who answers its requests.
    pub session: std::sync::Arc<dyn Serve>,
}

/// Priorities on the host's side of a session.
pub mod priority {
    /// Small answers: attributes, names.
    pub const META: i32 = 3;
    /// Bytes somebody waits for.
    pub const DEMAND: i32 = 2;
    /// Listings.
    pub const LISTING: i32 = 1;
    /// Read ahead of need.
    pub const AHEAD: i32 = 0;
    /// What nobody waits for: metadata of trees.
    pub const BACKGROUND: i32 = -1;
}

/// Why a connection to a host was not made.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ConnectFailure {
    /// What to tell the user.
    pub message: String,
    /// Whether trying again soon is of no use (wrong host, revoked ticket).
    pub is_final: bool,
}

/// A session that was made, and what the host said when it let us in.
pub type Connected = (std::sync::Arc<dyn Remote>, Welcome);

/// Makes connections to one host; the way to it is its own business.
pub trait Connect: Send + Sync + 'static {
    /// One attempt.
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectFailure>>;

    /// Sees to it that the hosts of connections that were dropped have been told; waits a moment at most.
    fn say_goodbye(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
