//! A host over QUIC, as a mount sees it: one stream for each request.

mod fits;

use super::code;
use super::frame::{FrameError, ReadStream, read_frame};
use super::tail::Tail;
use super::tuning::BODY_BYTES_MAX;
use crate::rpc::{Answer, Body, CallError, PathEstimate, Payload, Remote};
use fits::answers;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use quinn::{Connection, ReadError, VarInt};
use serde::Serialize;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wormhole_protocol::codec::Wire;
use wormhole_protocol::limits::SESSION_REQUESTS_MAX;
use wormhole_protocol::{Fault, Leased, Reply, Request};

/// Requests open at once; the rest of the streams is left to those being torn down.
const REQUESTS_MAX: usize = SESSION_REQUESTS_MAX as usize * 3 / 4;
/// Unit in which bytes behind requests are counted.
const BODY_UNIT_BYTES: usize = 1024;
/// Of streams with bytes behind their requests: others go first, being small and waited for.
const BODY_PRIORITY: i32 = -1;
/// Of those with many: they go one after the other (`tuning`), and a few bytes should not wait for all.
const LARGE_BODY_PRIORITY: i32 = -2;
const LARGE_BODY_BYTES: usize = 64 * 1024;
/// How long a rate is measured at least.
const METER_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes between looks at the clock.
const METER_BYTES: u64 = 64 * 1024;
/// How long the highest rate counts.
const METER_AGE: Duration = Duration::from_secs(5);

/// An admitted session with a host.
pub struct QuicRemote {
    connection: Connection,
    tail: Tail,
    slots: Arc<Semaphore>,
    /// Leave to have bytes behind requests under way.
    bodies: Semaphore,
    meter: Arc<Meter>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    payload_bytes: AtomicU64,
    resets: AtomicU64,
}

/// Figures of a session.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RemoteSnapshot {
    /// Requests sent.
    pub calls: u64,
    /// Payload bytes received.
    pub payload_bytes: u64,
    /// UDP bytes received.
    pub wire_bytes_in: u64,
    /// UDP bytes sent.
    pub wire_bytes_out: u64,
    /// Replies the host broke off.
    pub resets: u64,
    /// Streams the host was told to send no more of, because nobody wants the rest (STOP_SENDING).
    pub stops_out: u64,
    /// Streams the host wanted no more of.
    pub stops_in: u64,
    /// Packets of ours that were lost.
    pub lost_packets: u64,
    /// Smoothed round-trip time.
    pub rtt_us: u64,
    /// UDP payload size of the path.
    pub mtu_bytes: u64,
}

