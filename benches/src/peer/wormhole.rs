//! Wormhole itself: `wormhole host` and `wormhole mount`, as they come.

use super::mount::ProgramMount;
use super::sshd::bracketed;
use super::{Mounted, Peer, PeerError, Served, Site, Unavailable, describe, version_of};
use crate::process::{Child, PATIENCE};
use crate::record::PeerInfo;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::mpsc::channel;

/// See the module.
pub(super) struct Wormhole;

impl Peer for Wormhole {
    fn name(&self) -> &'static str {
        "wormhole"
    }

    fn info(&self, site: &Site) -> PeerInfo {
        let settings = [
            "default sizes of both caches, the one on disk empty at first",
            "QUIC with TLS 1.3",
        ];
        let durability =
            "close: applied on the host (in its page cache); fsync: on the host's disk";
        describe(self.name(), version(site), &settings, durability)
    }

    fn writes(&self) -> bool {
        true
    }

    fn serve(
        &self,
        site: &Site,
        share: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Served>, PeerError> {
        let listen = format!("{}:0", bracketed(site.host.address()));
        let mut command = Command::new(&site.program);
        command.args(["host", "--rw", "--json", "--listen", &listen, "--state-dir"]);
        command.arg(folder.join("state")).arg(share);
        let mut child = Child::spawn(&site.host, "wormhole-host", folder, &mut command, true)?;
        let Some(stdout) = child.process().stdout.take() else {
            return Err(child.failure("no stdout").into());
        };
        let (line, stdout) = first_line(stdout)
            .ok_or_else(|| PeerError::from(child.failure("did not get ready in time")))?;
        let said: Option<serde_json::Value> = serde_json::from_str(&line).ok();
        let Some(ticket) = said.as_ref().and_then(|said| said["ticket"].as_str()) else {
            let problem = format!("no ticket in {:?}", line.trim_end());
            return Err(child.failure(problem).into());
        };
        Ok(Box::new(Host {
            ticket_file: keep(ticket, folder)?,
            child,
            _stdout: stdout,
        }))
    }
}

fn version(site: &Site) -> Result<String, Unavailable> {
    super::fuse()?;
    version_of(&site.program.to_string_lossy(), "--version", None)
}

/// The first line that is said, or what there is of it when the stream ends; `None` if neither happens
/// in time.
fn first_line(stdout: ChildStdout) -> Option<(String, BufReader<ChildStdout>)> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        // What cannot be read holds no ticket, which is said then.
        let _ = stdout.read_line(&mut line);
        tell.send((line, stdout))
    });
    // The thread ends when the process does, which it does when this is given up.
    told.recv_timeout(PATIENCE).ok()
}

fn keep(ticket: &str, folder: &Path) -> std::io::Result<PathBuf> {
    let path = folder.join("ticket");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    writeln!(options.open(&path)?, "{ticket}")?;
    Ok(path)
}

/// A running host.
struct Host {
    ticket_file: PathBuf,
    child: Child,
    // Kept open: a host whose stdout is gone might stop at its next word.
    _stdout: BufReader<ChildStdout>,
}

impl Served for Host {
    fn processes(&self) -> Vec<u32> {
        vec![self.child.id()]
    }

    fn mount(
        &mut self,
        site: &Site,
        path: &Path,
        folder: &Path,
    ) -> Result<Box<dyn Mounted>, PeerError> {
        let mut command = Command::new(&site.program);
        command
            .arg("mount")
            .arg("--ticket-file")
            .arg(&self.ticket_file);
        command
            .arg("--cache-dir")
            .arg(folder.join("cache"))
            .arg(path);
        let child = Child::spawn(&site.mount, "wormhole-mount", folder, &mut command, false)?;
        Ok(Box::new(ProgramMount::new(path, child)?))
    }
}
