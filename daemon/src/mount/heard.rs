//! When the host said something: between the question and the answer.
//!
//! What was said is believed from the answer on. But of what this mount did itself it knows better than an
//! answer to a question that was asked before: that may have been given before the change.

use tokio::time::Instant;

/// When something was asked, and when it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The question went out.
    pub asked: Instant,
    /// The answer was there.
    pub told: Instant,
}

impl Heard {
    /// Now, to a question of `asked`.
    pub fn since(asked: Instant) -> Self {
        Self {
            asked,
            told: Instant::now(),
        }
    }
}

/// Told at once, or counted from the question.
impl From<Instant> for Heard {
    fn from(at: Instant) -> Self {
        Self {
            asked: at,
            told: at,
        }
    }
}
