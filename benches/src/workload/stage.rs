//! The frame around a workload: its clock, its share of the time, its reports.
//!
//! A [`Turn`] is a family's job under way; a [`Stage`] one workload of it. The workload itself does
//! nothing but operations, asks between them whether it is [`late`](Stage::late), and says how far it is.

use super::{Job, Report};
use std::io;
use std::time::{Duration, Instant};

/// How finely a workload says how far it is.
const STEPS: f64 = 200.0;

/// How a stage ended.
pub(super) enum End {
    /// All of it was done.
    Done,
    /// Its time was over when this much was done, of one.
    Late(f64),
}

/// A family's job under way.
pub(super) struct Turn<'a> {
    pub(super) job: &'a Job,
    report: &'a mut dyn FnMut(Report),
    began: Instant,
}

impl<'a> Turn<'a> {
    pub(super) fn new(job: &'a Job, report: &'a mut dyn FnMut(Report)) -> Self {
        Self {
            job,
            report,
            began: Instant::now(),
        }
    }

    /// Runs the workload `name` until this share of the job's time is over, which leaves the rest to
    /// those after it. Returns whether there is a point in going on.
    pub(super) fn stage(
        &mut self,
        name: &str,
        until: f64,
        work: impl FnOnce(&mut Stage<'_>) -> io::Result<End>,
    ) -> bool {
        let until = self.began + self.job.stops_after().mul_f64(until);
        let now = Instant::now();
        if now >= until {
            self.skip(name);
            return true;
        }
        let mut stage = Stage {
            name,
            report: &mut *self.report,
            until,
            clock: now,
            said: 0.0,
            pointed: 0.0,
            pointed_at: now,
            point_every: until.saturating_duration_since(now).div_f64(STEPS),
        };
        stage.say_progress(0.0);
        let end = work(&mut stage);
        let seconds = stage.seconds();
        let workload = name.to_owned();
        let goes_on = end.is_ok();
        (self.report)(match end {
            Ok(End::Done) => Report::Done { workload },
            Ok(End::Late(fraction)) => Report::Timeout {
                workload,
                seconds,
                fraction,
            },
            Err(error) => Report::Failed {
                workload,
                reason: error.to_string(),
            },
        });
        goes_on
    }

    /// Reports that there was no time to begin the workload `name`, or nothing for it to work on because
    /// there was no time before.
    pub(super) fn skip(&mut self, name: &str) {
        (self.report)(Report::Timeout {
            workload: name.to_owned(),
            seconds: 0.0,
            fraction: 0.0,
        });
    }

    /// Reports every workload as failed.
    pub(super) fn refuse(&mut self, reason: &str) {
        for workload in self.job.family.workloads() {
            (self.report)(Report::Failed {
                workload: workload.name.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
}

/// One workload under way.
pub(super) struct Stage<'a> {
    name: &'a str,
    report: &'a mut dyn FnMut(Report),
    until: Instant,
    clock: Instant,
    said: f64,
    pointed: f64,
    pointed_at: Instant,
    point_every: Duration,
}

impl Stage<'_> {
    /// Starts the clock again: what was done before was to prepare.
    pub(super) fn start_clock(&mut self) {
        self.clock = Instant::now();
    }

    /// Since the clock was started.
    pub(super) fn seconds(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// Whether its time is over.
    pub(super) fn late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// When its time is over.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// `part` of `whole` is done, which is worth a word if it is much more than last time.
    pub(super) fn progress(&mut self, part: usize, whole: usize) {
        let fraction = ratio(part, whole);
        if fraction >= self.said + 1.0 / STEPS {
            self.say_progress(fraction);
        }
    }

    fn say_progress(&mut self, fraction: f64) {
        self.said = fraction;
        (self.report)(Report::Progress {
            workload: self.name.to_owned(),
            fraction,
        });
    }

    /// Times one operation as a sample, in milliseconds.
    pub(super) fn sample<T>(&mut self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let start = Instant::now();
        let result = work()?;
        let took = start.elapsed();
        (self.report)(Report::Sample {
            workload: self.name.to_owned(),
            value: milliseconds(took),
        });
        Ok(result)
    }

    /// Times how long it takes until `work` sees what it waits for, which may be never: it gives up once
    /// it is late, and that is no sample.
    pub(super) fn sample_until(
        &mut self,
        work: impl FnOnce(&dyn Fn() -> bool) -> io::Result<bool>,
    ) -> io::Result<()> {
        let until = self.until;
        let start = Instant::now();
        if work(&|| Instant::now() >= until)? {
            (self.report)(Report::Sample {
                workload: self.name.to_owned(),
                value: milliseconds(start.elapsed()),
            });
        }
        Ok(())
    }

    /// `amount` of `whole` is done by now, which is worth a point if it is much more than last time, or
    /// if last time is long ago.
    pub(super) fn amount(&mut self, amount: u64, whole: u64) {
        let (amount, whole) = (float(amount), float(whole));
        let old = amount > self.pointed && self.pointed_at.elapsed() >= self.point_every;
        if old || amount >= self.pointed + whole / STEPS {
            self.say_amount(amount);
            self.say_progress(amount / whole.max(1.0));
        }
    }

    /// `amount` is all there is.
    pub(super) fn last_amount(&mut self, amount: u64) {
        self.say_amount(float(amount));
    }

    fn say_amount(&mut self, amount: f64) {
        self.pointed = amount;
        self.pointed_at = Instant::now();
        let seconds = self.seconds();
        (self.report)(Report::Point {
            workload: self.name.to_owned(),
            seconds,
            amount,
        });
    }

    /// The last word of a workload that did `amount` of `whole`.
    pub(super) fn end_at(&mut self, amount: u64, whole: u64) -> End {
        self.last_amount(amount);
        if amount >= whole {
            End::Done
        } else {
            End::Late(float(amount) / float(whole).max(1.0))
        }
    }
}

/// Like an integer's own conversion; beyond 2^53 the last digits do not matter here.
#[expect(clippy::cast_precision_loss, reason = "amounts far below 2^53")]
pub(super) fn float(amount: u64) -> f64 {
    amount as f64
}

pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    float(part as u64) / float(whole.max(1) as u64)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
