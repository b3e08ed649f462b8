//! The way to a made-up host, for a link: it can be cut, and every time it is dialled anew a session begins.

use super::fake::FakeHost;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::watch;
use wormhole::rpc::loopback::Loopback;
use wormhole::rpc::{
    Answer, Body, CallError, Connect, ConnectFailure, Connected, PathEstimate, Remote,
};
use wormhole_protocol::*;

pub struct Door {
    host: Arc<FakeHost>,
    way: Mutex<Option<Arc<Way>>>,
    /// How often it was gone through.
    pub sessions: AtomicUsize,
}

impl Door {
    pub fn new(host: &Arc<FakeHost>) -> Arc<Self> {
        Arc::new(Self {
            host: host.clone(),
            way: Mutex::default(),
            sessions: AtomicUsize::new(0),
        })
    }

    /// Ends the present session: what waits for an answer gets none.
    pub fn cut(&self) {
        if let Some(way) = self.way.lock().unwrap().take() {
            way.cut.send_replace(true);
        }
    }

    fn welcome(&self) -> Welcome {
        let is_writable = !self.host.misbehaviour.lock().unwrap().read_only;
        Welcome {
            version: 1,
            features: Features::default(),
            share: ShareId([1; 16]),
            name: Name::new("share").unwrap(),
            epoch: Epoch(1),
            limits: SessionLimits {
                requests_max: limits::SESSION_REQUESTS_MAX,
                read_bytes_max: limits::READ_BYTES_MAX,
                opens_max: 1024,
            },
            access: if is_writable {
                Access::ReadWrite
            } else {
                Access::Read
            },
            resumed: self.host.resume(),
            maps_users: false,
            root: self.host.root(),
        }
    }
}

impl Connect for Door {
    fn connect(&self) -> BoxFuture<'_, Result<Connected, ConnectFailure>> {
        async move {
            self.sessions.fetch_add(1, SeqCst);
            let way = Arc::new(Way {
                host: Loopback::new(self.host.clone()),
                cut: watch::Sender::new(false),
            });
            *self.way.lock().unwrap() = Some(way.clone());
            Ok((way as Arc<dyn Remote>, self.welcome()))
        }
        .boxed()
    }
}

/// A session that can be cut. It is, when the host gives no answer.
struct Way {
    host: Loopback,
    cut: watch::Sender<bool>,
}

impl Remote for Way {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        async move {
            let answer = tokio::select! {
                biased;
                () = self.closed() => Err(CallError::Link),
                answer = self.host.call_with(request, body) => answer,
            };
            if matches!(answer, Err(CallError::Link)) {
                self.cut.send_replace(true);
            }
            answer
        }
        .boxed()
    }

    fn path(&self) -> PathEstimate {
        self.host.path()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        async move {
            let _ = self.cut.subscribe().wait_for(|cut| *cut).await;
        }
        .boxed()
    }
}
