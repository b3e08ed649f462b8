//! The inner half of `wormhole bench`: process 1 of the sandbox, and the one that does the work.

use super::flags::InsideFlags;
use super::progress::Shown;
use super::{outside, shell};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use wormhole_benches::netem::sandbox;
use wormhole_benches::order::{LinkOrder, RunOrder};
use wormhole_benches::{report, run};

/// Where the results are left, in the folder of the run.
pub(super) const RESULTS: &str = "results.json";

/// What the outer half wants done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// A profile to be measured.
    Run(Box<RunOrder>),
    /// A shell, or a command, at the mount's end.
    Shell(ShellOrder),
}

/// A link to try by hand.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShellOrder {
    pub(super) link: LinkOrder,
    /// Instead of a shell.
    pub(super) command: Vec<OsString>,
}

/// Runs the command.
pub(super) fn run(flags: &InsideFlags) -> anyhow::Result<()> {
    if flags.carry_out {
        return carry_out(&flags.scratch);
    }
    sandbox::enter()?;
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command
        .args(["bench", outside::INSIDE, "--carry-out"])
        .arg(&flags.scratch);
    std::process::exit(sandbox::supervise(&mut command)?)
}

fn carry_out(scratch: &Path) -> anyhow::Result<()> {
    let order = std::fs::read(scratch.join(outside::ORDER)).context("reading the order")?;
    match serde_json::from_slice(&order).context("reading the order")? {
        Work::Run(order) => {
            let mut shown = Shown::new(&order.link.profile.to_string());
            let run = run::run(&order, scratch, &mut shown)?;
            shown.end();
            report::json::write(&scratch.join(RESULTS), &[run])?;
            Ok(())
        }
        Work::Shell(order) => {
            let status = shell::inside(&order.link, &order.command)?;
            let killed = || status.signal().map(|signal| 128 + signal);
            std::process::exit(status.code().or_else(killed).unwrap_or(1));
        }
    }
}
