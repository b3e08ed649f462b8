//! `wormhole bench-link`: what the bare transport carries over a link, measured between two processes.
//! Not for people: `wormhole bench` runs it at both ends of a link.

use super::flags::{BenchLinkAction, BenchLinkFetchFlags, BenchLinkFlags, BenchLinkServeFlags};
use super::{output, process};
use crate::shutdown::Shutdown;
use crate::transport::bulk::{self, BulkKey, Meter, Received, SenderFigures};
use crate::transport::{Identity, ServerEndpoint};
use anyhow::{Context, bail};
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

const SECONDS_DEFAULT: u32 = 10;
const INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
/// What an exchange asks for: one block of a file.
const EXCHANGE_BYTES: u32 = 4096;

/// Runs the command.
pub(super) fn run(flags: BenchLinkFlags) -> anyhow::Result<()> {
    process::prepare();
    let runtime = process::runtime()?;
    match flags.action {
        BenchLinkAction::Serve(flags) => runtime.block_on(serve(&flags)),
        BenchLinkAction::Fetch(flags) => runtime.block_on(fetch(&flags)),
    }
}

/// What `serve` prints when it is ready.
#[derive(Serialize)]
struct Ready {
    address: SocketAddr,
    key: String,
}

async fn serve(flags: &BenchLinkServeFlags) -> anyhow::Result<()> {
    let shutdown = Shutdown::install(|| ())?;
    let identity = Identity::ephemeral().context("making a key")?;
    let key = BulkKey::generate(identity.host_key()).context("making a key")?;
    let endpoint = ServerEndpoint::bind(flags.listen, &identity)
        .with_context(|| format!("listening at {}", flags.listen))?;
    output::json(&Ready {
        address: endpoint.local_addr()?,
        key: key.to_string(),
    })?;
    bulk::serve(endpoint, key, shutdown.requested()).await;
    Ok(())
}

async fn fetch(flags: &BenchLinkFetchFlags) -> anyhow::Result<()> {
    let shutdown = Shutdown::install(|| ())?;
    let key: BulkKey = flags.key.parse()?;
    tokio::select! {
        measured = measure(flags, &key) => measured,
        () = shutdown.requested() => bail!("ended before it was measured"),
    }
}

async fn measure(flags: &BenchLinkFetchFlags, key: &BulkKey) -> anyhow::Result<()> {
    let meter = Meter::connect(flags.address, key).await?;
    match flags.exchanges {
        Some(count) => output::json(&exchanges(&meter, count).await?)?,
        None => output::json(&transfer(&meter, flags).await?)?,
    }
    meter.close().await;
    Ok(())
}

/// What is printed of a transfer.
#[derive(Serialize)]
struct Transfer {
    bytes: u64,
    seconds: f64,
    /// Payload, in millions of bits a second, from the order on.
    mbit: f64,
    /// Seconds since the order, and bytes until then.
    timeline: Vec<(f64, u64)>,
    sender: SenderFigures,
}

async fn transfer(meter: &Meter, flags: &BenchLinkFetchFlags) -> anyhow::Result<Transfer> {
    let seconds = flags.seconds.unwrap_or(SECONDS_DEFAULT);
    let interval = flags.interval.unwrap_or(INTERVAL_DEFAULT);
    let received = meter.receive(Duration::from_secs(seconds.into()), interval);
    let Received {
        bytes,
        took,
        timeline,
    } = received.await?;
    let seconds = took.as_secs_f64();
    let timeline = timeline.into_iter().map(|(at, b)| (at.as_secs_f64(), b));
    Ok(Transfer {
        bytes,
        seconds,
        mbit: bytes as f64 * 8.0 / 1e6 / seconds,
        timeline: timeline.collect(),
        sender: meter.figures().await?,
    })
}

/// What is printed of exchanges.
#[derive(Serialize)]
struct Exchanges {
    bytes: u32,
    /// Lowest round-trip time the asking end saw.
    min_rtt_ms: f64,
    /// From asking to having all of the answer, in the order asked.
    latencies_ms: Vec<f64>,
    sender: SenderFigures,
}

async fn exchanges(meter: &Meter, count: u32) -> anyhow::Result<Exchanges> {
    let mut latencies_ms = Vec::new();
    for _ in 0..count.min(bulk::EXCHANGES_MAX) {
        let took = meter.exchange(EXCHANGE_BYTES).await?;
        latencies_ms.push(took.as_secs_f64() * 1e3);
    }
    Ok(Exchanges {
        bytes: EXCHANGE_BYTES,
        min_rtt_ms: meter.min_rtt().as_secs_f64() * 1e3,
        latencies_ms,
        sender: meter.figures().await?,
    })
}
