//! A token bucket: so many at once, then so many per second.

use std::time::Duration;

/// Tokens that fill up again with time.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    burst: f64,
    per_sec: f64,
    filled_at: Duration,
}

impl Bucket {
    /// Full.
    pub(super) fn new(burst: f64, per_sec: f64) -> Self {
        Self {
            tokens: burst,
            burst,
            per_sec,
            filled_at: Duration::ZERO,
        }
    }

    /// Takes a token at `now` (monotonic); false if there is none.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + since * self.per_sec).min(self.burst);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empties_and_fills_again() {
        let mut bucket = Bucket::new(3.0, 2.0);
        let at = Duration::from_millis;
        assert_eq!((0..5).filter(|_| bucket.take(at(0))).count(), 3);
        assert!(!bucket.take(at(400)));
        assert!(bucket.take(at(500)));
        assert!(!bucket.take(at(500)));
        // A long pause fills it to the brim and no further; time running backwards gives nothing.
        assert_eq!((0..9).filter(|_| bucket.take(at(90_000))).count(), 3);
        assert!(!bucket.take(at(10)));
    }
}
