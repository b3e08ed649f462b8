//! Closes at the host what nobody has open any more, several at a time.
//!
//! Nobody waits for it, and a program that makes file after file leaves one behind each time: asked one by one the host and
//! this mount would spend as much on closing files as on making them. So what is to be closed waits a moment for more of
//! its kind, unless it holds locks somebody may be waiting for.
//!
//! Not here: which opens there are (`opens`). A close that fails is not tried again: the host closes all when it gives this
//! mount up.
//!
//! Lock: `waiting`, leaf.

use super::changes::Changes;
use super::opens::NOBODY;
use crate::rpc::Body;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::sleep;
use wormhole_protocol::limits::CLOSE_MAX;
use wormhole_protocol::{Change, OpenId};

/// How long the first waits for more.
const GATHER: Duration = Duration::from_millis(10);

/// What is to be closed.
pub(super) struct Closing {
    changes: Arc<Changes>,
    waiting: Mutex<Vec<OpenId>>,
    runtime: Handle,
}

impl Closing {
    /// Nothing. Must be called within the runtime.
    pub(super) fn new(changes: Arc<Changes>) -> Arc<Self> {
        Arc::new(Self {
            changes,
            waiting: Mutex::default(),
            runtime: Handle::current(),
        })
    }

    /// Closes `id`, with what comes within a moment.
    pub(super) fn soon(self: &Arc<Self>, id: OpenId) {
        let waiting = {
            let mut waiting = self.waiting.lock();
            waiting.push(id);
            waiting.len()
        };
        let this = self.clone();
        if waiting >= CLOSE_MAX {
            self.runtime.spawn(async move { this.ask().await });
        } else if waiting == 1 {
            self.runtime.spawn(async move {
                sleep(GATHER).await;
                this.ask().await;
            });
        }
    }

    /// Closes `id`, and what waits.
    pub(super) fn at_once(self: &Arc<Self>, id: OpenId) {
        self.waiting.lock().push(id);
        let this = self.clone();
        self.runtime.spawn(async move { this.ask().await });
    }

    async fn ask(&self) {
        let mut opens = std::mem::take(&mut *self.waiting.lock());
        while !opens.is_empty() {
            let rest = opens.split_off(opens.len().min(CLOSE_MAX));
            let change = Change::Close { opens };
            let _ = self.changes.ask(NOBODY, change, Body::empty()).await;
            opens = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{Answer, CallError, PathEstimate, Remote};
    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, pending, ready};
    use tokio::task::yield_now;
    use wormhole_protocol::{Reply, Request};

    /// What it was asked to close at a time.
    #[derive(Default)]
    struct Closed(Mutex<Vec<Vec<u64>>>);

    impl Remote for Closed {
        fn call_with(&self, request: Request, _: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
            let Request::Change {
                change: Change::Close { opens },
                ..
            } = request
            else {
                panic!("{request:?}");
            };
            self.0
                .lock()
                .push(opens.iter().map(|open| open.0).collect());
            let payload = Box::new(tokio::io::empty());
            let reply = Reply::Done;
            ready(Ok(Answer { reply, payload })).boxed()
        }

        fn path(&self) -> PathEstimate {
            PathEstimate::default()
        }

        fn closed(&self) -> BoxFuture<'_, ()> {
            pending().boxed()
        }
    }

    fn closing() -> (Arc<Closed>, Arc<Closing>) {
        let host = Arc::new(Closed::default());
        let changes = Changes::new(host.clone(), Arc::default());
        (host, Closing::new(changes))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_within_a_moment_is_closed_together() {
        let (host, closing) = closing();
        for id in 1..=3 {
            closing.soon(OpenId(id));
        }
        sleep(GATHER / 2).await;
        assert!(host.0.lock().is_empty());
        sleep(GATHER).await;
        assert_eq!(*host.0.lock(), [[1, 2, 3]]);
        closing.soon(OpenId(4));
        sleep(2 * GATHER).await;
        assert_eq!(host.0.lock().last(), Some(&vec![4]));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_fit_a_request_wait_for_no_more_and_each_is_closed_once() {
        let (host, closing) = closing();
        for id in 0..2 * CLOSE_MAX as u64 + 1 {
            closing.soon(OpenId(id));
        }
        yield_now().await;
        assert_eq!(host.0.lock().first().map(Vec::len), Some(CLOSE_MAX));
        sleep(2 * GATHER).await;
        let closed: Vec<_> = host.0.lock().iter().flatten().copied().collect();
        assert_eq!(closed, (0..2 * CLOSE_MAX as u64 + 1).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn what_holds_locks_is_closed_at_once() {
        let (host, closing) = closing();
        closing.soon(OpenId(1));
        closing.at_once(OpenId(2));
        yield_now().await;
        assert_eq!(*host.0.lock(), [[1, 2]]);
    }
}
