//! Which files of a directory will be read next: a pure state machine.
//!
//! Its files are known by number, in the order of the listing. Programs read them in that order, in the
//! order of names, by several threads about in one of these, or in none. Evidence opens a window in bytes:
//! two neighbours a small one, each file that was fetched and then read a larger one, and as many files as
//! were read, whatever their order, twice as much. What lies within the window and was not read yet is to be
//! fetched, in the order that is followed; once a large part of a directory was read, that is all the rest.
//!
//! What is fetched and not read stays counted against the window, so a pattern that breaks fetches nothing
//! more. Going through files that were read begins anew.
//!
//! Not here: fetching, budgets of the mount, caches. Knows numbers and sizes only.

/// First window after two neighbours.
const WINDOW_FIRST_BYTES: u64 = 128 * 1024;
/// And of the largest window: where much is under way, little is not worth a round trip.
const WINDOW_FIRST_PART: u64 = 4;
/// How far apart neighbours may be, as several threads read them.
const NEIGHBOURS_MAX: u32 = 16;
/// Files read before their number alone is evidence.
const READ_MIN: usize = 3;
/// Neighbours read in a row that make an order steady.
const STEADY: u32 = 8;
/// Bytes that may be ahead for each that was read, in no order.
const AHEAD_FACTOR: u64 = 2;

/// In which order files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As the host lists them.
    Listing,
    /// By name.
    Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    /// To be fetched, or fetched, and not read.
    Ahead,
    /// Not to be fetched, and not read.
    Settled,
    Read,
}

/// What a read was to the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first read of a file that was fetched before.
    Hit,
    /// The first read of another file.
    Miss,
    /// The first read of a file that was not to be fetched; or it was read before.
    Other,
}

/// The files of one directory.
#[derive(Debug)]
pub(super) struct Pattern {
    sizes: Vec<u32>,
    states: Vec<State>,
    /// Position by name of each file, and the file at each position.
    ranks: Vec<u32>,
    by_rank: Vec<u32>,
    /// Neighbours seen in each order.
    scores: [u32; 2],
    last: Option<u32>,
    unknown: usize,
    read: usize,
    /// Reads since the last one of a file that had not been read.
    read_again: usize,
    read_bytes: u64,
    ahead_bytes: u64,
    window_bytes: u64,
    /// Positions below were all given out, in the order now followed.
    given: u32,
    given_order: Order,
}

