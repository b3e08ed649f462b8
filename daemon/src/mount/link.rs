//! Staying connected: a [`Remote`] that outlives its connections.
//!
//! One task keeps a session with the host, dialling again whenever it ends, for as long as the mount
//! lives. A call waits for a session at most the mount's timeout, counted from its start, and is asked
//! again on the next session if it lost one without an answer. Reading twice is harmless; a change is done
//! once, because the host knows it by its number, as long as the host still knows this mount. A session with a
//! host that has forgotten it begins another *life*: what was held there is reclaimed before anything is
//! asked, and a change asked in an earlier life is not asked again ([`CallError::Restarted`]). A host that came back under the same identity with the same share is picked up
//! as if nothing had been; another share is refused.
//!
//! Not here: how a connection is made (`rpc::Connect`).

use crate::rpc::{Answer, Body, CallError, Connect, ConnectFailure, PathEstimate, Remote};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wormhole_protocol::{Epoch, Request, ShareId, Welcome};

/// Between attempts: doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Between attempts when the host said no.
const BACKOFF_REFUSED: Duration = Duration::from_secs(5);

/// For all that is taken back; longer is a connection of no use.
const RECLAIM_MAX: Duration = Duration::from_secs(30);

/// Why there is no link at all.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The first connection was not made.
    #[error(transparent)]
    Connect(#[from] ConnectFailure),
}

/// Who takes back what was held at a host that has forgotten.
pub trait Reclaim: Send + Sync {
    /// Does so over a new connection, before anyone else asks there.
    ///
    /// An error means that the connection is of no use; what the host refuses is none.
    fn reclaim<'a>(&'a self, remote: &'a dyn Remote) -> BoxFuture<'a, Result<(), CallError>>;
}

/// A session, and which life of the host's memory it belongs to.
#[derive(Clone)]
struct Session {
    remote: Arc<dyn Remote>,
    life: u64,
}

/// What the link is doing.
#[derive(Debug, Clone, Serialize)]
pub struct LinkSnapshot {
    /// Whether there is a session.
    pub connected: bool,
    /// For how long it has been so.
    pub since_secs: u64,
    /// Times a session was made anew.
    pub reconnects: u64,
    /// What the last failed attempt said, while there is no session.
    pub last_error: Option<String>,
    /// Smoothed round-trip time.
    pub rtt_us: u64,
    /// Highest rate of payload lately.
    pub bytes_per_sec: u64,
    /// Figures of the connection.
    pub wire: Option<serde_json::Value>,
}

/// What callers see.
#[derive(Clone)]
enum State {
    Connected(Session),
    /// No session now.
    Lost,
    /// The host said no, and would again.
    Refused,
    Closed,
}

struct Shared {
    state: watch::Sender<State>,
    status: Mutex<Status>,
    reclaim: OnceLock<Weak<dyn Reclaim>>,
}

struct Status {
    changed: Instant,
    reconnects: u64,
    last_error: Option<String>,
    epoch: Epoch,
}

