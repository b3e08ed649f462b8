//! Seats: how many mounts a limited ticket lets in at once.
//!
//! A mount sits while a session of it lives, and its seat is kept for it for [`SEAT_KEPT`] after the
//! link was lost, so that nobody takes it while it reconnects. A mount that reconnects before its old
//! session was found dead sits in the same seat. A mount that said goodbye frees its seat at once.
//! Tickets without a limit on mounts have no seats.
//!
//! Seats live in memory: after a restart of the host they are taken anew.
//!
//! Lock: `tickets`, leaf.

use super::clock::Clock;
use super::limits::{SEAT_KEPT, SEATS_MAX};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wormhole_protocol::{MountId, TicketId};

/// The seats of all limited tickets.
pub(super) struct Seats {
    clock: Arc<dyn Clock>,
    tickets: Mutex<HashMap<TicketId, HashMap<MountId, Taken>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    sessions: u32,
    /// When the last session was lost, by the monotonic clock.
    lost_at: Duration,
}

impl Seats {
    /// All free.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            tickets: Mutex::default(),
        })
    }

    /// Takes a seat of `ticket`, which has `max`, for `mount`; `None` if all are taken by others.
    pub(super) fn take(
        self: &Arc<Self>,
        ticket: TicketId,
        max: u32,
        mount: MountId,
    ) -> Option<Seat> {
        let now = self.clock.monotonic();
        let max = usize::try_from(max).unwrap_or(usize::MAX).min(SEATS_MAX);
        let mut tickets = self.tickets.lock();
        let seats = tickets.entry(ticket).or_default();
        seats
            .retain(|_, taken| taken.sessions > 0 || now.saturating_sub(taken.lost_at) < SEAT_KEPT);
        if !seats.contains_key(&mount) && seats.len() >= max {
            return None;
        }
        seats.entry(mount).or_default().sessions += 1;
        Some(Seat {
            seats: self.clone(),
            ticket,
            mount,
            kept: AtomicBool::new(true),
        })
    }

    fn leave(&self, ticket: TicketId, mount: MountId, kept: bool) {
        let now = self.clock.monotonic();
        let mut tickets = self.tickets.lock();
        let Some(seats) = tickets.get_mut(&ticket) else {
            return;
        };
        if let Some(taken) = seats.get_mut(&mount) {
            taken.sessions = taken.sessions.saturating_sub(1);
            taken.lost_at = now;
            if taken.sessions == 0 && !kept {
                seats.remove(&mount);
            }
        }
        if seats.is_empty() {
            tickets.remove(&ticket);
        }
    }
}

/// A seat, held by a session.
pub(super) struct Seat {
    seats: Arc<Seats>,
    ticket: TicketId,
    mount: MountId,
    kept: AtomicBool,
}

impl Seat {
    /// Whether it is kept for a while once the session ends; at first, it is.
    pub(super) fn keep(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let kept = self.kept.load(Ordering::Relaxed);
        self.seats.leave(self.ticket, self.mount, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::ManualClock;
    use super::*;

    const A: TicketId = TicketId([1; 8]);
    const B: TicketId = TicketId([2; 8]);

    fn mount(n: u8) -> MountId {
        MountId([n; 16])
    }

    #[test]
    fn seats_are_kept_for_lost_mounts_and_freed_by_a_goodbye() {
        let clock = Arc::new(ManualClock::new(1000));
        let seats = Seats::new(clock.clone());
        let one = seats.take(A, 1, mount(1)).unwrap();
        assert!(seats.take(A, 1, mount(2)).is_none());
        assert!(seats.take(B, 1, mount(2)).is_some(), "another ticket");
        // The same mount comes back before its old session is found dead.
        let again = seats.take(A, 1, mount(1)).unwrap();
        drop(one);
        clock.advance(SEAT_KEPT * 2);
        assert!(seats.take(A, 1, mount(2)).is_none());
        // Lost: kept for a while, for the same mount only.
        drop(again);
        clock.advance(SEAT_KEPT - Duration::from_secs(1));
        assert!(seats.take(A, 1, mount(2)).is_none());
        let back = seats.take(A, 1, mount(1)).unwrap();
        drop(back);
        clock.advance(SEAT_KEPT);
        let other = seats.take(A, 1, mount(2)).unwrap();
        other.keep(false);
        drop(other);
        assert!(seats.take(A, 1, mount(3)).is_some());
    }

    #[test]
    fn a_ticket_for_no_mount_lets_none_in_and_nothing_is_left_behind() {
        let seats = Seats::new(Arc::new(ManualClock::new(0)));
        assert!(seats.take(A, 0, mount(1)).is_none());
        let seat = seats.take(B, 5, mount(1)).unwrap();
        seat.keep(false);
        drop(seat);
        assert!(!seats.tickets.lock().contains_key(&B));
    }
}
