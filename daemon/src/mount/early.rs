//! Files made early: a program has its new file before the host was asked for it.
//!
//! While this mount holds a directory alone (`wormhole_protocol::reserve`), it knows which names there are in it,
//! and has files in stock that the host reserved there: their identity is known. A new file becomes one of
//! them at once. The host is asked with the first bytes that were written, when these are to be sent; or
//! without, when somebody waits, or nothing was written for a moment. So making, writing and closing a small file
//! takes one round trip, that of the close.
//!
//! Whoever looks at the file or changes it, at its name or at its directory, waits until it was answered. So does
//! `close`, which tells what failed; programs of the host know of no leases, and may have been faster. What
//! failed fails from then on, and the name is asked for again.
//!
//! That the lease is shared, or over, is acknowledged when all that was made under it has been answered.
//!
//! Invariants
//! - What is made early was known to be absent under a lease that holds for a while yet, and is in `making` from
//!   before the program knows until it was answered.
//! - A reserved file serves once, and only while it is young: the host gives up what is old.
//!
//! Lock: `state`, a leaf, never across an await.

mod stock;

use super::beliefs::Beliefs;
use super::changes::Changes;
use super::error::FsError;
use super::inodes::Node;
use super::lease::Leases;
use super::opens::HostOpen;
use crate::rpc::{Body, Remote};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stock::Stocks;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep};
use wormhole_protocol::{
    Attr, BodyLen, Caller, Change, FileId, Name, Named, NewFile, NodeRef, OpenId, Reply, Request,
};

/// The host is asked after so long at the latest, if nothing is being written.
const IDLE: Duration = Duration::from_millis(20);
/// First bytes that go along; what is longer goes by itself, so that nobody waits for it who waits for the name.
const FIRST_BYTES_MAX: usize = 64 * 1024;
/// Of the lease there must be so much left.
const LEASE_LEFT_MIN: Duration = Duration::from_secs(3);

/// What a mount makes early.
pub struct Early {
    remote: Arc<dyn Remote>,
    changes: Arc<Changes>,
    beliefs: Arc<Beliefs>,
    leases: Arc<Leases>,
    state: Mutex<State>,
    /// How many are in `making`.
    count: AtomicUsize,
}

#[derive(Default)]
struct State {
    stocks: Stocks,
    making: HashMap<OpenId, Arc<Making>>,
}

/// A file being made.
pub struct Making {
    dir: Arc<Node>,
    name: Name,
    first: Mutex<First>,
    /// Somebody waits, or has something to be sent along.
    wake: Notify,
    outcome: watch::Sender<Option<Result<(), FsError>>>,
}

/// The first bytes.
enum First {
    /// There are none yet.
    Open,
    /// These, and who wants to know what became of them.
    Bytes(u64, Body, oneshot::Sender<Result<Attr, FsError>>),
    /// The host is being asked.
    Sent,
}

/// A reserved file that is to become a new one.
pub struct Taken {
    /// Its attributes when it was reserved.
    pub attr: Attr,
    /// Its directory where it was reserved in: elsewhere others may have looked.
    dir: NodeRef,
    making: Arc<Making>,
    open: OpenId,
    stock: u64,
    refill: u8,
}

impl Making {
    /// Whether it was answered.
    pub fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Why there is no such file.
    pub fn error(&self) -> Option<FsError> {
        self.outcome.borrow().and_then(Result::err)
    }

    /// Asks the host now, and waits for its answer.
    pub async fn finish(&self) {
        self.wake.notify_one();
        // Who makes it is not gone before it is over.
        let _ = self
            .outcome
            .subscribe()
            .wait_for(Option::is_some)
            .await
            .map(drop);
    }

    /// Sends `body`, which belongs at `offset`, along with the name. `None` if that is on its way already, or
    /// the bytes are too many.
    pub async fn send_along(&self, offset: u64, body: &Body) -> Option<Result<Attr, FsError>> {
        if body.len() > FIRST_BYTES_MAX {
            return None;
        }
        let (done, told) = oneshot::channel();
        {
            let mut first = self.first.lock();
            if !matches!(*first, First::Open) {
                return None;
            }
            *first = First::Bytes(offset, body.clone(), done);
        }
        self.wake.notify_one();
        Some(told.await.unwrap_or(Err(FsError::Io)))
    }
}