/// A connection that comes back.
pub struct Link {
    shared: Arc<Shared>,
    connect: Arc<dyn Connect>,
    timeout: Duration,
    keeper: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Link {
    /// Connects for the first time, and keeps connected from then on. A call waits at most `timeout`.
    ///
    /// # Errors
    /// [`LinkError`] if the first attempt fails; there is nothing to come back to then.
    pub async fn open(
        connect: Arc<dyn Connect>,
        timeout: Duration,
    ) -> Result<(Arc<Self>, Welcome), LinkError> {
        let (remote, welcome) = connect.connect().await?;
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::Connected(Session { remote, life: 0 })),
            status: Mutex::new(Status {
                changed: Instant::now(),
                reconnects: 0,
                last_error: None,
                epoch: welcome.epoch,
            }),
            reclaim: OnceLock::new(),
        });
        let keeper = tokio::spawn(keep(shared.clone(), connect.clone(), welcome.share));
        let link = Arc::new(Self {
            shared,
            connect,
            timeout,
            keeper: Mutex::new(Some(keeper)),
        });
        Ok((link, welcome))
    }

    /// Names who takes back what a host has forgotten; once.
    pub fn reclaim_by(&self, reclaim: Weak<dyn Reclaim>) {
        let _ = self.shared.reclaim.set(reclaim);
    }

    /// Ends the link: what waits fails, and the host is told.
    pub async fn close(&self) {
        self.shared.state.send_replace(State::Closed);
        let keeper = self.keeper.lock().take();
        if let Some(keeper) = keeper {
            keeper.abort();
            let _ = keeper.await;
        }
        self.connect.say_goodbye().await;
    }

    /// The host's life the session belongs to.
    pub fn epoch(&self) -> Epoch {
        self.shared.status.lock().epoch
    }

    /// What it is doing.
    pub fn snapshot(&self) -> LinkSnapshot {
        let remote = self.shared.current();
        let path = remote.as_ref().map(|r| r.path()).unwrap_or_default();
        let status = self.shared.status.lock();
        LinkSnapshot {
            connected: remote.is_some(),
            since_secs: status.changed.elapsed().as_secs(),
            reconnects: status.reconnects,
            last_error: status.last_error.clone(),
            rtt_us: u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX),
            bytes_per_sec: path.bytes_per_sec,
            wire: remote.and_then(|r| r.wire()),
        }
    }

    /// A session, or why there is none by `deadline`; without one, as soon as there is one.
    async fn session(&self, deadline: Option<Instant>) -> Result<Session, CallError> {
        let mut state = self.shared.state.subscribe();
        let Some(deadline) = deadline else {
            let settled = |state: &State| matches!(state, State::Connected(_) | State::Closed);
            return match state.wait_for(settled).await.as_deref() {
                Ok(State::Connected(session)) => Ok(session.clone()),
                _ => Err(CallError::TimedOut),
            };
        };
        let settled = state.wait_for(|state| !matches!(state, State::Lost));
        match timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Connected(session) => Ok(session.clone()),
                _ => Err(CallError::TimedOut),
            },
            _ => Err(CallError::TimedOut),
        }
    }

    /// Waits for a session at most `patience` at a time, if there is a limit to it.
    async fn call_until_answered(
        &self,
        request: Request,
        body: Body,
        patience: Option<Duration>,
    ) -> Result<Answer, CallError> {
        let until = || patience.map(|patience| Instant::now() + patience);
        let mut deadline = until();
        let is_change = matches!(request, Request::Change { .. });
        let mut asked = None;
        loop {
            let Session { remote, life } = self.session(deadline).await?;
            if is_change && asked.is_some_and(|asked| asked != life) {
                return Err(CallError::Restarted);
            }
            asked = Some(life);
            if is_change {
                // A large one takes as long as it takes; while the connection lives, so does the hope.
                match remote.call_with(request.clone(), body.clone()).await {
                    Err(CallError::Link) => self.shared.lose(&remote),
                    answer => return answer,
                }
                deadline = until();
                continue;
            }
            let call = remote.call_with(request.clone(), body.clone());
            let answer = match deadline {
                Some(deadline) => timeout_at(deadline, call).await,
                None => Ok(call.await),
            };
            match answer {
                Ok(Err(CallError::Link)) => self.shared.lose(&remote),
                Ok(answer) => return answer,
                Err(_) => return Err(CallError::TimedOut),
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.lock().take() {
            keeper.abort();
        }
    }
}

impl Remote for Link {
    fn call_with(&self, request: Request, body: Body) -> BoxFuture<'_, Result<Answer, CallError>> {
        let patience = Some(self.timeout);
        self.call_until_answered(request, body, patience).boxed()
    }

    fn call_patiently(
        &self,
        request: Request,
        body: Body,
    ) -> BoxFuture<'_, Result<Answer, CallError>> {
        self.call_until_answered(request, body, None).boxed()
    }

    fn session(&self) -> BoxFuture<'_, Option<Arc<dyn Remote>>> {
        async move {
            let mut state = self.shared.state.subscribe();
            let connected = state.wait_for(|state| matches!(state, State::Connected(_)));
            match connected.await.as_deref() {
                Ok(State::Connected(session)) => Some(session.remote.clone()),
                _ => None,
            }
        }
        .boxed()
    }

    fn path(&self) -> PathEstimate {
        self.shared.current().map(|r| r.path()).unwrap_or_default()
    }

    fn is_connected(&self) -> bool {
        self.shared.current().is_some()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        async move {
            let mut state = self.shared.state.subscribe();
            let closed = state.wait_for(|state| matches!(state, State::Closed));
            let _ = closed.await;
        }
        .boxed()
    }
}

