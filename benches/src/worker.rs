//! A process that does one job on a mount, and the other end of its pipes.
//!
//! A thread that waits in a mount that hangs cannot be ended; a process can, if not always at once: one
//! that waits in the kernel for an answer to a request dies when the request is answered or the mount
//! is gone. So the deadline is enforced in steps, and nothing here waits for ever:
//!
//! 1. The workload stops by itself, a little before the deadline ([`Job::stops_after`]).
//! 2. At the deadline the worker is killed.
//! 3. If it is still there after [`KILL_PATIENCE`], the mount is killed (`on_hang`).
//! 4. If it is still there after [`HANG_PATIENCE`], it is left behind.
//!
//! The worker reads one [`Job`] from its standard input and writes [`Report`]s, one a line, to its
//! standard output.

use crate::workload::{self, Job, Outcome, Report, Tally};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// How long a killed worker may take to end before its mount is killed.
pub const KILL_PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take from then on before it is left behind.
pub const HANG_PATIENCE: Duration = Duration::from_secs(3);
/// What a job may take beyond its deadline, at the worst.
pub const HANG_TIME_MAX: Duration = Duration::from_secs(7);
const _: () = assert!(
    HANG_TIME_MAX.as_millis() > KILL_PATIENCE.as_millis() + HANG_PATIENCE.as_millis(),
    "hanging takes both patiences"
);

const JOB_BYTES_MAX: u64 = 64 << 10;
const REPORT_BYTES_MAX: u64 = 64 << 10;
/// Far beyond what the largest job has to say.
const REPORTS_MAX: usize = 100_000;
const ERRORS_BYTES_MAX: u64 = 4 << 10;
/// How long what an ended worker wrote may take through its pipe.
const PIPE_PATIENCE: Duration = Duration::from_secs(1);
/// How long between two looks at a process that is expected to end.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct JobResult {
    /// One for each workload of the family.
    pub outcomes: Vec<Outcome>,
    /// How long it took, from the start of the worker until it was gone.
    pub took: Duration,
    /// The worker did not even die, so the mount was to be killed: there is no point in using it again.
    pub hung: bool,
    /// The worker is still there.
    pub left_behind: bool,
}

/// Does the one job that `input` holds and reports to `output`: all of a worker process.
pub fn worker_main(input: impl Read, output: impl Write) -> ExitCode {
    match work(input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut text = Vec::new();
    input.take(JOB_BYTES_MAX).read_to_end(&mut text)?;
    let job: Job = serde_json::from_slice(&text)?;
    let mut sent = Ok(());
    workload::run(&job, &mut |report| {
        if sent.is_ok() {
            sent = send(&mut output, &report);
        }
    });
    sent
}

/// One line, at once: what is not on its way when the worker is killed is lost.
fn send(output: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

/// Has `command`, which is a worker, do `job` on `end`. `on_progress` is told how much of the job is
/// done, of one; `on_hang` has to kill the mount.
pub fn run_job(
    command: &mut Command,
    end: &LinkEnd,
    job: &Job,
    mut on_progress: impl FnMut(f64),
    on_hang: impl FnOnce(),
) -> JobResult {
    let start = Instant::now();
    let mut tally = Tally::new(job);
    let mut watch = match Watch::start(command, end, job) {
        Ok(watch) => watch,
        Err(error) => {
            tally.failed(&format!("its worker did not start: {error}"));
            return JobResult {
                outcomes: tally.outcomes(),
                took: start.elapsed(),
                hung: false,
                left_behind: false,
            };
        }
    };
    let deadline = start + job.deadline;
    watch.listen(deadline, &mut tally, &mut on_progress);
    let ending = see_off(&mut watch.child, deadline, Patience::default(), on_hang);
    watch.hear_out(ending, &mut tally);
    if ending == Ending::Itself && !tally.complete() {
        tally.failed(&watch.last_words());
    }
    tally.killed(deadline);
    JobResult {
        outcomes: tally.outcomes(),
        took: start.elapsed(),
        hung: matches!(ending, Ending::Hung | Ending::LeftBehind),
        left_behind: ending == Ending::LeftBehind,
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Before its deadline.
    Itself,
    /// It was killed.
    Killed,
    /// It was killed, and died when its mount was killed.
    Hung,
    /// It did not.
    LeftBehind,
}

/// How long to wait for the end once it was asked for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    kill: Duration,
    hang: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            kill: KILL_PATIENCE,
            hang: HANG_PATIENCE,
        }
    }
}

