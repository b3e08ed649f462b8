//! The links that results are reported for, by name.
//!
//! A profile is what a path adds, not what a machine is: delay is the added round trip, half of it in
//! each direction; rate and loss hold in each direction.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A link: delay, rate, loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// What it is called.
    pub name: &'static str,
    /// Added round-trip time.
    pub rtt: Duration,
    /// Rate of each direction in bits per second; `None` leaves it as it is.
    pub rate_bits_per_sec: Option<u64>,
    /// Packets lost in each direction, of a million.
    pub loss_ppm: u32,
}

impl Profile {
    /// The link as it is.
    pub const NONE: Self = Self::new("none", 0, None, 0);
    /// A good local network.
    pub const LAN: Self = Self::new("lan", 1, Some(1_000_000_000), 0);
    /// A good line to another continent's edge.
    pub const WAN_GOOD: Self = Self::new("wan-good", 50, Some(100_000_000), 0);
    /// A poor line: far, slow, some loss.
    pub const WAN_POOR: Self = Self::new("wan-poor", 150, Some(10_000_000), 10_000);
    /// A bad line: farther, slower, much loss.
    pub const WAN_BAD: Self = Self::new("wan-bad", 300, Some(1_000_000), 50_000);

    /// Every profile, the gentlest first.
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
        loss_ppm: u32,
    ) -> Self {
        Self {
            name,
            rtt: Duration::from_millis(rtt_ms),
            rate_bits_per_sec,
            loss_ppm,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
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
        let names: HashSet<&str> = Profile::ALL.iter().map(|p| p.name).collect();
        assert_eq!(names.len(), Profile::ALL.len());
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
    }

    #[test]
    fn profiles_are_the_ones_results_are_reported_for() {
        let rows = Profile::ALL.map(|p| {
            let rate = p.rate_bits_per_sec.map(|rate| rate / 1_000_000);
            (p.name, p.rtt.as_millis(), rate, p.loss_ppm)
        });
        assert_eq!(
            rows,
            [
                ("none", 0, None, 0),
                ("lan", 1, Some(1000), 0),
                ("wan-good", 50, Some(100), 0),
                ("wan-poor", 150, Some(10), 10_000),
                ("wan-bad", 300, Some(1), 50_000),
            ]
        );
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
