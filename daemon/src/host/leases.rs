//! Leases: what mounts may believe without asking, and how they are told of changes.
//!
//! A mount that listens is leased each directory it looks into: from then on the kernel tells this host of every
//! change there (`watch`), and the host the mount. One mechanism for all changes, whoever makes them: what a
//! mount does comes back as events as well, which are in the kernel's queue before the call returns. So a change
//! is done, then the queue is read ([`Change::done`]), then others are waited for ([`Leases::wait`]), then it
//! is answered.
//!
//! Parts: [`table`], who holds what; [`queue`], what a mount is still to be told; [`touch`], changes under way.
//! Pushes are made in `listen`, where the disk is looked at.
//!
//! Nothing runs and nothing is watched while nobody listens.
//!
//! Locks: `reading`, then `table`. A rename holds `host/service` `renames` around both.

mod queue;
mod table;
mod touch;

#[cfg(test)]
mod model;

pub(super) use queue::Due;
pub(super) use table::{Allowance, MountKey, Scope, Told};
pub(super) use touch::{Touch, Wait};

use super::limits::{EVENTS_GATHER, LEASE_SWEEP};
use super::watch::Inotify;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use serde::Serialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use table::{Table, VisitId};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use wormhole_protocol::{FileId, Name, RelPath};

/// The leases of one share.
#[derive(Default)]
pub(super) struct Leases {
    running: OnceLock<Arc<Running>>,
    reader: Mutex<Option<Reader>>,
}

/// What there is once somebody has listened.
struct Running {
    inotify: Inotify,
    /// Held from reading events to having marked them, so that whoever finds none knows that all are.
    reading: Mutex<()>,
    table: Mutex<Table<Inotify>>,
    settled: Arc<Notify>,
    listening: AtomicUsize,
}

/// A task that ends with its owner.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The leases of a share at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeaseSnapshot {
    /// Directories that are watched.
    pub watches: u64,
    /// Leases granted since the start.
    pub granted: u64,
    /// Answers without one, because the directory could not be watched.
    pub refused: u64,
    /// Pushes sent.
    pub pushes: u64,
    /// Times the kernel lost events.
    pub overflows: u64,
    /// Directories that made room for others.
    pub evicted: u64,
    /// Times a mount lost its leases for letting others wait in vain.
    pub fenced: u64,
}

impl Leases {
    /// A mount begins to listen in one of its sessions. Must be called within the runtime. None if the kernel
    /// has nothing to listen with.
    pub(super) fn listen(
        &self,
        key: MountKey,
        session: u64,
        allowance: &Arc<Allowance>,
    ) -> Option<Ear> {
        let running = self.start(allowance)?;
        let mut table = running.table.lock();
        let (hearing, wake) = table.listen(key, session, Instant::now());
        running.count(&table);
        drop(table);
        Some(Ear {
            running: running.clone(),
            key,
            hearing,
            wake,
        })
    }

