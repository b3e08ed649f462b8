//! What a run found out: the words of the report, as they stand in its JSON.
//!
//! One [`Run`] is one profile. Everything a report shows is in here, raw samples included, so that a
//! report can be made again from the file. Numbers carry their unit in their name; `None` (`null`) is
//! what was not measured, and never stands for zero. Documented in `docs/BENCHMARKS.md`.

use serde::{Deserialize, Serialize};

/// Version of the form of a [`Run`]. Goes up when a reader of the old form would be misled.
pub const SCHEMA: u32 = 1;

/// How thorough a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Under two minutes for one profile.
    Quick,
    /// Some minutes.
    Standard,
    /// For publication.
    Full,
}

/// What files are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// Pseudo-random bytes, which nothing can compress.
    Random,
    /// Pseudo-random words, which compress about as text does.
    Text,
}

/// All about one profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the profile.
    pub profile: String,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// How thorough it was.
    pub mode: Mode,
    /// What files were made of.
    pub data: Data,
    /// What data, order and losses were derived from.
    pub seed: u64,
    /// How often each peer had its turn.
    pub rounds: u32,
    /// The command that repeats it.
    pub command: Vec<String>,
    /// Where it ran.
    pub environment: Environment,
    /// What lay between.
    pub link: Link,
    /// What a plain bulk transfer got on the same link.
    pub raw: Vec<RawLink>,
    /// Who was measured, or not, and why.
    pub peers: Vec<PeerInfo>,
    /// A row for each peer and workload.
    pub results: Vec<Entry>,
    /// What a reader should know before believing the rest.
    pub warnings: Vec<String>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of Wormhole.
    pub wormhole: String,
    /// Kernel release.
    pub kernel: String,
    /// Model of the processor.
    pub cpu: String,
    /// Processors this run could use.
    pub cores: u32,
    /// Main memory.
    pub memory_bytes: u64,
    /// File system beneath the served files and the caches.
    pub file_system: String,
    /// Whether the page cache could be dropped before what is called cold.
    pub drops_page_cache: bool,
    /// Load average over a minute when the run began.
    pub load: f64,
}

/// The link: what was asked for, what the self-test measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// `tc`, `tun` or `veth` (nothing to emulate).
    pub backend: String,
    /// Asked: added round trip.
    pub asked_rtt_ms: f64,
    /// Asked: rate of each direction.
    pub asked_rate_mbit: Option<f64>,
    /// Asked: loss in each direction, in the long run.
    pub asked_loss_pct: f64,
    /// Asked: jitter of each direction.
    pub asked_jitter_ms: f64,
    /// Asked: loss comes in bursts.
    pub bursts: bool,
    /// Queue of each direction.
    pub queue_bytes: Option<u64>,
    /// What the emulation took off the delay of each direction, because it takes so long itself.
    pub own_cost_ms: Option<f64>,
    /// Measured: median round trip.
    pub rtt_ms: f64,
    /// Measured: rate, the slower direction.
    pub rate_mbit: f64,
    /// Measured: loss, the mean of both directions.
    pub loss_pct: f64,
    /// Measured: rate towards the host, and towards the mount.
    pub rate_each_mbit: [f64; 2],
    /// Measured: loss towards the host, and towards the mount.
    pub loss_each_pct: [f64; 2],
    /// Congestion control of TCP in the lab.
    pub tcp_congestion_control: String,
    /// Congestion control of Wormhole.
    pub quic_congestion_control: String,
}

/// What a plain bulk transfer from host to mount got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawLink {
    /// `tcp` or `quic`.
    pub protocol: String,
    /// Payload rate of each transfer.
    pub samples_mbit: Vec<f64>,
    /// Their median.
    pub mbit: f64,
    /// Bytes sent again, of all sent.
    pub retransmitted_pct: Option<f64>,
    /// Smoothed round-trip time under load, the median of what was seen.
    pub loaded_rtt_ms: Option<f64>,
}

/// One way to read a distant folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its name in `--peers` and in results.
    pub name: String,
    /// What its programs say.
    pub version: String,
    /// How it was set up, in its own words.
    pub settings: Vec<String>,
    /// What is safe once `close`, and once `fsync`, has returned.
    pub durability: String,
    /// Whether it ran.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The command that makes it available.
    pub install: Option<String>,
}

/// How a workload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It ran to its end in every round.
    Ok,
    /// Its deadline came first in some round; samples are of what was done until then.
    Timeout,
    /// It failed.
    Failed,
    /// The peer, or the machine, cannot do it.
    Unavailable,
}

/// What is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Times and counts of mishaps.
    Lower,
}

/// One peer at one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`PeerInfo::name`].
    pub peer: String,
    /// Name of the workload.
    pub workload: String,
    /// Of the samples: `ms`, `MB/s` (10^6 bytes), `IOPS`, `files/s`, `frames`.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// Every sample, in the order taken.
    pub samples: Vec<f64>,
    /// Percentiles of the samples by rank, on the side of what is worse: for a rate, `p95` is what 95 %
    /// of the samples reach or exceed, and `max` the worst.
    pub p50: Option<f64>,
    /// See `p50`.
    pub p95: Option<f64>,
    /// See `p50`.
    pub p99: Option<f64>,
    /// The worst sample.
    pub max: Option<f64>,
    /// How it ended.
    pub state: State,
    /// Why it is not `ok`, for people.
    pub reason: Option<String>,
    /// For throughput: the median as a share of the rate the self-test measured.
    pub of_link_pct: Option<f64>,
    /// What it cost.
    pub cost: Option<Cost>,
    /// For a sequential read, the first round's: seconds since its start, and bytes read until then.
    pub timeline: Vec<(f64, f64)>,
}

/// What a workload cost, over all rounds. Work the kernel does in threads of its own (NFS) is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time of the client's processes.
    pub client_cpu_s: f64,
    /// Processor time of the server's processes.
    pub server_cpu_s: f64,
    /// Most memory the client's processes held, each at its own peak.
    pub client_peak_bytes: u64,
    /// Most memory the server's processes held, each at its own peak.
    pub server_peak_bytes: u64,
}
