//! Closes at the host what nobody has open any more, several at a time.
//!
//! Nobody waits for it, and a program that makes file after file leaves one behind each time: asked one by one the host and
//! this mount would spend as much on closing files as on making them. So what is to be closed waits a moment for more of
//! its kind; not if it holds locks somebody may be waiting for, and not while names change. For the host finds what it closes by
//! the name it was opened by, and some file systems keep what is removed while it is open.
//!
//! Not here: which opens there are (`opens`). A close that fails is not tried again: the host closes all when it gives this
//! mount up.
//!
//! Lock: `waiting`, leaf.

use super::changes::Changes;
use super::opens::NOBODY;
use crate::rpc::Body;
use futures_util::FutureExt;
use parking_lot::Mutex;
use std::future::Future;
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
    /// Fewer than fit a request.
    waiting: Mutex<Vec<OpenId>>,
    runtime: Handle,
}

impl Closing {
    /// Nothing, of what `changes` are asked through. Must be called within the runtime.
    pub(super) fn new(changes: Arc<Changes>) -> Arc<Self> {
        let this = Arc::new(Self {
            changes,
            waiting: Mutex::default(),
            runtime: Handle::current(),
        });
        this.changes.close_before_names(Arc::downgrade(&this));
        this
    }

    /// Closes `id`, with what comes within a moment.
    pub(super) fn soon(self: &Arc<Self>, id: OpenId) {
        let (first, full) = {
            let mut waiting = self.waiting.lock();
            waiting.push(id);
            let full = waiting.len() >= CLOSE_MAX;
            let full = full.then(|| std::mem::take(&mut *waiting));
            (waiting.len() == 1, full)
        };
        if let Some(opens) = full {
            self.runtime.spawn(self.ask(opens));
        } else if first {
            let this = self.clone();
            self.runtime.spawn(async move {
                sleep(GATHER).await;
                let opens = this.take();
                this.ask(opens).await;
            });
        }
    }

    /// Closes `id` alone: what is closed with others waits for them at the host.
    pub(super) fn at_once(&self, id: OpenId) {
        self.runtime.spawn(self.ask(vec![id]));
    }

    /// Closes what waits. It was asked for when this returns, if the host can be asked now.
    pub(super) fn hurry(&self) {
        let opens = self.take();
        if opens.is_empty() {
            return;
        }
        let _within = self.runtime.enter();
        let mut asked = Box::pin(self.ask(opens));
        if (&mut asked).now_or_never().is_none() {
            self.runtime.spawn(asked);
        }
    }

    fn take(&self) -> Vec<OpenId> {
        std::mem::take(&mut *self.waiting.lock())
    }

    fn ask(&self, opens: Vec<OpenId>) -> impl Future<Output = ()> + Send + use<> {
        let changes = self.changes.clone();
        async move {
            if !opens.is_empty() {
                let change = Change::Close { opens };
                let _ = changes.ask(NOBODY, change, Body::empty()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{Answer, CallError, PathEstimate, Remote};
    use futures_util::future::{BoxFuture, pending, ready};
    use tokio::task::yield_now;
    use wormhole_protocol::{Name, NodeRef, RelPath, Reply, Request};

    /// What it was asked to close at a time; nothing, if it was asked for something else, which it refuses.
    #[derive(Default)]
    struct Closed(Mutex<Vec<Vec<u64>>>);

    impl Remote for Closed {
        fn call_with(&self, request: Request, _: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
            let opens = match request {
                Request::Change {
                    change: Change::Close { opens },
                    ..
                } => opens,
                _ => Vec::new(),
            };
            let answer = match opens.is_empty() {
                true => Err(CallError::Violation),
                false => Ok(Answer {
                    reply: Reply::Done,
                    payload: Box::new(tokio::io::empty()),
                }),
            };
            self.0
                .lock()
                .push(opens.iter().map(|open| open.0).collect());
            ready(answer).boxed()
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
    async fn what_holds_locks_waits_for_nothing() {
        let (host, closing) = closing();
        closing.soon(OpenId(1));
        closing.at_once(OpenId(2));
        yield_now().await;
        assert_eq!(*host.0.lock(), [[2]]);
        sleep(2 * GATHER).await;
        assert_eq!(*host.0.lock(), [[2], [1]]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_closed_before_names_change() {
        let (host, closing) = closing();
        closing.soon(OpenId(1));
        closing.hurry();
        assert_eq!(*host.0.lock(), [[1]], "asked for by then");
        closing.soon(OpenId(2));
        let dir = NodeRef {
            path: RelPath::root(),
            expect: None,
        };
        let name = Name::new(b"n").unwrap();
        let remove = Change::RemoveDir { dir, name };
        let removed = closing.changes.ask(NOBODY, remove, Body::empty()).await;
        assert!(removed.is_err());
        assert_eq!(*host.0.lock(), [vec![1], vec![2], vec![]]);
        sleep(2 * GATHER).await;
        assert_eq!(host.0.lock().len(), 3);
    }
}
