//! One request on one stream: read it, have it served, send what comes.

use super::super::frame::{FrameError, ReadStream, read_frame};
use super::super::tail::Tail;
use crate::rpc::{Serve, Sink, SinkClosed, Source, SourceBroken};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use quinn::{SendStream, VarInt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use wormhole_protocol::codec::Wire;
use wormhole_protocol::{Fault, Reply, Request};

/// For the whole request frame to arrive.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Pieces of a body taken from the connection at once: a piece is what one packet brought.
const PIECES_MAX: usize = 64;
/// For the mount to take one piece of payload, or to send one of a body.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The mount broke the protocol.
#[derive(Debug)]
pub(super) struct Violation;

pub(super) async fn run(
    mut send: SendStream,
    mut recv: ReadStream,
    session: Arc<dyn Serve>,
    tail: Arc<Tail>,
) -> Result<(), Violation> {
    let request = match timeout(REQUEST_MAX, read_frame::<Request>(&mut recv)).await {
        Ok(Ok(request)) => request,
        Ok(Err(FrameError::Codec)) => return Err(Violation),
        // Given up, or too slow: the stream goes, the session stays.
        Ok(Err(FrameError::Reset(_) | FrameError::Lost)) | Err(_) => {
            reset(&mut send, Fault::Invalid);
            return Ok(());
        }
    };
    let stopped = send.stopped();
    let mut source = StreamSource {
        recv,
        taken: Vec::new(),
        left: body_len(&request),
        violated: false,
    };
    let mut sink = StreamSink {
        send,
        answered: false,
    };
    let served = tokio::select! {
        served = session.serve(request, &mut source, &mut sink) => served,
        // The mount no longer wants it, or is gone: dropping the future ends the work.
        _ = stopped => Err(SinkClosed),
    };
    if source.violated {
        return Err(Violation);
    }
    if served.is_ok() && sink.answered {
        let _ = sink.send.finish();
        tail.spoken();
    } else {
        reset(&mut sink.send, Fault::Io);
    }
    Ok(())
}

fn reset(send: &mut SendStream, fault: Fault) {
    // Fails only on a stream that is closed already.
    let _ = send.reset(VarInt::from_u32(fault.code()));
}

/// How many bytes a request says follow it.
fn body_len(request: &Request) -> usize {
    match request {
        Request::Change { change, .. } => change.body_len(),
        _ => 0,
    }
}

/// The bytes behind a request frame. Dropping it before their end tells the mount to send no more of them.
struct StreamSource {
    recv: ReadStream,
    /// Where the connection puts pieces: places that are empty but for moments.
    taken: Vec<Bytes>,
    left: usize,
    /// More came than were announced.
    violated: bool,
}

impl StreamSource {
    fn count(&mut self, bytes: usize) -> Result<(), SourceBroken> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.violated = true;
                Err(SourceBroken)
            }
        }
    }
}

impl Source for StreamSource {
    fn next<'a>(
        &'a mut self,
        pieces: &'a mut Vec<Bytes>,
    ) -> BoxFuture<'a, Result<(), SourceBroken>> {
        async move {
            self.taken.resize(PIECES_MAX, Bytes::new());
            match timeout(STALL_MAX, self.recv.read_chunks(&mut self.taken)).await {
                Ok(Ok(Some(count))) => {
                    let taken = self.taken.iter_mut().take(count).map(std::mem::take);
                    let before = pieces.len();
                    pieces.extend(taken);
                    self.count(pieces[before..].iter().map(Bytes::len).sum())
                }
                Ok(Ok(None)) => Ok(()),
                _ => Err(SourceBroken),
            }
        }
        .boxed()
    }
}

struct StreamSink {
    send: SendStream,
    answered: bool,
}

impl Sink for StreamSink {
    fn reply(&mut self, reply: Reply) -> BoxFuture<'_, Result<(), SinkClosed>> {
        self.answered = true;
        async move {
            let frame = match reply.to_frame() {
                Ok(frame) => frame,
                // Larger than the wire carries: say so instead.
                Err(_) => Reply::Fault(Fault::TooLarge)
                    .to_frame()
                    .map_err(|_| SinkClosed)?,
            };
            self.write(Bytes::from(frame)).await
        }
        .boxed()
    }

    fn send(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), SinkClosed>> {
        self.write(bytes).boxed()
    }

    fn abort(&mut self, fault: Fault) {
        reset(&mut self.send, fault);
    }

    fn prioritize(&mut self, priority: i32) {
        let _ = self.send.set_priority(priority);
    }
}

impl StreamSink {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed> {
        match timeout(STALL_MAX, self.send.write_chunk(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SinkClosed),
            // A mount that does not read must not hold what it asked for.
            Err(_) => {
                reset(&mut self.send, Fault::Exhausted);
                Err(SinkClosed)
            }
        }
    }
}
