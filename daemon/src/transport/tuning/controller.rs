//! A loss-tolerant congestion controller.
//!
//! The window follows what the path delivers, not what it loses: 1.25 times the highest delivery rate
//! of late times the lowest round-trip time, and a little for jitter. Random loss, which makes Cubic
//! fall to a tenth of a link with 1 % of it, is ignored up to [`LOSS_IGNORED`] a round; more is
//! congestion and lowers the rate. The idea is BBR's (draft-ietf-ccwg-bbr), reduced to a window,
//! since quinn's pacer derives its rate from the window.
//!
//! Phases: *startup* doubles the window each round until the rate stops growing; *steady* follows the
//! rate; every ten seconds without a lower round-trip time *drain* holds the window below the
//! bandwidth-delay product for a moment, so that our own queue is not taken for distance.

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Window over bandwidth-delay product: room to find out that there is more bandwidth.
const GAIN: f64 = 1.25;
/// Window over bandwidth-delay product while draining.
const DRAIN_GAIN: f64 = 0.7;
/// Jitter of acknowledgements and scheduling, as time at the delivery rate.
const SLACK: Duration = Duration::from_millis(4);
const SLACK_BYTES_MAX: f64 = 2.0 * 1024.0 * 1024.0;
/// Share of a round's bytes that may be lost without a reaction.
const LOSS_IGNORED: f64 = 0.25;
/// What remains of the rate after a round with more loss.
const BACKOFF: f64 = 0.7;
/// Startup ends after so many rounds without growth by [`GROWTH`].
const PLATEAU_ROUNDS: u32 = 3;
const GROWTH: f64 = 1.25;
/// How long a rate sample counts, in round trips and at least.
const RATE_ROUNDS: u32 = 10;
const RATE_AGE_MIN: Duration = Duration::from_secs(1);
/// How long the lowest round-trip time counts before it is looked for anew.
const MIN_RTT_AGE: Duration = Duration::from_secs(10);
const WINDOW_PACKETS_INITIAL: u64 = 32;
const WINDOW_PACKETS_MIN: u64 = 4;
const WINDOW_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Makes [`SteadyController`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct SteadyConfig;

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(SteadyController::new(now, current_mtu))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup { plateau: u32 },
    Steady,
    Drain { until: Instant },
}

/// One round trip's worth of acknowledgements.
#[derive(Debug, Clone, Copy)]
struct Round {
    started: Instant,
    delivered: u64,
    lost: u64,
    /// Whether the sender had too little to send to fill the path.
    app_limited: bool,
}

