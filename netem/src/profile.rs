//! The links that results are reported for, by name.
//!
//! A profile is what a path adds, not what a machine is: delay is the added round trip, half of it in
//! each direction; rate, loss and jitter hold in each direction.

mod sane;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use sane::{
    Insane, QUEUE_BYTES_MAX, QUEUE_BYTES_MIN, RATE_BITS_PER_SEC_MAX, RATE_BITS_PER_SEC_MIN, RTT_MAX,
};

/// The shortest queue chosen unasked: less than this starves a short, fast link.
const QUEUE_BYTES_AT_LEAST: u64 = 64 << 10;
/// The queue of a link without a rate, where nothing waits: more than any socket sends at once.
const QUEUE_BYTES_WITHOUT_RATE: u64 = 64 << 20;

/// What is lost on the way, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Loss {
    /// Nothing.
    #[default]
    None,
    /// Each packet with this chance, of a million.
    Random {
        /// Chance of a packet to be lost, of a million.
        ppm: u32,
    },
    /// Bursts: a two-state model (Gilbert, Elliott), stepped once a packet.
    Bursts {
        /// Chance to go from the good state to the bad one, of a million.
        enter_ppm: u32,
        /// Chance to go from the bad state to the good one, of a million.
        leave_ppm: u32,
        /// Chance of a packet to be lost in the bad state, of a million.
        bad_loss_ppm: u32,
        /// Chance of a packet to be lost in the good state, of a million.
        good_loss_ppm: u32,
    },
}

impl Loss {
    /// Share of packets lost in the long run, from 0 to 1. Bursts: the loss of each state by the share
    /// of time spent in it.
    pub fn mean(self) -> f64 {
        let share = |ppm: u32| f64::from(ppm) / 1e6;
        match self {
            Self::None => 0.0,
            Self::Random { ppm } => share(ppm),
            // A link starts in its good state, and without a way out it stays there.
            Self::Bursts {
                enter_ppm: 0,
                good_loss_ppm,
                ..
            } => share(good_loss_ppm),
            Self::Bursts {
                enter_ppm,
                leave_ppm,
                bad_loss_ppm,
                good_loss_ppm,
            } => {
                let (enter, leave) = (share(enter_ppm), share(leave_ppm));
                let bad = enter / (enter + leave);
                bad * share(bad_loss_ppm) + (1.0 - bad) * share(good_loss_ppm)
            }
        }
    }
}

/// A link: delay, rate, loss, jitter, queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What it is called.
    pub name: Cow<'static, str>,
    /// Added round-trip time.
    pub rtt: Duration,
    /// Rate of each direction in bits per second, IP headers included; `None` leaves it as it is.
    pub rate_bits_per_sec: Option<u64>,
    /// What each direction loses.
    pub loss: Loss,
    /// Each packet is delayed by up to this much more or less, evenly; so packets may overtake.
    pub jitter: Duration,
    /// Bytes that may wait in each direction for their turn; `None` is one bandwidth-delay product, and
    /// at least 64 KiB.
    pub queue_bytes: Option<u64>,
}

impl Profile {
    /// The link as it is.
    pub const NONE: Self = Self::new("none", 0, None, Loss::None);
    /// A good local network.
    pub const LAN: Self = Self::new("lan", 1, Some(1_000_000_000), Loss::None);
    /// A good line to another continent's edge.
    pub const WAN_GOOD: Self = Self::new("wan-good", 50, Some(100_000_000), Loss::None);
    /// A poor line: far, slow, some loss.
    pub const WAN_POOR: Self = Self::new(
        "wan-poor",
        150,
        Some(10_000_000),
        Loss::Random { ppm: 10_000 },
    );
    /// A bad line: farther, slower, much loss.
    pub const WAN_BAD: Self = Self::new(
        "wan-bad",
        300,
        Some(1_000_000),
        Loss::Random { ppm: 50_000 },
    );

    /// Every named profile, the gentlest first.
    pub const ALL: [Self; 5] = [
        Self::NONE,
        Self::LAN,
        Self::WAN_GOOD,
        Self::WAN_POOR,
        Self::WAN_BAD,
    ];

