//! A line of limited rate and the queue before it.
//!
//! Bytes leave at the rate, one after the other, in the order of their packets; a byte frees its room
//! when it has left. So what waits is known from the instant the line falls idle, and neither packets
//! nor lengths have to be remembered: full means that draining would take longer than draining a full
//! queue.
//!
//! Time is kept in nanoseconds and a fraction of one, so that no rounding adds up over packets.

use crate::profile::{QUEUE_BYTES_MAX, RATE_BITS_PER_SEC_MAX, RATE_BITS_PER_SEC_MIN};

/// Of a line of one bit per second: the nanoseconds that a byte takes. Of any line: this by its rate.
const BYTE_NS: u64 = 8 * 1_000_000_000;

// The work of the largest packet and a fraction must fit 64 bits.
const _: () = assert!(QUEUE_BYTES_MAX < (u64::MAX - RATE_BITS_PER_SEC_MAX) / BYTE_NS);

#[derive(Debug, Clone)]
pub(super) struct Line {
    rate_bits_per_sec: u64,
    queue_bytes: u64,
    /// How long a full queue takes to drain.
    full: Span,
    /// When the last byte leaves.
    idle_ns: u64,
    /// And how much later than that, in parts of a nanosecond as in [`Span`].
    idle_parts: u64,
}

/// Nanoseconds, and parts of one of which there are as many as the rate has bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    ns: u64,
    parts: u64,
}

impl Line {
    pub(super) fn new(rate_bits_per_sec: u64, queue_bytes: u64) -> Self {
        let rate = rate_bits_per_sec.clamp(RATE_BITS_PER_SEC_MIN, RATE_BITS_PER_SEC_MAX);
        let queue_bytes = queue_bytes.min(QUEUE_BYTES_MAX);
        Self {
            rate_bits_per_sec: rate,
            queue_bytes,
            full: Span::of(queue_bytes * BYTE_NS, rate),
            idle_ns: 0,
            idle_parts: 0,
        }
    }

    /// When the last byte of a packet leaves that comes now, or `None` if there is no room for it.
    /// `now_ns` must not go back.
    #[inline]
    pub(super) fn send(&mut self, now_ns: u64, packet_bytes: usize) -> Option<u64> {
        let bytes = packet_bytes as u64;
        if bytes > self.queue_bytes {
            return None;
        }
        let (start_ns, start_parts) = if now_ns > self.idle_ns {
            (now_ns, 0)
        } else {
            (self.idle_ns, self.idle_parts)
        };
        let span = Span::of(bytes * BYTE_NS + start_parts, self.rate_bits_per_sec);
        let end_ns = start_ns.saturating_add(span.ns);
        let backlog = Span {
            ns: end_ns - now_ns,
            parts: span.parts,
        };
        if backlog > self.full {
            return None;
        }
        self.idle_ns = end_ns;
        self.idle_parts = span.parts;
        Some(end_ns)
    }
}

impl Span {
    #[inline]
    fn of(work: u64, rate_bits_per_sec: u64) -> Self {
        Self {
            ns: work / rate_bits_per_sec,
            parts: work % rate_bits_per_sec,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_takes_its_time_and_the_next_waits_for_it() {
        let mut line = Line::new(8_000_000, 10_000);
        assert_eq!(line.send(0, 1_000), Some(1_000_000));
        assert_eq!(line.send(500_000, 1_000), Some(2_000_000));
        assert_eq!(line.send(9_000_000, 500), Some(9_500_000));
    }

    #[test]
    fn fractions_add_up() {
        // A byte takes 8/3 ns.
        let mut line = Line::new(3_000_000_000, 64);
        let ends: Vec<_> = (0..6).filter_map(|_| line.send(0, 1)).collect();
        assert_eq!(ends, [2, 5, 8, 10, 13, 16]);
    }

    #[test]
    fn room_is_used_to_the_last_byte() {
        let mut line = Line::new(8_000_000, 3_000);
        assert_eq!(line.send(0, 3_001), None);
        assert!(line.send(0, 3_000).is_some());
        assert_eq!(line.send(0, 1), None);
        // After one microsecond one byte has left.
        assert_eq!(line.send(999, 1), None);
        assert_eq!(line.send(1_000, 1), Some(3_001_000));
        assert_eq!(line.send(1_000, 1), None);
    }

    #[test]
    fn what_is_not_sane_is_taken_as_the_limit() {
        assert_eq!(Line::new(0, 1_514).send(0, 1), Some(8_000_000));
        let mut line = Line::new(u64::MAX, u64::MAX);
        assert!(line.send(u64::MAX, 1 << 30).is_some());
        assert_eq!(line.send(u64::MAX, usize::MAX), None);
    }

    /// Any rate, of every order of magnitude alike: an even choice would hardly ever fill a queue.
    fn any_rate() -> impl Strategy<Value = u64> {
        (10_u32..=36, any::<u64>()).prop_map(|(bits, low)| {
            let rate = (1 << bits) | (low & ((1 << bits) - 1));
            rate.clamp(RATE_BITS_PER_SEC_MIN, RATE_BITS_PER_SEC_MAX)
        })
    }

    proptest! {
        /// Against the same line in exact arithmetic: work left at an instant, in bits times 10^9.
        #[test]
        fn agrees_with_exact_arithmetic(
            rate in any_rate(),
            queue in 1_514_u64..=200_000,
            packets in prop::collection::vec((0_u64..200_000, 1_usize..=1_500), 1..300),
        ) {
            let mut line = Line::new(rate, queue);
            let capacity = u128::from(queue) * u128::from(BYTE_NS);
            let (mut left, mut now) = (0_u128, 0_u64);
            for (gap_ns, bytes) in packets {
                now += gap_ns;
                left = left.saturating_sub(u128::from(gap_ns) * u128::from(rate));
                let with = left + bytes as u128 * u128::from(BYTE_NS);
                let end = line.send(now, bytes).map(u128::from);
                if with <= capacity {
                    left = with;
                    prop_assert_eq!(end, Some(u128::from(now) + with / u128::from(rate)));
                } else {
                    prop_assert_eq!(end, None);
                }
            }
        }
    }
}
