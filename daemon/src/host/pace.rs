//! Whether a share's disk is quick now: where short work is to be done.
//!
//! To look at an inode or to write a page takes microseconds where the kernel has it in memory, and to hand
//! that to another thread and take back what came of it takes ten times as long. A disk that has to be asked
//! takes longer than both, and then nobody but the request may wait. So short work is done where it is as
//! long as it is short:
//! - after a pause the first may take long (a disk that sleeps): another thread stands by to go on;
//! - after one that took long, all goes to other threads, for so much longer than it took that trying again
//!   costs little. What only had to leave the processor to somebody else for a while took no longer for that.
//!
//! Knows no clock and no disk: it is told when work began and what it took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Work that takes longer, and slept, has waited for the disk.
const SHORT_MAX: Duration = Duration::from_micros(300);
/// Work that computes for longer is not short, wherever the processor is. More than the other: what a thread has computed
/// is counted with what interrupted it.
const COMPUTED_MAX: Duration = Duration::from_millis(2);
/// So many times as long as one took that was not short, no other is tried.
const REST: u32 = 16;
/// After no work for so long, the next may be different.
const PAUSE: Duration = Duration::from_millis(100);

/// Where to do work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where it is.
    Here,
    /// Where it is, while another thread is ready to go on with everything else.
    HereWatched,
    /// In another thread.
    Elsewhere,
}

/// What a piece of work took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// From its beginning to its end.
    pub(super) elapsed: Duration,
    /// Of a processor.
    pub(super) computed: Duration,
    /// Whether its thread slept, waiting for something. Who is only preempted does not.
    pub(super) slept: bool,
}

impl Effort {
    fn is_short(self) -> bool {
        self.elapsed <= SHORT_MAX || !self.slept && self.computed <= COMPUTED_MAX
    }
}

/// How quick work was lately. Times are counted from a start of the caller's choice.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the last short work ended, in nanoseconds; 0 if there was none.
    short_at: AtomicU64,
    /// Until when none is tried.
    rest_until: AtomicU64,
}

impl Pace {
    /// Where to do work that begins `now`.
    pub(super) fn place(&self, now: Duration) -> Place {
        let now = nanos(now);
        let short_at = self.short_at.load(Relaxed);
        if now < self.rest_until.load(Relaxed) {
            Place::Elsewhere
        } else if short_at == 0 || now.saturating_sub(short_at) > nanos(PAUSE) {
            Place::HereWatched
        } else {
            Place::Here
        }
    }

    /// Work that was done here ended `now` and took so much.
    pub(super) fn took(&self, took: Effort, now: Duration) {
        if took.is_short() {
            self.short_at.fetch_max(nanos(now).max(1), Relaxed);
        } else {
            let rest = took.elapsed.saturating_mul(REST);
            self.rest_until
                .fetch_max(nanos(now.saturating_add(rest)), Relaxed);
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Work that waited for the disk all the time.
    const fn waiting(elapsed: Duration) -> Effort {
        Effort {
            elapsed,
            computed: Duration::ZERO,
            slept: true,
        }
    }

    #[test]
    fn to_be_preempted_is_not_to_wait_and_to_compute_for_long_is() {
        let pace = Pace::default();
        let preempted = Effort {
            slept: false,
            ..waiting(ms(10))
        };
        pace.took(preempted, ms(20));
        assert_eq!(pace.place(ms(20)), Place::Here);
        let busy = Effort {
            computed: ms(10),
            ..preempted
        };
        pace.took(busy, ms(30));
        assert_eq!(pace.place(ms(30)), Place::Elsewhere);
    }

    #[test]
    fn the_first_and_the_first_after_a_pause_are_watched() {
        let pace = Pace::default();
        assert_eq!(pace.place(ms(5)), Place::HereWatched);
        pace.took(waiting(SHORT_MAX), ms(6));
        assert_eq!(pace.place(ms(6)), Place::Here);
        assert_eq!(pace.place(ms(106)), Place::Here);
        assert_eq!(pace.place(ms(107)), Place::HereWatched);
    }

    #[test]
    fn after_a_long_one_others_rest_in_proportion() {
        let pace = Pace::default();
        pace.took(waiting(SHORT_MAX), ms(1));
        pace.took(waiting(ms(10)), ms(20));
        assert_eq!(pace.place(ms(20)), Place::Elsewhere);
        assert_eq!(pace.place(ms(179)), Place::Elsewhere);
        assert_eq!(pace.place(ms(180)), Place::HereWatched);
        // One that ended before does not cut the rest short.
        pace.took(waiting(ms(1)), ms(30));
        assert_eq!(pace.place(ms(179)), Place::Elsewhere);
    }

    #[test]
    fn no_time_is_too_long() {
        let pace = Pace::default();
        pace.took(waiting(Duration::MAX), Duration::MAX);
        assert_eq!(pace.place(ms(1)), Place::Elsewhere);
    }
}
