//! What programs were told is done while the host had not answered: how much there is, and what was lost of it.
//!
//! Only with [`Durability::Memory`](super::durability::Durability) is anything pending. Whoever does such a thing holds a
//! [`Pend`] until the host has answered. What the host refuses is lost: nobody waits for it who could be told. So it is
//! counted, kept for people, and logged.
//!
//! Lock: `losses`, a leaf.

use super::error::FsError;
use crate::path_text::PathText;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::watch;

/// Losses that are kept to be shown; the latest.
const LOSSES_MAX: usize = 16;

/// What is pending.
pub struct Pending {
    count: watch::Sender<u64>,
    losses: Mutex<Losses>,
}

#[derive(Default)]
struct Losses {
    count: u64,
    /// Of how many of them somebody was told who asked.
    told: u64,
    latest: VecDeque<Loss>,
}

/// A change that programs were told is done, and is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Of what, beneath the mount point.
    pub path: PathText,
    /// Why.
    pub why: String,
}

/// What is pending, and was lost since the mount began.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PendingSnapshot {
    /// Changes the host has not answered.
    pub changes: u64,
    /// Changes that were lost.
    pub lost: u64,
    /// The latest of these.
    pub losses: Vec<Loss>,
}

/// Something is pending for as long as this is held.
pub struct Pend(Arc<Pending>);

impl Pending {
    /// Nothing is.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            count: watch::Sender::new(0),
            losses: Mutex::default(),
        })
    }

    /// One thing more is pending.
    pub fn begin(self: &Arc<Self>) -> Pend {
        self.count.send_modify(|count| *count += 1);
        Pend(self.clone())
    }

    /// Waits until nothing is.
    pub async fn none(&self) {
        let mut count = self.count.subscribe();
        // The sender lives as long as this.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// What was pending of `path` failed.
    pub fn lost(&self, path: &Path, error: FsError) {
        let loss = Loss {
            path: path.into(),
            why: error.to_string(),
        };
        tracing::error!(
            "a change of {} that a program was told is done is lost: {}",
            loss.path,
            loss.why
        );
        let mut losses = self.losses.lock();
        losses.count += 1;
        if losses.latest.len() == LOSSES_MAX {
            losses.latest.pop_front();
        }
        losses.latest.push_back(loss);
    }

    /// How many changes were lost since this was asked last, and the latest of them.
    pub fn tell_losses(&self) -> (u64, Vec<Loss>) {
        let mut losses = self.losses.lock();
        let untold = losses.count - losses.told;
        losses.told = losses.count;
        let shown = usize::try_from(untold).unwrap_or(usize::MAX);
        let skipped = losses.latest.len().saturating_sub(shown);
        (
            untold,
            losses.latest.iter().skip(skipped).cloned().collect(),
        )
    }

    /// What is pending now.
    pub fn snapshot(&self) -> PendingSnapshot {
        let losses = self.losses.lock();
        PendingSnapshot {
            changes: *self.count.borrow(),
            lost: losses.count,
            losses: losses.latest.iter().cloned().collect(),
        }
    }
}

impl Drop for Pend {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;

    #[tokio::test]
    async fn who_waits_is_told_when_the_last_is_done() {
        let pending = Pending::new();
        let (one, two) = (pending.begin(), pending.begin());
        let mut none = pin!(pending.none());
        assert!(none.as_mut().now_or_never().is_none());
        drop(one);
        assert!(none.as_mut().now_or_never().is_none());
        drop(two);
        none.await;
    }

    #[test]
    fn losses_are_counted_and_the_latest_kept() {
        let pending = Pending::new();
        for i in 0..20 {
            pending.lost(Path::new(&format!("f{i}")), FsError::Io);
        }
        let snapshot = pending.snapshot();
        assert_eq!((snapshot.lost, snapshot.changes), (20, 0));
        assert_eq!(snapshot.losses.len(), LOSSES_MAX);
        let last = snapshot.losses.last().map(|loss| loss.path.to_string());
        assert_eq!(last.as_deref(), Some("f19"));
    }

    #[test]
    fn each_loss_is_told_once_to_who_asks() {
        let pending = Pending::new();
        pending.lost(Path::new("a"), FsError::Io);
        assert_eq!(pending.tell_losses().0, 1);
        pending.lost(Path::new("b"), FsError::TimedOut);
        let (count, losses) = pending.tell_losses();
        assert_eq!(count, 1);
        let b = Loss {
            path: "b".into(),
            why: FsError::TimedOut.to_string(),
        };
        assert_eq!(losses, [b]);
        assert_eq!(pending.tell_losses(), (0, Vec::new()));
    }
}
