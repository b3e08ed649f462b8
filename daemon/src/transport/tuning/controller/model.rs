//! The phases of a connection, and its window.
//!
//! What may be on the way is the *base*, the rate times the distance, times a gain that depends on the
//! phase:
//! - *startup* doubles each round, until the rate no longer grows, packets begin to wait, or a queue
//!   overflows.
//! - *drain* and *down* hold back until what waits on the path has gone.
//! - *cruise* keeps the path full and the queue short, for a few rounds; how many differs, so that
//!   connections that share a path do not probe in step.
//! - *up* sends more for a round. If more arrives, there is more to be had: startup again. A smaller
//!   share gains more by this than a larger one, so shares drift together.
//! - *look*, when the distance has not been confirmed for long, empties the path to measure it.
//!
//! After *down* nothing of ours waits. If packets still take long, the queue is somebody else's, who
//! would take whatever we leave: then the base is the rate times what packets really take, until that
//! queue is gone.
//!
//! When the path lost packets for want of room, the *bound* keeps the window below what did not fit;
//! probing raises it again.

use super::loss::Losses;
use super::rate::Rates;
use super::rtt::Rtts;
use std::time::{Duration, Instant};

const WINDOW_PACKETS_INITIAL: u64 = 32;
pub(super) const WINDOW_PACKETS_MIN: u64 = 4;
pub(super) const WINDOW_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Windows over the base. In startup nearly two: what one round adds must find room in a queue of one
/// bandwidth-delay product.
const STARTUP_GAIN: f64 = 2.5;
const CRUISE_GAIN: f64 = 1.15;
const UP_GAIN: f64 = 1.25;
const DOWN_GAIN: f64 = 1.0;
const LOOK_GAIN: f64 = 0.5;
/// Packets beyond the base: one each for the pacer, for a delayed acknowledgement and for rounding.
const SPARE_PACKETS: u64 = 3;
/// Startup ends after so many rounds without growth, or when packets wait by this share.
const PLATEAU_ROUNDS: u32 = 2;
const GROWTH: f64 = 1.15;
const BUILDING: f64 = 0.25;
const HESITATION: f64 = 0.06;
/// Rounds of cruise, at least and how many more at most.
const CRUISE_ROUNDS: u32 = 3;
const CRUISE_ROUNDS_MORE: u64 = 4;
/// The round of cruise after which a queue that stands is not ours.
const LOOKED_AT: u32 = 1;
/// Behind a foreign queue the path is drained once in so many turns.
const FOREIGN_TURNS: u32 = 3;
/// The bound after an overflow, over what was on the way; and how it is raised.
const BOUND: f64 = 0.8;
const BOUND_MIN: f64 = 0.5;
const BOUND_RAISE: f64 = 1.25;
/// A window is filled if so much of it was used.
const FILLED: f64 = 0.85;
/// Rounds of a lower rate behind a queue, after which the higher one before them is history.
const FELL_ROUNDS: usize = 4;
const FELL: f64 = 0.8;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Startup { best: f64, plateau: u32 },
    Drain { rounds: u32 },
    Up { before: f64, rounds: u32 },
    Down { rounds: u32 },
    Cruise { done: u32, rounds: u32 },
    Look { rounds: u32 },
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Model {
    mtu: u64,
    window: u64,
    phase: Phase,
    rates: Rates,
    rtts: Rtts,
    losses: Losses,
    in_flight: u64,
    /// Most on the way in this round.
    in_flight_most: u64,
    acked: u64,
    /// Whether somebody else's queue stands on the path.
    foreign: bool,
    /// Turns of probing, modulo [`FOREIGN_TURNS`].
    turns: u32,
    bound: Option<f64>,
    /// Whether this round's overflow has been answered.
    answered: bool,
}

impl Model {
    pub(super) fn new(now: Instant, mtu: u64) -> Self {
        Self {
            mtu,
            window: WINDOW_PACKETS_INITIAL * mtu,
            phase: STARTUP,
            rates: Rates::new(now),
            rtts: Rtts::default(),
            losses: Losses::default(),
            in_flight: 0,
            in_flight_most: 0,
            acked: 0,
            foreign: false,
            turns: 0,
            bound: None,
            answered: false,
        }
    }

