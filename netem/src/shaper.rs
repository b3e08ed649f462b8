//! What a link does to a packet, in one direction: a length and an instant in, a verdict out.
//!
//! A [`Shaper`] is a pure state machine. It reads no clock, moves no bytes and allocates nothing; the
//! same profile, seed, instants and lengths give the same verdicts on every machine.
//!
//! A packet meets, in this order
//! 1. the queue (`line`): it is dropped if the bytes that wait and its own exceed the bound;
//! 2. serialisation at the rate (`line`): one packet after the other;
//! 3. loss (`loss`): what is lost here has used its share of the rate, as on a real line;
//! 4. propagation: half the round trip;
//! 5. jitter: evenly up to so much more or less.
//!
//! `tc netem` has the same effects, but loses before its queue: there, lost packets use no rate.
//!
//! Invariants
//! - Without jitter, packets are delivered in the order they were offered, and never in less than the
//!   propagation delay. With jitter they may overtake one another, and none arrives before its last
//!   byte has left.
//! - Bytes whose serialisation has not ended never exceed the queue's bound.
//! - Losses and jitter are drawn from streams of their own: jitter changes nothing in what is lost.

mod line;
mod loss;
mod random;

#[cfg(test)]
mod tests;

use crate::moment::{Moment, nanos};
use crate::profile::Profile;
use line::Line;
use loss::LossProcess;
use random::Random;

/// Which way packets go. Both directions are alike but for their luck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the first end to the second.
    Forth,
    /// From the second end to the first.
    Back,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives.
    Deliver {
        /// When.
        at: Moment,
    },
    /// It does not.
    Drop(Reason),
}

/// Why a packet does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The queue had no room.
    Queue,
    /// It was lost on the way.
    Loss,
}

/// Packets so far, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// All that were offered: the sum of the others.
    pub offered: u64,
    /// That arrive.
    pub delivered: u64,
    /// That found no room in the queue.
    pub queue_dropped: u64,
    /// That were lost on the way.
    pub lost: u64,
}

/// One direction of a link.
#[derive(Debug, Clone)]
pub struct Shaper {
    /// Rate and queue; `None` serialises in no time.
    line: Option<Line>,
    loss: LossProcess,
    jitter: Jitter,
    propagation_ns: u64,
    /// The latest instant seen. A clock that steps back must not reorder packets.
    latest_ns: u64,
    counters: Counters,
}

impl Shaper {
    /// One direction of the link `profile` describes, with the luck of `seed`.
    ///
    /// Expects a profile that passes [`Profile::check`]; a rate or a queue outside the limits is taken
    /// as the limit.
    pub fn new(profile: &Profile, seed: u64, direction: Direction) -> Self {
        let [loss, jitter] = Random::streams(seed, direction);
        Self {
            line: profile
                .rate_bits_per_sec
                .map(|rate| Line::new(rate, profile.queue_bytes_effective())),
            loss: LossProcess::new(profile.loss, loss),
            jitter: Jitter {
                up_to_ns: nanos(profile.jitter),
                random: jitter,
            },
            propagation_ns: nanos(profile.rtt) / 2,
            latest_ns: 0,
            counters: Counters::default(),
        }
    }

    /// Decides on a packet of `packet_bytes`, IP header included, that reaches the link `now`.
    ///
    /// Instants should not go back; one that does counts as the latest before it.
    #[inline]
    pub fn offer(&mut self, now: Moment, packet_bytes: usize) -> Verdict {
        self.latest_ns = self.latest_ns.max(now.nanos());
        self.counters.offered += 1;
        let Some(sent_ns) = self.send(packet_bytes) else {
            self.counters.queue_dropped += 1;
            return Verdict::Drop(Reason::Queue);
        };
        if self.loss.strikes() {
            self.counters.lost += 1;
            return Verdict::Drop(Reason::Loss);
        }
        self.counters.delivered += 1;
        let delay_ns = self.jitter.around(self.propagation_ns);
        Verdict::Deliver {
            at: Moment::from_nanos(sent_ns.saturating_add(delay_ns)),
        }
    }

    /// What became of the packets so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// When the packet's last byte leaves, or `None` if the queue has no room.
    #[inline]
    fn send(&mut self, packet_bytes: usize) -> Option<u64> {
        match &mut self.line {
            Some(line) => line.send(self.latest_ns, packet_bytes),
            None => Some(self.latest_ns),
        }
    }
}

/// Delay that varies.
#[derive(Debug, Clone)]
struct Jitter {
    up_to_ns: u64,
    random: Random,
}

impl Jitter {
    /// `delay_ns`, up to so much more or less, and not less than nothing.
    #[inline]
    fn around(&mut self, delay_ns: u64) -> u64 {
        if self.up_to_ns == 0 {
            return delay_ns;
        }
        let more_ns = self.random.up_to(self.up_to_ns.saturating_mul(2));
        delay_ns
            .saturating_add(more_ns)
            .saturating_sub(self.up_to_ns)
    }
}
