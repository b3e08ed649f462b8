//! What one family is to do, and the words in which it says what happens.
//!
//! Both cross a pipe as JSON: the job to a worker, a report a line back.

use super::Family;
use crate::record::Data;
use crate::sizes::Sizes;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// One family on one mount.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What to do.
    pub family: Family,
    /// Where: the folder that [`Ground`](crate::files::Ground) made for this family, as the mount shows
    /// it. For a family that writes: a folder of its own, made if it is not there.
    pub folder: PathBuf,
    /// The same folder as it is on the host.
    pub origin: PathBuf,
    /// How much.
    pub sizes: Sizes,
    /// What written files are made of.
    pub data: Data,
    /// Order and content come from this.
    pub seed: u64,
    /// Time for all of it, after which it is killed. It stops by itself a little earlier.
    pub deadline: Duration,
}

impl Job {
    /// When it stops by itself, if an operation returns at all: time to say so before it is killed.
    pub fn stops_after(&self) -> Duration {
        const ALLOWANCE_MAX: Duration = Duration::from_secs(1);
        self.deadline
            .saturating_sub((self.deadline / 10).min(ALLOWANCE_MAX))
    }
}

/// What happens. A workload begins with its first progress and ends with `Done`, `Timeout` or `Failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// So much of a workload is done.
    Progress {
        /// Name of the workload.
        workload: String,
        /// Of one.
        fraction: f64,
    },
    /// A measured time. Rates and counts have no samples of their own: they come from the last point.
    Sample {
        /// Name of the workload.
        workload: String,
        /// In the workload's unit.
        value: f64,
    },
    /// How far a workload has come.
    Point {
        /// Name of the workload.
        workload: String,
        /// Since it began to be timed.
        seconds: f64,
        /// Bytes, files, reads, or frames in time, since then.
        amount: f64,
    },
    /// It ran to its end.
    Done {
        /// Name of the workload.
        workload: String,
    },
    /// It stopped because its time was over; if it never began, that is all that is said of it.
    Timeout {
        /// Name of the workload.
        workload: String,
        /// Since it began to be timed.
        seconds: f64,
        /// How much of it was done, of one.
        fraction: f64,
    },
    /// It failed.
    Failed {
        /// Name of the workload.
        workload: String,
        /// Why.
        reason: String,
    },
}

impl Report {
    /// The workload it is about.
    pub fn workload(&self) -> &str {
        match self {
            Self::Progress { workload, .. }
            | Self::Sample { workload, .. }
            | Self::Point { workload, .. }
            | Self::Done { workload }
            | Self::Timeout { workload, .. }
            | Self::Failed { workload, .. } => workload,
        }
    }
}
