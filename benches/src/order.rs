//! What is to be done in a sandbox, as it is handed to its first process.

use crate::record::{Data, Mode};
use crate::workload::Family;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use wormhole_netem::{Backend, Profile};

/// The link to lay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkOrder {
    /// What it is like.
    pub profile: Profile,
    /// How it is to be emulated, if that was said.
    pub backend: Option<Backend>,
    /// Congestion control of TCP at both ends; the kernel's default if not said.
    pub congestion_control: Option<String>,
    /// What the fate of packets, files and positions are derived from.
    pub seed: u64,
}

/// What to measure on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunOrder {
    /// The link.
    pub link: LinkOrder,
    /// How thoroughly.
    pub mode: Mode,
    /// With which data.
    pub data: Data,
    /// What to measure.
    pub families: Vec<Family>,
    /// Whom to measure; whoever is available if none is named.
    pub peers: Vec<String>,
    /// TOML of peers the user brought.
    pub own_peers: Option<String>,
    /// How often each peer has its turn; what the mode says if not said.
    pub rounds: Option<u32>,
    /// Where to put a flame graph of Wormhole's processes for each workload.
    pub flamegraphs: Option<PathBuf>,
    /// The `wormhole` under test.
    pub program: PathBuf,
    /// The command that was given, for the report.
    pub command: Vec<String>,
}