impl Pattern {
    /// For files of `sizes`, of which `by_rank` are the numbers in order of names.
    pub(super) fn new(sizes: Vec<u32>, by_rank: Vec<u32>) -> Self {
        let mut ranks = vec![0; by_rank.len()];
        for (rank, file) in (0..).zip(&by_rank) {
            ranks[*file as usize] = rank;
        }
        Self {
            states: vec![State::Unknown; sizes.len()],
            unknown: sizes.len(),
            sizes,
            ranks,
            by_rank,
            scores: [0; 2],
            last: None,
            read: 0,
            read_again: 0,
            read_bytes: 0,
            ahead_bytes: 0,
            window_bytes: 0,
            given: 0,
            given_order: Order::Listing,
        }
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// How many were read.
    pub(super) fn read_count(&self) -> usize {
        self.read
    }

    /// Bytes fetched, or to be, and not read.
    pub(super) fn ahead_bytes(&self) -> u64 {
        self.ahead_bytes
    }

    /// How many bytes may be ahead.
    pub(super) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// Whether all files were read or given out.
    pub(super) fn is_exhausted(&self) -> bool {
        self.unknown == 0
    }

    /// Whether so many neighbours were read that the rest will be, too.
    pub(super) fn is_steady(&self) -> bool {
        self.scores[self.order() as usize] >= STEADY
    }

    /// The order that is followed, as far as can be told.
    pub(super) fn order(&self) -> Order {
        if self.scores[1] > self.scores[0] {
            Order::Name
        } else {
            Order::Listing
        }
    }

    /// Whoever read the directory before this one reads in `order`, and is expected here with `window_bytes`.
    pub(super) fn expect(&mut self, order: Order, window_bytes: u64) {
        self.scores[order as usize] = self.scores[order as usize].max(1);
        self.window_bytes = self.window_bytes.max(window_bytes);
    }

    /// Takes note that a file is read from its beginning; windows grow up to `window_max_bytes`.
    pub(super) fn observe(&mut self, file: u32, window_max_bytes: u64) -> Seen {
        let at = file as usize;
        if self.states[at] == State::Read {
            self.read_again += 1;
            if self.read_again < READ_MIN {
                return Seen::Other;
            }
            self.begin_anew();
        }
        self.read_again = 0;
        let bytes = u64::from(self.sizes[at]);
        let seen = match std::mem::replace(&mut self.states[at], State::Read) {
            State::Unknown => {
                self.unknown -= 1;
                Seen::Miss
            }
            State::Ahead => {
                self.ahead_bytes -= bytes;
                Seen::Hit
            }
            State::Settled | State::Read => Seen::Other,
        };
        self.read += 1;
        self.read_bytes += bytes;
        let is_neighbour = self.score(file);
        let mut window = self.window_bytes;
        if is_neighbour {
            window = window.max(WINDOW_FIRST_BYTES.max(window_max_bytes / WINDOW_FIRST_PART));
        }
        if self.read >= READ_MIN {
            window = window.max(AHEAD_FACTOR * self.read_bytes);
        }
        if seen != Seen::Miss {
            window += 2 * bytes;
        }
        self.window_bytes = window.min(window_max_bytes);
        self.last = Some(file);
        seen
    }

    /// The next files to fetch, of at most `most_bytes` together; they count as ahead from now on.
    pub(super) fn plan(&mut self, most_bytes: u64) -> Vec<u32> {
        let order = self.order();
        if order != self.given_order {
            (self.given_order, self.given) = (order, 0);
        }
        let mut left = most_bytes;
        let mut files = Vec::new();
        if self.is_exhausted() {
            return files;
        }
        let from = self.position();
        let mut at = from.max(self.given);
        let end = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let mut wrapped = false;
        loop {
            if at >= end {
                // What was passed over comes last, if so much was read that the rest will be.
                if wrapped || !self.will_read_all() {
                    break;
                }
                (wrapped, at, self.given) = (true, 0, 0);
                continue;
            }
            let file = self.file_at(order, at);
            let bytes = u64::from(self.sizes[file as usize]);
            if self.states[file as usize] == State::Unknown {
                if bytes > left {
                    break;
                }
                left -= bytes;
                self.states[file as usize] = State::Ahead;
                self.unknown -= 1;
                self.ahead_bytes += bytes;
                files.push(file);
            }
            at += 1;
        }
        self.given = at;
        files
    }

    /// A file that was given out need not be fetched, or cannot be: it is here already, or has changed.
    pub(super) fn settle(&mut self, file: u32) {
        self.leave(file, State::Settled);
    }

    /// A file that was given out was not fetched, and may be given out again.
    pub(super) fn take_back(&mut self, file: u32) {
        if self.leave(file, State::Unknown) {
            self.unknown += 1;
            self.given = 0;
        }
    }

    fn leave(&mut self, file: u32, state: State) -> bool {
        let at = file as usize;
        let was_ahead = self.states[at] == State::Ahead;
        if was_ahead {
            self.states[at] = state;
            self.ahead_bytes -= u64::from(self.sizes[at]);
        }
        was_ahead
    }

    fn begin_anew(&mut self) {
        self.states.fill(State::Unknown);
        self.unknown = self.states.len();
        (self.read, self.read_bytes, self.ahead_bytes) = (0, 0, 0);
        (self.window_bytes, self.given, self.last) = (0, 0, None);
        self.scores = [0; 2];
    }

    /// Whether the file is a neighbour of the one before, in some order.
    fn score(&mut self, file: u32) -> bool {
        let Some(last) = self.last else {
            return false;
        };
        let ranks = (self.ranks[last as usize], self.ranks[file as usize]);
        let mut any = false;
        for (score, (before, now)) in self.scores.iter_mut().zip([(last, file), ranks]) {
            if before < now && now - before <= NEIGHBOURS_MAX {
                *score += 1;
                any = true;
            } else if before.abs_diff(now) > NEIGHBOURS_MAX {
                *score /= 2;
            }
        }
        any
    }

    /// From where on the next files are, in the order that is followed.
    fn position(&self) -> u32 {
        let order = self.order();
        if self.scores[order as usize] == 0 {
            return 0;
        }
        let last = self.last.map_or(0, |last| match order {
            Order::Listing => last,
            Order::Name => self.ranks[last as usize],
        });
        last.saturating_sub(NEIGHBOURS_MAX)
    }

    fn will_read_all(&self) -> bool {
        let in_order = self.scores[self.order() as usize] > 0;
        !in_order || 2 * self.read >= self.len()
    }

    fn file_at(&self, order: Order, at: u32) -> u32 {
        match order {
            Order::Listing => at,
            Order::Name => self.by_rank[at as usize],
        }
    }
}

#[cfg(test)]
mod tests;
