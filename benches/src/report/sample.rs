//! Runs as they could have been, for tests: two links, five peers, one time-out, one peer missing.
//!
//! Values follow from a rough model of a link and a seed, so that charts have something to show.

use crate::record::{
    Better, Cost, Data, Entry, Environment, Link, Mode, PeerInfo, RawLink, Run, SCHEMA, State,
};
use crate::workload::{WORKLOADS, Workload};

struct Shape {
    profile: &'static str,
    rtt_ms: f64,
    mbit: f64,
    loss_pct: f64,
    tcp_share: f64,
}

/// 50 ms, 100 Mbit/s.
pub(crate) fn wan_good() -> Run {
    run(
        &Shape {
            profile: "wan-good",
            rtt_ms: 50.0,
            mbit: 100.0,
            loss_pct: 0.0,
            tcp_share: 0.93,
        },
        1,
    )
}

/// 150 ms, 10 Mbit/s, 1 % loss; rclone does not finish its sequential read.
pub(crate) fn wan_poor() -> Run {
    run(
        &Shape {
            profile: "wan-poor",
            rtt_ms: 150.0,
            mbit: 10.0,
            loss_pct: 1.0,
            tcp_share: 0.21,
        },
        2,
    )
}

pub(crate) fn runs() -> Vec<Run> {
    vec![wan_good(), wan_poor()]
}

/// The same measured again: other noise, and `factor` times as slow in what `slow` picks.
pub(crate) fn again(run: &Run, seed: u64, factor: f64, slow: impl Fn(&Entry) -> bool) -> Run {
    let mut run = run.clone();
    for entry in &mut run.results {
        let mut noise = Noise::new(seed ^ hash(&entry.peer) ^ hash(&entry.workload));
        // A shared machine: the whole row may be off, and each sample is.
        let drift = 0.88 + noise.unit() * 0.24;
        let slowed = if slow(entry) { factor } else { 1.0 };
        for value in &mut entry.samples {
            let times = drift * noise.around(0.1) * slowed;
            *value = match entry.better {
                Better::Lower => *value * times,
                Better::Higher => *value / times,
            };
        }
        summarise(entry);
    }
    run
}

fn run(shape: &Shape, seed: u64) -> Run {
    let peers = ["wormhole", "sshfs", "sshfs-tuned", "rclone", "local"];
    let mut results = Vec::new();
    for peer in peers {
        for workload in WORKLOADS {
            results.push(entry(shape, peer, workload, seed));
        }
    }
    Run {
        schema: SCHEMA,
        profile: shape.profile.to_owned(),
        started: "2025-03-14T09:26:53Z".to_owned(),
        seconds: 412.0,
        mode: Mode::Standard,
        data: Data::Random,
        seed: 7,
        rounds: 3,
        command: ["wormhole", "bench", "--profile", shape.profile, "--peers"]
            .into_iter()
            .map(str::to_owned)
            .chain([
                "wormhole,sshfs,nfs,rclone,local".to_owned(),
                "--seed".to_owned(),
                "7".to_owned(),
            ])
            .collect(),
        environment: environment(),
        link: link(shape),
        raw: vec![
            raw("tcp", shape.mbit * shape.tcp_share),
            raw("quic", shape.mbit * 0.95),
        ],
        peers: peers.into_iter().map(peer_info).chain([nfs()]).collect(),
        results,
        warnings: vec![
            "another program used the machine: load average 1.4 when the run began".into(),
        ],
    }
}

fn environment() -> Environment {
    Environment {
        wormhole: "0.1.0".into(),
        kernel: "6.18.0".into(),
        cpu: "AMD EPYC 9B14".into(),
        cores: 2,
        memory_bytes: 24 << 30,
        file_system: "ext4".into(),
        drops_page_cache: true,
        load: 1.4,
    }
}