    /// Bytes that may be on the way.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    pub(super) fn window_initial(&self) -> u64 {
        WINDOW_PACKETS_INITIAL * self.mtu
    }

    pub(super) fn set_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.window = self.window.max(WINDOW_PACKETS_MIN * mtu);
    }

    /// A packet leaves.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        self.rates.sent(now);
        self.in_flight += bytes;
        self.in_flight_most = self.in_flight_most.max(self.in_flight);
    }

    /// A packet has arrived.
    pub(super) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.rates.acked(now, sent, bytes);
        self.losses.delivered(bytes);
        self.acked += bytes;
    }

    /// Packets are taken for lost.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.losses.lost(bytes);
        self.in_flight = self.in_flight.saturating_sub(bytes);
        let long = self.rtts.queue_is_long();
        if !self.answered && self.losses.overflowed(self.mtu, long) {
            self.answered = true;
            self.overflowed();
        }
    }

    /// The batch of acknowledgements is complete.
    pub(super) fn acks_ended(&mut self, now: Instant, in_flight: u64, limited: bool) {
        self.in_flight = in_flight;
        let acked = std::mem::take(&mut self.acked);
        let filled = self.in_flight_most as f64 > FILLED * self.window as f64;
        let Some(batch) = self.rates.batch_ended(now, in_flight, limited, filled) else {
            return;
        };
        self.rtts.learn(now, now - batch.sent);
        if matches!(self.phase, Phase::Startup { .. }) {
            if !limited && !self.rtts.queue_builds(HESITATION) {
                let most = STARTUP_GAIN * self.base(self.rtts.distance());
                let grown = (self.window + acked).min(bytes(most) + SPARE_PACKETS * self.mtu);
                self.window = self.window.max(grown);
            }
            if self.rtts.queue_builds(BUILDING) {
                self.phase = Phase::Drain { rounds: 0 };
            }
        }
        if batch.round_ended {
            self.end_round(now, batch.limited);
        }
        // A phase that waits for the path to empty waits for less than its own window.
        self.set_window();
        self.settle(now);
        self.set_window();
    }

    /// Nothing got through for long: the path is another one now, or none.
    pub(super) fn restart(&mut self, now: Instant) {
        let mtu = self.mtu;
        *self = Self::new(now, mtu);
        self.window = WINDOW_PACKETS_MIN * mtu;
    }

    fn overflowed(&mut self) {
        let base = self.base(self.rtts.distance());
        let fits = self.in_flight_most as f64 * BOUND;
        self.bound = Some(fits.max(base * BOUND_MIN));
        if !matches!(self.phase, Phase::Drain { .. } | Phase::Look { .. }) {
            self.phase = Phase::Drain { rounds: 0 };
        }
        self.set_window();
    }

    fn end_round(&mut self, now: Instant, limited: bool) {
        let long = self.rtts.queue_is_long();
        self.losses.end_round(long || self.answered);
        self.rtts.end_round();
        self.answered = false;
        self.in_flight_most = self.in_flight;
        if limited {
            return;
        }
        if self.queue_stands() && self.rates.recent(FELL_ROUNDS) < FELL * self.rates.rate() {
            self.rates.forget(FELL_ROUNDS);
        }
        self.next_phase(now);
    }

    fn next_phase(&mut self, now: Instant) {
        let rate = self.rates.rate();
        self.phase = match self.phase {
            Phase::Startup { best, .. } if rate >= best * GROWTH => Phase::Startup {
                best: rate,
                plateau: 0,
            },
            Phase::Startup { plateau, .. } if plateau + 1 >= PLATEAU_ROUNDS => {
                Phase::Drain { rounds: 0 }
            }
            Phase::Startup { best, plateau } => Phase::Startup {
                best,
                plateau: plateau + 1,
            },
            // What the first round sent more is delivered in the second.
            Phase::Up { before, rounds: 0 } => Phase::Up { before, rounds: 1 },
            Phase::Up { before, .. } => {
                self.raise_bound();
                let grew = rate >= before * GROWTH;
                match (grew, self.queue_stands()) {
                    (true, false) => STARTUP,
                    (true, true) if self.foreign => up(rate),
                    _ => self.after_up(),
                }
            }
            Phase::Drain { rounds } => Phase::Drain { rounds: rounds + 1 },
            Phase::Down { rounds } => Phase::Down { rounds: rounds + 1 },
            Phase::Look { rounds } => Phase::Look { rounds: rounds + 1 },
            Phase::Cruise { .. } if self.rtts.is_old(now) => Phase::Look { rounds: 0 },
            Phase::Cruise { done, rounds } => {
                if done == LOOKED_AT {
                    self.foreign = self.queue_stands();
                }
                if done + 1 >= rounds {
                    up(rate)
                } else {
                    Phase::Cruise {
                        done: done + 1,
                        rounds,
                    }
                }
            }
        };
    }

    /// Somebody else's queue would only fill what we drain, so it is looked at more rarely.
    fn after_up(&mut self) -> Phase {
        self.turns = (self.turns + 1) % FOREIGN_TURNS;
        match self.cruise() {
            Phase::Cruise { rounds, .. } if self.foreign && self.turns != 0 => Phase::Cruise {
                done: LOOKED_AT + 1,
                rounds: rounds + LOOKED_AT + 1,
            },
            _ => Phase::Down { rounds: 0 },
        }
    }

    /// Ends the phases that wait for the path to empty.
    fn settle(&mut self, now: Instant) {
        let emptied = self.in_flight <= self.window;
        match self.phase {
            Phase::Drain { rounds } | Phase::Down { rounds } if emptied || rounds > 3 => {
                self.phase = self.cruise();
            }
            Phase::Look { rounds } if rounds > 1 => {
                self.rtts.renew(now);
                self.foreign = false;
                self.phase = self.cruise();
            }
            _ => {}
        }
    }

    /// Whether packets wait although none of ours do. What another connection like this one keeps to
    /// spare is no reason to worry.
    fn queue_stands(&self) -> bool {
        let spare = (SPARE_PACKETS * self.mtu) as f64;
        let rate = self.rates.rate();
        rate > 0.0
            && self
                .rtts
                .queue_stands(Duration::from_secs_f64(spare / rate))
    }

    fn cruise(&self) -> Phase {
        // As good as chance: no two connections have delivered the same.
        let chance = self.rates.delivered().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let more = u32::try_from(chance % CRUISE_ROUNDS_MORE).unwrap_or(0);
        Phase::Cruise {
            done: 0,
            rounds: CRUISE_ROUNDS + more,
        }
    }

    fn raise_bound(&mut self) {
        self.bound = self
            .bound
            .map(|bound| bound * BOUND_RAISE)
            .filter(|bound| *bound < 2.0 * self.base(self.rtts.now()));
    }

    /// Bytes on a path that is full without a queue, if a packet takes `rtt`.
    fn base(&self, rtt: Option<Duration>) -> f64 {
        let rtt = rtt.map_or(0.0, |rtt| rtt.as_secs_f64());
        // A lost packet counts as on the way until it is missed.
        self.rates.rate() * rtt * (1.0 + self.losses.usual())
    }

    fn set_window(&mut self) {
        let lowest = self.rtts.distance();
        let taken = if self.foreign {
            self.rtts.now().max(lowest)
        } else {
            lowest
        };
        let spare = (SPARE_PACKETS * self.mtu) as f64;
        let target = match self.phase {
            Phase::Startup { .. } => self.window as f64,
            Phase::Up { .. } => UP_GAIN * self.base(taken) + spare,
            Phase::Cruise { .. } => CRUISE_GAIN * self.base(taken) + spare,
            Phase::Drain { .. } | Phase::Down { .. } => DOWN_GAIN * self.base(lowest),
            Phase::Look { .. } => LOOK_GAIN * self.base(lowest),
        };
        let target = self.bound.map_or(target, |bound| target.min(bound));
        self.window = bytes(target).clamp(WINDOW_PACKETS_MIN * self.mtu, WINDOW_BYTES_MAX);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates, and windows are clamped"
)]
fn bytes(float: f64) -> u64 {
    float as u64
}

fn up(before: f64) -> Phase {
    Phase::Up { before, rounds: 0 }
}

const STARTUP: Phase = Phase::Startup {
    best: 0.0,
    plateau: 0,
};
