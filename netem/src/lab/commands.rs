//! `ip` and `tc`.
//!
//! iproute2 is what every Linux machine with a network has; the commands of this crate are fixed words
//! and numbers, never text from outside.

use std::io;
use std::process::{Command, Stdio};

/// A command of iproute2 failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is none.
    #[error("cannot run `{0}`, which is in the package iproute2: {1}")]
    Missing(&'static str, io::Error),
    /// It said no.
    #[error("`{command}`: {said}")]
    Failed {
        /// The whole command.
        command: String,
        /// What it said.
        said: String,
    },
}

/// Runs `ip` with the words of `line`.
pub(crate) fn ip(line: &str) -> Result<(), CommandError> {
    run("ip", line)
}

/// Runs `tc` with the words of `line`.
pub(crate) fn tc(line: &str) -> Result<(), CommandError> {
    run("tc", line)
}

fn run(program: &'static str, line: &str) -> Result<(), CommandError> {
    let output = Command::new(program)
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CommandError::Missing(program, error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(CommandError::Failed {
        command: format!("{program} {line}"),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