impl Early {
    /// Nothing is in stock. Must be called within the runtime.
    pub fn new(
        remote: Arc<dyn Remote>,
        changes: Arc<Changes>,
        beliefs: Arc<Beliefs>,
        leases: Arc<Leases>,
    ) -> Arc<Self> {
        Arc::new(Self {
            remote,
            changes,
            beliefs,
            leases,
            state: Mutex::default(),
            count: AtomicUsize::new(0),
        })
    }

    /// A reserved file for `name` in `dir`, to be opened under `open`; none if the host must be asked first.
    pub fn take(&self, dir: &Arc<Node>, name: &Name, open: OpenId) -> Option<Taken> {
        let now = Instant::now();
        let held = self.leases.held(dir.id, now)?;
        if held.until < now + LEASE_LEFT_MIN || !self.beliefs.knows_absent(dir, name) {
            return None;
        }
        let mut state = self.state.lock();
        let is_same = |making: &Arc<Making>| making.dir.id == dir.id && making.name == *name;
        if state.making.values().any(is_same) {
            return None;
        }
        let at = dir.reference().ok()?;
        let (attr, stock, refill) = state.stocks.take(dir, &at.path, now)?;
        let making = Arc::new(Making {
            dir: dir.clone(),
            name: name.clone(),
            first: Mutex::new(First::Open),
            wake: Notify::new(),
            outcome: watch::Sender::new(None),
        });
        state.making.insert(open, making.clone());
        self.count.fetch_add(1, Ordering::Release);
        Some(Taken {
            attr,
            dir: at,
            making,
            open,
            stock,
            refill,
        })
    }

    /// The file has its node, and is open: from now on it is being made.
    pub fn begin(
        self: &Arc<Self>,
        taken: Taken,
        caller: Caller,
        mode: u16,
        node: &Arc<Node>,
        open: Arc<HostOpen>,
    ) {
        // Nobody looks at what was in the file before it had a name.
        node.doubt(Instant::now());
        node.make_by(taken.making.clone());
        let (this, node) = (self.clone(), node.clone());
        tokio::spawn(async move {
            this.make(taken, caller, mode, &node).await;
            // Not closed at the host before it is open there.
            drop(open);
        });
    }

    /// It did not become a file after all.
    pub fn give_up(&self, taken: &Taken) {
        self.over(taken, Err(FsError::Io));
    }

    fn over(&self, taken: &Taken, outcome: Result<(), FsError>) {
        taken.making.outcome.send_replace(Some(outcome));
        self.state.lock().making.remove(&taken.open);
        self.count.fetch_sub(1, Ordering::Release);
    }

    async fn make(&self, taken: Taken, caller: Caller, mode: u16, node: &Arc<Node>) {
        let over = Unmade {
            early: self,
            taken: Some(&taken),
        };
        let making = &taken.making;
        let first = making.wait_for_first(node).await;
        let (offset, body, told) = match first {
            First::Bytes(offset, body, told) => (offset, body, Some(told)),
            First::Open | First::Sent => (0, Body::empty(), None),
        };
        let asked = Instant::now();
        let named = self.ask(&taken, caller, mode, (offset, body)).await;
        let done = named.and_then(|named| self.learn(&taken, node, named, asked));
        if let Err(error) = done {
            tracing::debug!(%error, "a file that was made early could not be made");
            self.state.lock().stocks.forget(taken.making.dir.id);
            self.beliefs.disbelieve(node);
        }
        over.end(done.map(drop));
        if let Some(told) = told {
            // Nobody need wait for it.
            let _ = told.send(done.and_then(|written| written));
        }
    }

    async fn ask(
        &self,
        taken: &Taken,
        caller: Caller,
        mode: u16,
        (offset, body): (u64, Body),
    ) -> Result<Named, FsError> {
        let len = u32::try_from(body.len()).ok().and_then(BodyLen::new);
        let new = NewFile {
            dir: taken.dir.clone(),
            name: taken.making.name.clone(),
            mode,
            file: taken.attr.id,
            open: taken.open,
            refill: taken.refill,
            offset,
            len: len.ok_or(FsError::Io)?,
        };
        let change = Change::NameReserved(new);
        match self.changes.ask(caller, change, body).await? {
            Reply::Named(named) if named.attr.id == taken.attr.id => Ok(named),
            _ => Err(FsError::Io),
        }
    }

