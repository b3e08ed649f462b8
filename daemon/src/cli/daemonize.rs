//! `--daemon`: the mount goes on in a process of its own, and the caller returns once it answers.
//!
//! The parent starts this program again as `wormhole mount-daemon MOUNTPOINT` and gives it one line of
//! JSON on stdin: the plan and the ticket, which so never stand on a command line. The child makes
//! itself a session, logs to a file, mounts, and writes one line of JSON to stdout: ready, or why not.
//! Then it lets go of both pipes. If the parent is gone by then, the child unmounts and ends: nobody
//! was told that there is a mount.

use super::{logging, mount, output};
use crate::config::MountPlan;
use crate::status::RuntimeDir;
use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use wormhole_protocol::Ticket;

/// The hidden command the child is started with.
const COMMAND: &str = "mount-daemon";
/// Longest line either side sends.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What the parent says.
#[derive(Serialize, Deserialize)]
struct Orders {
    plan: MountPlan,
    ticket: String,
}

/// What the child says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// The mount answers.
    Ready(String),
    /// There is none.
    Failed(String),
}

/// Mounts in a process of its own; returns when the mount answers.
pub(super) fn launch(plan: MountPlan, ticket: &Ticket, verbose: u8) -> anyhow::Result<()> {
    let mut child = spawn(&plan, verbose).context("starting the background process")?;
    let orders = Orders {
        plan,
        ticket: ticket.to_string(),
    };
    // A child that has already ended reads nothing, and says why on the other pipe.
    let _ = hand_over(&mut child, &orders);
    let answer = child.stdout.take().map(hear);
    match answer {
        Some(Ok(Outcome::Ready(text))) => Ok(output::line(&text)?),
        Some(Ok(Outcome::Failed(text))) => {
            let _ = child.wait();
            bail!("{text}")
        }
        Some(Err(_)) | None => {
            let status = child.wait()?;
            bail!("the background process ended before the share was mounted ({status})")
        }
    }
}

fn spawn(plan: &MountPlan, verbose: u8) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    // Its own name might be one that mount(8) calls.
    command.arg0("wormhole").arg(COMMAND);
    command.args((0..verbose).map(|_| "-v"));
    command
        .arg("--")
        .arg(&plan.mountpoint.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A working directory would keep its file system busy.
        .current_dir("/")
        .spawn()
}

fn hand_over(child: &mut Child, orders: &Orders) -> io::Result<()> {
    let mut line = serde_json::to_vec(orders)?;
    line.push(b'\n');
    match child.stdin.take() {
        Some(mut pipe) => pipe.write_all(&line),
        None => Ok(()),
    }
}

fn hear(pipe: impl Read) -> anyhow::Result<Outcome> {
    let mut line = Vec::new();
    let mut pipe = pipe.take(LINE_BYTES_MAX);
    // To the newline, not to the end: whoever the child starts (fusermount3) may hold the pipe.
    let mut byte = [0];
    while pipe.read(&mut byte)? == 1 && byte != [b'\n'] {
        line.push(byte[0]);
    }
    Ok(serde_json::from_slice(&line)?)
}

fn say(mut pipe: impl Write, outcome: &Outcome) -> io::Result<()> {
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    pipe.write_all(&line)?;
    pipe.flush()
}

/// The background process.
pub(super) fn run_child(verbose: u8) -> anyhow::Result<()> {
    let log = settle(verbose)?;
    let mut told = false;
    let served = read_orders(io::stdin().lock()).and_then(|(plan, ticket)| {
        mount::serve(&plan, &ticket, |ready| {
            say(io::stdout(), &Outcome::Ready(ready.to_owned()))
                .context("whoever asked for the mount is gone")?;
            told = true;
            let_go()
        })
    });
    if let Err(error) = &served {
        tracing::error!("{error:#}");
        if !told {
            let _ = say(io::stdout(), &Outcome::Failed(format!("{error:#}")));
        }
    }
    // It is kept only where nobody heard what went wrong.
    if let Some(log) = log
        && (served.is_ok() || !told)
    {
        let _ = std::fs::remove_file(log);
    }
    served
}

/// Leaves the caller's terminal. Returns where the log is.
fn settle(verbose: u8) -> anyhow::Result<Option<std::path::PathBuf>> {
    rustix::process::setsid().context("leaving the terminal")?;
    let path = match RuntimeDir::open() {
        Ok(dir) => dir.log("mount", std::process::id()),
        // A mount without a log is better than none.
        Err(_) => return Ok(None),
    };
    if logging::to_file(&path, verbose).is_err() {
        return Ok(None);
    }
    redirect_stderr(&path)?;
    Ok(Some(path))
}

/// What panics print goes to the log as well.
fn redirect_stderr(path: &Path) -> io::Result<()> {
    let log = File::options().append(true).open(path)?;
    Ok(rustix::stdio::dup2_stderr(&log)?)
}

/// Closes the pipes to the caller.
fn let_go() -> anyhow::Result<()> {
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(())
}

fn read_orders(input: impl Read) -> anyhow::Result<(MountPlan, Ticket)> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX).read_to_end(&mut line)?;
    let orders: Orders = serde_json::from_slice(&line)
        .map_err(|_| anyhow!("this command is for `wormhole mount --daemon` only"))?;
    Ok((orders.plan, orders.ticket.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wormhole_protocol::{HostKey, Secret};

    fn plan() -> MountPlan {
        MountPlan {
            mountpoint: "/m".into(),
            l1_bytes: 1,
            l2: None,
            write_buffer_bytes: 1,
            durability: Default::default(),
            read_only: false,
            attr_ttl: Some(std::time::Duration::from_millis(1500)),
            prefetch_metadata: Default::default(),
            timeout: std::time::Duration::from_secs(30),
            owner: crate::config::OwnerMode::Me,
            allow_other: false,
            nonempty: false,
            noexec: false,
            passthrough: true,
            metrics: None,
        }
    }

    #[test]
    fn orders_arrive_whole_ticket_included() {
        let ticket = Ticket {
            host: HostKey([7; 32]),
            secret: Secret::from_bytes([9; 16]),
            addresses: vec!["192.0.2.1:7117".parse().unwrap()],
        };
        let orders = Orders {
            plan: plan(),
            ticket: ticket.to_string(),
        };
        let line = serde_json::to_vec(&orders).unwrap();
        let (plan_there, ticket_there) = read_orders(&line[..]).unwrap();
        assert_eq!((plan_there, ticket_there), (plan(), ticket));
    }

    #[test]
    fn orders_from_somebody_else_are_refused() {
        for line in ["", "{}", "wh1abc", "{\"plan\":1,\"ticket\":\"\"}"] {
            assert!(read_orders(line.as_bytes()).is_err(), "{line}");
        }
        assert!(read_orders(io::repeat(b' ')).is_err());
    }

    #[test]
    fn the_outcome_is_heard_though_the_pipe_stays_open() {
        for outcome in [
            Outcome::Ready("Mounted \"a\nb\"".into()),
            Outcome::Failed("no\u{1b}".into()),
        ] {
            let (reader, writer) = io::pipe().unwrap();
            say(&writer, &outcome).unwrap();
            assert_eq!(hear(reader).unwrap(), outcome);
            drop(writer);
        }
    }

    #[test]
    fn a_child_that_ends_without_a_word_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(writer);
        assert!(hear(reader).is_err());
        assert!(hear(io::repeat(b'x')).is_err());
    }

    #[test]
    fn a_parent_that_is_gone_is_noticed() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert!(say(writer, &Outcome::Ready(String::new())).is_err());
    }
}
