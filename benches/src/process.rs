//! A child process: kept out of the user's own configuration, logged, ended by its number.
//!
//! Whatever a child has started is ended with it, also what outlives its parent: descendants are
//! noted before the child is asked to end, and killed after it.

use crate::procfs::{self, Identity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use wormhole_netem::LinkEnd;

/// How long a process may take to become ready.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to end when asked to.
pub(crate) const END_MAX: Duration = Duration::from_secs(30);
/// How long between two looks where the kernel does not tell.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of a log stands in an error.
const LOG_LINES: usize = 30;
/// How much a short command may say.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// What a process did instead of what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which process.
    pub(crate) what: String,
    /// What it did.
    pub(crate) problem: String,
    /// The end of its log.
    pub(crate) log: String,
}

/// A running program; ended when dropped.
pub(crate) struct Child {
    what: String,
    process: Process,
    log: PathBuf,
}

impl Child {
    /// Starts `command` on `end` with everything it keeps beneath `folder`: its log in `logs`, what it
    /// believes to be the user's in `xdg`. Its stdout is piped if `piped`.
    pub(crate) fn spawn(
        end: &LinkEnd,
        what: &str,
        folder: &Path,
        command: &mut Command,
        piped: bool,
    ) -> io::Result<Self> {
        let log = folder.join("logs").join(format!("{what}.log"));
        std::fs::create_dir_all(folder.join("logs"))?;
        keep_private(command, folder)?;
        let stderr = File::create(&log)?;
        let stdout = if piped {
            Stdio::piped()
        } else {
            stderr.try_clone()?.into()
        };
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let process = end.spawn(command).map_err(|error| {
            let program = command.get_program().to_string_lossy();
            io::Error::new(error.kind(), format!("{program}: {error}"))
        })?;
        Ok(Self {
            what: what.to_owned(),
            process,
            log,
        })
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// An error about this process, with the end of its log.
    pub(crate) fn failure(&self, problem: impl ToString) -> Failure {
        Failure {
            what: self.what.clone(),
            problem: problem.to_string(),
            log: self.log_end(),
        }
    }

    pub(crate) fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Waits until it has ended, for at most `limit`; whether it has.
    pub(crate) fn wait(&mut self, limit: Duration) -> bool {
        wait(&mut self.process, limit).is_some()
    }

    /// Asks it to end, and sees to it that it does, with all it has started. Whether asking sufficed.
    pub(crate) fn end(&mut self) -> bool {
        let tree = identities(self.id());
        self.signal(Signal::TERM);
        // One that was stopped has to go on in order to end.
        self.signal(Signal::CONT);
        let polite = self.wait(END_MAX);
        if !polite {
            eprintln!("{} did not end when asked to: killing it", self.what);
            self.signal(Signal::KILL);
        }
        kill_all(&tree);
        // Not for ever: the kernel may hold even a killed process in a file system that is gone.
        self.wait(PATIENCE);
        polite
    }

    /// Ends it and all it has started, without asking.
    pub(crate) fn kill(&mut self) {
        let tree = identities(self.id());
        self.signal(Signal::KILL);
        // A killed process may take as long to end as the kernel lets it wait for a file system, which
        // its descendants may serve: so they are killed before it is waited for.
        kill_all(&tree);
        self.wait(PATIENCE);
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
        if self.ended().is_none() {
            self.end();
        }
    }
}

/// Kills those of `processes` that still run, and waits until none does.
pub(crate) fn kill_all(processes: &[Identity]) {
    let deadline = Instant::now() + PATIENCE;
    for identity in processes.iter().filter(|process| process.is_alive()) {
        if let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    while processes.iter().any(|process| process.is_alive()) {
        if Instant::now() > deadline {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Returns when `process` may have ended, after at most `limit`.
fn wait_for_end(process: &Process, limit: Duration) {
    let waited = pidfd_open(Pid::from_child(process), PidfdFlags::empty()).and_then(|end| {
        let timeout = Timespec::try_from(limit).ok();
        poll(&mut [PollFd::new(&end, PollFlags::IN)], timeout.as_ref())
    });
    if waited.is_err() {
        std::thread::sleep(LOOK_EVERY.min(limit));
    }
}

/// Makes `command` take what it believes to be the user's configuration and caches from `folder`.
fn keep_private(command: &mut Command, folder: &Path) -> io::Result<()> {
    let home = folder.join("xdg");
    std::fs::create_dir_all(&home)?;
    for variable in [
        "CACHE_HOME",
        "CONFIG_HOME",
        "DATA_HOME",
        "STATE_HOME",
        "RUNTIME_DIR",
    ] {
        command.env(format!("XDG_{variable}"), &home);
    }
    command
        .env_remove("SSH_AUTH_SOCK")
        .env_remove("SSH_ASKPASS");
    let is_rclone = |name: &OsStr| name.to_string_lossy().starts_with("RCLONE_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_rclone(name)) {
        command.env_remove(name);
    }
    Ok(())
}

/// Where the program `name` is: on the search path, or where system administrators' programs are.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let folders = folders.chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut candidates = folders.map(|folder| folder.join(name));
    candidates.find(|path| path.is_file())
}

/// Runs a short command to its end where this thread is, for at most `limit`.
///
/// What it says goes through files: a pipe would stay open for as long as anything it leaves in the
/// background lives.
pub(crate) fn run(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone()?);
    command.stderr(stderr.try_clone()?);
    let mut process = command
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    let Some(status) = wait(&mut process, limit) else {
        let tree = identities(process.id());
        process.kill()?;
        kill_all(&tree);
        process.wait()?;
        let problem = format!("{program} did not end within {} s", limit.as_secs());
        return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
    };
    Ok(Output {
        status,
        stdout: content(stdout)?,
        stderr: content(stderr)?,
    })
}

fn content(mut file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.rewind()?;
    file.take(OUTPUT_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Waits until `process` has ended, for at most `limit`.
fn wait(process: &mut Process, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        wait_for_end(process, left);
    }
}

/// The process `root` and all that descend from it.
fn identities(root: u32) -> Vec<Identity> {
    let tree = procfs::tree(&[root]);
    tree.iter().map(|process| process.identity).collect()
}
