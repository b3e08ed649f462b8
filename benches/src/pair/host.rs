//! The host of a pair: `wormhole host --json`.

use super::PairError;
use crate::process::Child;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use wormhole_netem::LinkEnd;

/// A running host; ends when dropped.
pub struct Host {
    ticket_file: PathBuf,
    // Kept open: a host whose stdout is gone might stop at its next word.
    _stdout: BufReader<ChildStdout>,
    _child: Child,
}

impl Host {
    /// Hosts `share` on a free port of the loopback interface.
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self, PairError> {
        let mut command = Command::new(program);
        command
            .args(["host", "--rw", "--json", "--listen", "127.0.0.1:0"])
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg(folder.join("share"));
        let mut child = Child::spawn(&LinkEnd::here(), "host", folder, &mut command, true)?;
        let Some(stdout) = child.process().stdout.take() else {
            return Err(child.failure("no stdout").into());
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
            let problem = format!("no ticket in {:?}", line.trim_end());
            return Err(child.failure(problem).into());
        };
        let ticket_file = folder.join("ticket");
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
