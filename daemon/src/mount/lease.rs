//! Leases: directories of which the host speaks before anything in them changes.
//!
//! While this mount has a lease on a directory, what it was told under it is believed, however long ago:
//! names that are there and names that are not, attributes of entries that are no directories and have
//! one link, and the directory's own attributes. Everything else is believed for `attr_ttl`.
//!
//! All leases of a session share one term. It counts from when the question was *sent* that the host
//! answered last, so that it ends here before it does there, and it counts only when all was applied here
//! that the host had said by then. A mount that is in use renews it in time ([`Leases::next_heartbeat`]). One
//! that is idle lets it run out and loses nothing: the host goes on telling, and one question makes
//! everything good again.
//!
//! A new session begins without leases. What was told under older ones is not believed until it is asked
//! again.
//!
//! Pure: no I/O; the time is that of the runtime, or given. What the host tells is applied in `news`.
//!
//! Lock: `state`, a leaf.

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use wormhole_protocol::{Attr, FileId, FileKind};

/// Directories whose leases are remembered; what is forgotten is believed for the short term.
const DIRECTORIES_MAX: NonZeroUsize = NonZeroUsize::new(262_144).expect("not zero");
/// A mount that nobody used for so long lets its leases run out.
const IDLE: Duration = Duration::from_secs(60);
/// The term is renewed when so much of it is over.
const HEARTBEATS_PER_TERM: u32 = 3;
/// Answers about the term that wait for what the host had said before them.
const WAITING_MAX: usize = 64;

/// What was told so long ago under a lease, and is used, is asked again in the background: a host does not notice
/// everything (stores through shared mappings, changes under another name of a file).
const RENEWED_AFTER: Duration = Duration::from_secs(300);
/// The kernel counts from when an answer reaches it, which on a busy machine is a while after it was computed.
const KERNEL_LATE: Duration = Duration::from_secs(1);

/// A lease as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// What was asked before is not under it.
    pub since: Instant,
    /// When it ends, if nothing is heard until then; it may have lapsed.
    pub until: Instant,
}

/// What holds for the beliefs about one directory now.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Now.
    pub now: Instant,
    /// How long something is believed that is under no lease.
    pub ttl: Duration,
    /// The lease on the directory.
    pub held: Option<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Directory {
    /// When the first answer under the lease was asked, and when it was there.
    since: Instant,
    granted: Instant,
}

struct State {
    /// A session that tells, and its term.
    term: Option<Duration>,
    /// Leases are believed so long.
    until: Option<Instant>,
    /// What the host said last that was applied here.
    applied: u64,
    /// Answers that come to count when so much was applied: when they were asked.
    waiting: Vec<(u64, Instant)>,
    directories: LruCache<FileId, Directory>,
    /// Answers to questions from before are under no lease.
    broken: Instant,
    /// Leases were last of use.
    used: Instant,
    /// Something that was told under a lease was wanted after the term, and nothing asked since.
    wanted: bool,
    /// Nothing renews the term, until there is a use.
    asleep: bool,
    /// When the host was last heard.
    heard: Option<Instant>,
}

/// All leases of a mount.
pub struct Leases {
    state: Mutex<State>,
    /// Changes when somebody waits for the term to be renewed, and when it is.
    changed: watch::Sender<()>,
}

/// Figures about leases.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LeaseSnapshot {
    /// Directories on which there is a lease.
    pub held: usize,
    /// Whether they are believed now; not between two uses that are far apart, nor without a connection.
    pub live: bool,
    /// The term the host gives; none if it gives no leases.
    pub term_ms: Option<u64>,
    /// How long ago the host was last heard about them.
    pub heard_ms: Option<u64>,
}

impl Default for Leases {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                term: None,
                until: None,
                applied: 0,
                waiting: Vec::new(),
                directories: LruCache::sparse(DIRECTORIES_MAX),
                broken: now,
                used: now,
                wanted: false,
                asleep: false,
                heard: None,
            }),
            changed: watch::Sender::new(()),
        }
    }
}

