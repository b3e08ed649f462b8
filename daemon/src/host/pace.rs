//! Whether a share's disk is quick now: where short work is to be done.
//!
//! To look at an inode or to write a page takes microseconds where the kernel has it in memory, and to hand
//! that to another thread and take back what came of it takes ten times as long. A disk that has to be asked
//! takes longer than both, and then nobody but the request may wait. So short work is done where it is as
//! long as it is short:
//! - after a pause the first may take long (a disk that sleeps): another thread stands by to go on;
//! - after one that took long, all goes to other threads, for so much longer than it took that trying again
//!   costs little.
//!
//! Knows no clock and no disk: it is told when work began and how long it took.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Work that takes longer has waited for something.
const SHORT_MAX: Duration = Duration::from_micros(300);
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

    /// Work that was done here ended `now` and took so long.
    pub(super) fn took(&self, took: Duration, now: Duration) {
        if took <= SHORT_MAX {
            self.short_at.fetch_max(nanos(now).max(1), Relaxed);
        } else {
            let rest = took.saturating_mul(REST);
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

    #[test]
    fn the_first_and_the_first_after_a_pause_are_watched() {
        let pace = Pace::default();
        assert_eq!(pace.place(ms(5)), Place::HereWatched);
        pace.took(SHORT_MAX, ms(6));
        assert_eq!(pace.place(ms(6)), Place::Here);
        assert_eq!(pace.place(ms(106)), Place::Here);
        assert_eq!(pace.place(ms(107)), Place::HereWatched);
    }

    #[test]
    fn after_a_long_one_others_rest_in_proportion() {
        let pace = Pace::default();
        pace.took(SHORT_MAX, ms(1));
        pace.took(ms(10), ms(20));
        assert_eq!(pace.place(ms(20)), Place::Elsewhere);
        assert_eq!(pace.place(ms(179)), Place::Elsewhere);
        assert_eq!(pace.place(ms(180)), Place::HereWatched);
        // One that ended before does not cut the rest short.
        pace.took(ms(1), ms(30));
        assert_eq!(pace.place(ms(179)), Place::Elsewhere);
    }

    #[test]
    fn no_time_is_too_long() {
        let pace = Pace::default();
        pace.took(Duration::MAX, Duration::MAX);
        assert_eq!(pace.place(ms(1)), Place::Elsewhere);
    }
}
