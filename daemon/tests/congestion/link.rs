//! A link: for each direction a rate, a delay, a bounded queue that drops what comes last, and then
//! random loss. A pure state machine; the dice make each seed another link of the same kind.

use std::time::Duration;

/// Bytes of IP and UDP headers around each payload.
pub(crate) const HEADER_BYTES: u64 = 28;
/// Largest IP packet.
pub(crate) const MTU_BYTES: u64 = 1500;

/// A generator good enough for loss (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Evenly in [0, 1).
    pub(crate) fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What a direction of a link is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) bits_per_sec: f64,
    pub(crate) delay: Duration,
    pub(crate) loss: f64,
    pub(crate) queue_bytes: f64,
    /// Share of packets that come up to so much later than the others.
    pub(crate) late: (f64, Duration),
}

impl Way {
    /// What the controller grants the machines at both ends (half a millisecond), over the path's own
    /// round trip. Where they take less, as they do here, a queue may stand for as long.
    pub(crate) fn machines(&self) -> f64 {
        0.0005 / (2.0 * self.delay.as_secs_f64())
    }
}

/// A named link, the same in both directions.
pub(crate) fn way(mbit: f64, rtt_ms: u64, loss: f64) -> Way {
    let rtt = Duration::from_millis(rtt_ms);
    let bdp_bytes = mbit * 1e6 / 8.0 * rtt.as_secs_f64();
    Way {
        bits_per_sec: mbit * 1e6,
        delay: rtt / 2,
        loss,
        queue_bytes: bdp_bytes.max(65_536.0),
        late: (0.0, Duration::ZERO),
    }
}

/// One direction at work.
pub(crate) struct Wire {
    pub(crate) way: Way,
    dice: Dice,
    /// When the last byte accepted so far will have left, in seconds.
    free_at: f64,
    pub(crate) queue_drops: u64,
}

impl Wire {
    pub(crate) fn new(way: Way, seed: u64) -> Self {
        Self {
            way,
            dice: Dice::new(seed),
            free_at: 0.0,
            queue_drops: 0,
        }
    }

    /// When a packet of `payload` bytes that comes at `now` arrives; `None` if it never does.
    pub(crate) fn send(&mut self, now: f64, payload: usize) -> Option<f64> {
        let len = payload as u64 + HEADER_BYTES;
        if len > MTU_BYTES {
            return None;
        }
        let secs_per_byte = 8.0 / self.way.bits_per_sec;
        let backlog_bytes = (self.free_at - now).max(0.0) / secs_per_byte;
        if backlog_bytes + len as f64 > self.way.queue_bytes {
            self.queue_drops += 1;
            return None;
        }
        self.free_at = self.free_at.max(now) + len as f64 * secs_per_byte;
        if self.dice.roll() < self.way.loss {
            return None;
        }
        let (share, most) = self.way.late;
        let late = match self.dice.roll() < share {
            true => most.as_secs_f64() * self.dice.roll(),
            false => 0.0,
        };
        Some(self.free_at + self.way.delay.as_secs_f64() + late)
    }
}
