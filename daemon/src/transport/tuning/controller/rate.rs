//! How fast the path delivers, and how often it was gone around (draft-ietf-ccwg-bbr, section 4.1).
//!
//! Each packet remembers how much had been delivered when it left. When it is acknowledged, what was
//! delivered meanwhile over the time that took, or the time its flight took to be sent, whichever is
//! longer, is a sample: a burst of acknowledgements after a pause is no high rate, since the sending
//! took its time.

use std::collections::VecDeque;
use std::time::Instant;

/// Rounds for which the highest rate counts: longer than a cycle of probing.
const ROUNDS: usize = 10;
/// Departures remembered at once; a batch of packets is one. Older ones go first, and with them only
/// samples.
const DEPARTURES_MAX: usize = 8192;

/// What had happened when packets left.
#[derive(Debug, Clone, Copy)]
struct Departure {
    sent: Instant,
    delivered: u64,
    delivered_at: Instant,
    /// When the flight this packet belongs to began.
    flight_from: Instant,
    /// Whether there was too little to send at that time.
    limited: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Rates {
    departures: VecDeque<Departure>,
    /// The newest departure acknowledged in this batch.
    newest: Option<Departure>,
    delivered: u64,
    delivered_at: Instant,
    flight_from: Instant,
    idle: bool,
    /// Until so much is delivered, samples are of too little to send.
    limited_until: u64,
    round_ends: u64,
    /// Highest rate of each of the last rounds in bytes a second, the current one last.
    rounds: VecDeque<f64>,
}

/// What a batch of acknowledgements told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Batch {
    /// When the newest of the packets had left.
    pub(super) sent: Instant,
    /// Whether it closed a round: it had left after the last round ended.
    pub(super) round_ended: bool,
    /// Whether the sample is of a sender that had too little to send.
    pub(super) limited: bool,
}

impl Rates {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            departures: VecDeque::new(),
            newest: None,
            delivered: 0,
            delivered_at: now,
            flight_from: now,
            idle: true,
            limited_until: 0,
            round_ends: 0,
            rounds: VecDeque::from([0.0]),
        }
    }

    /// A packet leaves.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.idle {
            // What passed while nothing was on the way is nobody's flight.
            (self.delivered_at, self.flight_from) = (now, now);
            self.idle = false;
        }
        if self.departures.back().is_some_and(|last| last.sent == now) {
            return;
        }
        if self.departures.len() == DEPARTURES_MAX {
            self.departures.pop_front();
        }
        self.departures.push_back(Departure {
            sent: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            flight_from: self.flight_from,
            limited: self.delivered < self.limited_until,
        });
    }

    /// A packet that left at `sent` has arrived.
    pub(super) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        // Only the newest one is sampled, so whatever is older can go.
        while self.departures.front().is_some_and(|d| d.sent < sent) {
            self.departures.pop_front();
        }
        if let Some(departure) = self.departures.front()
            && departure.sent == sent
            && self.newest.is_none_or(|newest| newest.sent < sent)
        {
            self.newest = Some(*departure);
        }
    }

    /// The batch is complete; so much is still on the way. `None` if it told nothing.
    ///
    /// `limited` if there was too little to send; `filled` if what there was filled the window.
    pub(super) fn batch_ended(
        &mut self,
        now: Instant,
        in_flight: u64,
        limited: bool,
        filled: bool,
    ) -> Option<Batch> {
        self.idle = in_flight == 0;
        if limited {
            self.limited_until = self.delivered + in_flight.max(1);
        }
        let newest = self.newest.take()?;
        self.flight_from = newest.sent;
        let took = (now - newest.delivered_at).max(newest.sent - newest.flight_from);
        let round_ended = newest.delivered >= self.round_ends;
        if round_ended {
            self.round_ends = self.delivered;
            // Rounds with little to send, or with too little processor time to send it, do not make what
            // was learnt before them old.
            if !newest.limited && filled {
                if self.rounds.len() == ROUNDS {
                    self.rounds.pop_front();
                }
                self.rounds.push_back(0.0);
            }
        }
        if !took.is_zero() {
            let rate = (self.delivered - newest.delivered) as f64 / took.as_secs_f64();
            if (!newest.limited || rate > self.rate())
                && let Some(round) = self.rounds.back_mut()
            {
                *round = round.max(rate);
            }
        }
        Some(Batch {
            sent: newest.sent,
            round_ended,
            limited: newest.limited,
        })
    }

    /// Bytes delivered since the beginning.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The highest rate of late, in bytes a second.
    pub(super) fn rate(&self) -> f64 {
        self.rounds.iter().copied().fold(0.0, f64::max)
    }

    /// The highest rate of the last `rounds` rounds, in bytes a second.
    pub(super) fn recent(&self, rounds: usize) -> f64 {
        self.rounds
            .iter()
            .rev()
            .take(rounds)
            .copied()
            .fold(0.0, f64::max)
    }

    /// Forgets all but the last `rounds` rounds.
    pub(super) fn forget(&mut self, rounds: usize) {
        while self.rounds.len() > rounds.max(1) {
            self.rounds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    /// Ten packets of 1000 bytes, a millisecond apart, over 20 ms; each is acknowledged at `seen`.
    fn run(seen: impl Fn(u32) -> u32) -> f64 {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        let mut events: Vec<(u32, bool, u32)> = (0..100)
            .flat_map(|i| [(i, false, i), (seen(i + 20), true, i)])
            .collect();
        events.sort_by_key(|(at, acked, i)| (*at, *acked, *i));
        for (at, acked, i) in events {
            let now = start + MS * at;
            if acked {
                rates.acked(now, start + MS * i, 1000);
                rates.batch_ended(now, 1000, false, true);
            } else {
                rates.sent(now);
            }
        }
        rates.rate()
    }

    #[test]
    fn the_rate_is_what_was_sent_and_arrived() {
        let rate = run(|at| at);
        assert!((rate - 1e6).abs() < 0.1e6, "{rate}");
    }

    #[test]
    fn a_burst_of_acknowledgements_is_no_high_rate() {
        let rate = run(|at| at.div_ceil(25) * 25);
        assert!((0.7e6..1.3e6).contains(&rate), "{rate}");
    }

    #[test]
    fn having_little_to_send_lowers_nothing() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        rates.sent(start);
        rates.acked(start + MS * 20, start, 100_000);
        rates.batch_ended(start + MS * 20, 0, true, true);
        let before = rates.rate();
        for i in 1..50u32 {
            let sent = start + MS * 1000 * i;
            rates.sent(sent);
            rates.acked(sent + MS * 20, sent, 100);
            rates.batch_ended(sent + MS * 20, 0, true, true);
        }
        assert!((rates.rate() - before).abs() < 1.0 && before > 1e6);
    }
}
