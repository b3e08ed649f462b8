//! `wormhole bench shell`: a shell at the mount's end of an emulated link, and how to get to the other.

use super::outside;
use anyhow::Context;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitStatus};
use wormhole_benches::netem::{Lab, lab};
use wormhole_benches::order::LinkOrder;
use wormhole_benches::site;

/// Runs `command`, or the user's shell, at the mount's end.
///
/// # Errors
/// If there is no lab, or the command cannot be started.
pub(super) fn inside(order: &LinkOrder, command: &[OsString]) -> anyhow::Result<ExitStatus> {
    let lab = site::open(order)?;
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (program, args) = match command.split_first() {
        Some((program, args)) => (program.as_os_str(), args),
        None => {
            eprintln!("{}", instructions(&lab, order, &shell));
            (shell.as_os_str(), [].as_slice())
        }
    };
    let mut command = Command::new(program);
    command.args(args).env("PS1", "[mount's end] \\w\\$ ");
    let mut child = lab
        .mount()
        .spawn(&mut command)
        .with_context(|| format!("starting {}", Path::new(program).display()))?;
    child.wait().context("waiting for the shell")
}

fn instructions(lab: &Lab, order: &LinkOrder, shell: &OsStr) -> String {
    let shell = Path::new(shell).display();
    let (host, mount) = (lab::HOST_ADDRESS, lab::MOUNT_ADDRESS);
    format!(
        "\
A link like {profile} lies between two ends, emulated with {backend}. You are at the mount's end ({mount}).
In this pane, to work at the host's end ({host}) for a while:
  nsenter --net=/run/netns/host {shell}
From another pane, as root, to either end (PID as `pgrep -nf 'wormhole bench {inside}'` says):
  nsenter --target PID --mount --pid --net=/proc/PID/root/run/netns/host {shell}
  nsenter --target PID --mount --pid --net=/proc/PID/root/run/netns/mount {shell}
For example, at the host's end:  wormhole host --listen {host} FOLDER
and at the mount's end:          wormhole mount TICKET DIRECTORY
Leave this shell (exit) to end the link and all that was started on it.",
        profile = order.profile,
        backend = lab.backend(),
        inside = outside::INSIDE,
    )
}