/// What is to end.
trait Mortal {
    /// Whether it has ended.
    fn ended(&mut self) -> bool;
    /// Ends it, if the kernel can.
    fn kill(&mut self);
}

impl Mortal for Child {
    fn ended(&mut self) -> bool {
        // If it cannot be waited for, there is no such child.
        !matches!(self.try_wait(), Ok(None))
    }

    fn kill(&mut self) {
        // It may have ended since; then there is nothing to kill.
        let _ = kill_process(Pid::from_child(self), Signal::KILL);
    }
}

/// Waits for `process` to end until `deadline`, and then makes it end.
fn see_off(
    process: &mut impl Mortal,
    deadline: Instant,
    patience: Patience,
    on_hang: impl FnOnce(),
) -> Ending {
    if ends_by(process, deadline) {
        return Ending::Itself;
    }
    process.kill();
    if ends_by(process, Instant::now() + patience.kill) {
        return Ending::Killed;
    }
    on_hang();
    if ends_by(process, Instant::now() + patience.hang) {
        return Ending::Hung;
    }
    Ending::LeftBehind
}

fn ends_by(process: &mut impl Mortal, deadline: Instant) -> bool {
    while !process.ended() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

/// A worker, and those who listen to it.
struct Watch {
    child: Child,
    reports: Receiver<Report>,
    errors: Receiver<String>,
}

impl Watch {
    fn start(command: &mut Command, end: &LinkEnd, job: &Job) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = end.spawn(command)?;
        let mut watch = || -> io::Result<_> {
            let (reports_in, reports) = channel();
            let (errors_in, errors) = channel();
            let (Some(mut stdin), Some(stdout), Some(stderr)) =
                (child.stdin.take(), child.stdout.take(), child.stderr.take())
            else {
                return Err(io::Error::other("it has no pipes"));
            };
            // These threads end with the pipes. No one waits for them.
            std::thread::Builder::new().spawn(move || read_reports(stdout, &reports_in))?;
            std::thread::Builder::new().spawn(move || read_errors(stderr, &errors_in))?;
            // A pipe holds a job, so this does not wait for the worker. Closing it is its end.
            stdin.write_all(&serde_json::to_vec(job)?)?;
            Ok((reports, errors))
        };
        match watch() {
            Ok((reports, errors)) => Ok(Self {
                child,
                reports,
                errors,
            }),
            Err(error) => {
                // Nothing hangs yet: it has not been told what to do.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Counts reports in until the worker is silent for good, or the deadline.
    fn listen(&self, deadline: Instant, tally: &mut Tally, on_progress: &mut impl FnMut(f64)) {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.reports.recv_timeout(left) {
                Ok(report) => {
                    tally.add(report);
                    on_progress(tally.fraction());
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
            if left.is_zero() {
                return;
            }
        }
    }

    /// Counts in what it said while nobody listened.
    fn hear_out(&self, ending: Ending, tally: &mut Tally) {
        // One that ended has closed its pipe, so this is over at once; one that is still there may
        // keep it open for ever.
        let patience = match ending {
            Ending::LeftBehind => Duration::ZERO,
            _ => PIPE_PATIENCE,
        };
        while let Ok(report) = self.reports.recv_timeout(patience) {
            tally.add(report);
        }
    }

    /// What it had to say about its end.
    fn last_words(&self) -> String {
        let text = self.errors.recv_timeout(PIPE_PATIENCE).unwrap_or_default();
        match text.trim() {
            "" => "its worker ended before it did".to_owned(),
            text => format!("its worker ended: {text}"),
        }
    }
}

fn read_reports(pipe: impl Read, reports: &Sender<Report>) {
    let mut pipe = BufReader::new(pipe);
    for _ in 0..REPORTS_MAX {
        let mut line = Vec::new();
        let read = pipe
            .by_ref()
            .take(REPORT_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return;
        }
        // Whatever else is on its standard output is not from the worker.
        if let Ok(report) = serde_json::from_slice(&line)
            && reports.send(report).is_err()
        {
            return;
        }
    }
}

fn read_errors(mut pipe: impl Read, errors: &Sender<String>) {
    let mut text = Vec::new();
    let _ = pipe.by_ref().take(ERRORS_BYTES_MAX).read_to_end(&mut text);
    // Nobody may be left to be told.
    let _ = errors.send(String::from_utf8_lossy(&text).into_owned());
    let _ = io::copy(&mut pipe, &mut io::sink());
}

#[cfg(test)]
mod tests;