    fn start(&self, allowance: &Arc<Allowance>) -> Option<&Arc<Running>> {
        let mut reader = self.reader.lock();
        if let Some(running) = self.running.get() {
            return Some(running);
        }
        let inotify = Inotify::open().ok()?;
        let queue = OwnedFd::from(inotify.try_clone().ok()?);
        // SAFETY: an owned descriptor is open and stays the same until it is dropped, here by the `AsyncFd`.
        let events = unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE) };
        let events = events.ok()?;
        let table = Table::new(inotify.try_clone().ok()?, allowance.clone());
        let running = Arc::new(Running {
            inotify,
            reading: Mutex::default(),
            settled: table.settled.clone(),
            table: Mutex::new(table),
            listening: AtomicUsize::new(0),
        });
        let weak = Arc::downgrade(&running);
        *reader = Some(Reader(tokio::spawn(read(events, weak))));
        Some(self.running.get_or_init(|| running))
    }

    /// Whether anybody listens.
    pub(super) fn are_used(&self) -> bool {
        self.listening().is_some()
    }

    /// What there is, if somebody listens.
    fn listening(&self) -> Option<&Arc<Running>> {
        let running = self.running.get()?;
        (running.listening.load(Ordering::Acquire) > 0).then_some(running)
    }

    /// A mount was heard of; see [`Table::heard`]. None if it does not listen in this session.
    pub(super) fn heard(&self, key: MountKey, session: u64, through: u64) -> Option<u64> {
        let running = self.listening()?;
        let mut table = running.table.lock();
        table.heard(key, session, through, Instant::now())
    }

    /// Leases the directory behind `node` to a mount; see [`Table::grant`].
    pub(super) fn grant(
        &self,
        key: MountKey,
        session: u64,
        id: FileId,
        (path, node): (&RelPath, &OwnedFd),
    ) -> bool {
        self.listening().is_some_and(|running| {
            let mut table = running.table.lock();
            table.grant(key, session, id, (path, node), Instant::now())
        })
    }

    /// A mount is about to look or change something: waits until nobody holds alone what it sees. Nobody else does
    /// until what is returned is dropped.
    pub(super) async fn enter(&self, key: MountKey, scope: Scope, changes: bool) -> Option<Visit> {
        let running = self.listening()?.clone();
        if scope.is_empty() {
            return None;
        }
        loop {
            let waits = {
                let mut table = running.table.lock();
                let waits = table.recall(key, &scope, Instant::now());
                if waits.is_empty() {
                    let visit = table.visit(key, scope, changes);
                    drop(table);
                    return Some(Visit { running, visit });
                }
                waits
            };
            self.wait(waits).await;
        }
    }

    /// Leases a directory to a mount alone; see [`Table::claim`].
    pub(super) fn claim(&self, key: MountKey, session: u64, dir: (FileId, &RelPath)) -> bool {
        self.listening().is_some_and(|running| {
            let mut table = running.table.lock();
            table.claim(key, session, dir, Instant::now())
        })
    }

    /// Whether a mount holds a directory alone; see [`Table::is_sole`].
    pub(super) fn is_sole(&self, key: MountKey, dir: (FileId, &RelPath)) -> bool {
        self.listening()
            .is_some_and(|running| running.table.lock().is_sole(key, dir))
    }

    /// Whether a mount holds a directory alone, or has held it so and nobody else has looked since.
    pub(super) fn is_alone(&self, key: MountKey, dir: FileId) -> bool {
        self.listening()
            .is_some_and(|running| running.table.lock().is_alone(key, dir))
    }

    /// The mount has ended the session on purpose: nobody waits for it.
    pub(super) fn leave(&self, key: MountKey, session: u64) {
        if let Some(running) = self.listening() {
            let mut table = running.table.lock();
            table.leave(key, session);
            running.count(&table);
        }
    }

    /// A mount begins to change what is at `touches`. None if nobody listens.
    pub(super) fn begin(
        &self,
        mount: MountKey,
        touches: impl FnOnce() -> Vec<Touch>,
    ) -> Option<Change> {
        let running = self.listening()?;
        let touches = touches();
        let window = running.table.lock().begin(mount, touches);
        Some(Change {
            running: running.clone(),
            mount,
            window,
            is_open: true,
        })
    }

    /// Waits until those a change concerns have heard of it, or believe in nothing any more.
    pub(super) async fn wait(&self, waits: Vec<Wait>) {
        let Some(running) = self.running.get() else {
            return;
        };
        for wait in waits {
            loop {
                let settled = running.settled.notified();
                tokio::pin!(settled);
                settled.as_mut().enable();
                if !running.pending(&wait) {
                    break;
                }
                tokio::select! {
                    () = settled => {}
                    () = sleep_until(wait.until) => {}
                }
            }
        }
    }

    /// The numbers now.
    pub(super) fn snapshot(&self) -> LeaseSnapshot {
        let Some(running) = self.running.get() else {
            return LeaseSnapshot::default();
        };
        let table = running.table.lock();
        let counted = table.counted;
        LeaseSnapshot {
            watches: table.watches() as u64,
            granted: counted.granted,
            refused: counted.refused,
            pushes: counted.pushes,
            overflows: counted.overflows,
            evicted: counted.evicted,
            fenced: counted.fenced,
        }
    }

    /// How many leases a session holds, and how many pushes wait for it.
    pub(super) fn of_session(&self, key: MountKey, session: u64) -> (usize, usize) {
        let held = |running: &Arc<Running>| running.table.lock().held_by(key, session);
        self.listening().map_or((0, 0), held)
    }
}

