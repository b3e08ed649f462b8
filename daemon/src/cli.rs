//! The command line: what is typed, what it means ([`plan`]), and one file for each command.
//!
//! The only floor that speaks to people: errors of the rooms below end here as one sentence on stderr,
//! with their causes. Exit codes: 0 done, 1 failed, 2 wrongly called, 128 and the signal's number for what
//! a signal ended (a benchmark, fetching ahead); for mount(8), which has codes of its own, 32 failed and 1 wrongly
//! called.

mod advertise;
mod bench;
mod bench_link;
mod cache;
mod daemonize;
mod demo;
mod drain;
mod flags;
mod helper;
mod host;
mod keep;
mod logging;
mod mount;
mod options;
mod orders;
mod output;
mod place;
mod plan;
mod process;
mod status;
mod ticket_source;
mod unmount;
mod watch;

use clap::Parser;
use flags::{Command, Flags};
use helper::HelperCall;
use host::powers::Powers;
use options::Caller;
use std::ffi::OsString;
use std::process::ExitCode;
use ticket_source::TICKET_VARIABLE;

/// Why a command did not do what was asked.
enum Failure {
    /// It was wrongly called: nothing was tried.
    Usage(anyhow::Error),
    /// It was tried.
    Failed(anyhow::Error),
    /// A signal ended it, for which this is the exit code.
    Stopped(u8, anyhow::Error),
}

/// Errors with `?` in the commands themselves are of trying.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    crate::heap::share_one();
    let argv: Vec<OsString> = std::env::args_os().collect();
    match helper::recognise(&argv) {
        Some(call) => {
            let done = call.map_err(Failure::Usage).and_then(run_helper);
            finish(done, ExitCode::from(1), ExitCode::from(32))
        }
        None => finish(
            run_command(Flags::parse_from(argv)),
            ExitCode::from(2),
            ExitCode::from(1),
        ),
    }
}

fn finish(done: Result<(), Failure>, usage: ExitCode, failed: ExitCode) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => {
            eprintln!("wormhole: {error:#}");
            usage
        }
        Err(Failure::Failed(error)) => {
            eprintln!("wormhole: {error:#}");
            failed
        }
        Err(Failure::Stopped(code, error)) => {
            eprintln!("wormhole: {error:#}");
            ExitCode::from(code)
        }
    }
}

fn run_command(flags: Flags) -> Result<(), Failure> {
    let verbose = flags.verbose;
    // The daemon writes its log to a file, which it opens itself.
    if !matches!(flags.command, Command::MountDaemon(_)) {
        logging::to_stderr(verbose);
    }
    match flags.command {
        Command::Host(flags) => {
            let plan = plan::host(flags, Powers::own()).map_err(Failure::Usage)?;
            host::run(plan)?;
        }
        Command::Mount(flags) => mount(flags, Caller::Person, verbose)?,
        Command::MountDaemon(_) => daemonize::run_child(verbose)?,
        Command::Unmount(flags) => unmount::run(&flags)?,
        Command::Status(flags) => status::run(&flags)?,
        Command::Warm(flags) => keep::warm(&flags)?,
        Command::Pin(flags) => keep::pin(&flags)?,
        Command::Unpin(flags) => keep::unpin(&flags)?,
        Command::Drain(flags) => drain::run(&flags)?,
        Command::Watch(flags) => watch::run(&flags)?,
        Command::Cache(flags) => cache::run(flags)?,
        Command::Demo(flags) => demo::run(flags)?,
        Command::Bench(flags) => bench::run(*flags)?,
        Command::BenchLink(flags) => bench_link::run(flags)?,
    }
    Ok(())
}

fn run_helper(call: HelperCall) -> Result<(), Failure> {
    logging::to_stderr(call.verbose);
    if call.fake {
        let order = order(call.flags, call.caller)?;
        order.ticket.read()?;
        return Ok(());
    }
    mount(call.flags, call.caller, call.verbose)
}

fn mount(flags: flags::MountFlags, caller: Caller, verbose: u8) -> Result<(), Failure> {
    let order = order(flags, caller)?;
    Ok(mount::run(order, verbose)?)
}

fn order(flags: flags::MountFlags, caller: Caller) -> Result<plan::MountOrder, Failure> {
    let environment = std::env::var(TICKET_VARIABLE).ok();
    plan::mount(flags, caller, environment).map_err(Failure::Usage)
}
