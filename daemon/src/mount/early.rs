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
//! - What is made early was known to be absent under a lease that holds for a while yet, and its name is in `names`
//!   from before the program knows until it was answered.
//! - A reserved file serves once, and only while it is young: the host gives up what is old.
//!
//! The same table has the names and nodes to which other things are done that programs were told are done (`moving`).
//!
//! Lock: `state`, before those of a node, never across an await.

mod making;
mod moving;
mod names;
mod remake;
mod stock;

use super::beliefs::Beliefs;
use super::changes::{Changes, Patience};
use super::durability::Durability;
use super::error::FsError;
use super::inodes::Node;
use super::lease::Leases;
use super::opens::HostOpen;
use super::write::Delivered;
use crate::rpc::Remote;
use making::First;
pub use making::{FirstBytes, Making};
pub use moving::{Lately, Moving};
use names::{Names, Work};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stock::Stocks;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wormhole_protocol::{
    Attr, BodyLen, Caller, Change, Fault, FileId, Name, Named, NewFile, NodeRef, OpenId, RelPath,
    Reply, Request,
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
    patience: Patience,
    state: Mutex<State>,
    /// How many names and nodes something is being done to.
    count: AtomicUsize,
    /// Files came, or will not come.
    arrived: Notify,
}

#[derive(Default)]
struct State {
    stocks: Stocks,
    names: Names,
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

impl Early {
    /// Nothing is in stock. Must be called within the runtime.
    pub fn new(
        remote: Arc<dyn Remote>,
        changes: Arc<Changes>,
        beliefs: Arc<Beliefs>,
        leases: Arc<Leases>,
        durability: Durability,
    ) -> Arc<Self> {
        Arc::new(Self {
            remote,
            changes,
            beliefs,
            leases,
            patience: durability.patience(),
            state: Mutex::default(),
            count: AtomicUsize::new(0),
            arrived: Notify::new(),
        })
    }