impl Running {
    /// Marks all that has happened until now.
    fn drain(&self) {
        let _alone = self.reading.lock();
        let mut events = Vec::new();
        self.inotify.drain(|event| events.push(event));
        if events.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut table = self.table.lock();
        for event in events {
            table.event(event, now);
        }
    }

    /// Whether a push is still to be waited for.
    fn pending(&self, wait: &Wait) -> bool {
        let now = Instant::now();
        let mut table = self.table.lock();
        let pending = table.pending(wait, now);
        if !pending {
            table.in_vain(wait, now);
        }
        pending
    }

    fn sweep(&self) {
        let mut table = self.table.lock();
        table.sweep(Instant::now());
        self.count(&table);
    }

    fn count(&self, table: &Table<Inotify>) {
        self.listening.store(table.mounts(), Ordering::Release);
    }
}

/// Reads events as they come, a little late so that they gather and changes of mounts read their own.
async fn read(events: AsyncFd<OwnedFd>, running: Weak<Running>) {
    loop {
        let ready = timeout(LEASE_SWEEP, events.readable()).await;
        match ready {
            Ok(Ok(mut guard)) => guard.clear_ready(),
            Ok(Err(_)) => return,
            Err(_) => match running.upgrade() {
                Some(running) => {
                    running.sweep();
                    continue;
                }
                None => return,
            },
        }
        sleep(EVENTS_GATHER).await;
        match running.upgrade() {
            Some(running) => running.drain(),
            None => return,
        }
    }
}

/// A mount that listens. Dropping it is as losing the link to it.
pub(super) struct Ear {
    running: Arc<Running>,
    key: MountKey,
    hearing: u64,
    wake: Arc<Notify>,
}

impl Ear {
    /// What is to be told next; waits for it. None if the mount listens in another session now, or has left.
    pub(super) async fn next(&self) -> Option<Told> {
        loop {
            let woken = self.wake.notified();
            let told = self.running.table.lock().take(self.key, self.hearing)?;
            if told.is_some() {
                return told;
            }
            woken.await;
        }
    }

    /// Instead of what was taken, the mount is told that the lease of the directory is over.
    pub(super) fn end(&self, dir: FileId, number: u64) {
        let mut table = self.running.table.lock();
        table.ended(self.key, self.hearing, dir, number);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.running.table.lock().lost(self.key, self.hearing);
    }
}

/// A request that may not meet a sole lease of others.
pub(super) struct Visit {
    running: Arc<Running>,
    visit: VisitId,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.running.table.lock().left(self.visit);
    }
}

/// A change under way.
pub(super) struct Change {
    running: Arc<Running>,
    mount: MountKey,
    window: u64,
    is_open: bool,
}

impl Change {
    /// A name in a directory changed, of which the kernel does not tell.
    pub(super) fn mark(&self, dir: FileId, name: &Name) {
        let mut table = self.running.table.lock();
        table.mark(dir, name, Some(self.mount), Instant::now());
    }

    /// The same, of which not even its own mount knows: it may have been done under another name.
    pub(super) fn mark_for_all(&self, dir: FileId, name: &Name) {
        let mut table = self.running.table.lock();
        table.mark(dir, name, None, Instant::now());
    }

    /// Something changed of which nobody knows where it is: nothing is promised any more, not even to its own mount,
    /// which may be about to hear of an earlier change.
    pub(super) fn end_all(&self) {
        let mut table = self.running.table.lock();
        table.end_all(Instant::now());
    }

    /// All effects are there. What the change is answered with is looked at after this. Who is to be waited for.
    pub(super) fn done(mut self) -> Vec<Wait> {
        self.is_open = false;
        self.running.drain();
        let mut table = self.running.table.lock();
        table.end(self.window, Instant::now())
    }

    /// The same of a change in a directory that its mount may hold alone: then nobody need be waited for. Nor
    /// could he be, for he may be waiting for this mount.
    pub(super) fn done_in(mut self, dir: FileId) -> Vec<Wait> {
        self.is_open = false;
        self.running.drain();
        let mut table = self.running.table.lock();
        let waits = table.end(self.window, Instant::now());
        if table.is_alone(self.mount, dir) {
            return Vec::new();
        }
        waits
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if self.is_open {
            let mut table = self.running.table.lock();
            table.end(self.window, Instant::now());
        }
    }
}
