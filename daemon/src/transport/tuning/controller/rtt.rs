//! Round-trip times: how far it is, and how long packets wait on the way.
//!
//! A sample is taken of the newest packet of each batch of acknowledgements, from leaving to hearing of
//! it. The lowest of them is the distance. It is looked for anew when nothing has confirmed it for
//! [`LOWEST_AGE`], since a path may become longer.

use std::time::{Duration, Instant};

/// How long the lowest time counts without being seen again.
const LOWEST_AGE: Duration = Duration::from_secs(5);
/// What counts as seeing it again: as long, and this much more.
const SAME_SHARE: f64 = 0.1;
const SAME: Duration = Duration::from_micros(300);
/// A queue stands when every packet takes this much longer than the lowest, and a moment. More than
/// what cruising itself keeps waiting.
const STANDING: f64 = 1.25;
/// It is long when packets mostly take this much longer.
const LONG: f64 = 1.4;
const MOMENT: Duration = Duration::from_millis(1);
/// What timers, scheduling and delayed acknowledgements may add to every round trip.
const MACHINES: Duration = Duration::from_micros(500);
/// Samples whose lowest tells of a queue that builds up (RFC 9406 takes eight).
const BUILDING_SAMPLES: u32 = 8;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Rtts {
    lowest: Option<(Instant, Duration)>,
    /// The last three samples, and when the newest was taken.
    latest: (Option<Instant>, [Duration; 3]),
    /// Lowest of the running round, of the one before, and of the last few samples.
    round: Option<Duration>,
    last_round: Option<Duration>,
    few: (u32, Option<Duration>),
    latest_few: Option<Duration>,
    smoothed: f64,
}

impl Rtts {
    /// Takes a sample.
    pub(super) fn learn(&mut self, now: Instant, rtt: Duration) {
        let usual = self.usual(now, rtt);
        match &mut self.lowest {
            Some((at, lowest)) => {
                if rtt <= lowest.mul_f64(1.0 + SAME_SHARE) + SAME {
                    *at = now;
                }
                *lowest = usual.min(*lowest);
            }
            None => {
                self.lowest = Some((now, rtt));
                self.smoothed = rtt.as_secs_f64();
            }
        }
        self.smoothed += (rtt.as_secs_f64() - self.smoothed) / 8.0;
        self.round = lower(self.round, rtt);
        let (count, few) = &mut self.few;
        *few = lower(*few, rtt);
        *count += 1;
        if *count == BUILDING_SAMPLES {
            self.latest_few = *few;
            self.few = (0, None);
        }
    }

    /// The middle one of the last three samples. Receiving stamps what it takes in with the time it
    /// began, so one that was interrupted believes that packets came earlier than they did; what is
    /// taken in at once bears the same stamp, and counts once.
    fn usual(&mut self, now: Instant, rtt: Duration) -> Duration {
        if self.latest.0 != Some(now) {
            self.latest.1.rotate_left(1);
        }
        self.latest.0 = Some(now);
        self.latest.1[2] = rtt;
        let mut three = self.latest.1;
        three.sort_unstable();
        // Until there are three, the missing ones are zero: then the highest counts.
        if three[0].is_zero() {
            three[2]
        } else {
            three[1]
        }
    }

    /// A round is over.
    pub(super) fn end_round(&mut self) {
        self.last_round = self.round.take();
    }

    /// The distance.
    pub(super) fn lowest(&self) -> Option<Duration> {
        self.lowest.map(|(_, lowest)| lowest)
    }

    /// The distance as packets of a full window see it: with what the machines at both ends take besides,
    /// up to [`MACHINES`]. On a short path that is as much as the path itself.
    pub(super) fn distance(&self) -> Option<Duration> {
        let besides = |lowest: Duration| {
            let excess = self.smoothed - lowest.as_secs_f64();
            Duration::from_secs_f64(excess.clamp(0.0, MACHINES.as_secs_f64()))
        };
        self.lowest().map(|lowest| lowest + besides(lowest))
    }

    /// What a packet takes now, at least: the lowest of the last whole round.
    pub(super) fn now(&self) -> Option<Duration> {
        self.last_round.or(self.round)
    }

    /// Whether packets waited on the whole of the last round, and longer than `excused`.
    pub(super) fn queue_stands(&self, excused: Duration) -> bool {
        let standing = self
            .lowest()
            .map(|lowest| lowest.mul_f64(STANDING) + MOMENT + excused);
        standing
            .zip(self.now())
            .is_some_and(|(standing, now)| now > standing)
    }

    /// Whether packets mostly wait now.
    pub(super) fn queue_is_long(&self) -> bool {
        let long = self.lowest().map(|lowest| lowest.mul_f64(LONG) + MOMENT);
        long.is_some_and(|long| self.smoothed > long.as_secs_f64())
    }

    /// Whether the last few packets waited: by so much of the lowest, and a moment.
    pub(super) fn queue_builds(&self, share: f64) -> bool {
        let building = self
            .lowest()
            .map(|lowest| lowest.mul_f64(1.0 + share) + MOMENT);
        building
            .zip(self.latest_few)
            .is_some_and(|(building, few)| few > building)
    }

    /// Whether the distance must be looked for anew.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.lowest
            .is_some_and(|(at, _)| now.duration_since(at) > LOWEST_AGE)
    }

    /// The queue has been drained: what was lowest since is the distance.
    pub(super) fn renew(&mut self, now: Instant) {
        if let Some(found) = self.round.or(self.last_round) {
            self.lowest = Some((now, found));
        }
    }
}

fn lower(lowest: Option<Duration>, rtt: Duration) -> Option<Duration> {
    Some(lowest.map_or(rtt, |lowest| lowest.min(rtt)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_lowest_stays_until_it_is_old_and_renewed() {
        let start = Instant::now();
        let mut rtts = Rtts::default();
        rtts.learn(start, MS * 50);
        rtts.learn(start + MS * 4000, MS * 52);
        assert!(!rtts.is_old(start + MS * 8_000), "seen again, nearly");
        rtts.learn(start + MS * 9_500, MS * 80);
        assert!(rtts.is_old(start + MS * 9_500));
        assert_eq!(rtts.lowest(), Some(MS * 50));
        rtts.end_round();
        rtts.learn(start + MS * 9_600, MS * 81);
        rtts.renew(start + MS * 9_600);
        assert_eq!(rtts.lowest(), Some(MS * 81));
        assert!(!rtts.is_old(start + MS * 9_700));
    }

    #[test]
    fn a_queue_stands_when_no_packet_was_quick() {
        let start = Instant::now();
        let mut rtts = Rtts::default();
        rtts.learn(start, MS * 50);
        rtts.end_round();
        assert!(!rtts.queue_stands(Duration::ZERO));
        rtts.learn(start, MS * 90);
        rtts.learn(start, MS * 75);
        rtts.end_round();
        assert!(rtts.queue_stands(Duration::ZERO));
        rtts.learn(start, MS * 90);
        rtts.learn(start, MS * 55);
        rtts.end_round();
        assert!(!rtts.queue_stands(Duration::ZERO));
    }
}
