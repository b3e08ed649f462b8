//! `wormhole bench`: how file systems behave over links like the user's.
//!
//! ```text
//! wormhole bench            outside: reads flags, makes a folder, starts a sandbox, waits; then shows,
//!   │                       writes and compares what came of it
//!   └── bench inside        process 1 of the sandbox
//!         └── bench inside  lays the link, runs every peer
//!               └── bench worker   one workload on one mount
//! ```
//!
//! The measuring is the crate `wormhole-benches`; here is the command line of it.

mod flags;
mod inside;
mod outside;
mod plan;
mod progress;
mod shell;
mod show;

pub(super) use flags::BenchFlags;

use super::Failure;
use anyhow::{Context, bail};
use flags::BenchAction;
use inside::Work;
use outside::{Outside, Stopped};
use plan::{RunPlan, ShellPlan};
use std::io;
use std::process::ExitCode;
use wormhole_benches::record::Run;
use wormhole_benches::{report, worker};

/// Runs the command.
pub(super) fn run(flags: BenchFlags) -> Result<(), Failure> {
    match flags.action {
        None => {
            let plan = plan::run(flags.run, std::env::args().collect()).map_err(Failure::Usage)?;
            measure(&plan).map_err(failure)?;
        }
        Some(BenchAction::Shell(flags)) => {
            let plan = plan::shell(*flags).map_err(Failure::Usage)?;
            open_shell(plan).map_err(failure)?;
        }
        Some(BenchAction::Compare(flags)) => show::compare(&flags)?,
        Some(BenchAction::History(flags)) => show::history(&flags)?,
        Some(BenchAction::Inside(flags)) => inside::run(&flags)?,
        Some(BenchAction::Worker) => {
            if worker::worker_main(io::stdin(), io::stdout()) != ExitCode::SUCCESS {
                std::process::exit(1);
            }
        }
    }
    Ok(())
}

/// What a signal ended exits with a code that tells so.
fn failure(error: anyhow::Error) -> Failure {
    match error.downcast_ref::<Stopped>() {
        Some(stopped) => Failure::Stopped(stopped.exit_code, error),
        None => Failure::Failed(error),
    }
}

/// Every profile, one after the other. One that fails does not cost the others their results.
fn measure(plan: &RunPlan) -> anyhow::Result<()> {
    show::check(&plan.outputs)?;
    let outside = Outside::new()?;
    let (mut runs, mut failed) = (Vec::new(), Vec::new());
    for order in &plan.orders {
        match one(&outside, plan, order) {
            Ok(run) => {
                show::terminal(&run)?;
                runs.push(run);
            }
            Err(error) if error.is::<Stopped>() => return Err(error),
            Err(error) => {
                eprintln!("wormhole: {}: {error:#}", order.link.profile);
                failed.push(order.link.profile.to_string());
            }
        }
    }
    if !runs.is_empty() {
        show::finish(&plan.outputs, &runs)?;
    }
    if !failed.is_empty() {
        bail!("no results for {}", failed.join(", "));
    }
    Ok(())
}

fn one(
    outside: &Outside,
    plan: &RunPlan,
    order: &wormhole_benches::order::RunOrder,
) -> anyhow::Result<Run> {
    let scratch = outside::scratch(&plan.place)?;
    let status = outside.carry_out(&Work::Run(Box::new(order.clone())), &scratch)?;
    if !status.success() {
        bail!("the run ended early ({status})");
    }
    let runs = report::json::read(&scratch.path().join(inside::RESULTS))?;
    scratch.remove().context("removing the run's files")?;
    runs.into_iter().next().context("the run left no results")
}

fn open_shell(plan: ShellPlan) -> anyhow::Result<()> {
    let outside = Outside::new()?;
    let scratch = outside::scratch(&plan.place)?;
    let status = outside.carry_out(&Work::Shell(plan.order), &scratch)?;
    scratch.remove().context("removing the shell's files")?;
    if !status.success() {
        std::process::exit(status.code().unwrap_or(1));
    }
    Ok(())
}