impl Leases {
    /// The host is about to be asked to tell what changes, on a new session: it forgets what was leased
    /// before, so none of it is believed any more.
    pub fn begin(&self, now: Instant) {
        let mut state = self.state.lock();
        state.term = None;
        state.until = None;
        state.applied = 0;
        state.waiting.clear();
        state.broken = now;
        state.directories.clear();
        drop(state);
        self.changed.send_replace(());
    }

    /// The host tells; it was asked to at `sent`.
    pub fn listening(&self, sent: Instant, term: Duration, now: Instant) {
        let mut state = self.state.lock();
        state.term = Some(term);
        state.until = Some(sent + term);
        state.used = now;
        state.wanted = false;
        state.heard = Some(now);
        drop(state);
        self.changed.send_replace(());
    }

    /// Nobody tells any more. What is leased is believed to the end of the term.
    pub fn lost(&self) {
        self.state.lock().term = None;
        self.changed.send_replace(());
    }

    /// The host has answered to a question of `sent` that it had said so much by then.
    pub fn heard(&self, sent: Instant, said: u64, now: Instant) {
        let mut state = self.state.lock();
        state.heard = Some(now);
        if state.waiting.len() < WAITING_MAX {
            state.waiting.push((said, sent));
        }
        state.renew();
        drop(state);
        self.changed.send_replace(());
    }

    /// All was applied that the host said, up to this.
    pub fn applied(&self, number: u64, now: Instant) {
        let mut state = self.state.lock();
        state.heard = Some(now);
        state.applied = state.applied.max(number);
        state.renew();
        drop(state);
        self.changed.send_replace(());
    }

    /// How much was applied.
    pub fn applied_number(&self) -> u64 {
        self.state.lock().applied
    }

    /// An answer about `dir` to a question of `asked` came under a lease.
    pub fn granted(&self, dir: FileId, asked: Instant, now: Instant) {
        let mut state = self.state.lock();
        if state.term.is_none() || asked <= state.broken {
            return;
        }
        let granted = Directory {
            since: asked,
            granted: now,
        };
        let known = state.directories.get_or_insert_mut(dir, || granted);
        known.since = known.since.min(asked);
        state.used = now;
        let ran_out = state.until.is_none_or(|until| until <= now) && !state.wanted;
        state.wanted |= ran_out;
        self.wake(state, ran_out);
    }

    /// Has the term renewed from now on, if nothing did, or if it must be.
    fn wake(&self, mut state: MutexGuard<'_, State>, must: bool) {
        let was_asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if was_asleep || must {
            self.changed.send_replace(());
        }
    }

    /// The lease on `dir` is over.
    pub fn over(&self, dir: FileId, now: Instant) {
        let mut state = self.state.lock();
        state.directories.pop(&dir);
        // Answers under way may say that they are under it. Few are.
        state.broken = now;
    }

    /// All leases are over; new ones may be given.
    pub fn all_over(&self, now: Instant) {
        let mut state = self.state.lock();
        state.directories.clear();
        state.broken = now;
    }

    /// Whether an answer about `dir` to a question of `asked` is under a lease, that may not say so itself.
    pub fn covers(&self, dir: FileId, asked: Instant) -> bool {
        let state = self.state.lock();
        let known = state.directories.peek(&dir);
        known.is_some_and(|known| known.granted <= asked)
    }

    /// The lease on `dir`, which may have lapsed.
    pub fn held(&self, dir: FileId, now: Instant) -> Option<Held> {
        let mut state = self.state.lock();
        let until = state.until?;
        let since = state.directories.get(&dir)?.since;
        if now < until {
            state.used = now;
            self.wake(state, false);
        }
        Some(Held { since, until })
    }

    /// Whether there is a lease on `dir` whose term has run out, so that one question makes it good again.
    fn is_dormant(&self, dir: FileId, now: Instant) -> bool {
        let state = self.state.lock();
        let is_over = state.until.is_none_or(|until| until <= now);
        state.term.is_some() && is_over && state.directories.peek(&dir).is_some()
    }

    /// If the lease on `dir` has run out for want of use, waits until it is good again; at most `patience`.
    /// Whether it is worth looking again.
    pub async fn revive(&self, dir: FileId, patience: Duration) -> bool {
        if !self.is_dormant(dir, Instant::now()) {
            return false;
        }
        let mut changed = self.changed.subscribe();
        self.state.lock().wanted = true;
        self.changed.send_replace(());
        let good = changed.wait_for(|()| !self.is_dormant(dir, Instant::now()));
        let _ = tokio::time::timeout(patience, good).await;
        true
    }

