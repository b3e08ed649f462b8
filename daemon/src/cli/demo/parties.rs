//! The two children of a demo, the directory they work in, and taking all of it away again.
//!
//! Invariants
//! - A child is ended by its own process id, and only while it has not been waited for: until then the
//!   system gives that id to nobody else.
//! - The directory is removed only when nothing is mounted in it any more.
//!
//! Lock: `children`, held for a moment at a time; never while waiting for a child.

use crate::mount::mountpoint::{self, Unmount, table};
use crate::path_text::PathText;
use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest line a child prints when it is ready.
const READY_BYTES_MAX: u64 = 64 * 1024;
/// How long a child may take to end when asked; then it is killed.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether a child has ended.
const END_PAUSE: Duration = Duration::from_millis(10);

/// Host, mount, and their directory.
pub(super) struct Parties {
    directory: PathBuf,
    mountpoint: PathBuf,
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    host: Option<Child>,
    mount: Option<Child>,
}

/// What `wormhole host --json` says; the rest is of no interest here.
#[derive(Deserialize)]
struct HostReady {
    ticket: String,
}

impl Parties {
    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn prepare() -> anyhow::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
        let name = format!("wormhole-demo-{:016x}", u64::from_le_bytes(random));
        let temp = std::env::temp_dir()
            .canonicalize()
            .context("the directory for temporary files")?;
        let directory = temp.join(name);
        let mountpoint = directory.join("mnt");
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder
            .create(&directory)
            .and_then(|()| builder.create(&mountpoint))
            .with_context(|| format!("cannot make {}", PathText::from(directory.as_path())))?;
        Ok(Self {
            directory,
            mountpoint,
            children: Mutex::default(),
        })
    }

    /// Where everything is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the share is mounted.
    pub(super) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Hosts `source` and returns the ticket.
    ///
    /// # Errors
    /// The host could not start; it has said why on stderr.
    pub(super) fn host(&self, source: &Path) -> anyhow::Result<String> {
        let mut child = own_program()
            .args([
                "host",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--name",
                "demo",
            ])
            .arg("--state-dir")
            .arg(self.directory.join("state"))
            .arg("--")
            .arg(source)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a host")?;
        let stdout = child.stdout.take();
        self.children.lock().host = Some(child);
        let line = first_line(stdout).context("the host did not start")?;
        let ready: HostReady =
            serde_json::from_str(&line).context("the host said something else")?;
        Ok(ready.ticket)
    }

    /// Mounts what the ticket stands for.
    ///
    /// # Errors
    /// The mount did not come about; it has said why on stderr.
    pub(super) fn mount(&self, ticket: &str) -> anyhow::Result<()> {
        let mut child = own_program()
            .args(["mount", "--cache-dir"])
            .arg(self.directory.join("cache"))
            .args(["--", "-"])
            .arg(&self.mountpoint)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a mount")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        self.children.lock().mount = Some(child);
        if let Some(mut stdin) = stdin {
            // A mount that ended early shows on its other pipe.
            let _ = writeln!(stdin, "{ticket}");
        }
        first_line(stdout).context("the mount did not come about")?;
        ensure!(
            self.is_mounted()?,
            "nothing is mounted at {}",
            PathText::from(self.mountpoint())
        );
        Ok(())
    }

    /// The process that serves the mount.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn mount_pid(&self) -> anyhow::Result<u32> {
        let children = self.children.lock();
        Ok(children.mount.as_ref().context("nothing is mounted")?.id())
    }

    /// Whether both are still there.
    ///
    /// # Errors
    /// One has ended.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let mut children = self.children.lock();
        let Children { host, mount } = &mut *children;
        for (what, child) in [("host", host), ("mount", mount)] {
            if let Some(status) = child.as_mut().and_then(|child| child.try_wait().ok()?) {
                bail!("the {what} ended in the middle of it: {status}");
            }
        }
        Ok(())
    }

    /// Unmounts, ends both and removes everything. May be called again.
    ///
    /// # Errors
    /// Something is left, and where.
    pub(super) fn clean(&self) -> anyhow::Result<()> {
        let (mount, host) = {
            let children = self.children.lock();
            let pid = |child: &Option<Child>| child.as_ref().map(Child::id);
            (pid(&children.mount), pid(&children.host))
        };
        // The mount first: it unmounts by itself when asked to end.
        if mount.is_some() {
            self.end(|children| &mut children.mount);
        }
        if self.is_mounted()? {
            // It was killed, or could not.
            mountpoint::unmount(&self.mountpoint, Unmount::Lazy)
                .with_context(|| format!("cannot unmount {}", PathText::from(self.mountpoint())))?;
        }
        if host.is_some() {
            self.end(|children| &mut children.host);
        }
        self.remove()
    }

    /// As [`Self::clean`], in a hurry and without waiting for anybody.
    pub(super) fn abandon(&self) {
        if let Some(children) = self.children.try_lock() {
            for child in [&children.mount, &children.host].into_iter().flatten() {
                send(child, Signal::KILL);
            }
        }
        if matches!(self.is_mounted(), Ok(true)) {
            let _ = mountpoint::unmount(&self.mountpoint, Unmount::Lazy);
        }
        let _ = self.remove();
    }

    /// Asks a child to end and waits for it.
    fn end(&self, which: impl Fn(&mut Children) -> &mut Option<Child>) -> Option<ExitStatus> {
        let begun = Instant::now();
        let mut asked = None;
        loop {
            {
                let mut children = self.children.lock();
                let child = which(&mut children);
                match child.as_mut()?.try_wait() {
                    Ok(None) => {}
                    ended => {
                        *child = None;
                        return ended.ok().flatten();
                    }
                }
                let signal = match begun.elapsed() < END_TIME_MAX {
                    true => Signal::TERM,
                    false => Signal::KILL,
                };
                if asked != Some(signal) {
                    asked = Some(signal);
                    child.iter().for_each(|child| send(child, signal));
                }
            }
            std::thread::sleep(END_PAUSE);
        }
    }

    fn is_mounted(&self) -> anyhow::Result<bool> {
        let entry = table::mount_at(&self.mountpoint).context("cannot read the mount table")?;
        Ok(entry.is_some())
    }

    fn remove(&self) -> anyhow::Result<()> {
        let directory = PathText::from(self.directory.as_path());
        // Never into a mount: it may show a folder that somebody still needs.
        ensure!(
            !self.is_mounted()?,
            "{directory} is left: something is still mounted in it"
        );
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{directory} is left"))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Parties {
    fn drop(&mut self) {
        // Whoever could be told has been; this is for a panic.
        let _ = self.clean();
    }
}

