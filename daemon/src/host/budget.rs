//! Who may hold how much buffer memory.
//!
//! All sessions together hold at most `HOST_BYTES_MAX`, one at most `SESSION_BYTES_MAX`. Part of the
//! total is set aside for each session that can exist, so that sessions which take all they can get
//! and read nothing never keep another from going on: with a reserve it always gets its next
//! segment. Reads ahead have a reserve of their own and cannot touch the one for demand reads. What is
//! written has all of its own, in the same manner: whoever uploads takes nothing from those who read.
//!
//! Nobody waits for memory while holding what another waits for: the reserves belong to the session,
//! and a grant is given whole or not at all.

use super::limits::{
    BUDGET_UNIT_BYTES, HOST_SHARED_BYTES, RESERVE_AHEAD_BYTES, RESERVE_DEMAND_BYTES,
    RESERVE_WRITE_BYTES, SESSION_EXTRA_BYTES, SESSION_WRITE_EXTRA_BYTES,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const OPEN: &str = "budget semaphores are never closed";

/// What memory is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody waits: demand reads, listings, attributes.
    Demand,
    /// Reads ahead of need.
    Ahead,
    /// Bytes on their way to the disk.
    Write,
}

/// The part of the memory that all sessions share.
pub(super) fn shared() -> Arc<Semaphore> {
    semaphore(HOST_SHARED_BYTES)
}

/// So much memory, in units.
pub(super) fn semaphore(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes / BUDGET_UNIT_BYTES))
}

/// What one session may hold.
#[derive(Debug)]
pub(super) struct SessionBudget {
    demand: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
    /// How much of the shared part this session may have.
    extra: Arc<Semaphore>,
    shared: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    write_extra: Arc<Semaphore>,
    write_shared: Arc<Semaphore>,
    held: AtomicUsize,
    released: AtomicU64,
}

impl SessionBudget {
    /// For a new session, beside others that have the same `shared`, for what is read and what is written.
    pub(super) fn new(shared: Arc<Semaphore>, write_shared: Arc<Semaphore>) -> Self {
        Self {
            demand: semaphore(RESERVE_DEMAND_BYTES),
            ahead: semaphore(RESERVE_AHEAD_BYTES),
            extra: semaphore(SESSION_EXTRA_BYTES),
            shared,
            writes: semaphore(RESERVE_WRITE_BYTES),
            write_extra: semaphore(SESSION_WRITE_EXTRA_BYTES),
            write_shared,
            held: AtomicUsize::new(0),
            released: AtomicU64::new(0),
        }
    }

    /// Waits until `bytes` may be held.
    pub(super) async fn take(self: &Arc<Self>, bytes: usize, purpose: Purpose) -> Grant {
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX);
        let (reserve, extra, shared) = match purpose {
            Purpose::Demand => (&self.demand, &self.extra, &self.shared),
            Purpose::Ahead => (&self.ahead, &self.extra, &self.shared),
            Purpose::Write => (&self.writes, &self.write_extra, &self.write_shared),
        };
        let from_shared = async {
            let extra = extra.clone().acquire_many_owned(units).await;
            let shared = shared.clone().acquire_many_owned(units).await;
            (extra.expect(OPEN), Some(shared.expect(OPEN)))
        };
        let from_reserve = async {
            let own = reserve.clone().acquire_many_owned(units).await;
            (own.expect(OPEN), None)
        };
        let (own, shared) = tokio::select! {
            biased;
            granted = from_reserve => granted,
            granted = from_shared => granted,
        };
        let bytes = units as usize * BUDGET_UNIT_BYTES;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Grant {
            own,
            shared,
            bytes,
            budget: self.clone(),
        }
    }

    /// Bytes held now.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How often memory was given back: grows while the mount reads.
    pub(super) fn releases(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }
}

/// Leave to hold memory; given back by dropping it.
#[derive(Debug)]
pub(super) struct Grant {
    own: OwnedSemaphorePermit,
    shared: Option<OwnedSemaphorePermit>,
    bytes: usize,
    budget: Arc<SessionBudget>,
}

