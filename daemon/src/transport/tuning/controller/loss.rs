//! Losses: what a path always loses, and what it lost because there was no room.
//!
//! Radio links and long lines lose packets at random, and sending less does not help. A full queue
//! loses packets too, and there it does. They are told apart by what is usual on this path while no
//! queue stands, and by how much is lost at once.

/// Weight of a round in the usual loss, if it lost more and if it lost less: what is lost in good rounds
/// is usual.
const USUAL_RISE: f64 = 1.0 / 16.0;
const USUAL_FALL: f64 = 1.0 / 6.0;
/// The usual loss is believed up to here; a path that loses more is full.
const USUAL_MAX: f64 = 0.1;
/// With a long queue, so much more than usual is for want of room.
const EXCESS_QUEUED: f64 = 0.02;
/// Without one, the bottleneck's queue would have to be very short.
const EXCESS: f64 = 0.1;
/// Fewer packets than this prove nothing.
const PACKETS_MIN: u64 = 4;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Losses {
    lost: u64,
    delivered: u64,
    usual: f64,
}

impl Losses {
    /// Bytes taken for lost.
    pub(super) fn lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// Bytes arrived.
    pub(super) fn delivered(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    /// Whether this round has lost packets for want of room.
    pub(super) fn overflowed(&self, packet_bytes: u64, queue_is_long: bool) -> bool {
        let total = (self.lost + self.delivered) as f64;
        let excess = if queue_is_long { EXCESS_QUEUED } else { EXCESS };
        // Twice the usual: chance makes some rounds worse than others.
        let normal = (2.0 * self.usual + excess) * total;
        self.lost > PACKETS_MIN * packet_bytes && self.lost as f64 > normal
    }

    /// A round is over.
    ///
    /// `unusual` if a queue was long or overflowed.
    pub(super) fn end_round(&mut self, unusual: bool) {
        let total = self.lost + self.delivered;
        if total > 0 && !unusual {
            let share = (self.lost as f64 / total as f64).min(USUAL_MAX);
            let rises = share > self.usual;
            let weight = if rises { USUAL_RISE } else { USUAL_FALL };
            self.usual += (share - self.usual) * weight;
        }
        (self.lost, self.delivered) = (0, 0);
    }

    /// Share of what is sent that is lost at all times.
    pub(super) fn usual(&self) -> f64 {
        self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_loss_is_no_overflow_and_more_is() {
        let mut losses = Losses::default();
        for _ in 0..100 {
            losses.lost(5_000);
            losses.delivered(95_000);
            assert!(!losses.overflowed(1000, false));
            losses.end_round(false);
        }
        assert!((losses.usual() - 0.05).abs() < 0.01);
        losses.lost(9_000);
        losses.delivered(91_000);
        assert!(!losses.overflowed(1000, true));
        losses.lost(9_000);
        assert!(losses.overflowed(1000, true));
        assert!(!losses.overflowed(1000, false));
    }

    #[test]
    fn a_few_packets_prove_nothing() {
        let mut losses = Losses::default();
        losses.lost(4_000);
        losses.delivered(4_000);
        assert!(!losses.overflowed(1000, true));
    }
}
