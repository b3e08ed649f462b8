//! Makes a row of each workload from what was reported.
//!
//! It does not matter whether a workload stopped by itself or was killed: a rate is always the last
//! point's amount over the time until the end, so a mount that hangs after a good start is charged for
//! the time it hung.

use super::stage::float;
use super::{Job, Report, Workload};
use crate::record::State;
use std::time::{Duration, Instant};

/// One workload of a job, ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Which.
    pub workload: &'static Workload,
    /// In its unit.
    pub samples: Vec<f64>,
    /// Seconds since its start and bytes until then, for throughput.
    pub timeline: Vec<(f64, f64)>,
    /// How it ended.
    pub state: State,
    /// Why it is not `ok`.
    pub reason: Option<String>,
}

/// What has been reported of a job.
pub struct Tally {
    rows: Vec<Row>,
    frames: u64,
}

struct Row {
    workload: &'static Workload,
    began: Option<Instant>,
    fraction: f64,
    samples: Vec<f64>,
    points: Vec<(f64, f64)>,
    end: Option<(State, Option<String>)>,
}

impl Tally {
    /// Nothing has happened yet.
    pub fn new(job: &Job) -> Self {
        let row = |workload| Row {
            workload,
            began: None,
            fraction: 0.0,
            samples: Vec::new(),
            points: Vec::new(),
            end: None,
        };
        Self {
            rows: job.family.workloads().map(row).collect(),
            frames: job.sizes.frames(),
        }
    }

    /// Counts a report in. What is not about a workload of this job, or about one that has ended, is
    /// ignored.
    pub fn add(&mut self, report: Report) {
        let frames = self.frames;
        let row = self
            .rows
            .iter_mut()
            .find(|row| row.workload.name == report.workload() && row.end.is_none());
        if let Some(row) = row {
            row.add(report, frames);
        }
    }

    /// How much of the job is done, of one.
    pub fn fraction(&self) -> f64 {
        let done: f64 = self.rows.iter().map(Row::done).sum();
        done / float(self.rows.len().max(1) as u64)
    }

    /// Whether every workload has ended.
    pub fn complete(&self) -> bool {
        self.rows.iter().all(|row| row.end.is_some())
    }

    /// What has not ended was ended by the deadline, which was at `instant`.
    pub fn killed(&mut self, instant: Instant) {
        for row in self.rows.iter_mut().filter(|row| row.end.is_none()) {
            let seconds = row
                .began
                .map(|began| instant.saturating_duration_since(began).as_secs_f64());
            row.time_out(seconds, self.frames);
        }
    }

    /// What has not ended never will, for this reason; or because one failed, after which the others are
    /// not tried.
    pub fn failed(&mut self, reason: &str) {
        let first = self.rows.iter().find_map(|row| match &row.end {
            Some((State::Failed, _)) => Some(row.workload.name),
            _ => None,
        });
        let reason = match first {
            Some(name) => format!("not tried, since {name} failed"),
            None => reason.to_owned(),
        };
        for row in self.rows.iter_mut().filter(|row| row.end.is_none()) {
            row.end = Some((State::Failed, Some(reason.clone())));
        }
    }

    /// A row for each workload.
    pub fn outcomes(mut self) -> Vec<Outcome> {
        self.failed("its worker ended before it did");
        self.rows.into_iter().map(Row::outcome).collect()
    }
}

impl Row {
    fn add(&mut self, report: Report, frames: u64) {
        let skipped = self.began.is_none() && matches!(report, Report::Timeout { .. });
        if !skipped {
            self.began.get_or_insert_with(Instant::now);
        }
        match report {
            Report::Progress { fraction, .. } => self.fraction = fraction,
            Report::Sample { value, .. } => self.samples.push(value),
            Report::Point {
                seconds, amount, ..
            } => {
                // From here on it is known when its clock was started.
                let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                self.began = Instant::now().checked_sub(since);
                self.points.push((seconds, amount));
            }
            Report::Done { .. } => {
                self.derive(None, frames);
                self.end = Some((State::Ok, None));
            }
            Report::Timeout {
                seconds, fraction, ..
            } => {
                self.fraction = fraction;
                self.time_out((!skipped).then_some(seconds), frames);
            }
            Report::Failed { reason, .. } => self.end = Some((State::Failed, Some(reason))),
        }
    }

    fn time_out(&mut self, seconds: Option<f64>, frames: u64) {
        let reason = match seconds {
            Some(seconds) => {
                self.derive(Some(seconds), frames);
                format!(
                    "timed out after {} at {:.0} %",
                    spoken(seconds),
                    (self.fraction * 100.0).floor()
                )
            }
            None => "not begun: what came before it took all the time".to_owned(),
        };
        self.end = Some((State::Timeout, Some(reason)));
    }

    /// The sample of a workload that has but one: from its last point, over `seconds` if given.
    fn derive(&mut self, seconds: Option<f64>, frames: u64) {
        let (at, amount) = self.points.last().copied().unwrap_or((0.0, 0.0));
        let seconds = seconds.unwrap_or(at).max(at);
        let per_second = |amount: f64| (seconds > 0.0).then(|| amount / seconds);
        let sample = match self.workload.unit {
            "ms" => None,
            // Frames that were never shown are not in time either.
            "frames" => Some((float(frames) - amount).max(0.0)),
            "MB/s" => per_second(amount / 1e6),
            _ => per_second(amount),
        };
        self.samples.extend(sample);
    }

    fn done(&self) -> f64 {
        if self.end.is_some() {
            1.0
        } else {
            self.fraction.clamp(0.0, 1.0)
        }
    }

    fn outcome(self) -> Outcome {
        let (state, reason) = self.end.unwrap_or((State::Failed, None));
        let timed = self.workload.unit == "MB/s";
        Outcome {
            workload: self.workload,
            samples: self.samples,
            timeline: if timed { self.points } else { Vec::new() },
            state,
            reason,
        }
    }
}

fn spoken(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}