    const fn new(
        name: &'static str,
        rtt_ms: u64,
        rate_bits_per_sec: Option<u64>,
        loss: Loss,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            rtt: Duration::from_millis(rtt_ms),
            rate_bits_per_sec,
            loss,
            jitter: Duration::ZERO,
            queue_bytes: None,
        }
    }

    /// Whether it leaves the path as it is: nothing to emulate.
    pub fn is_plain(&self) -> bool {
        self.rtt.is_zero()
            && self.rate_bits_per_sec.is_none()
            && self.loss == Loss::None
            && self.jitter.is_zero()
    }

    /// Bytes that may wait in each direction: as asked for, or one bandwidth-delay product and at least
    /// 64 KiB; 64 MiB on a link without a rate, where nothing has to wait.
    pub fn queue_bytes_effective(&self) -> u64 {
        match (self.queue_bytes, self.rate_bits_per_sec) {
            (Some(bytes), _) => bytes,
            (None, None) => QUEUE_BYTES_WITHOUT_RATE,
            (None, Some(rate)) => {
                let product = u128::from(rate) * self.rtt.as_nanos() / 8_000_000_000;
                u64::try_from(product)
                    .unwrap_or(u64::MAX)
                    .clamp(QUEUE_BYTES_AT_LEAST, QUEUE_BYTES_MAX)
            }
        }
    }

    /// Share of packets lost in the long run, from 0 to 1.
    pub fn mean_loss(&self) -> f64 {
        self.loss.mean()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// No profile has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no network profile is called \"{}\"; there are: {}", .0.escape_debug(), names())]
pub struct UnknownProfile(pub String);

fn names() -> String {
    Profile::ALL.map(|profile| profile.name).join(", ")
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    /// Takes exactly a name: no other case, no white space, no abbreviation.
    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name == name)
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_read_back() {
        let names: HashSet<String> = Profile::ALL.iter().map(Profile::to_string).collect();
        assert_eq!(names.len(), Profile::ALL.len());
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
    }

    #[test]
    fn profiles_are_the_ones_results_are_reported_for() {
        let rows = Profile::ALL.map(|p| {
            let rate = p.rate_bits_per_sec.map(|rate| rate / 1_000_000);
            (p.to_string(), p.rtt.as_millis(), rate, p.loss)
        });
        let row = |name: &str, rtt, rate, ppm| {
            let loss = match ppm {
                0 => Loss::None,
                ppm => Loss::Random { ppm },
            };
            (name.to_owned(), rtt, rate, loss)
        };
        assert_eq!(
            rows,
            [
                row("none", 0, None, 0),
                row("lan", 1, Some(1000), 0),
                row("wan-good", 50, Some(100), 0),
                row("wan-poor", 150, Some(10), 10_000),
                row("wan-bad", 300, Some(1), 50_000),
            ]
        );
        let plain: Vec<bool> = Profile::ALL.iter().map(Profile::is_plain).collect();
        assert_eq!(plain, [true, false, false, false, false]);
    }

    #[test]
    fn a_queue_holds_one_bandwidth_delay_product_unless_told() {
        let queues = Profile::ALL.map(|p| p.queue_bytes_effective());
        // 1 Gbit/s for 1 ms are 125,000 bytes; 1 Mbit/s for 300 ms are 37,500 and so the least.
        assert_eq!(queues, [64 << 20, 125_000, 625_000, 187_500, 64 << 10]);
        let told = Profile {
            queue_bytes: Some(1_514),
            ..Profile::LAN
        };
        assert_eq!(told.queue_bytes_effective(), 1_514);
        let widest = Profile {
            rtt: RTT_MAX,
            rate_bits_per_sec: Some(RATE_BITS_PER_SEC_MAX),
            ..Profile::NONE
        };
        assert_eq!(widest.queue_bytes_effective(), QUEUE_BYTES_MAX);
    }

    #[test]
    fn mean_loss_weighs_both_states_by_the_time_spent_in_them() {
        let mean = |enter_ppm, leave_ppm, bad_loss_ppm, good_loss_ppm| {
            Loss::Bursts {
                enter_ppm,
                leave_ppm,
                bad_loss_ppm,
                good_loss_ppm,
            }
            .mean()
        };
        let close = |is: f64, should: f64| assert!((is - should).abs() < 1e-12, "{is} {should}");
        close(Profile::NONE.mean_loss(), 0.0);
        close(Profile::WAN_BAD.mean_loss(), 0.05);
        // A quarter of the time in the bad state.
        close(mean(100_000, 300_000, 500_000, 20_000), 0.125 + 0.015);
        close(mean(0, 0, 500_000, 20_000), 0.02);
        close(mean(10, 0, 500_000, 20_000), 0.5);
    }

    #[test]
    fn nothing_but_a_name_is_a_name() {
        for text in [
            "",
            "LAN",
            " lan",
            "lan ",
            "wan",
            "wan_good",
            "wan-good\n",
            "lan,none",
        ] {
            assert_eq!(
                text.parse::<Profile>(),
                Err(UnknownProfile(text.to_owned()))
            );
        }
        let message = UnknownProfile("w\u{1b}an".into()).to_string();
        assert_eq!(
            message,
            "no network profile is called \"w\\u{1b}an\"; there are: none, lan, wan-good, wan-poor, wan-bad"
        );
    }
}
