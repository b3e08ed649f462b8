//! A link of the user's own: what differs from a named profile, or from nothing.
//!
//! The result is named after what it differs in, so that no two links share a name by accident:
//! `wan-poor+loss=3%`. Without a base it is called `custom`.

use crate::profile::{Insane, Loss, Profile};
use crate::units::{Burst, Rate, Share, Size, Span};
use serde::Deserialize;
use std::borrow::Cow;

/// The name of a link that is based on none.
pub const CUSTOM: &str = "custom";

/// What a link is to be; what is not said stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Added round-trip time.
    pub rtt: Option<Span>,
    /// Rate of each direction.
    pub rate: Option<Rate>,
    /// Packets lost in each direction, evenly. Excludes `burst`.
    pub loss: Option<Share>,
    /// Delay that varies by up to this much more or less.
    pub jitter: Option<Span>,
    /// Bytes that may wait in each direction.
    pub queue: Option<Size>,
    /// Packets lost in each direction, in bursts. Excludes `loss`.
    pub burst: Option<Burst>,
}

/// Why overrides cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// Two kinds of loss.
    #[error("loss and burst exclude each other: a burst has its own loss")]
    LossAndBurst,
    /// What comes out makes no sense.
    #[error(transparent)]
    Insane(#[from] Insane),
}

impl Overrides {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `base` with these differences, checked and named after both. Without a base and differences it
    /// is [`Profile::NONE`].
    ///
    /// # Errors
    /// If the differences contradict each other, or the outcome makes no sense.
    pub fn apply(&self, base: Option<&Profile>) -> Result<Profile, OverrideError> {
        if self.loss.is_some() && self.burst.is_some() {
            return Err(OverrideError::LossAndBurst);
        }
        let profile = self.merge(base);
        profile.check()?;
        Ok(profile)
    }

    fn merge(&self, base: Option<&Profile>) -> Profile {
        let name = self.name(base);
        let base = base.cloned().unwrap_or(Profile::NONE);
        Profile {
            name,
            rtt: self.rtt.map_or(base.rtt, |rtt| rtt.0),
            rate_bits_per_sec: self.rate.map(|rate| rate.0).or(base.rate_bits_per_sec),
            loss: self.loss().unwrap_or(base.loss),
            jitter: self.jitter.map_or(base.jitter, |jitter| jitter.0),
            queue_bytes: self.queue.map(|queue| queue.0).or(base.queue_bytes),
        }
    }

    fn loss(&self) -> Option<Loss> {
        let random = |share: Share| match share.0 {
            0 => Loss::None,
            ppm => Loss::Random { ppm },
        };
        self.loss.map(random).or_else(|| self.burst.map(Loss::from))
    }

    fn name(&self, base: Option<&Profile>) -> Cow<'static, str> {
        match base {
            _ if self.is_empty() => base.unwrap_or(&Profile::NONE).name.clone(),
            None => Cow::Borrowed(CUSTOM),
            Some(base) => Cow::Owned(format!("{}{}", base.name, self.suffix())),
        }
    }

    /// What is said, in the order of the fields: `+rtt=80ms+loss=3%`.
    fn suffix(&self) -> String {
        let said = [
            self.rtt.map(|rtt| format!("+rtt={rtt}")),
            self.rate.map(|rate| format!("+rate={rate}")),
            self.loss.map(|loss| format!("+loss={loss}")),
            self.jitter.map(|jitter| format!("+jitter={jitter}")),
            self.queue.map(|queue| format!("+queue={queue}")),
            self.burst.map(|burst| format!("+burst={burst}")),
        ];
        said.into_iter().flatten().collect()
    }
}

impl From<Burst> for Loss {
    fn from(burst: Burst) -> Self {
        Self::Bursts {
            enter_ppm: burst.enter.0,
            leave_ppm: burst.leave.0,
            bad_loss_ppm: burst.bad_loss.0,
            good_loss_ppm: burst.good_loss.0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use super::*;
    use std::time::Duration;

    fn all_but_burst() -> Overrides {
        Overrides {
            rtt: Some("80ms".parse().unwrap()),
            rate: Some("50mbit".parse().unwrap()),
            loss: Some("0.5%".parse().unwrap()),
            jitter: Some("5ms".parse().unwrap()),
            queue: Some("256k".parse().unwrap()),
            burst: None,
        }
    }

    #[test]
    fn without_a_base_it_is_custom() {
        assert_eq!(
            all_but_burst().apply(None),
            Ok(Profile {
                name: CUSTOM.into(),
                rtt: Duration::from_millis(80),
                rate_bits_per_sec: Some(50_000_000),
                loss: Loss::Random { ppm: 5_000 },
                jitter: Duration::from_millis(5),
                queue_bytes: Some(256 << 10),
            })
        );
    }

    #[test]
    fn what_is_not_said_stays() {
        let loss = Overrides {
            loss: Some(Share(30_000)),
            ..Overrides::default()
        };
        assert_eq!(
            loss.apply(Some(&Profile::WAN_POOR)),
            Ok(Profile {
                name: "wan-poor+loss=3%".into(),
                loss: Loss::Random { ppm: 30_000 },
                ..Profile::WAN_POOR
            })
        );
    }

    #[test]
    fn every_difference_is_in_the_name() {
        let name = all_but_burst().apply(Some(&Profile::LAN)).unwrap().name;
        assert_eq!(
            name,
            "lan+rtt=80ms+rate=50mbit+loss=0.5%+jitter=5ms+queue=256KiB"
        );
        let burst = Overrides {
            burst: Some("1%,20%,50%".parse().unwrap()),
            ..Overrides::default()
        };
        let profile = burst.apply(Some(&Profile::LAN)).unwrap();
        assert_eq!(profile.name, "lan+burst=1%,20%,50%");
        assert_eq!(
            profile.loss,
            Loss::Bursts {
                enter_ppm: 10_000,
                leave_ppm: 200_000,
                bad_loss_ppm: 500_000,
                good_loss_ppm: 0,
            }
        );
    }

    #[test]
    fn no_difference_is_no_other_link() {
        let nothing = Overrides::default();
        assert!(nothing.is_empty());
        assert_eq!(nothing.apply(None), Ok(Profile::NONE));
        assert_eq!(nothing.apply(Some(&Profile::LAN)), Ok(Profile::LAN));
    }

    #[test]
    fn loss_can_be_taken_away() {
        let lossless = Overrides {
            loss: Some(Share(0)),
            ..Overrides::default()
        };
        let profile = lossless.apply(Some(&Profile::WAN_BAD)).unwrap();
        assert_eq!(profile.loss, Loss::None);
        assert_eq!(profile.name, "wan-bad+loss=0%");
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        let both = Overrides {
            burst: Some(Burst::default()),
            ..all_but_burst()
        };
        assert_eq!(both.apply(None), Err(OverrideError::LossAndBurst));
        let queue = Overrides {
            queue: Some(Size(65_536)),
            ..Overrides::default()
        };
        assert_eq!(queue.apply(None), Err(Insane::QueueWithoutRate.into()));
        assert!(queue.apply(Some(&Profile::LAN)).is_ok());
    }
}
