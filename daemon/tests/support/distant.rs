//! A host at a distance: every answer takes a round trip.

use super::fake::FakeHost;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{Answer, Body, CallError, PathEstimate, Remote};
use wormhole_protocol::Request;

pub struct Distant {
    host: Loopback,
    rtt: Duration,
    /// What it is said to carry.
    pub bytes_per_sec: AtomicU64,
    /// Calls that wait for an answer, and the most there ever were.
    calls: AtomicUsize,
    pub calls_max: AtomicUsize,
}

impl Distant {
    pub fn new(host: &Arc<FakeHost>, rtt: Duration) -> Self {
        Self {
            host: Loopback::new(host.clone()),
            rtt,
            bytes_per_sec: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            calls_max: AtomicUsize::new(0),
        }
    }
}

impl Remote for Distant {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        async move {
            let calls = self.calls.fetch_add(1, SeqCst) + 1;
            self.calls_max.fetch_max(calls, SeqCst);
            tokio::time::sleep(self.rtt).await;
            self.calls.fetch_sub(1, SeqCst);
            self.host.call_with(request, body).await
        }
        .boxed()
    }

    fn path(&self) -> PathEstimate {
        PathEstimate {
            rtt: self.rtt,
            bytes_per_sec: self.bytes_per_sec.load(SeqCst),
        }
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}