    /// When the term is to be renewed: at once, later, or never as long as nothing changes.
    pub fn next_heartbeat(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        let term = state.term?;
        if state.wanted {
            return Some(now);
        }
        let until = state.until.unwrap_or(now);
        let due = until - term + term / HEARTBEATS_PER_TERM;
        state.asleep = due >= state.used + IDLE || state.directories.is_empty();
        (!state.asleep).then_some(due.max(now))
    }

    /// Whether the host gives any.
    pub fn are_given(&self) -> bool {
        self.state.lock().term.is_some()
    }

    /// Whether somebody waits for the term to be renewed.
    pub fn is_wanted(&self) -> bool {
        self.state.lock().wanted
    }

    /// The question that renews the term is on its way.
    pub fn asking(&self) {
        self.state.lock().wanted = false;
    }

    /// Resolves with the next change of what [`Self::next_heartbeat`] says.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The figures now.
    pub fn snapshot(&self) -> LeaseSnapshot {
        let now = Instant::now();
        let state = self.state.lock();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        LeaseSnapshot {
            held: state.directories.len(),
            live: state.until.is_some_and(|until| now < until),
            term_ms: state.term.map(millis),
            heard_ms: state.heard.map(|at| millis(now - at)),
        }
    }
}

impl State {
    /// Takes the answers whose time has come.
    fn renew(&mut self) {
        let Some(term) = self.term else {
            self.waiting.clear();
            return;
        };
        let applied = self.applied;
        let ripe = self.waiting.iter().filter(|(said, _)| *said <= applied);
        if let Some(sent) = ripe.map(|(_, sent)| *sent).max() {
            self.until = self.until.max(Some(sent + term));
            self.waiting.retain(|(said, _)| *said > applied);
        }
    }
}

impl Terms {
    /// Whether what was heard so is believed. What came under a lease that the host has ended is not, however
    /// short a time ago it was told: something in it has changed.
    pub fn believes(&self, heard: Heard) -> bool {
        let is_over = heard.leased && !self.is_under(heard);
        self.is_leased(heard) || !is_over && self.age(heard) < self.ttl
    }

    /// Whether it is believed because of the lease.
    pub fn is_leased(&self, heard: Heard) -> bool {
        let is_live = self.held.is_some_and(|held| self.now < held.until);
        is_live && self.is_under(heard)
    }

    /// Whether it came under the lease there is, be that lapsed or not.
    fn is_under(&self, heard: Heard) -> bool {
        heard.leased && self.held.is_some_and(|held| held.since <= heard.asked)
    }

    /// Whether it is worth a renewal.
    pub fn is_old(&self, heard: Heard) -> bool {
        let after = if self.is_leased(heard) {
            RENEWED_AFTER
        } else {
            self.ttl / 2
        };
        self.age(heard) >= after
    }

    fn age(&self, heard: Heard) -> Duration {
        self.now.saturating_duration_since(heard.told)
    }

    /// How much longer the kernel may believe it. Under no lease, until half the term is over, then a quarter
    /// of what is left: so it comes back in time for a renewal, and again soon after one.
    pub fn kernel_ttl(&self, heard: Heard) -> Duration {
        let age = self.age(heard);
        let first_half = (self.ttl / 2).saturating_sub(age);
        let short = first_half.max(self.ttl.saturating_sub(age) / 4);
        match self.held {
            Some(held) if self.is_leased(heard) => {
                (held.until - self.now).saturating_sub(KERNEL_LATE)
            }
            _ => short,
        }
    }
}

/// The directory whose lease covers the attributes of what is an entry of `dir`; none if no lease does.
pub fn covered_by(attr: &Attr, dir: Option<FileId>) -> Option<FileId> {
    match (attr.kind, attr.links) {
        (FileKind::Directory, _) => Some(attr.id),
        (_, 1) => dir,
        _ => None,
    }
}

use super::heard::Heard;

#[cfg(test)]
mod tests;