fn link(shape: &Shape) -> Link {
    Link {
        backend: "tun".into(),
        asked_rtt_ms: shape.rtt_ms,
        asked_rate_mbit: Some(shape.mbit),
        asked_loss_pct: shape.loss_pct,
        asked_jitter_ms: 0.0,
        bursts: false,
        queue_bytes: Some(625_000),
        own_cost_ms: Some(0.037),
        rtt_ms: shape.rtt_ms + 0.3,
        rate_mbit: shape.mbit * 0.99,
        loss_pct: shape.loss_pct * 1.02,
        rate_each_mbit: [shape.mbit * 0.99, shape.mbit * 0.995],
        loss_each_pct: [shape.loss_pct, shape.loss_pct * 1.04],
        tcp_congestion_control: "cubic".into(),
        quic_congestion_control: "wormhole".into(),
    }
}

fn raw(protocol: &str, mbit: f64) -> RawLink {
    RawLink {
        protocol: protocol.into(),
        samples_mbit: vec![mbit * 0.98, mbit, mbit * 1.01],
        mbit,
        retransmitted_pct: Some(1.3),
        loaded_rtt_ms: Some(180.0),
    }
}

fn peer_info(name: &str) -> PeerInfo {
    PeerInfo {
        name: name.to_owned(),
        version: match name {
            "wormhole" => "wormhole 0.1.0".into(),
            "rclone" => "rclone v1.69.1".into(),
            "local" => "ext4".into(),
            _ => "SSHFS version 3.7.3, OpenSSH_9.9p1".into(),
        },
        settings: match name {
            "sshfs-tuned" => vec!["max_conns=4".into(), "compression=no".into()],
            "rclone" => vec![
                "--vfs-cache-mode full".into(),
                "--vfs-read-chunk-streams 4".into(),
            ],
            _ => Vec::new(),
        },
        durability: match name {
            "rclone" => "close: in the local cache only; fsync: the same".into(),
            "wormhole" => "close: applied on the host; fsync: on the host's disk".into(),
            _ => "close: in the server's memory; fsync: on the server's disk".into(),
        },
        available: true,
        reason: None,
        install: None,
    }
}

fn nfs() -> PeerInfo {
    PeerInfo {
        name: "nfs".into(),
        version: String::new(),
        settings: Vec::new(),
        durability: String::new(),
        available: false,
        reason: Some("this kernel has no NFS client".into()),
        install: Some("apt-get install nfs-common nfs-kernel-server".into()),
    }
}

fn entry(shape: &Shape, peer: &str, workload: &Workload, seed: u64) -> Entry {
    let mut noise = Noise::new(seed ^ hash(peer) ^ hash(workload.name));
    let middle = middle(shape, peer, workload.name);
    let count = match workload.unit {
        "ms" if workload.name == "mount" => 3,
        "ms" => 30,
        _ => 3,
    };
    let samples = (0..count)
        .map(|_| {
            if middle == 0.0 {
                0.0
            } else {
                middle * noise.around(0.08)
            }
        })
        .collect();
    let mut entry = Entry {
        peer: peer.into(),
        workload: workload.name.into(),
        unit: workload.unit.into(),
        better: workload.better,
        samples,
        p50: None,
        p95: None,
        p99: None,
        max: None,
        state: State::Ok,
        reason: None,
        of_link_pct: None,
        cost: Some(Cost {
            client_cpu_s: 0.4 * noise.around(0.3),
            server_cpu_s: 0.3 * noise.around(0.3),
            client_peak_bytes: 90 << 20,
            server_peak_bytes: 40 << 20,
        }),
        timeline: Vec::new(),
    };
    mark(&mut entry, shape);
    summarise(&mut entry);
    if entry.unit == "MB/s" {
        entry.of_link_pct = entry
            .p50
            .map(|rate| rate * 8.0 / (shape.mbit * 0.99) * 100.0);
    }
    if entry.workload == "seq-read-cold" {
        entry.timeline = timeline(&mut noise, entry.samples[0] * 1e6, shape.mbit * 1e6);
    }
    entry
}

/// What did not go well.
fn mark(entry: &mut Entry, shape: &Shape) {
    let poor = shape.profile == "wan-poor";
    if poor && entry.peer == "rclone" && entry.workload == "seq-read-cold" {
        entry.state = State::Timeout;
        entry.reason = Some("timed out after 120 s at 37 %".into());
        entry.samples.truncate(1);
    }
    let writes = matches!(
        entry.workload.as_str(),
        "write-seq" | "create" | "create-16" | "create-fsync"
    );
    if writes && entry.peer == "rclone" {
        entry.state = State::Unavailable;
        entry.reason = Some("mounts of rclone are read-only".into());
        entry.samples.clear();
    }
}

