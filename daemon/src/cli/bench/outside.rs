//! The outer half of `wormhole bench`: has the work done by another `wormhole`, in a sandbox, and waits.
//!
//! Whatever happens in there (and whatever happens to this process), processes, mounts and networks
//! end with the sandbox. What remains is one folder of files, which is removed here, or by the next run.

use super::inside::Work;
use crate::shutdown::Shutdown;
use anyhow::Context;
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use wormhole_benches::netem::sandbox::{self, SandboxError};
use wormhole_benches::scratch::{self, Scratch};

/// The hidden subcommand that continues inside.
pub(super) const INSIDE: &str = "inside";
/// What it is to do, in the folder it is given.
pub(super) const ORDER: &str = "order.json";

/// Clears away what killed runs left in `place`, and makes a folder for this one.
///
/// # Errors
/// If that cannot be done.
pub(super) fn scratch(place: &Path) -> anyhow::Result<Scratch> {
    let removed = scratch::remove_stale(place)
        .with_context(|| format!("looking for what earlier runs left in {}", place.display()))?;
    for folder in removed {
        eprintln!("removed {}, which a killed run left", folder.display());
    }
    Scratch::make(place).with_context(|| {
        format!(
            "no folder for the run in {}; try --scratch",
            place.display()
        )
    })
}

/// A signal ended the work before it was done.
#[derive(Debug, thiserror::Error)]
#[error("stopped; everything it started is gone")]
pub(super) struct Stopped {
    /// What to exit with: it tells which signal.
    pub(super) exit_code: u8,
}

/// Starts sandboxes, and ends them when it is told to.
pub(super) struct Outside {
    runtime: Runtime,
    shutdown: Shutdown,
}

impl Outside {
    /// To be made once, before there are threads.
    ///
    /// # Errors
    /// If this user may have no sandbox.
    pub(super) fn new() -> anyhow::Result<Self> {
        sandbox::claim()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting threads")?;
        let shutdown = {
            let _entered = runtime.enter();
            Shutdown::install(|| ())?
        };
        Ok(Self { runtime, shutdown })
    }

    /// Has `work` carried out in a sandbox, with `scratch` for its files.
    ///
    /// # Errors
    /// If there is no sandbox to be had; [`Stopped`] if a signal ended it.
    pub(super) fn carry_out(&self, work: &Work, scratch: &Scratch) -> anyhow::Result<ExitStatus> {
        let folder = scratch.path();
        std::fs::write(folder.join(ORDER), serde_json::to_vec(work)?)?;
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.args(["bench", INSIDE]).arg(folder);
        if matches!(work, Work::Run(_)) {
            // Ctrl-C is for this process alone: the other half would fail of it, and say so, before
            // this one has said that it was stopped. A shell has to stay with its terminal.
            command.process_group(0);
        }
        self.runtime.block_on(self.wait(command))
    }

    async fn wait(&self, mut command: Command) -> anyhow::Result<ExitStatus> {
        let (started, handle) = oneshot::channel::<OwnedFd>();
        let (ended, end) = oneshot::channel::<Result<ExitStatus, SandboxError>>();
        // A thread of its own: the sandbox lives as long as it does.
        let thread = std::thread::spawn(move || {
            let status = sandbox::run(&mut command, |handle| {
                // If nobody waits any more, the process ends, and the sandbox with it.
                let _ = started.send(handle);
            });
            let _ = ended.send(status);
        });
        let handle = handle.await.ok();
        tokio::select! {
            status = end => Ok(status.context("the sandbox's thread")??),
            () = self.shutdown.requested() => {
                if let Some(handle) = handle {
                    // It may have ended by itself just now.
                    let _ = pidfd_send_signal(handle, Signal::KILL);
                }
                let _ = thread.join();
                let exit_code = self.shutdown.exit_code().unwrap_or(1);
                Err(Stopped { exit_code }.into())
            }
        }
    }
}
