//! A bulk transfer over QUIC with Wormhole's transport settings: `wormhole bench-link` at both ends.

use super::Flow;
use crate::stats::median;
use serde::Deserialize;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use wormhole_netem::LinkEnd;

/// What the sending side may say before it is ready, and the receiving side at the end.
const SAID_BYTES_MAX: u64 = 8 << 20;

#[derive(Deserialize)]
struct Ready {
    address: String,
    key: String,
}

#[derive(Deserialize)]
struct Transfer {
    bytes: u64,
    seconds: f64,
    sender: Sender,
}

#[derive(Deserialize)]
struct Sender {
    controller: String,
    sent_bytes: u64,
    lost_bytes: u64,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    rtt_us: u64,
}

/// Sends as much as it can from `from` to `to` for about `duration`, with the executable `program`.
/// Returns also the name of the congestion controller.
///
/// # Errors
/// If the program fails; with what it said.
pub fn quic(
    program: &Path,
    from: &LinkEnd,
    to: &LinkEnd,
    duration: Duration,
) -> io::Result<(Flow, String)> {
    let mut serve = Command::new(program);
    serve
        .args(["bench-link", "serve", "--listen"])
        .arg(format!("{}:0", from.address()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut server = Ended(from.spawn(&mut serve)?);
    let Some(stdout) = server.0.stdout.take() else {
        return Err(io::Error::other("bench-link serve has no stdout"));
    };
    let mut line = String::new();
    BufReader::new(stdout.take(SAID_BYTES_MAX)).read_line(&mut line)?;
    let ready: Ready = serde_json::from_str(&line)?;
    let mut fetch = Command::new(program);
    fetch
        .args(["bench-link", "fetch", &ready.address, "--key", &ready.key])
        .args(["--seconds", &duration.as_secs().max(1).to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut client = Ended(to.spawn(&mut fetch)?);
    let mut said = String::new();
    if let Some(stdout) = client.0.stdout.take() {
        stdout.take(SAID_BYTES_MAX).read_to_string(&mut said)?;
    }
    let status = client.0.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("bench-link fetch: {status}")));
    }
    let transfer: Transfer = serde_json::from_str(&said)?;
    Ok((flow(&transfer), transfer.sender.controller))
}

fn flow(transfer: &Transfer) -> Flow {
    let sender = &transfer.sender;
    let rtts: Vec<f64> = sender
        .samples
        .iter()
        .map(|s| s.rtt_us as f64 / 1e3)
        .collect();
    Flow {
        bytes: transfer.bytes,
        seconds: transfer.seconds,
        steady_mbit: None,
        retransmitted_pct: (sender.sent_bytes > 0)
            .then(|| sender.lost_bytes as f64 * 100.0 / sender.sent_bytes as f64),
        loaded_rtt_ms: median(&rtts),
    }
}

/// A process that is not left behind.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
