//! How far to read ahead of one handle: a pure state machine.
//!
//! Evidence of sequential reading grows the window, doubling up to a bound the caller derives from the
//! bandwidth-delay product; a jump shrinks it to what was asked, but the old window is remembered, so
//! that scrubbing (jump, read on, jump) is back at speed with its second read. The policy follows the
//! doubling prefetcher of mountpoint-s3.
//!
//! Not here: fetching, budgets, caches. Knows offsets only.

/// First window: what reading the start of a file fetches beyond what was asked.
const WINDOW_FIRST_BYTES: u64 = 128 * 1024;
/// Requests this large come from the kernel's own readahead, which proves a sequential reader.
const LARGE_REQUEST_BYTES: u64 = 64 * 1024;
/// Large requests may overtake each other by this much, being sent by several threads.
const OVERTAKE_BYTES: u64 = 4 * 1024 * 1024;

/// What to fetch for one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Fetch up to here; at least the end of the request.
    pub until: u64,
    /// The reader jumped: what is under way for its old place is no longer wanted.
    pub jumped: bool,
}

/// The state of one handle.
#[derive(Debug, Clone, Default)]
pub struct Readahead {
    /// End of the furthest request of this run.
    reached: u64,
    /// Up to where fetches were planned.
    planned: u64,
    window_bytes: u64,
    /// Window before the last jump.
    remembered_bytes: u64,
    /// Whether any request was seen.
    begun: bool,
}

impl Readahead {
    /// Takes note of a request for `offset..end` and says what to fetch, given the largest window.
    pub fn observe(&mut self, offset: u64, end: u64, window_max_bytes: u64) -> Plan {
        let jumped = if self.follows(offset, end) {
            self.grow(offset, window_max_bytes);
            false
        } else {
            self.jump(offset, end);
            self.begun
        };
        self.begun = true;
        self.reached = self.reached.max(end);
        let until = self.reached.saturating_add(self.window_bytes);
        // A new fetch only when half the window is used up: few long requests, not many short ones.
        if until.saturating_sub(self.planned) >= self.window_bytes / 2 {
            self.planned = self.planned.max(until);
        }
        Plan {
            until: self.planned.max(end),
            jumped,
        }
    }

    /// Whether the request continues the run; the start of the file begins one.
    fn follows(&self, offset: u64, end: u64) -> bool {
        if !self.begun {
            return offset == 0;
        }
        let slack = if end - offset >= LARGE_REQUEST_BYTES {
            OVERTAKE_BYTES
        } else {
            end - offset
        };
        offset <= self.reached.saturating_add(slack) && offset.saturating_add(slack) >= self.reached
    }

    fn grow(&mut self, offset: u64, window_max_bytes: u64) {
        // A request behind the furthest one, overtaken or repeated, is no new evidence.
        if self.begun && offset < self.reached {
            return;
        }
        let grown = if self.window_bytes == 0 {
            WINDOW_FIRST_BYTES.max(self.remembered_bytes / 2)
        } else {
            self.window_bytes.saturating_mul(2)
        };
        self.remembered_bytes = 0;
        self.window_bytes = grown.min(window_max_bytes);
    }

    fn jump(&mut self, offset: u64, end: u64) {
        // Two jumps in a row are random access: the memory of the window goes.
        self.remembered_bytes = self.window_bytes;
        self.window_bytes = 0;
        self.reached = end;
        self.planned = end.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const MAX: u64 = 32 * MIB;

    #[test]
    fn sequential_reading_doubles_up_to_the_bound() {
        let mut readahead = Readahead::default();
        let mut at = 0;
        let mut windows = Vec::new();
        for _ in 0..16 {
            let plan = readahead.observe(at, at + MIB, 4 * MIB);
            assert!(!plan.jumped);
            at += MIB;
            windows.push(plan.until - at);
        }
        assert_eq!(windows[0], WINDOW_FIRST_BYTES);
        assert!(windows.windows(2).take(4).all(|w| w[1] >= w[0]));
        assert!(windows.iter().all(|w| *w <= 4 * MIB));
        assert!(windows[8..].iter().all(|w| *w >= 2 * MIB));
    }

    #[test]
    fn random_access_fetches_what_was_asked() {
        let mut readahead = Readahead::default();
        for offset in [400 * MIB, 8 * MIB, 900 * MIB, 12 * MIB, 13 * MIB] {
            let plan = readahead.observe(offset, offset + 4096, MAX);
            assert_eq!(plan.until, offset + 4096, "at {offset}");
        }
    }

    #[test]
    fn a_jump_is_told_and_its_second_read_is_back_at_speed() {
        let mut readahead = Readahead::default();
        let mut at = 0;
        for _ in 0..8 {
            readahead.observe(at, at + MIB, MAX);
            at += MIB;
        }
        let far = 500 * MIB;
        let plan = readahead.observe(far, far + MIB, MAX);
        assert_eq!(
            plan,
            Plan {
                until: far + MIB,
                jumped: true
            }
        );
        let plan = readahead.observe(far + MIB, far + 2 * MIB, MAX);
        assert!(!plan.jumped);
        assert!(plan.until - (far + 2 * MIB) >= 4 * MIB, "{plan:?}");
    }

    #[test]
    fn overtaking_requests_of_the_kernel_are_one_run() {
        let mut readahead = Readahead::default();
        for index in [0, 1, 3, 2, 4, 6, 5, 7] {
            let plan = readahead.observe(index * MIB, (index + 1) * MIB, MAX);
            assert!(!plan.jumped, "at {index}");
        }
    }

    #[test]
    fn repeated_reads_do_not_grow_the_window() {
        let mut readahead = Readahead::default();
        let first = readahead.observe(0, 4096, MAX);
        for _ in 0..20 {
            assert_eq!(readahead.observe(0, 4096, MAX), first);
        }
    }

    #[test]
    fn offsets_at_the_end_of_off_t_do_not_overflow() {
        let mut readahead = Readahead::default();
        let end = i64::MAX as u64;
        let plan = readahead.observe(end - 4096, end, MAX);
        assert!(plan.until >= end);
        let plan = readahead.observe(u64::MAX - 1, u64::MAX, MAX);
        assert_eq!(plan.until, u64::MAX);
    }
}
