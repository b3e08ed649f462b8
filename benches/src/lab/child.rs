//! A child process: kept out of the user's own configuration, logged, ended by its id.

use super::LabError;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to become ready, or to end when asked to.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long between two looks at a process that is expected to end.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How much of a log stands in an error.
const LOG_LINES: usize = 30;

pub(super) struct Child {
    what: String,
    process: Process,
    log: PathBuf,
}

impl Child {
    /// Starts `command` with everything it keeps beneath `lab`. Its stdout is piped if `piped`.
    pub(super) fn spawn(
        what: &str,
        lab: &Path,
        command: &mut Command,
        piped: bool,
    ) -> Result<Self, LabError> {
        let log = lab.join("logs").join(format!("{what}.log"));
        for variable in [
            "CACHE_HOME",
            "CONFIG_HOME",
            "DATA_HOME",
            "STATE_HOME",
            "RUNTIME_DIR",
        ] {
            command.env(format!("XDG_{variable}"), lab.join("xdg"));
        }
        let stderr = File::create(&log)?;
        let stdout = if piped {
            Stdio::piped()
        } else {
            stderr.try_clone()?.into()
        };
        let process = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()?;
        Ok(Self {
            what: what.to_owned(),
            process,
            log,
        })
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Whether it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// An error about this process, with the end of its log.
    pub(super) fn not_ready(&self, problem: impl ToString) -> LabError {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        LabError::NotReady {
            what: self.what.clone(),
            problem: problem.to_string(),
            log: lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"),
        }
    }

    /// Asks it to end, and sees to it that it does.
    pub(super) fn end(&mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.ended().is_none() {
            if Instant::now() > deadline {
                eprintln!("{} did not end when asked to: killing it", self.what);
                self.signal(Signal::KILL);
                let _ = self.process.wait();
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = Pid::from_child(&self.process);
            // It may have ended since; then there is nothing to signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}