impl QuicRemote {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            tail: Tail::follow(&connection),
            connection,
            slots: Arc::new(Semaphore::new(REQUESTS_MAX)),
            bodies: Semaphore::new(BODY_BYTES_MAX / BODY_UNIT_BYTES),
            meter: Arc::default(),
            counters: Arc::default(),
        }
    }

    /// Figures now.
    pub fn snapshot(&self) -> RemoteSnapshot {
        let stats = self.connection.stats();
        RemoteSnapshot {
            calls: self.counters.calls.load(Relaxed),
            payload_bytes: self.counters.payload_bytes.load(Relaxed),
            wire_bytes_in: stats.udp_rx.bytes,
            wire_bytes_out: stats.udp_tx.bytes,
            resets: self.counters.resets.load(Relaxed),
            stops_out: stats.frame_tx.stop_sending,
            stops_in: stats.frame_rx.stop_sending,
            lost_packets: stats.path.lost_packets,
            rtt_us: u64::try_from(stats.path.rtt.as_micros()).unwrap_or(u64::MAX),
            mtu_bytes: stats.path.current_mtu.into(),
        }
    }

    async fn request(&self, request: Request, body: Body) -> Result<Answer, CallError> {
        let frame = request
            .to_frame()
            .map_err(|_| CallError::Fault(Fault::NameTooLong))?;
        // Before the slot, so that requests without bodies never wait behind those with.
        let units = body.len().div_ceil(BODY_UNIT_BYTES);
        let units = u32::try_from(units.min(BODY_BYTES_MAX / BODY_UNIT_BYTES));
        let units = units.map_err(|_| CallError::Fault(Fault::TooLarge))?;
        let bodies = self.bodies.acquire_many(units).await;
        let _under_way = bodies.map_err(|_| CallError::Link)?;
        let slot = self.slot(&request).await?;
        let (mut send, recv) = self
            .connection
            .open_bi()
            .await
            .map_err(|_| CallError::Link)?;
        // From here on dropping it before its end tells the host to stop working on it (STOP_SENDING).
        let mut recv = ReadStream::from(recv);
        if !body.is_empty() {
            // Fails only on a stream that is closed already.
            let _ = send.set_priority(if body.len() < LARGE_BODY_BYTES {
                BODY_PRIORITY
            } else {
                LARGE_BODY_PRIORITY
            });
        }
        self.counters.calls.fetch_add(1, Relaxed);
        send.write_all(&frame).await.map_err(|_| CallError::Link)?;
        let mut pieces = body.into_pieces();
        // A host that answers early, because it refuses, stops the stream; its answer tells why.
        let _ = send.write_all_chunks(&mut pieces).await;
        let _ = send.finish();
        self.tail.spoken();
        let reply: Reply = match read_frame(&mut recv).await {
            Ok(reply) => reply,
            Err(FrameError::Reset(code)) => return Err(self.reset(code)),
            Err(FrameError::Lost) => return Err(CallError::Link),
            Err(FrameError::Codec) => return Err(self.violated()),
        };
        if let Reply::Fault(fault) = reply {
            return Err(CallError::Fault(fault));
        }
        if !answers(&request, &reply) {
            return Err(self.violated());
        }
        let payload = self.payload(&reply, recv, slot);
        Ok(Answer { reply, payload })
    }

    /// What listening needs never waits behind changes, of which each may wait for another mount to say what
    /// it has heard.
    async fn slot(&self, request: &Request) -> Result<Option<OwnedSemaphorePermit>, CallError> {
        if matches!(request, Request::Listen | Request::Heard { .. }) {
            return Ok(None);
        }
        let slot = self.slots.clone().acquire_owned().await;
        slot.map(Some).map_err(|_| CallError::Link)
    }

    fn payload(
        &self,
        reply: &Reply,
        recv: ReadStream,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Payload {
        let announced = match reply {
            Reply::Data { len, .. } => Some(*len),
            Reply::Tree
            | Reply::Listing(_)
            | Reply::Leased {
                answer: Leased::Listing(_),
                ..
            } => None,
            Reply::Many(_) | Reply::Listening { .. } => None,
            // Nothing follows.
            _ => return Box::new(tokio::io::empty()),
        };
        // Pushes come now and then: nobody waits for them, and their stream is none of those for requests.
        let waited_for = !matches!(reply, Reply::Listening { .. });
        Box::new(QuicPayload {
            recv,
            left: announced,
            connection: self.connection.clone(),
            meter: self.meter.clone(),
            _busy: waited_for.then(|| (Busy::new(self.meter.clone()), slot)),
            counters: self.counters.clone(),
        })
    }

    fn reset(&self, code: VarInt) -> CallError {
        self.counters.resets.fetch_add(1, Relaxed);
        fault_of(code).map_or_else(|| self.violated(), CallError::Fault)
    }

    fn violated(&self) -> CallError {
        self.connection
            .close(code::VIOLATION, b"malformed or unexpected reply");
        CallError::Violation
    }
}

impl Drop for QuicRemote {
    fn drop(&mut self) {
        self.connection.close(code::DONE, b"");
    }
}

impl Remote for QuicRemote {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        self.request(request, body).boxed()
    }

    fn path(&self) -> PathEstimate {
        PathEstimate {
            rtt: self.connection.rtt(),
            bytes_per_sec: self.meter.bytes_per_sec(),
        }
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        async move {
            self.connection.closed().await;
        }
        .boxed()
    }

    fn wire(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.snapshot()).ok()
    }
}