/// Roughly what a link of this shape would give.
fn middle(shape: &Shape, peer: &str, workload: &str) -> f64 {
    let rtt = shape.rtt_ms;
    let line = shape.mbit / 8.0;
    if peer == "local" {
        return local(workload);
    }
    let ours = peer == "wormhole";
    let trips = if ours {
        1.03
    } else if peer == "rclone" {
        6.2
    } else {
        3.1
    };
    let share = match peer {
        "wormhole" => 0.94,
        "sshfs" => shape.tcp_share * 0.8,
        "sshfs-tuned" => (shape.tcp_share * 2.9).min(0.91),
        _ => shape.tcp_share * 0.5,
    };
    match workload {
        "mount" => rtt * if ours { 4.2 } else { 12.0 },
        "first-byte-cold" => rtt * trips,
        "first-byte-warm" if peer == "sshfs" => 0.05,
        "first-byte-warm" => 0.09,
        "seq-read-cold" | "parallel-4" | "concurrent-10" | "write-seq" => line * share,
        "seq-read-again" => 2200.0,
        "seq-read-dropped" if ours || peer == "rclone" => 700.0,
        "seq-read-dropped" => line * share,
        "scrub" if ours => 0.0,
        "scrub" => 60.0 / share,
        "random-qd1" => 1000.0 / rtt * 0.97,
        "random-qd16" => (16_000.0 / rtt * share).min(line * 250.0),
        "stat-cold" => rtt * (trips / 2.0).max(1.02),
        "stat-warm" => 0.012,
        "readdir-names" | "readdir-attrs" => rtt * trips * 1.5,
        "walk-cold" if ours => 5200.0,
        "walk-cold" => 4000.0 / rtt * 2.0,
        "walk-again" => 60_000.0,
        // Somewhere it must lose, to see how that looks.
        "create-fsync" if ours => 200.0 / rtt,
        "small-serial" => 1000.0 / rtt / trips * if ours { 20.0 } else { 1.0 },
        _ => 8000.0 / rtt * share,
    }
}

fn local(workload: &str) -> f64 {
    match workload {
        "scrub" => 0.0,
        "mount" => 1.1,
        name if name.starts_with("first") || name.starts_with("stat") => 0.02,
        name if name.starts_with("readdir") => 1.3,
        name if name.starts_with("seq") || name.starts_with("para") => 900.0,
        _ => 20_000.0,
    }
}

fn timeline(noise: &mut Noise, bytes_per_s: f64, line_bits: f64) -> Vec<(f64, f64)> {
    let total = (line_bits / 8.0 * 20.0).min(120e6);
    let seconds = total / bytes_per_s.max(1.0);
    let (mut at, mut done) = (0.0, 0.0);
    let mut points = vec![(0.0, 0.0)];
    for _ in 0..60 {
        at += seconds / 60.0;
        let room = line_bits / 8.0 * seconds / 60.0;
        let step = bytes_per_s * seconds / 60.0 * noise.around(0.6);
        done = f64::min(done + step.min(room), total);
        points.push((at, done));
    }
    points
}

pub(crate) fn summarise(entry: &mut Entry) {
    let mut sorted = entry.samples.clone();
    sorted.sort_by(f64::total_cmp);
    if entry.better == Better::Higher {
        sorted.reverse();
    }
    let rank = |share: usize| {
        let at = (sorted.len() * share).div_ceil(100).max(1) - 1;
        sorted.get(at).copied()
    };
    (entry.p50, entry.p95) = (rank(50), rank(95));
    (entry.p99, entry.max) = (rank(99), sorted.last().copied());
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A small generator (splitmix64), the same on every machine.
struct Noise(u64);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About 1, seldom farther off than `spread`, with a tail to the slow side now and then.
    fn around(&mut self, spread: f64) -> f64 {
        let even = 1.0 + (self.unit() + self.unit() - 1.0) * spread;
        if self.unit() > 0.95 {
            even * (1.0 + spread * 4.0)
        } else {
            even
        }
    }
}