impl Round {
    fn new(started: Instant) -> Self {
        Self {
            started,
            delivered: 0,
            lost: 0,
            app_limited: false,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct SteadyController {
    phase: Phase,
    mtu: u64,
    window: u64,
    round: Round,
    /// Rate samples in bytes per second, highest first, each newer than the one before it.
    rates: VecDeque<(Instant, f64)>,
    /// Highest rate when startup last looked.
    startup_rate: f64,
    min_rtt: Option<(Instant, Duration)>,
}

impl SteadyController {
    /// A controller at the start of a connection.
    pub fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            phase: Phase::Startup { plateau: 0 },
            mtu,
            window: WINDOW_PACKETS_INITIAL * mtu,
            round: Round::new(now),
            rates: VecDeque::new(),
            startup_rate: 0.0,
            min_rtt: None,
        }
    }

    fn rate(&self) -> f64 {
        self.rates.front().map_or(0.0, |(_, rate)| *rate)
    }

    fn learn_rate(&mut self, now: Instant, rate: f64, srtt: Duration) {
        let age_max = RATE_AGE_MIN.max(srtt * RATE_ROUNDS);
        while let Some((at, _)) = self.rates.front()
            && now.duration_since(*at) > age_max
        {
            self.rates.pop_front();
        }
        // A sample that had too little to send says only that the path carries at least this much.
        if self.round.app_limited && rate < self.rate() {
            return;
        }
        while self.rates.back().is_some_and(|(_, older)| *older <= rate) {
            self.rates.pop_back();
        }
        self.rates.push_back((now, rate));
    }

    fn learn_rtt(&mut self, now: Instant, srtt: Duration) {
        match self.min_rtt {
            Some((_, min)) if srtt > min => {}
            _ => self.min_rtt = Some((now, srtt)),
        }
    }

    /// [`Controller::on_ack`], given the smoothed round-trip time.
    fn acked(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        srtt: Duration,
    ) {
        self.learn_rtt(now, srtt);
        self.round.delivered += bytes;
        self.round.app_limited |= app_limited;
        if matches!(self.phase, Phase::Startup { .. }) && !app_limited {
            self.window = (self.window + bytes).min(WINDOW_BYTES_MAX);
        }
        // The first packet sent within the round has come back: the round is over.
        if sent >= self.round.started {
            self.end_round(now, srtt);
        }
    }

    fn end_round(&mut self, now: Instant, srtt: Duration) {
        let round = self.round;
        let took = now.duration_since(round.started).as_secs_f64();
        if round.delivered > 0 && took > 0.0 {
            self.learn_rate(now, round.delivered as f64 / took, srtt);
        }
        let sent = round.delivered + round.lost;
        let congested = sent > 0 && round.lost as f64 > LOSS_IGNORED * sent as f64;
        if congested {
            for (_, rate) in &mut self.rates {
                *rate *= BACKOFF;
            }
        }
        self.next_phase(now, srtt, congested);
        self.round = Round::new(now);
        self.set_window();
    }

    fn next_phase(&mut self, now: Instant, srtt: Duration, congested: bool) {
        match self.phase {
            Phase::Startup { .. } if congested => self.phase = Phase::Steady,
            Phase::Startup { plateau } if !self.round.app_limited => {
                let rate = self.rate();
                let plateau = if rate >= self.startup_rate * GROWTH {
                    self.startup_rate = rate;
                    0
                } else {
                    plateau + 1
                };
                self.phase = if plateau < PLATEAU_ROUNDS {
                    Phase::Startup { plateau }
                } else {
                    // What startup put into the queue beyond the path's own must drain.
                    Phase::Drain { until: now + srtt }
                };
            }
            Phase::Startup { .. } => {}
            Phase::Steady => {
                if let Some((at, _)) = self.min_rtt
                    && now.duration_since(at) > MIN_RTT_AGE
                {
                    self.phase = Phase::Drain {
                        until: now + 2 * srtt,
                    };
                }
            }
            Phase::Drain { until } if now >= until => {
                // Whatever was lowest while our queue was empty is the distance now.
                if let Some((at, min)) = &mut self.min_rtt
                    && now.duration_since(*at) > MIN_RTT_AGE
                {
                    *at = now;
                    *min = srtt.max(*min);
                }
                self.phase = Phase::Steady;
            }
            Phase::Drain { .. } => {}
        }
    }

    fn set_window(&mut self) {
        let Some((_, min_rtt)) = self.min_rtt else {
            return;
        };
        let bdp = self.rate() * min_rtt.as_secs_f64();
        let slack = (self.rate() * SLACK.as_secs_f64()).min(SLACK_BYTES_MAX);
        let target = match self.phase {
            Phase::Startup { .. } => return,
            Phase::Steady => GAIN * bdp + slack,
            Phase::Drain { .. } => DRAIN_GAIN * bdp,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float to integer cast saturates, and the value is clamped next"
        )]
        let target = target as u64;
        self.window = target.clamp(WINDOW_PACKETS_MIN * self.mtu, WINDOW_BYTES_MAX);
    }
}

impl Controller for SteadyController {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acked(now, sent, bytes, app_limited, rtt.get());
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.round.lost += lost_bytes;
        if is_persistent_congestion {
            // Nothing got through for a while: the path is another one now, or none.
            self.rates.clear();
            self.startup_rate = 0.0;
            self.window = WINDOW_PACKETS_MIN * self.mtu;
            self.phase = Phase::Startup { plateau: 0 };
            self.round = Round::new(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(WINDOW_PACKETS_MIN * self.mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW_PACKETS_INITIAL * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests;
