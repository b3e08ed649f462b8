//! What a link may be: the one place that says which profiles make sense.
//!
//! The limits are far beyond any link worth measuring. They keep arithmetic exact, memory bounded and a
//! slip of the finger from becoming a run of hours.

use super::{Loss, Profile};
use crate::units::{Rate, Share, Size, Span};
use std::time::Duration;

/// The longest round trip there is.
pub const RTT_MAX: Duration = Duration::from_secs(60);
/// The slowest rate there is.
pub const RATE_BITS_PER_SEC_MIN: u64 = 1_000;
/// The fastest rate there is.
pub const RATE_BITS_PER_SEC_MAX: u64 = 100_000_000_000;
/// The shortest queue there is: one packet of a full Ethernet frame.
pub const QUEUE_BYTES_MIN: u64 = 1_514;
/// The longest queue there is.
pub const QUEUE_BYTES_MAX: u64 = 1 << 30;

const WHOLE_PPM: u32 = 1_000_000;

/// Why a link makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Insane {
    /// The round trip is longer than [`RTT_MAX`].
    #[error("a round trip of {is} is too long: choose at most {max}", is = Span(*.0), max = Span(RTT_MAX))]
    Rtt(Duration),
    /// The rate is out of bounds.
    #[error(
        "a rate of {is} is out of bounds: choose from {min} to {max}",
        is = Rate(*.0), min = Rate(RATE_BITS_PER_SEC_MIN), max = Rate(RATE_BITS_PER_SEC_MAX)
    )]
    Rate(u64),
    /// The queue is out of bounds.
    #[error(
        "a queue of {is} bytes is out of bounds: choose from {QUEUE_BYTES_MIN} (one packet) to {max}",
        is = .0, max = Size(QUEUE_BYTES_MAX)
    )]
    Queue(u64),
    /// There is a queue, and no rate that packets would wait for.
    #[error("a queue needs a rate: without one, no packet waits")]
    QueueWithoutRate,
    /// Packets would arrive before they are sent, or nearly so.
    #[error(
        "a jitter of {jitter} is more than half the round trip of {rtt}: choose at most {max}",
        jitter = Span(*.jitter), rtt = Span(*.rtt), max = Span(*.rtt / 2)
    )]
    Jitter {
        /// Up to so much more or less.
        jitter: Duration,
        /// The round trip.
        rtt: Duration,
    },
    /// A chance is more than certain.
    #[error("a chance of {0} in a million is none: choose at most 1000000")]
    Chance(u32),
    /// Nothing gets through, from the start or from some moment on.
    #[error("a loss of {} lets nothing through: choose less", Share(*.0))]
    EverythingLost(u32),
    /// Once in the bad state, the link stays there.
    #[error(
        "bursts of loss never end if the chance to leave them is {}: choose more",
        Share(0)
    )]
    EndlessBurst,
}

impl Profile {
    /// Whether the link makes sense: see the limits beside this.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), Insane> {
        if self.rtt > RTT_MAX {
            return Err(Insane::Rtt(self.rtt));
        }
        check_rate_and_queue(self.rate_bits_per_sec, self.queue_bytes)?;
        if self.jitter > self.rtt / 2 {
            return Err(Insane::Jitter {
                jitter: self.jitter,
                rtt: self.rtt,
            });
        }
        check_loss(self.loss)
    }
}

fn check_rate_and_queue(rate: Option<u64>, queue: Option<u64>) -> Result<(), Insane> {
    if let Some(rate) = rate
        && !(RATE_BITS_PER_SEC_MIN..=RATE_BITS_PER_SEC_MAX).contains(&rate)
    {
        return Err(Insane::Rate(rate));
    }
    match queue {
        Some(_) if rate.is_none() => Err(Insane::QueueWithoutRate),
        Some(bytes) if !(QUEUE_BYTES_MIN..=QUEUE_BYTES_MAX).contains(&bytes) => {
            Err(Insane::Queue(bytes))
        }
        _ => Ok(()),
    }
}

fn check_loss(loss: Loss) -> Result<(), Insane> {
    match loss {
        Loss::None => Ok(()),
        Loss::Random { ppm } => check_share(ppm),
        Loss::Bursts {
            enter_ppm,
            leave_ppm,
            bad_loss_ppm,
            good_loss_ppm,
        } => {
            // The bad state may lose everything as long as it ends.
            for chance in [enter_ppm, leave_ppm, bad_loss_ppm] {
                check_chance(chance)?;
            }
            check_share(good_loss_ppm)?;
            match (enter_ppm, leave_ppm) {
                (1.., 0) => Err(Insane::EndlessBurst),
                _ => Ok(()),
            }
        }
    }
}

