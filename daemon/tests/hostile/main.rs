//! Enemies of a host: a real `wormhole host` process is attacked over QUIC while a well-behaved mount
//! works on. After each attack the host is still the same process, has stayed within its memory, and
//! serves.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod attacks;
mod raw;

use raw::Raw;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use wormhole::rpc::Remote;
use wormhole::transport::{ConnectError, Dialer, QuicRemote};
use wormhole_protocol::*;

/// What a host may need while under attack, in KiB.
const RESIDENT_KIB_MAX: u64 = 200 * 1024;

/// A host process that serves a folder with one large and one small file.
struct Victim {
    child: Child,
    dir: TempDir,
    ticket: Ticket,
}

impl Victim {
    fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let share = dir.path().join("share");
        std::fs::create_dir(&share).unwrap();
        std::fs::write(share.join("small"), "some text").unwrap();
        let large = std::fs::File::create(share.join("large")).unwrap();
        large.set_len(1 << 30).unwrap();
        let (child, ticket) = host(&share, &dir.path().join("state"), "127.0.0.1:0", flags);
        Self { child, dir, ticket }
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    async fn dial(&self) -> Result<(QuicRemote, Welcome), ConnectError> {
        dial(&self.ticket).await
    }

    async fn raw(&self) -> Raw {
        Raw::connect(&self.ticket).await
    }

    /// The host lives, is within bounds, and answers a well-behaved mount.
    async fn is_well(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the host died");
        let kib = self.resident_kib();
        assert!(kib < RESIDENT_KIB_MAX, "the host took {kib} KiB");
        let (remote, welcome) = self.dial().await.unwrap();
        behaves(&remote, &welcome).await;
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn host(share: &Path, state: &Path, listen: &str, flags: &[&str]) -> (Child, Ticket) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wormhole"))
        .args(["host", "--json", "--listen", listen, "--state-dir"])
        .arg(state)
        .args(flags)
        .arg(share)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let ticket = ready["ticket"].as_str().unwrap().parse().unwrap();
    (child, ticket)
}

async fn dial(ticket: &Ticket) -> Result<(QuicRemote, Welcome), ConnectError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap();
    Dialer::new(ticket.clone(), MountId(id))?.dial().await
}

/// A few requests any mount makes, with their right answers.
async fn behaves(remote: &QuicRemote, welcome: &Welcome) {
    use tokio::io::AsyncReadExt;
    let small = NodeRef {
        path: RelPath::new("small").unwrap(),
        expect: None,
    };
    let request = Request::Read {
        node: small,
        range: ByteRange::new(0, 4096).unwrap(),
        urgency: ReadUrgency::Demand,
    };
    let mut answer = remote.call(request).await.unwrap();
    let mut text = String::new();
    answer.payload.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "some text");
    let root = NodeRef {
        path: RelPath::root(),
        expect: Some(welcome.root.id),
    };
    assert!(remote.call(Request::Getattr { node: root }).await.is_ok());
}
