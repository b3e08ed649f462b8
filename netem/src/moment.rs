//! A point in time as the emulation counts it.
//!
//! Nanoseconds since a start that whoever drives the emulation chooses: the machine's monotonic clock
//! on a real link, a counter in a test. Nothing in here reads a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since a start of the caller's choice; 584 years of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The beginning.
    pub const START: Self = Self(0);

    /// So many nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn nanos(self) -> u64 {
        self.0
    }
}

impl From<Duration> for Moment {
    /// So long after the start.
    fn from(since_start: Duration) -> Self {
        Self(nanos(since_start))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// How much later this is than `earlier`; nothing if it is not.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A span in nanoseconds; the longest there is if it is longer.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_and_subtract_without_wrapping() {
        let second = Moment::from(Duration::from_secs(1));
        assert_eq!(second, Moment::from_nanos(1_000_000_000));
        assert_eq!(
            second + Duration::from_nanos(5) - second,
            Duration::from_nanos(5)
        );
        assert_eq!(Moment::START - second, Duration::ZERO);
        assert_eq!((second + Duration::MAX).nanos(), u64::MAX);
    }
}
