//! The clock seam: what time it is, for tickets and seats.
//!
//! Not for content versions, which compare with stamps of the kernel's own clock (`meta`).

use parking_lot::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since 1970; jumps when the machine's clock is set.
    fn unix_secs(&self) -> u64;

    /// Time since some fixed moment; never runs backwards.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
}

impl SystemClock {
    /// The clock, its fixed moment being now.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn unix_secs(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Duration>,
}

impl ManualClock {
    /// Stands at `unix_secs`.
    pub fn new(unix_secs: u64) -> Self {
        Self {
            now: Mutex::new(Duration::from_secs(unix_secs)),
        }
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        *self.now.lock() += by;
    }
}

impl Clock for ManualClock {
    fn unix_secs(&self) -> u64 {
        self.now.lock().as_secs()
    }

    fn monotonic(&self) -> Duration {
        *self.now.lock()
    }
}