fn check_chance(ppm: u32) -> Result<(), Insane> {
    match ppm {
        0..=WHOLE_PPM => Ok(()),
        _ => Err(Insane::Chance(ppm)),
    }
}

fn check_share(ppm: u32) -> Result<(), Insane> {
    check_chance(ppm)?;
    match ppm {
        WHOLE_PPM => Err(Insane::EverythingLost(ppm)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sane() -> Profile {
        Profile {
            rtt: Duration::from_millis(80),
            rate_bits_per_sec: Some(50_000_000),
            jitter: Duration::from_millis(40),
            queue_bytes: Some(QUEUE_BYTES_MIN),
            loss: bursts(1, 1, WHOLE_PPM, 0),
            ..Profile::NONE
        }
    }

    fn bursts(enter_ppm: u32, leave_ppm: u32, bad_loss_ppm: u32, good_loss_ppm: u32) -> Loss {
        Loss::Bursts {
            enter_ppm,
            leave_ppm,
            bad_loss_ppm,
            good_loss_ppm,
        }
    }

    fn refused(change: impl FnOnce(&mut Profile)) -> String {
        let mut profile = sane();
        change(&mut profile);
        match profile.check() {
            Ok(()) => panic!("is taken as sane: {profile:?}"),
            Err(insane) => insane.to_string(),
        }
    }

    #[test]
    fn every_named_profile_is_sane_and_so_are_the_limits() {
        for profile in Profile::ALL.into_iter().chain([sane()]) {
            assert_eq!(profile.check(), Ok(()), "{profile}");
        }
        let widest = Profile {
            rtt: RTT_MAX,
            rate_bits_per_sec: Some(RATE_BITS_PER_SEC_MAX),
            jitter: RTT_MAX / 2,
            queue_bytes: Some(QUEUE_BYTES_MAX),
            loss: Loss::Random { ppm: 999_999 },
            ..Profile::NONE
        };
        assert_eq!(widest.check(), Ok(()));
    }

    #[test]
    fn delays_have_limits() {
        assert_eq!(
            refused(|p| p.rtt = Duration::from_millis(60_001)),
            "a round trip of 60.001s is too long: choose at most 60s"
        );
        assert_eq!(
            refused(|p| p.jitter = Duration::from_micros(40_001)),
            "a jitter of 40.001ms is more than half the round trip of 80ms: choose at most 40ms"
        );
    }

    #[test]
    fn rate_and_queue_have_limits() {
        assert_eq!(
            refused(|p| p.rate_bits_per_sec = Some(999)),
            "a rate of 999bit is out of bounds: choose from 1kbit to 100gbit"
        );
        refused(|p| p.rate_bits_per_sec = Some(RATE_BITS_PER_SEC_MAX + 1));
        assert_eq!(
            refused(|p| p.queue_bytes = Some(1_513)),
            "a queue of 1513 bytes is out of bounds: choose from 1514 (one packet) to 1GiB"
        );
        refused(|p| p.queue_bytes = Some(QUEUE_BYTES_MAX + 1));
        assert_eq!(
            refused(|p| p.rate_bits_per_sec = None),
            "a queue needs a rate: without one, no packet waits"
        );
    }

    #[test]
    fn something_always_gets_through() {
        assert_eq!(
            refused(|p| p.loss = Loss::Random { ppm: WHOLE_PPM }),
            "a loss of 100% lets nothing through: choose less"
        );
        refused(|p| p.loss = Loss::Random { ppm: WHOLE_PPM + 1 });
        refused(|p| p.loss = bursts(1, 1, 1, WHOLE_PPM));
        for loss in [
            bursts(WHOLE_PPM + 1, 1, 1, 0),
            bursts(1, WHOLE_PPM + 1, 1, 0),
            bursts(1, 1, WHOLE_PPM + 1, 0),
        ] {
            assert_eq!(
                refused(|p| p.loss = loss),
                "a chance of 1000001 in a million is none: choose at most 1000000"
            );
        }
        assert_eq!(
            refused(|p| p.loss = bursts(1, 0, 1, 0)),
            "bursts of loss never end if the chance to leave them is 0%: choose more"
        );
    }
}