    /// Takes the host's answer. What became of the bytes.
    fn learn(
        &self,
        taken: &Taken,
        node: &Arc<Node>,
        named: Named,
        asked: Instant,
    ) -> Result<Result<Attr, FsError>, FsError> {
        let (dir, name) = (&taken.making.dir, &taken.making.name);
        let Named {
            attr,
            dir: dir_attr,
            unwritten,
            reserved,
        } = named;
        self.state
            .lock()
            .stocks
            .refill(dir.id, taken.stock, taken.refill, reserved);
        self.beliefs
            .renamed(dir, name, Some(attr), Some(&dir_attr), asked);
        let heard = self.beliefs.of_change(Some(dir.id), asked);
        let of_attr = self.beliefs.of_entry(&attr, heard);
        node.learn_alone(&attr, of_attr.asked_at(asked));
        Ok(unwritten.map_or(Ok(attr), |fault| Err(FsError::Fault(fault))))
    }

    /// A file is made in `dir` the slow way: wants the next ones not to be.
    pub fn want(self: &Arc<Self>, dir: &Arc<Node>) {
        if !self.leases.are_given() {
            return;
        }
        let Ok(at) = dir.reference() else {
            return;
        };
        let mut state = self.state.lock();
        let wanted = state.stocks.want(dir, &at.path, Instant::now());
        drop(state);
        if let Some((stock, count)) = wanted {
            let (this, dir) = (self.clone(), dir.clone());
            tokio::spawn(async move {
                let files = this.reserve(&dir, at, count).await.unwrap_or_default();
                let mut state = this.state.lock();
                state.stocks.refill(dir.id, stock, count, files);
            });
        }
    }

    async fn reserve(&self, dir: &Arc<Node>, at: NodeRef, count: u8) -> Result<Vec<Attr>, FsError> {
        self.beliefs.lease_listing(dir).await;
        let request = Request::Reserve { dir: at, count };
        match self.remote.call(request).await?.reply {
            Reply::Reserved(files) => Ok(files),
            _ => Err(FsError::Io),
        }
    }

    /// What files inherit from a directory has changed: what was reserved in it before is of no use.
    pub fn forget(&self, dir: FileId) {
        self.state.lock().stocks.forget(dir);
    }

    /// A directory is not held alone any more. Returns when all that was made in it was answered.
    pub async fn share(&self, dir: FileId) {
        self.state.lock().stocks.forget(dir);
        self.settle_in(dir).await;
    }

    /// None is.
    pub async fn share_all(&self) {
        self.state.lock().stocks.forget_all();
        self.settle(|_| true).await;
    }

    /// Waits for what is being made in a directory.
    pub async fn settle_in(&self, dir: FileId) {
        self.settle(|making| making.dir.id == dir).await;
    }

    /// Waits for what is being made under a name.
    pub async fn settle_name(&self, dir: &Arc<Node>, name: &Name) {
        self.settle(|making| making.dir.id == dir.id && making.name == *name)
            .await;
    }

    /// A name is about to lead elsewhere: waits for what is being made there and beneath, and makes nothing
    /// beneath any more.
    pub async fn settle_beneath(&self, dir: &Arc<Node>, name: &Name) {
        self.state.lock().stocks.forget_beneath(dir, name);
        self.settle(|making| {
            making.dir.id == dir.id && making.name == *name || making.dir.is_beneath(dir, name)
        })
        .await;
    }

    async fn settle(&self, concerns: impl Fn(&Making) -> bool) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let concerned: Vec<_> = {
            let state = self.state.lock();
            let concerned = state.making.values().filter(|making| concerns(making));
            concerned.cloned().collect()
        };
        for making in &concerned {
            making.wake.notify_one();
        }
        for making in concerned {
            making.finish().await;
        }
    }
}

impl Making {
    /// What goes along: what was written, if it comes before somebody waits or nothing more does.
    async fn wait_for_first(&self, node: &Node) -> First {
        let mut rested = pin!(sleep(IDLE));
        loop {
            let woken = tokio::select! {
                () = self.wake.notified() => true,
                () = &mut rested, if !rested.is_elapsed() => false,
            };
            let mut first = self.first.lock();
            // What was written will be offered as soon as it rests.
            let is_waited_for = woken || matches!(*first, First::Bytes(..)) || node.is_clean();
            if is_waited_for {
                return std::mem::replace(&mut *first, First::Sent);
            }
        }
    }
}

/// Somebody must learn that it is over, even if the runtime goes down.
struct Unmade<'a> {
    early: &'a Early,
    taken: Option<&'a Taken>,
}

impl Unmade<'_> {
    fn end(mut self, outcome: Result<(), FsError>) {
        if let Some(taken) = self.taken.take() {
            self.early.over(taken, outcome);
        }
    }
}

impl Drop for Unmade<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.early.over(taken, Err(FsError::Io));
        }
    }
}