    /// A reserved file for `name` in `dir`, to be opened under `open` on behalf of `caller`; none if the host must be asked first.
    pub fn take(
        &self,
        caller: Caller,
        dir: &Arc<Node>,
        name: &Name,
        mode: u16,
        open: OpenId,
    ) -> Option<Taken> {
        let now = Instant::now();
        let held = self.leases.held(dir.id, now)?;
        if held.until < now + LEASE_LEFT_MIN
            || dir.late().is_some()
            || !self.beliefs.knows_absent(dir, name)
        {
            return None;
        }
        let mut state = self.state.lock();
        if state.names.is_busy(dir.id, name) {
            return None;
        }
        let at = dir.reference().ok()?;
        let (attr, stock, refill) = state.stocks.take(dir, &at.path, now)?;
        let making = Arc::new(Making {
            dir: dir.clone(),
            name: name.clone(),
            file: attr.id,
            caller,
            mode: AtomicU16::new(mode),
            first: Mutex::new(First::Open),
            wake: Notify::new(),
            outcome: watch::Sender::new(None),
            remade: OnceLock::new(),
        });
        state
            .names
            .put(dir, name, Work::Making(making.clone()), None);
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
    pub fn begin(self: &Arc<Self>, taken: Taken, node: &Arc<Node>, open: Arc<HostOpen>) {
        // Nobody looks at what was in the file before it had a name.
        node.doubt(Instant::now());
        node.make_by(taken.making.clone());
        let (this, node) = (self.clone(), node.clone());
        tokio::spawn(async move {
            this.make(taken, &node, &open).await;
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
        let making = &taken.making;
        self.state.lock().names.made(making);
        self.count.fetch_sub(1, Ordering::Release);
    }

    async fn make(&self, taken: Taken, node: &Arc<Node>, open: &HostOpen) {
        let over = Unmade {
            early: self,
            taken: Some(&taken),
        };
        let making = &taken.making;
        let first = making.wait_for_first(node).await;
        let (bytes, told) = match first {
            First::Bytes(bytes, told) => (bytes, Some(told)),
            First::Open | First::Sent => (FirstBytes::default(), None),
        };
        let asked = Instant::now();
        let named = self.ask(&taken, bytes.clone()).await;
        let done = match named {
            Ok(named) => self.learn(&taken, node, named, asked),
            // It was restarted, or away for too long.
            Err(FsError::Fault(Fault::NotOpen)) => {
                self.state.lock().stocks.forget(taken.making.dir.id);
                self.arrived.notify_waiters();
                let remade = self.remake(&taken, node, open, bytes);
                remade.await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "a file that was made early could not be made");
            self.state.lock().stocks.forget(taken.making.dir.id);
            self.arrived.notify_waiters();
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
        FirstBytes {
            offset,
            body,
            after,
        }: FirstBytes,
    ) -> Result<Named, FsError> {
        let len = u32::try_from(body.len()).ok().and_then(BodyLen::new);
        let new = NewFile {
            dir: taken.dir.clone(),
            name: taken.making.name.clone(),
            mode: taken.making.mode.load(Ordering::Relaxed),
            file: taken.attr.id,
            open: taken.open,
            refill: taken.refill,
            offset,
            len: len.ok_or(FsError::Io)?,
            after,
        };
        let (caller, change) = (taken.making.caller, Change::NameReserved(new));
        let asking = self.changes.ask_with(self.patience, caller, change, body);
        match asking.await? {
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
    ) -> Result<Result<Delivered, FsError>, FsError> {
        let (dir, name) = (&taken.making.dir, &taken.making.name);
        let Named {
            attr,
            dir: dir_attr,
            unwritten,
            unset,
            reserved,
        } = named;
        self.state
            .lock()
            .stocks
            .refill(dir.id, taken.stock, taken.refill, reserved);
        self.arrived.notify_waiters();
        self.beliefs
            .renamed(dir, name, Some(attr), Some(&dir_attr), asked);
        let heard = self.beliefs.of_change(Some(dir.id), asked);
        let of_attr = self.beliefs.of_entry(&attr, heard);
        node.learn_alone(&attr, of_attr.asked_at(asked));
        let delivered = Delivered { attr, unset };
        Ok(unwritten.map_or(Ok(delivered), |fault| Err(FsError::Fault(fault))))
    }

    /// How many files are to be reserved in a directory that is about to be made; `many` where nobody waits for the host.
    pub fn wanted_in_new_dir(&self, many: bool) -> u8 {
        match self.leases.are_given() {
            true if many => stock::WANTED_MIN,
            // Each takes some time, there and here, and many directories will never have one.
            true => 1,
            false => 0,
        }
    }

    /// A directory was made at `path`, as was asked at `asked`, and files were reserved in it. If it is elsewhere by now it
    /// is held alone no more.
    pub fn given(&self, dir: &Arc<Node>, path: &RelPath, files: Vec<Attr>, asked: Instant) {
        let mut state = self.state.lock();
        state.stocks.begin(dir, path, files, asked);
    }

    /// A file is made in `dir` the slow way: wants the next ones not to be.
    pub fn want(self: &Arc<Self>, dir: &Arc<Node>) {
        self.want_if(dir, false);
    }

    /// Files will be made in `dir`.
    pub fn expect(self: &Arc<Self>, dir: &Arc<Node>) {
        self.want_if(dir, true);
    }

    /// Waits while there is none left in stock of a directory, and more are coming: that takes no longer than to ask
    /// for one file would.
    pub async fn coming(&self, dir: &Node) {
        self.while_stocks(|stocks| stocks.are_coming(dir.id)).await;
    }

    /// Waits while it is being asked whether this mount may have a directory for itself.
    pub async fn claiming(&self, dir: &Node) {
        self.while_stocks(|stocks| stocks.is_claimed(dir.id)).await;
    }

    async fn while_stocks(&self, waits: impl Fn(&Stocks) -> bool) {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            // From here on no arrival is missed.
            arrived.as_mut().enable();
            if !waits(&self.state.lock().stocks) {
                return;
            }
            arrived.await;
        }
    }

    fn want_if(self: &Arc<Self>, dir: &Arc<Node>, surely: bool) {
        if !self.leases.are_given() {
            return;
        }
        let Ok(at) = dir.reference() else {
            return;
        };
        let mut state = self.state.lock();
        let wanted = state.stocks.want(dir, &at.path, Instant::now(), surely);
        drop(state);
        if let Some((stock, count)) = wanted {
            let (this, dir) = (self.clone(), dir.clone());
            tokio::spawn(async move {
                let files = this.reserve(&dir, at, count).await.unwrap_or_default();
                let mut state = this.state.lock();
                state.stocks.refill(dir.id, stock, count, files);
                drop(state);
                this.arrived.notify_waiters();
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
        self.arrived.notify_waiters();
    }

    /// A directory is not held alone any more. Returns when all that was made in it was answered.
    pub async fn share(&self, dir: FileId) {
        self.state.lock().stocks.forget(dir);
        self.arrived.notify_waiters();
        self.settle_in(dir).await;
    }

    /// None is.
    pub async fn share_all(&self) {
        self.state.lock().stocks.forget_all();
        self.arrived.notify_waiters();
        self.settle_all().await;
    }

    /// Waits for all that is being made.
    pub async fn settle_all(&self) {
        self.settle(|state| state.names.all()).await;
    }

    /// Waits for what is being done to names in a directory.
    pub async fn settle_in(&self, dir: FileId) {
        self.settle(|state| state.names.within(dir)).await;
    }

    /// Waits for what is being done to a name.
    pub async fn settle_name(&self, dir: &Arc<Node>, name: &Name) {
        self.settle(|state| state.names.of_name(dir.id, name)).await;
    }

    /// A name is about to lead elsewhere: waits for what is being done to it and beneath, and makes nothing
    /// beneath any more.
    pub async fn settle_beneath(&self, dir: &Arc<Node>, name: &Name) {
        self.state.lock().stocks.forget_beneath(dir, name);
        self.arrived.notify_waiters();
        self.settle(|state| state.names.beneath(dir, name)).await;
    }

    async fn settle(&self, concerned: impl FnOnce(&State) -> Vec<Work>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let concerned = concerned(&self.state.lock());
        for work in &concerned {
            work.hurry();
        }
        for work in concerned {
            work.over().await;
        }
    }

    /// Where a name to which something is being done leads when that is over, unless it fails.
    pub fn leads(&self, dir: &Node, name: &Name) -> Option<Option<FileId>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.state.lock().names.leads(dir.id, name)
    }

    /// The file that is being made under a name.
    pub fn making_at(&self, dir: &Node, name: &Name) -> Option<FileId> {
        self.state.lock().names.making(dir.id, name)
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
