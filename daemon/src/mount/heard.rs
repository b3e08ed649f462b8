//! When the host said something: between the question and the answer.
//!
//! What was said is believed from the answer on. But of what this mount did itself, or was told since, it knows
//! better than an answer to a question that was asked before: that may have been given before the change.

use tokio::time::Instant;

/// When something was asked, and when it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The question went out.
    pub asked: Instant,
    /// The answer was there.
    pub told: Instant,
    /// The host will speak before it changes, as long as the lease it came under lasts.
    pub leased: bool,
}

impl Heard {
    /// Now, to a question of `asked`.
    pub fn since(asked: Instant) -> Self {
        Self {
            asked,
            told: Instant::now(),
            leased: false,
        }
    }

    /// The same, under a lease or not.
    pub fn leased(self, leased: bool) -> Self {
        Self { leased, ..self }
    }

    /// The same, asked then.
    pub fn asked_at(self, asked: Instant) -> Self {
        Self { asked, ..self }
    }

    /// The later of two.
    pub fn later(self, other: Self) -> Self {
        if other.asked > self.asked {
            other
        } else {
            self
        }
    }
}

/// Told at once, or counted from the question.
impl From<Instant> for Heard {
    fn from(at: Instant) -> Self {
        Self {
            asked: at,
            told: at,
            leased: false,
        }
    }
}