impl Shared {
    fn current(&self) -> Option<Arc<dyn Remote>> {
        match &*self.state.borrow() {
            State::Connected(session) => Some(session.remote.clone()),
            _ => None,
        }
    }

    /// Has what the host has forgotten taken back.
    async fn reclaim(&self, remote: &dyn Remote) -> Result<(), CallError> {
        let Some(reclaim) = self.reclaim.get().and_then(Weak::upgrade) else {
            return Ok(());
        };
        match timeout(RECLAIM_MAX, reclaim.reclaim(remote)).await {
            Ok(done) => done,
            Err(_) => Err(CallError::TimedOut),
        }
    }

    /// Notes that `remote` is gone, unless it has been replaced or the link closed meanwhile.
    fn lose(&self, lost: &Arc<dyn Remote>) {
        let gone = self.state.send_if_modified(|state| match state {
            State::Connected(session) if Arc::ptr_eq(&session.remote, lost) => {
                *state = State::Lost;
                true
            }
            _ => false,
        });
        if gone {
            self.status.lock().changed = Instant::now();
            tracing::warn!("the connection to the host was lost; reconnecting");
        }
    }

    /// Enters a state, unless the link was closed.
    fn enter(&self, next: State) -> bool {
        self.state.send_if_modified(|state| match state {
            State::Closed => false,
            _ => {
                *state = next;
                true
            }
        })
    }
}

/// Waits for the end of each session and makes the next.
async fn keep(shared: Arc<Shared>, connect: Arc<dyn Connect>, share: ShareId) {
    let mut life = 0;
    loop {
        if let Some(remote) = shared.current() {
            remote.closed().await;
            shared.lose(&remote);
        }
        if !reconnect(&shared, &*connect, share, &mut life).await {
            return;
        }
    }
}

/// Dials until there is a session. False if the link was closed.
async fn reconnect(shared: &Shared, connect: &dyn Connect, share: ShareId, life: &mut u64) -> bool {
    let mut backoff = BACKOFF.0;
    loop {
        let failure = match connect.connect().await {
            Ok((remote, welcome)) if welcome.share == share => {
                if !welcome.resumed {
                    *life += 1;
                    if shared.reclaim(&*remote).await.is_err() {
                        continue;
                    }
                }
                {
                    let mut status = shared.status.lock();
                    status.changed = Instant::now();
                    status.reconnects += 1;
                    status.last_error = None;
                    status.epoch = welcome.epoch;
                }
                tracing::info!("connected to the host again");
                return shared.enter(State::Connected(Session {
                    remote,
                    life: *life,
                }));
            }
            Ok(_) => ConnectFailure {
                message: "the host now serves another share under this ticket".into(),
                is_final: true,
            },
            Err(failure) => failure,
        };
        let wait = if failure.is_final {
            // Whoever waits need not wait longer; but a host may be mended, so keep asking.
            shared.enter(State::Refused);
            BACKOFF_REFUSED
        } else {
            shared.enter(State::Lost);
            backoff
        };
        let new_error = shared
            .status
            .lock()
            .last_error
            .replace(failure.message.clone());
        if new_error.as_deref() != Some(&failure.message) {
            tracing::warn!("cannot reconnect: {}", failure.message);
        }
        sleep(wait).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

#[cfg(test)]
mod tests;
