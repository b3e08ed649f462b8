//! The host of a lab: `wormhole host --json`.

use super::LabError;
use super::child::Child;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};

/// A running host; ends when dropped.
pub struct Host {
    ticket_file: PathBuf,
    // Kept open: a host whose stdout is gone might stop at its next word.
    _stdout: BufReader<ChildStdout>,
    _child: Child,
}

impl Host {
    /// Hosts `lab/share` on a free port of the loopback interface.
    pub(super) fn start(program: &Path, lab: &Path) -> Result<Self, LabError> {
        let mut command = Command::new(program);
        command
            .args(["host", "--json", "--listen", "127.0.0.1:0", "--state-dir"])
            .arg(lab.join("state"))
            .arg(lab.join("share"));
        let mut child = Child::spawn("host", lab, &mut command, true)?;
        let Some(stdout) = child.process().stdout.take() else {
            return Err(child.not_ready("no stdout"));
        };
        // Its one line says that it is ready; the end of the stream, that it never will be.
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        stdout.read_line(&mut line)?;
        let said: Result<serde_json::Value, _> = serde_json::from_str(&line);
        let ticket = match &said {
            Ok(said) => said["ticket"].as_str(),
            Err(_) => None,
        };
        let Some(ticket) = ticket else {
            return Err(child.not_ready(format!("no ticket in {:?}", line.trim_end())));
        };
        let ticket_file = lab.join("ticket");
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&ticket_file)?;
        writeln!(file, "{ticket}")?;
        Ok(Self {
            ticket_file,
            _stdout: stdout,
            _child: child,
        })
    }

    /// A file that holds the ticket.
    pub fn ticket_file(&self) -> &Path {
        &self.ticket_file
    }
}
