//! One admitted mount: its bounds, and the way of each of its requests.
//!
//! A request waits for a slot of its class (small, demand, ahead, listing; change, write, slow; tree), then runs its disk work in
//! pieces on the blocking pool; what is short, where it is (`disk`). A host-wide permit is held only while a piece touches the disk, never
//! while the answer waits for the mount to read; what waits holds only what belongs to its session.
//!
//! Cancelling (dropping the future) frees everything at once, except that a piece already on the disk
//! finishes and keeps its slot and buffer until then: so many can be under way, however fast a mount
//! asks and cancels.
//!
//! A session ends with its ticket: once that is revoked or expired, every request is
//! [`Fault::Denied`].

mod disk;

use super::budget::{Grant, Purpose, SessionBudget};
use super::change::{self, Asked};
use super::clock::Clock;
use super::counters::{add, get};
use super::held::Held;
use super::holdings::Tenure;
use super::leases::{MountKey, Scope};
use super::limits::{
    BITE_BYTES, OPEN_FILE_SWEEP, SESSION_AHEAD_MAX, SESSION_CHANGES_MAX, SESSION_DEMAND_MAX,
    SESSION_LISTINGS_MAX, SESSION_SLOW_MAX, SESSION_SMALL_MAX, SESSION_TREES_MAX,
    SESSION_WRITES_MAX, STALL,
};
use super::open::OpenFiles;
use super::resources::Resources;
use super::rules::access_for;
use super::seats::Seat;
use super::service::{Registered, Service};
use super::tickets::Ticket;
use super::wanted::Wanted;
use super::{bulk, list, listen, locks, node, read, reserve, tree, vouch};
use crate::rpc::{Serve, Sink, SinkClosed, Source, priority};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wormhole_protocol::{Access, Fault, FileId, MountId, ReadUrgency, RelPath, Reply, Request};

const OPEN: &str = "slots are never closed";

/// Classes of requests; each has slots of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Class {
    Small,
    Demand,
    Ahead,
    Listing,
    Change,
    Write,
    Slow,
    Tree,
}

/// A slot, held by a request and by what it still has on the disk.
pub(super) type Slot = Arc<OwnedSemaphorePermit>;

/// What the requests of one session share.
pub(super) struct Core {
    /// The share.
    pub(super) service: Arc<Service>,
    /// Files kept open.
    pub(super) files: OpenFiles,
    /// Files whose bytes it wants when they change.
    pub(super) wanted: Wanted,
    /// What its mount holds, beyond this session.
    pub(super) held: Arc<Held>,
    /// What it may do.
    pub(super) access: Access,
    /// Memory.
    pub(super) budget: Arc<SessionBudget>,
    /// Which mount.
    pub(super) mount: MountId,
    /// Which session.
    pub(super) number: u64,
    /// When it was admitted, seconds since 1970.
    pub(super) since: u64,
    /// Requests begun.
    pub(super) requests: AtomicU64,
    /// Payload handed to the transport.
    pub(super) bytes: AtomicU64,
    /// Bytes behind its changes.
    pub(super) received: AtomicU64,
    slots: [Arc<Semaphore>; 8],
    /// Pieces of answers taken by the transport.
    taken: AtomicU64,
    ticket: Arc<Ticket>,
    clock: Arc<dyn Clock>,
}

