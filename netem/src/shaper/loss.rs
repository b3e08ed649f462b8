//! Which packets are lost.
//!
//! Bursts follow Gilbert and Elliott: the state a packet meets decides its chance, then the state may
//! change. A link starts in its good state. That is also the order of `tc netem`'s `loss gemodel`.

use super::random::{Chance, Random};
use crate::profile::Loss;

/// Loss, packet by packet.
#[derive(Debug, Clone)]
pub(super) struct LossProcess {
    /// The present state, and the other one; without bursts there is no other.
    state: State,
    other: Option<State>,
    random: Random,
}

#[derive(Debug, Clone, Copy)]
struct State {
    lose: Chance,
    leave: Chance,
}

impl State {
    fn new(lose_ppm: u32, leave_ppm: u32) -> Self {
        Self {
            lose: Chance::of_a_million(lose_ppm),
            leave: Chance::of_a_million(leave_ppm),
        }
    }
}

impl LossProcess {
    pub(super) fn new(loss: Loss, random: Random) -> Self {
        let (state, other) = match loss {
            Loss::None => (State::new(0, 0), None),
            Loss::Random { ppm } => (State::new(ppm, 0), None),
            Loss::Bursts {
                enter_ppm,
                leave_ppm,
                bad_loss_ppm,
                good_loss_ppm,
            } => (
                State::new(good_loss_ppm, enter_ppm),
                Some(State::new(bad_loss_ppm, leave_ppm)),
            ),
        };
        Self {
            state,
            other,
            random,
        }
    }

    /// Whether the next packet is lost.
    #[inline]
    pub(super) fn strikes(&mut self) -> bool {
        let lost = self.random.happens(self.state.lose);
        if let Some(other) = &mut self.other
            && self.random.happens(self.state.leave)
        {
            std::mem::swap(&mut self.state, other);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaper::Direction;

    fn process(loss: Loss) -> LossProcess {
        let [random, _] = Random::streams(3, Direction::Forth);
        LossProcess::new(loss, random)
    }

    #[test]
    fn without_loss_nothing_is_lost() {
        let mut process = process(Loss::None);
        assert!((0..100_000).all(|_| !process.strikes()));
    }

    #[test]
    fn bursts_are_as_long_as_the_bad_state_lasts() {
        // In the bad state everything is lost, in the good one nothing: runs are stays.
        let mut process = process(Loss::Bursts {
            enter_ppm: 10_000,
            leave_ppm: 250_000,
            bad_loss_ppm: 1_000_000,
            good_loss_ppm: 0,
        });
        let (mut bursts, mut lost, mut before) = (0_u32, 0_u32, false);
        for _ in 0..1_000_000 {
            let now = process.strikes();
            bursts += u32::from(now && !before);
            lost += u32::from(now);
            before = now;
        }
        let mean = f64::from(lost) / f64::from(bursts);
        assert!((3.9..4.1).contains(&mean), "{mean}");
    }

    #[test]
    fn a_link_starts_well_and_turns_when_it_must() {
        let mut process = process(Loss::Bursts {
            enter_ppm: 1_000_000,
            leave_ppm: 1_000_000,
            bad_loss_ppm: 1_000_000,
            good_loss_ppm: 0,
        });
        let fates: Vec<bool> = (0..4).map(|_| process.strikes()).collect();
        assert_eq!(fates, [false, true, false, true]);
    }
}
