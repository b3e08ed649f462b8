//! A [`Remote`] that calls a [`Serve`] in the same process: no socket, no codec.
//!
//! For tests and benchmarks. Payload passes through a bounded pipe, so back-pressure and
//! cancellation behave as on a connection.

use super::{Answer, Body, CallError, PathEstimate, Remote, Serve, Sink, SinkClosed};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{mpsc, oneshot};
use wormhole_protocol::{Fault, Reply, Request};

/// Pieces of payload that may wait between the two sides.
const PIPE_PIECES: usize = 4;

/// Calls `session` directly.
pub struct Loopback {
    session: Arc<dyn Serve>,
}

impl Loopback {
    /// A remote whose host is `session`.
    pub fn new(session: Arc<dyn Serve>) -> Self {
        Self { session }
    }
}

impl Remote for Loopback {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        let session = self.session.clone();
        async move {
            let (header, answered) = oneshot::channel();
            let (pieces, payload) = mpsc::channel(PIPE_PIECES);
            let serving = tokio::spawn(async move {
                let mut sink = Pipe {
                    header: Some(header),
                    pieces,
                };
                let mut source = body.into_pieces().into_iter();
                let _ = session.serve(request, &mut source, &mut sink).await;
            });
            let guard = AbortOnDrop(serving);
            match answered.await {
                Ok(Reply::Fault(fault)) => Err(CallError::Fault(fault)),
                Ok(reply) => Ok(Answer {
                    reply,
                    payload: Box::new(PipePayload {
                        pieces: payload,
                        rest: Bytes::new(),
                        _serving: guard,
                    }),
                }),
                Err(_) => Err(CallError::Link),
            }
        }
        .boxed()
    }

    fn path(&self) -> PathEstimate {
        PathEstimate {
            rtt: Duration::from_micros(10),
            bytes_per_sec: 4_000_000_000,
        }
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        pending().boxed()
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Pipe {
    header: Option<oneshot::Sender<Reply>>,
    pieces: mpsc::Sender<Result<Bytes, Fault>>,
}

impl Sink for Pipe {
    fn reply(&mut self, reply: Reply) -> BoxFuture<'_, Result<(), SinkClosed>> {
        let sent = match self.header.take() {
            Some(header) => header.send(reply).map_err(|_| SinkClosed),
            None => Err(SinkClosed),
        };
        futures_util::future::ready(sent).boxed()
    }

    fn send(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), SinkClosed>> {
        async move { self.pieces.send(Ok(bytes)).await.map_err(|_| SinkClosed) }.boxed()
    }

    fn abort(&mut self, fault: Fault) {
        // The pipe may be full; the fault must still arrive after what is in it.
        let pieces = self.pieces.clone();
        tokio::spawn(async move {
            let _ = pieces.send(Err(fault)).await;
        });
    }

    fn prioritize(&mut self, _priority: i32) {}
}

struct PipePayload {
    pieces: mpsc::Receiver<Result<Bytes, Fault>>,
    rest: Bytes,
    _serving: AbortOnDrop,
}

impl AsyncRead for PipePayload {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(fault)) => return Poll::Ready(Err(CallError::Fault(fault).into())),
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = buf.remaining().min(self.rest.len());
        buf.put_slice(&self.rest.split_to(n));
        Poll::Ready(Ok(()))
    }
}
