//! Who holds what across connections: one [`Held`] for each mount that is there, or was a minute ago.
//!
//! A mount comes back under its [`MountId`] and the ticket it left with, and finds what it held. Its old
//! session may not be known dead by then; both use the same until the last has gone.
//!
//! Lock: `mounts`, leaf.

use super::held::Held;
use super::limits::{HELD_KEPT, HELD_MOUNTS_MAX};
use super::resources::Resources;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;
use wormhole_protocol::{MountId, TicketId};

type Key = (TicketId, MountId);

/// What the mounts of a share hold.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    mounts: Mutex<Mounts>,
}

#[derive(Debug, Default)]
struct Mounts {
    kept: HashMap<Key, Kept>,
    /// Counts departures, so that a timer knows whether its mount has been back since.
    departures: u64,
}

#[derive(Debug)]
struct Kept {
    held: Arc<Held>,
    sessions: u32,
    departure: u64,
}

impl Holdings {
    /// A session begins. Must be called within the runtime.
    pub(super) fn enter(
        self: &Arc<Self>,
        ticket: TicketId,
        mount: MountId,
        resources: &Resources,
    ) -> Tenure {
        let key = (ticket, mount);
        let mut mounts = self.mounts.lock();
        let resumed = mounts.kept.contains_key(&key);
        let evicted = if resumed { None } else { mounts.make_room() };
        let kept = mounts.kept.entry(key).or_insert_with(|| Kept {
            held: Arc::new(Held::new(resources)),
            sessions: 0,
            departure: 0,
        });
        kept.sessions += 1;
        let held = kept.held.clone();
        drop(mounts);
        drop(evicted);
        Tenure {
            holdings: self.clone(),
            key,
            held,
            resumed,
            kept: AtomicBool::new(true),
            runtime: Handle::current(),
        }
    }

    /// A session has ended. The number of the departure, if it was the last and its mount may come back.
    fn leave(&self, key: Key, keep: bool) -> Option<u64> {
        let mut mounts = self.mounts.lock();
        mounts.departures += 1;
        let departure = mounts.departures;
        let kept = mounts.kept.get_mut(&key)?;
        kept.sessions = kept.sessions.saturating_sub(1);
        kept.departure = departure;
        if kept.sessions > 0 {
            return None;
        }
        if keep {
            return Some(departure);
        }
        let gone = mounts.kept.remove(&key);
        drop(mounts);
        drop(gone);
        None
    }

    /// The mount has had its time to come back.
    fn expire(&self, key: Key, departure: u64) {
        let mut mounts = self.mounts.lock();
        let same = |kept: &Kept| kept.sessions == 0 && kept.departure == departure;
        let gone = if mounts.kept.get(&key).is_some_and(same) {
            mounts.kept.remove(&key)
        } else {
            None
        };
        drop(mounts);
        drop(gone);
    }
}

impl Mounts {
    /// Gives up what a mount holds that has left, if there are too many: the first that left of the ticket
    /// with the most, so that a holder of one ticket who comes and goes under ever new names costs nobody
    /// else anything. One that is there has a session, and of those there are fewer.
    fn make_room(&mut self) -> Option<Kept> {
        if self.kept.len() < HELD_MOUNTS_MAX {
            return None;
        }
        let mut of_ticket: HashMap<TicketId, usize> = HashMap::new();
        for (ticket, _) in self.kept.keys() {
            *of_ticket.entry(*ticket).or_default() += 1;
        }
        let away = self.kept.iter().filter(|(_, kept)| kept.sessions == 0);
        let first =
            away.max_by_key(|((ticket, _), kept)| (of_ticket[ticket], Reverse(kept.departure)));
        let key = *first?.0;
        self.kept.remove(&key)
    }
}

/// A session's part in what its mount holds.
#[derive(Debug)]
pub(super) struct Tenure {
    holdings: Arc<Holdings>,
    key: Key,
    /// What the mount holds.
    pub(super) held: Arc<Held>,
    /// Whether it was found, and not begun just now.
    pub(super) resumed: bool,
    kept: AtomicBool,
    runtime: Handle,
}

impl Tenure {
    /// Whether all is kept for a while once the session ends; at first, it is.
    pub(super) fn keep(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        let (key, keep) = (self.key, self.kept.load(Ordering::Relaxed));
        if let Some(departure) = self.holdings.leave(key, keep) {
            let holdings = self.holdings.clone();
            self.runtime.spawn(async move {
                tokio::time::sleep(HELD_KEPT).await;
                holdings.expire(key, departure);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wormhole_protocol::Epoch;

    #[tokio::test]
    async fn a_ticket_with_many_mounts_pushes_out_only_its_own() {
        let resources = Resources::new(Epoch(1));
        let holdings = Arc::<Holdings>::default();
        let (few, many) = (TicketId([1; 8]), TicketId([2; 8]));
        let enter = |ticket, n: u16| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_le_bytes());
            holdings.enter(ticket, MountId(id), &resources)
        };
        drop(enter(few, 0));
        let there = enter(many, 0);
        for n in 1..1000 {
            assert!(!enter(many, n).resumed);
        }
        assert_eq!(holdings.mounts.lock().kept.len(), HELD_MOUNTS_MAX);
        assert!(enter(few, 0).resumed);
        assert!(enter(many, 0).resumed, "it is there");
        assert!(enter(many, 999).resumed);
        assert!(!enter(many, 1).resumed, "the first that left");
        drop(there);
    }
}
