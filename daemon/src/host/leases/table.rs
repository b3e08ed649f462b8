//! The lease table: which mount was promised what, and what it is still to be told.
//!
//! A lease of a directory lets a mount believe what it saw there until it is told otherwise. It holds as long as
//! the mount is heard of (`until`), or its end was told and acknowledged. What happens is marked for all who
//! hold the directory, except for the mount that does it, which learns it from its answer.
//!
//! Invariants
//! - A directory somebody holds is watched from before it was looked at until nobody believes in it any more.
//! - Whoever may believe what is no longer true has a push waiting or under way that says so; whoever changes
//!   something waits for just these, each no longer than `until` as of the moment it was marked.
//! - A mount extends its lease only with all that was marked before; so one that is not heard of for a while
//!   delays nobody, and loses nothing either.
//! - One that is heard of and yet never says that it heard what somebody waited for is *fenced*: all its leases
//!   end, being heard of extends nothing until it has acknowledged that, and for a while it gets no others.
//!
//! Pure: it is told what happened and what time it is. It is called with its lock held, and only sets and
//! removes watches itself, so that a directory and its watch come and go together.
//!
//! Marking what happened is in [`marks`], leases that exclude all others in [`sole`].

mod marks;
mod sole;

use super::super::limits::{FENCED, LEASE_TERM};
use super::super::watch::{Happened, WatchId, Watching};
use super::queue::{Due, Number, Queue};
use super::touch::{Touch, Touches, Wait, WindowId};
use lru::LruCache;
use marks::Mark;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
pub(in super::super) use sole::Scope;
use sole::Soles;
pub(super) use sole::VisitId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;
use wormhole_protocol::{FileId, MountId, RelPath, TicketId};

/// A mount, whatever its sessions.
pub(in super::super) type MountKey = (TicketId, MountId);

/// How many directories may be watched, over all shares of the process.
#[derive(Debug)]
pub(in super::super) struct Allowance {
    most: usize,
    used: AtomicUsize,
}