impl Core {
    fn new(
        service: Arc<Service>,
        ticket: Arc<Ticket>,
        mount: MountId,
        held: Arc<Held>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let resources = service.resources();
        let slots = [
            SESSION_SMALL_MAX,
            SESSION_DEMAND_MAX,
            SESSION_AHEAD_MAX,
            SESSION_LISTINGS_MAX,
            SESSION_CHANGES_MAX,
            SESSION_WRITES_MAX,
            SESSION_SLOW_MAX,
            SESSION_TREES_MAX,
        ];
        let shared = resources.shared_bytes.clone();
        let write_shared = resources.shared_write_bytes.clone();
        Self {
            files: OpenFiles::new(resources),
            wanted: Wanted::default(),
            held,
            access: access_for(&ticket, service.rules()),
            budget: Arc::new(SessionBudget::new(shared, write_shared)),
            mount,
            number: service.number(),
            since: clock.unix_secs(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            received: AtomicU64::new(0),
            slots: slots.map(|n| Arc::new(Semaphore::new(n))),
            taken: AtomicU64::new(0),
            ticket,
            clock,
            service,
        }
    }

    /// The host's bounds.
    pub(super) fn resources(&self) -> &Resources {
        self.service.resources()
    }

    /// Which mount, as leases know it.
    pub(super) fn key(&self) -> MountKey {
        (self.ticket.id, self.mount)
    }

    /// Leases the directory behind `node`, which is at `path`: what is answered of it is to be looked at
    /// afterwards. False if this session does not listen, or nothing can be promised.
    pub(super) fn lease(&self, node: &OwnedFd, id: FileId, path: &RelPath) -> bool {
        let leases = self.service.leases();
        leases.grant(self.key(), self.number, id, (path, node))
    }

    /// Waits for a slot.
    pub(super) async fn slot(&self, class: Class) -> Slot {
        let slots = match class {
            Class::Small => &self.slots[0],
            Class::Demand => &self.slots[1],
            Class::Ahead => &self.slots[2],
            Class::Listing => &self.slots[3],
            Class::Change => &self.slots[4],
            Class::Write => &self.slots[5],
            Class::Slow => &self.slots[6],
            Class::Tree => &self.slots[7],
        };
        Arc::new(slots.clone().acquire_owned().await.expect(OPEN))
    }

    /// Tries `work` again with fewer files kept open if the process is out of descriptors.
    pub(super) fn with_descriptors<T>(
        &self,
        mut work: impl FnMut() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match work() {
            Err(Fault::Exhausted) if self.files.len() > 0 => {
                self.files.shed();
                work()
            }
            done => done,
        }
    }

    /// Memory for an answer.
    pub(super) async fn memory(&self, bytes: usize, purpose: Purpose) -> Grant {
        self.budget.take(bytes, purpose).await
    }

    /// Sends the header.
    pub(super) async fn reply(&self, sink: &mut dyn Sink, reply: Reply) -> Result<(), SinkClosed> {
        if let Reply::Fault(fault) = reply {
            self.service.counters().fault(fault);
        }
        let sent = self.unless_stalled(sink.reply(reply)).await;
        self.taken_or_broken(sink, sent)
    }

    /// Sends a piece of payload, in bites: each that is taken shows that the mount is there, however
    /// slow the link.
    pub(super) async fn send(
        &self,
        sink: &mut dyn Sink,
        mut bytes: Bytes,
    ) -> Result<(), SinkClosed> {
        while !bytes.is_empty() {
            let bite = bytes.split_to(bytes.len().min(BITE_BYTES));
            let len = bite.len() as u64;
            let sent = self.unless_stalled(sink.send(bite)).await;
            if let Some(Ok(())) = sent {
                add(&self.bytes, len);
                add(&self.service.counters().payload_bytes, len);
            }
            self.taken_or_broken(sink, sent)?;
        }
        Ok(())
    }

    /// Breaks off a payload.
    pub(super) fn abort(&self, sink: &mut dyn Sink, fault: Fault) {
        self.service.counters().fault(fault);
        sink.abort(fault);
    }

    fn taken_or_broken(
        &self,
        sink: &mut dyn Sink,
        sent: Option<Result<(), SinkClosed>>,
    ) -> Result<(), SinkClosed> {
        match sent {
            Some(sent) => {
                add(&self.taken, 1);
                sent
            }
            None => {
                add(&self.service.counters().stalls, 1);
                self.abort(sink, Fault::Exhausted);
                Err(SinkClosed)
            }
        }
    }

    /// `None` if the session took nothing at all for [`STALL`] while `sending` waited. It is the
    /// session that counts, not the stream: on a slow link a stream of low priority may wait long
    /// for its turn.
    async fn unless_stalled<T>(&self, sending: impl Future<Output = T>) -> Option<T> {
        let stalled = async {
            let progress = || (get(&self.taken), self.budget.releases());
            let mut seen = progress();
            loop {
                tokio::time::sleep(STALL).await;
                let now = progress();
                if now == seen {
                    return;
                }
                seen = now;
            }
        };
        tokio::select! {
            biased;
            sent = sending => Some(sent),
            () = stalled => None,
        }
    }

    /// Why this session may ask nothing now.
    pub(super) fn barred(&self) -> Option<Fault> {
        if self.resources().closing() {
            Some(Fault::Closing)
        } else if !self.ticket.good_at(self.clock.unix_secs()) {
            Some(Fault::Denied)
        } else {
            None
        }
    }
}

/// Whether a request is one that only those who may change something can make.
fn changes(request: &Request) -> bool {
    match request {
        Request::Change { .. }
        | Request::Lock { .. }
        | Request::Unlock { .. }
        | Request::UnlockAll { .. }
        | Request::TestLock { .. }
        | Request::Reserve { .. } => true,
        Request::Lookup { .. }
        | Request::Getattr { .. }
        | Request::Readlink { .. }
        | Request::List { .. }
        | Request::Read { .. }
        | Request::ReadMany { .. }
        | Request::Vouch { .. }
        | Request::Revalidate { .. }
        | Request::Tree { .. }
        | Request::StatFs
        | Request::GetXattr { .. }
        | Request::ListXattr { .. }
        | Request::Seek { .. }
        | Request::Listen
        | Request::Heard { .. } => false,
    }
}

/// An admitted session. Dropping it ends it; its seat and what its mount holds are then kept for a while,
/// unless [`Serve::goodbye`] was called.
pub(super) struct Session {
    core: Arc<Core>,
    tenure: Tenure,
    seat: Mutex<Option<Seat>>,
    sweeper: tokio::task::JoinHandle<()>,
    _registered: Registered,
    _place: OwnedSemaphorePermit,
}

impl Session {
    /// Begins a session. Must be called within the runtime.
    pub(super) fn begin(
        service: &Arc<Service>,
        ticket: Arc<Ticket>,
        mount: MountId,
        clock: Arc<dyn Clock>,
        seat: Option<Seat>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let resources = service.resources();
        let tenure = service.holdings().enter(ticket.id, mount, resources);
        let held = tenure.held.clone();
        let core = Arc::new(Core::new(service.clone(), ticket, mount, held, clock));
        let weak = Arc::downgrade(&core);
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(OPEN_FILE_SWEEP).await;
                match weak.upgrade() {
                    Some(core) => {
                        core.files.close_idle(Instant::now());
                        core.held.reserved.sweep(Instant::now());
                        core.service.departed().sweep(Instant::now());
                    }
                    None => return,
                }
            }
        });
        Self {
            _registered: service.register(&core),
            core,
            tenure,
            seat: Mutex::new(seat),
            sweeper,
            _place: place,
        }
    }

    /// Whether the mount found again what it held.
    pub(super) fn resumed(&self) -> bool {
        self.tenure.resumed
    }

    /// What it may do.
    pub(super) fn access(&self) -> Access {
        self.core.access
    }

    async fn answer(
        &self,
        request: Request,
        source: &mut dyn Source,
        sink: &mut dyn Sink,
    ) -> Result<(), SinkClosed> {
        let core = &self.core;
        add(&core.requests, 1);
        let in_flight = core.service.counters().begin(&request);
        // Who listens waits for nothing.
        let _in_flight = (!matches!(request, Request::Listen)).then_some(in_flight);
        if let Some(fault) = core.barred() {
            // A change that was done is not answered as if it had not been.
            let known = match (&request, fault) {
                (Request::Change { seq, settled, .. }, Fault::Closing) => {
                    change::known(core, *seq, *settled).await
                }
                _ => None,
            };
            let reply = known.unwrap_or(Reply::Fault(fault));
            return core.reply(sink, reply).await;
        }
        if !core.access.writes() && changes(&request) {
            return core.reply(sink, Reply::Fault(Fault::ReadOnly)).await;
        }
        let leases = core.service.leases();
        let _visit = leases.enter(core.key(), Scope::of(&request), false).await;
        match request {
            Request::Reserve { dir, count } => {
                sink.prioritize(priority::META);
                reserve::serve(core, dir, count, sink).await
            }
            Request::Read {
                node,
                range,
                urgency,
            } => {
                sink.prioritize(match urgency {
                    ReadUrgency::Demand => priority::DEMAND,
                    ReadUrgency::Ahead => priority::AHEAD,
                });
                read::serve(core, node, range, urgency, sink).await
            }
            Request::Revalidate { listings } => {
                sink.prioritize(priority::LISTING);
                list::revalidate(core, listings, sink).await
            }
            Request::ReadMany { dir, files } => {
                sink.prioritize(priority::AHEAD);
                bulk::serve(core, dir, files, sink).await
            }
            Request::Vouch { files } => {
                sink.prioritize(priority::AHEAD);
                vouch::serve(core, files, sink).await
            }
            Request::Tree { dir, entries_max } => tree::serve(core, dir, entries_max, sink).await,
            Request::List { dir, known } => {
                sink.prioritize(priority::LISTING);
                list::serve(core, dir, known, sink).await
            }
            Request::Change {
                seq,
                settled,
                caller,
                change,
            } => {
                let asked = Asked {
                    seq,
                    settled,
                    caller,
                    change,
                };
                change::serve(core, asked, source, sink).await
            }
            request @ (Request::Lock { .. }
            | Request::Unlock { .. }
            | Request::UnlockAll { .. }
            | Request::TestLock { .. }) => {
                sink.prioritize(priority::META);
                locks::serve(core, request, sink).await
            }
            Request::Listen => {
                sink.prioritize(priority::META);
                listen::serve(core, sink).await
            }
            Request::Heard { through, wanted } => {
                sink.prioritize(priority::META);
                core.wanted.note(wanted);
                listen::heard(core, through, sink).await
            }
            request => {
                sink.prioritize(priority::META);
                node::serve(core, request, sink).await
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sweeper.abort();
        // Who may not come back need not be waited for.
        if !self.core.ticket.good_at(self.core.clock.unix_secs()) {
            self.tenure.keep(false);
        }
    }
}

impl Serve for Session {
    fn serve<'a>(
        &'a self,
        request: Request,
        source: &'a mut dyn Source,
        sink: &'a mut dyn Sink,
    ) -> BoxFuture<'a, Result<(), SinkClosed>> {
        self.answer(request, source, sink).boxed()
    }

    fn goodbye(&self) {
        if let Some(seat) = self.seat.lock().take() {
            seat.keep(false);
        }
        self.tenure.keep(false);
        let core = &self.core;
        core.service.leases().leave(core.key(), core.number);
    }
}