impl Grant {
    /// Gives back all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let keep = bytes.div_ceil(BUDGET_UNIT_BYTES);
        let excess = self.own.num_permits().saturating_sub(keep);
        drop(self.own.split(excess));
        drop(self.shared.as_mut().and_then(|permit| permit.split(excess)));
        let freed = excess * BUDGET_UNIT_BYTES;
        self.bytes -= freed;
        self.budget.held.fetch_sub(freed, Ordering::Relaxed);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.released.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{HOST_BYTES_MAX, SESSION_BYTES_MAX, SESSIONS_MAX};
    use super::super::pool::Pool;
    use super::*;
    use futures_util::FutureExt;

    fn greedy(budget: &Arc<SessionBudget>, purpose: Purpose) -> Vec<Grant> {
        let segment = 512 * 1024;
        std::iter::from_fn(|| budget.take(segment, purpose).now_or_never()).collect()
    }

    #[test]
    fn greedy_sessions_stay_within_bounds_and_leave_each_other_the_reserve() {
        let shared = shared();
        let sessions: Vec<_> = (0..SESSIONS_MAX)
            .map(|_| Arc::new(SessionBudget::new(shared.clone(), semaphore(0))))
            .collect();
        let mut held = Vec::new();
        for session in &sessions {
            let before = held.len();
            held.extend(greedy(session, Purpose::Ahead));
            held.extend(greedy(session, Purpose::Demand));
            assert!(held.len() >= before + 2, "a segment of each kind at least");
            assert!(session.held_bytes() <= SESSION_BYTES_MAX);
        }
        let total: usize = sessions.iter().map(|s| s.held_bytes()).sum();
        assert!(total <= HOST_BYTES_MAX, "{total}");
        drop(held);
        assert_eq!(
            shared.available_permits() * BUDGET_UNIT_BYTES,
            HOST_SHARED_BYTES
        );
        assert!(
            sessions
                .iter()
                .all(|s| s.held_bytes() == 0 && s.releases() > 0)
        );
    }

    #[test]
    fn reads_ahead_leave_demand_its_own() {
        let budget = Arc::new(SessionBudget::new(shared(), semaphore(0)));
        let _ahead = greedy(&budget, Purpose::Ahead);
        assert!(
            budget
                .take(512 * 1024, Purpose::Demand)
                .now_or_never()
                .is_some()
        );
    }

    #[test]
    fn what_is_written_takes_nothing_from_what_is_read_nor_from_others_reserves() {
        let (shared, write_shared) = (shared(), semaphore(4 << 20));
        let session = || Arc::new(SessionBudget::new(shared.clone(), write_shared.clone()));
        let (a, b) = (session(), session());
        let taken = greedy(&a, Purpose::Write);
        assert_eq!(
            taken.len(),
            2 * (4 + 1),
            "its reserve and all that is shared"
        );
        assert_eq!(greedy(&b, Purpose::Write).len(), 2, "its reserve");
        assert!(a.take(1 << 19, Purpose::Demand).now_or_never().is_some());
        drop(taken);
        assert!(b.take(4 << 20, Purpose::Write).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_buffer_gives_its_grant_back_when_the_last_bytes_go() {
        let budget = Arc::new(SessionBudget::new(shared(), semaphore(0)));
        let pool = Arc::new(Pool::default());
        let size = Pool::size_of(100_000);
        let grant = budget.take(size, Purpose::Demand).await;
        let mut buffer = pool.buffer(100_000, grant);
        assert_eq!(buffer.space().len(), 100_000);
        buffer.space().fill(7);
        let bytes = buffer.freeze(90_000);
        let slice = bytes.slice(5..10);
        drop(bytes);
        assert_eq!(budget.held_bytes(), size);
        assert_eq!(&slice[..], [7; 5]);
        drop(slice);
        assert_eq!(budget.held_bytes(), 0);
        // Little in a large buffer shrinks to what it needs.
        let grant = budget.take(size, Purpose::Demand).await;
        let mut buffer = pool.buffer(100_000, grant);
        assert_eq!(buffer.space()[0], 7, "the same memory again");
        buffer.space()[..3].copy_from_slice(b"abc");
        let bytes = buffer.freeze(3);
        assert_eq!((&bytes[..], budget.held_bytes()), (&b"abc"[..], 4096));
    }
}