/// This program, out of reach of the terminal's Ctrl-C: that is for the demo to hear, which then ends
/// its children in the right order.
fn own_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wormhole").process_group(0);
    command.env_remove(crate::cli::ticket_source::TICKET_VARIABLE);
    command
}

/// Sends to a child that has not been waited for.
fn send(child: &Child, signal: Signal) {
    let _ = kill_process(Pid::from_child(child), signal);
}

fn first_line(stdout: Option<ChildStdout>) -> anyhow::Result<String> {
    let stdout = stdout.context("it has no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout.take(READY_BYTES_MAX)).read_line(&mut line)?;
    ensure!(!line.is_empty(), "it ended before it was ready");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cat() -> Child {
        Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn nothing_is_left() {
        let parties = Parties::prepare().unwrap();
        parties.children.lock().host = Some(cat());
        parties.children.lock().mount = Some(cat());
        let pid = parties.mount_pid().unwrap();
        std::fs::write(parties.directory().join("file"), "x").unwrap();
        parties.check().unwrap();
        parties.clean().unwrap();
        assert!(!parties.directory().exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(parties.mount_pid().is_err());
        parties.clean().unwrap();
    }

    #[test]
    fn a_child_that_ended_is_noticed() {
        let parties = Parties::prepare().unwrap();
        let mut child = cat();
        drop(child.stdin.take());
        child.wait().unwrap();
        parties.children.lock().host = Some(child);
        let error = parties.check().unwrap_err();
        assert!(error.to_string().contains("host ended"), "{error}");
    }

    #[test]
    fn a_hurry_leaves_nothing_either() {
        let parties = Parties::prepare().unwrap();
        parties.children.lock().mount = Some(cat());
        parties.abandon();
        assert!(!parties.directory().exists());
        let mut children = parties.children.lock();
        let status = children.mount.as_mut().unwrap().wait().unwrap();
        assert!(!status.success());
    }

    #[test]
    fn silence_is_an_error() {
        assert!(first_line(None).is_err());
        let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        assert!(first_line(child.stdout.take()).is_err());
        child.wait().unwrap();
    }
}