impl Allowance {
    /// At most so many.
    pub(in super::super) fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
        }
    }

    fn take(&self) -> bool {
        let more = |used| (used < self.most).then_some(used + 1);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn give(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module.
pub(super) struct Table<W> {
    watching: W,
    allowance: Arc<Allowance>,
    /// The one granted longest ago is used least recently.
    dirs: LruCache<FileId, Dir>,
    by_watch: HashMap<WatchId, FileId>,
    mounts: HashMap<MountKey, Mount>,
    hearings: u64,
    touches: Touches,
    soles: Soles,
    /// Somebody acknowledged, or is no longer waited for.
    pub(super) settled: Arc<Notify>,
    /// Counted since the start.
    pub(super) counted: Counted,
}

/// What is counted.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counted {
    pub(super) granted: u64,
    pub(super) refused: u64,
    pub(super) pushes: u64,
    pub(super) overflows: u64,
    pub(super) evicted: u64,
    pub(super) fenced: u64,
}

struct Dir {
    /// Where it was last asked for.
    path: RelPath,
    watch: WatchId,
    /// Events were lost: the watch may be gone.
    unsure: bool,
    granted: Instant,
    holdings: Vec<(MountKey, Holding)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Holding {
    /// The last push about it.
    last: Number,
    /// That push says that the lease is over, and none was granted since.
    over: bool,
}

struct Mount {
    session: u64,
    /// Tells this time it listens from others.
    hearing: u64,
    /// Somebody takes what is to be told.
    connected: bool,
    until: Instant,
    acked: Number,
    queue: Queue,
    /// Leases whose end is marked, by the number of that push; none stands for all.
    ending: BTreeMap<Number, Option<FileId>>,
    /// It is to acknowledge this push before it is waited for again.
    fenced: Option<Number>,
    /// It is granted nothing until then.
    shunned: Option<Instant>,
    wake: Arc<Notify>,
}

/// What is to be told next: its number, the news, and where the directory is.
pub(in super::super) type Told = (Number, Due, Option<RelPath>);

impl<W: Watching> Table<W> {
    /// Nobody listens.
    pub(super) fn new(watching: W, allowance: Arc<Allowance>) -> Self {
        Self {
            watching,
            allowance,
            dirs: LruCache::unbounded(),
            by_watch: HashMap::new(),
            mounts: HashMap::new(),
            hearings: 0,
            touches: Touches::default(),
            soles: Soles::default(),
            settled: Arc::default(),
            counted: Counted::default(),
        }
    }

    /// A mount listens, in `session`, and believes nothing yet: whatever it was promised before is over. Under
    /// which number it takes what it is to be told, and what wakes it when there is something.
    pub(super) fn listen(
        &mut self,
        key: MountKey,
        session: u64,
        now: Instant,
    ) -> (u64, Arc<Notify>) {
        self.forget(key);
        self.hearings += 1;
        let wake = Arc::<Notify>::default();
        let mount = Mount {
            session,
            hearing: self.hearings,
            connected: true,
            until: now + LEASE_TERM,
            acked: 0,
            queue: Queue::default(),
            ending: BTreeMap::new(),
            fenced: None,
            shunned: None,
            wake: wake.clone(),
        };
        self.mounts.insert(key, mount);
        (self.hearings, wake)
    }

    /// Nobody takes what is to be told any more. What was promised holds to the end of its term.
    pub(super) fn lost(&mut self, key: MountKey, hearing: u64) {
        if let Some(mount) = self.of_hearing(key, hearing) {
            mount.connected = false;
            // Never taken, so the size of what waits is bounded best by this.
            mount.queue.all_over();
        }
    }

    /// The mount is gone for good.
    pub(super) fn leave(&mut self, key: MountKey, session: u64) {
        if self.of_session(key, session).is_some() {
            self.forget(key);
        }
    }

    /// The mount was heard of, and has applied all pushes up to `through`. The number of the last: with all up
    /// to that, its leases hold for another term.
    pub(super) fn heard(
        &mut self,
        key: MountKey,
        session: u64,
        through: Number,
        now: Instant,
    ) -> Option<Number> {
        let mount = self.of_session(key, session)?;
        let last = mount.queue.last();
        let acked = through.min(last);
        mount.fenced = mount.fenced.filter(|number| *number > acked);
        if mount.fenced.is_none() {
            mount.until = now + LEASE_TERM;
        }
        if acked > mount.acked {
            mount.acked = acked;
            self.settled.notify_waiters();
            self.release_ended(key, acked);
        }
        Some(last)
    }

    /// Leases the directory behind `node`, which is at `path`, to a mount that listens. It must be looked at
    /// only afterwards. False if nothing is promised.
    pub(super) fn grant(
        &mut self,
        key: MountKey,
        session: u64,
        id: FileId,
        (path, node): (&RelPath, &OwnedFd),
        now: Instant,
    ) -> bool {
        let may = |mount: &mut Mount| {
            let shunned = mount.shunned.is_some_and(|until| now < until);
            mount.connected && mount.fenced.is_none() && !shunned
        };
        if !self.of_session(key, session).is_some_and(may) || self.is_sole_of_another(key, id) {
            return false;
        }
        let granted = self.watched(id, path, node, now);
        if granted {
            self.counted.granted += 1;
        } else {
            self.counted.refused += 1;
        }
        let Some(dir) = self.dirs.get_mut(&id).filter(|_| granted) else {
            return false;
        };
        if dir.path != *path {
            dir.path = path.clone();
        }
        dir.granted = now;
        match dir.holdings.iter_mut().find(|(holder, _)| *holder == key) {
            Some((_, holding)) => holding.over = false,
            None => dir.holdings.push((key, Holding::default())),
        }
        true
    }

    /// Makes sure that a directory is watched.
    fn watched(&mut self, id: FileId, path: &RelPath, node: &OwnedFd, now: Instant) -> bool {
        if let Some(dir) = self.dirs.peek_mut(&id) {
            if !dir.unsure {
                return true;
            }
            let Ok(watch) = self.watching.add(node) else {
                return false;
            };
            self.by_watch.remove(&dir.watch);
            self.by_watch.insert(watch, id);
            (dir.watch, dir.unsure) = (watch, false);
            return true;
        }
        if !self.allowance.take() {
            self.evict(now);
            return false;
        }
        let watch = match self.watching.add(node) {
            Ok(watch) => watch,
            Err(error) => {
                self.allowance.give();
                if error == Errno::NOSPC {
                    // Other programs of the user count as well, so that the limit may be nearer than known.
                    self.evict(now);
                }
                return false;
            }
        };
        self.by_watch.insert(watch, id);
        let dir = Dir {
            path: path.clone(),
            watch,
            unsure: false,
            granted: now,
            holdings: Vec::new(),
        };
        self.dirs.put(id, dir);
        true
    }

    /// What is to be told next to a mount. [`None`] inside: nothing now; outside: it listens elsewhere.
    pub(super) fn take(&mut self, key: MountKey, hearing: u64) -> Option<Option<Told>> {
        let mount = self.of_hearing(key, hearing)?;
        let Some((number, news)) = mount.queue.take() else {
            return Some(None);
        };
        let path = match &news {
            Due::Of { dir, .. } => self.dirs.peek(dir).map(|dir| dir.path.clone()),
            Due::Over(_) | Due::Shared(_) | Due::AllOver => None,
        };
        self.counted.pushes += 1;
        Some(Some((number, news, path)))
    }

    /// A mount is told in push `number` that the lease of a directory is over, instead of what was taken.
    pub(super) fn ended(&mut self, key: MountKey, hearing: u64, id: FileId, number: Number) {
        let Some(dir) = self.dirs.peek_mut(&id) else {
            return;
        };
        let holding = dir.holdings.iter_mut().find(|(k, _)| *k == key);
        let mount = self.mounts.get_mut(&key).filter(|m| m.hearing == hearing);
        // What has been marked since goes out after this, and is believed by nobody.
        if let (Some((_, holding)), Some(mount)) = (holding, mount) {
            holding.last = holding.last.max(number);
            holding.over = true;
            mount.ending.insert(holding.last, Some(id));
        }
    }

    /// A mount begins to change what is at `touches`. From now on it is noted who has to hear of what happens.
    pub(super) fn begin(&mut self, mount: MountKey, touches: Vec<Touch>) -> WindowId {
        self.touches.begin(mount, touches)
    }

    /// The change is done, and what happened meanwhile was heard. Who is to be waited for.
    pub(super) fn end(&mut self, window: WindowId, now: Instant) -> Vec<Wait> {
        let Some((mount, again, waits)) = self.touches.end(window) else {
            return Vec::new();
        };
        // Somebody else was at it as well: the mount is told after all.
        for (dir, path) in again {
            if let Some((_, name)) = path.split() {
                let mark = Mark::Name(name, Happened::Named);
                self.mark_for(dir, now, &mark, |holder, _, _| holder == mount);
            }
        }
        waits
    }

    /// Whether a push that is waited for has neither been acknowledged nor lost its meaning.
    pub(super) fn pending(&self, wait: &Wait, now: Instant) -> bool {
        let mount = self.mounts.get(&wait.mount);
        let mount = mount.filter(|mount| mount.hearing == wait.hearing);
        mount.is_some_and(|mount| mount.acked < wait.number) && now < wait.until
    }

    /// A push was waited for in vain. Who is heard of all the same does not do its part, and is to hold up
    /// nobody else.
    pub(super) fn in_vain(&mut self, wait: &Wait, now: Instant) {
        let Some(mount) = self.of_hearing(wait.mount, wait.hearing) else {
            return;
        };
        let alive = mount.connected && mount.until > now && now >= wait.until;
        if mount.acked >= wait.number || mount.fenced.is_some() || !alive {
            return;
        }
        mount.fenced = Some(mount.queue.all_over());
        mount.shunned = Some(now + FENCED);
        mount.wake.notify_one();
        self.counted.fenced += 1;
        let ids: Vec<_> = self.dirs.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.mark_for(id, now, &Mark::Over, |holder, _, _| holder == wait.mount);
        }
    }

    /// Lets go of what nobody believes in any more.
    pub(super) fn sweep(&mut self, now: Instant) {
        let gone = |mount: &Mount| !mount.connected && mount.until <= now;
        let gone: Vec<_> = self.mounts.iter().filter(|(_, m)| gone(m)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(key, _)| *key).collect();
        for key in gone {
            self.forget(key);
        }
        self.release_lapsed(now);
    }

    /// Who is not heard of believes nothing before it has heard of all that was marked.
    fn release_lapsed(&mut self, now: Instant) {
        let lapsed = |mount: &Mount| mount.until <= now && !mount.ending.is_empty();
        let lapsed: Vec<_> = self.mounts.iter().filter(|(_, m)| lapsed(m)).collect();
        let lapsed: Vec<_> = lapsed.into_iter().map(|(key, _)| *key).collect();
        for key in lapsed {
            self.release_ended(key, Number::MAX);
        }
    }

    /// Lets go of what a mount held and was told not to hold any more, by a push up to `through`.
    fn release_ended(&mut self, key: MountKey, through: Number) {
        let Some(mount) = self.mounts.get_mut(&key) else {
            return;
        };
        let mut ended = Vec::new();
        while let Some(first) = mount.ending.first_entry() {
            if *first.key() > through {
                break;
            }
            ended.push(first.remove());
        }
        let done = |holding: &Holding| holding.over && holding.last <= through;
        if ended.contains(&None) {
            return self.release(key, done);
        }
        for id in ended.into_iter().flatten() {
            if let Some(dir) = self.dirs.peek_mut(&id) {
                dir.holdings.retain(|(k, h)| *k != key || !done(h));
                if dir.holdings.is_empty() {
                    self.unwatch(id);
                }
            }
        }
    }

    fn of_hearing(&mut self, key: MountKey, hearing: u64) -> Option<&mut Mount> {
        let mount = self.mounts.get_mut(&key)?;
        (mount.hearing == hearing).then_some(mount)
    }

    fn of_session(&mut self, key: MountKey, session: u64) -> Option<&mut Mount> {
        let mount = self.mounts.get_mut(&key)?;
        (mount.session == session).then_some(mount)
    }

    fn forget(&mut self, key: MountKey) {
        if let Some(mount) = self.mounts.remove(&key) {
            // Whoever still takes its pushes finds it gone.
            mount.wake.notify_one();
            self.release(key, |_| true);
            self.settled.notify_waiters();
        }
    }

    /// Ends those holdings of a mount that are `done`, and the watches nobody needs any more.
    fn release(&mut self, key: MountKey, done: impl Fn(&Holding) -> bool) {
        let mut unheld = Vec::new();
        for (id, dir) in self.dirs.iter_mut() {
            let before = dir.holdings.len();
            dir.holdings.retain(|(k, h)| *k != key || !done(h));
            if dir.holdings.is_empty() && before > 0 {
                unheld.push(*id);
            }
        }
        for id in unheld {
            self.unwatch(id);
        }
    }

    fn unwatch(&mut self, id: FileId) {
        if let Some(dir) = self.dirs.pop(&id) {
            self.by_watch.remove(&dir.watch);
            self.watching.remove(dir.watch);
            self.allowance.give();
        }
    }

    /// How many mounts listen, or did within the last term.
    pub(super) fn mounts(&self) -> usize {
        self.mounts.len()
    }

    /// How many directories are watched.
    pub(super) fn watches(&self) -> usize {
        self.dirs.len()
    }

    /// How many leases a session holds, and how many pushes wait for it.
    pub(super) fn held_by(&mut self, key: MountKey, session: u64) -> (usize, usize) {
        let Some(waiting) = self.of_session(key, session).map(|m| m.queue.len()) else {
            return (0, 0);
        };
        let holds = |dir: &Dir| dir.holdings.iter().any(|(k, h)| *k == key && !h.over);
        let leases = self.dirs.iter().filter(|(_, dir)| holds(dir)).count();
        (leases, waiting)
    }
}

impl<W> Drop for Table<W> {
    fn drop(&mut self) {
        for _ in 0..self.dirs.len() {
            self.allowance.give();
        }
    }
}