fn fault_of(code: VarInt) -> Option<Fault> {
    u32::try_from(code.into_inner())
        .ok()
        .and_then(Fault::from_code)
}

struct QuicPayload {
    recv: ReadStream,
    /// Bytes still announced; `None` where the payload frames itself.
    left: Option<u64>,
    connection: Connection,
    meter: Arc<Meter>,
    _busy: Option<(Busy, Option<OwnedSemaphorePermit>)>,
    counters: Arc<Counters>,
}

impl QuicPayload {
    /// What a read of `n` bytes means, given what was announced.
    fn account(&mut self, n: usize) -> io::Result<()> {
        self.counters.payload_bytes.fetch_add(n as u64, Relaxed);
        self.meter.arrived(n as u64);
        match &mut self.left {
            Some(left) if n as u64 > *left => {
                self.connection
                    .close(code::VIOLATION, b"more payload than announced");
                Err(CallError::Violation.into())
            }
            // The stream ended before its time: the connection is going, or the host lied.
            Some(left) if n == 0 && *left > 0 => Err(CallError::Link.into()),
            Some(left) => {
                *left -= n as u64;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl AsyncRead for QuicPayload {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(self.recv.poll_read_buf(context, buf));
        let n = buf.filled().len() - before;
        let read = match read {
            Ok(()) => self.account(n),
            Err(ReadError::Reset(code)) => {
                self.counters.resets.fetch_add(1, Relaxed);
                let error = fault_of(code).map_or(CallError::Violation, CallError::Fault);
                Err(error.into())
            }
            Err(_) => Err(CallError::Link.into()),
        };
        Poll::Ready(read)
    }
}

/// Measures how fast payload arrives while some is wanted. Time without a payload under way does not
/// count, so that short reads far apart measure the path and not their pauses.
#[derive(Default)]
struct Meter(Mutex<Metered>);

#[derive(Default)]
struct Metered {
    streams: usize,
    /// Since when the present busy period runs.
    since: Option<Instant>,
    /// Busy time of earlier periods, and what arrived in all of them.
    busy: Duration,
    bytes: u64,
    best: Option<(Instant, u64)>,
}

impl Meter {
    fn arrived(&self, bytes: u64) {
        let mut metered = self.0.lock();
        metered.bytes += bytes;
        // The clock is read at most every 64 KiB; that is often enough to end an interval.
        if metered.bytes >= METER_BYTES {
            metered.sample(Instant::now());
        }
    }

    fn bytes_per_sec(&self) -> u64 {
        self.0.lock().best.map_or(0, |(_, rate)| rate)
    }
}

impl Metered {
    fn sample(&mut self, now: Instant) {
        if let Some(since) = self.since.replace(now) {
            self.busy += now.duration_since(since);
        }
        if self.busy < METER_INTERVAL {
            return;
        }
        let micros = u64::try_from(self.busy.as_micros()).unwrap_or(u64::MAX);
        let rate = self.bytes.saturating_mul(1_000_000) / micros.max(1);
        let keep = self
            .best
            .is_some_and(|(at, best)| best > rate && now.duration_since(at) < METER_AGE);
        if !keep {
            self.best = Some((now, rate));
        }
        self.bytes = 0;
        self.busy = Duration::ZERO;
    }
}

/// A payload that is being waited for.
struct Busy(Arc<Meter>);

impl Busy {
    fn new(meter: Arc<Meter>) -> Self {
        {
            let mut metered = meter.0.lock();
            metered.streams += 1;
            if metered.streams == 1 {
                metered.since = Some(Instant::now());
            }
        }
        Self(meter)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut metered = self.0.0.lock();
        metered.streams -= 1;
        if metered.streams == 0 {
            metered.sample(Instant::now());
            metered.since = None;
        }
    }
}
