//! How long each family may take, so that a run ends when it should whatever peers do.
//!
//! A run is so many turns, one for each peer in each round. Within a turn, time goes to families by what
//! they need on this link ([`Sizes::demand_seconds`]), of what is left when each begins: time that one
//! did not need goes to the next.

use super::Sizes;
use crate::workload::Family;
use std::time::Duration;

/// How long `family` may take when `left` is left of the turn for it and `after`, those that come later.
pub fn next_deadline(
    left: Duration,
    sizes: &Sizes,
    family: Family,
    after: impl IntoIterator<Item = Family>,
) -> Duration {
    let own = sizes.demand_seconds(family);
    let later: f64 = after.into_iter().map(|f| sizes.demand_seconds(f)).sum();
    left.mul_f64(own / (own + later))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Mode;

    #[test]
    fn time_that_is_left_goes_to_those_that_come_later() {
        let sizes = Sizes::of(Mode::Quick, Some(10.0), Duration::from_millis(150));
        let total = Duration::from_secs(100);
        let mut left = total;
        for (place, family) in Family::ALL.into_iter().enumerate() {
            let after = Family::ALL[place + 1..].iter().copied();
            let deadline = next_deadline(left, &sizes, family, after);
            assert!(!deadline.is_zero() && deadline <= left);
            left -= deadline;
        }
        assert!(
            left < Duration::from_micros(1),
            "all is given out: {left:?}"
        );
        assert_eq!(next_deadline(total, &sizes, Family::Stat, []), total);
    }

    #[test]
    fn a_run_of_four_peers_has_the_time_to_play_its_video() {
        let budget = [(Mode::Quick, 85), (Mode::Standard, 480), (Mode::Full, 3500)];
        for (mode, seconds) in budget {
            for (rate, rtt) in [(None, 0), (Some(1000.0), 1), (Some(100.0), 50)] {
                let sizes = Sizes::of(mode, rate, Duration::from_millis(rtt));
                let turn = Duration::from_secs(seconds) / (4 * sizes.rounds);
                let others = Family::ALL.into_iter().filter(|f| *f != Family::Scrub);
                let deadline = next_deadline(turn, &sizes, Family::Scrub, others);
                let playing = sizes.playing();
                assert!(
                    playing < deadline * 9 / 10,
                    "{mode:?} {rate:?}: {playing:?} {deadline:?}"
                );
            }
        }
    }
}
