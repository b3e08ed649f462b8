//! Eight mounts and four local programs change and look at the same files, and every look is held against what
//! SEMANTICS promises: a change made through a mount is seen everywhere once it has returned, one made on
//! the host within a bound, and nothing is ever seen that was not there.
//! No lease outlives them; what memory they take over time is printed.
//!
//! `WORMHOLE_COHERENCE_SECONDS` says how long; a minute if it says nothing.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

#[path = "../support/mod.rs"]
mod support;

mod actor;
mod record;

use actor::{Local, Mounter};
use record::{Record, Tally};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::world::{self, Host, Options};
use wormhole::host::ShareRules;
use wormhole::mount::Mounted;
use wormhole_protocol::Access;

const MOUNTS: usize = 8;
const LOCALS: usize = 4;
/// Files of either kind. Few, so that everybody meets.
const FILES: usize = 12;
/// Where they are: the root of the share, and directories in it.
const DIRS: [&str; 3] = ["", "d1/", "d2/"];
/// Of each mount: full within seconds, so that what grows afterwards is something else.
const L1_BYTES: u64 = 1 << 20;
/// Times memory is looked at.
const SAMPLES: u32 = 20;
/// How long a change on the host may take to be seen: half a round trip, the watcher, and a machine that is
/// busy with twelve actors, eight file systems and their host.
const LOCAL_BOUND: Duration = Duration::from_secs(2);

fn seconds() -> u64 {
    let said = std::env::var("WORMHOLE_COHERENCE_SECONDS");
    said.map_or(60, |said| said.parse().unwrap())
}

/// Everything that is changed and looked at.
pub(crate) struct Field {
    /// Changed through mounts.
    remote: Vec<Record>,
    /// Changed on the host.
    local: Vec<Record>,
    stop: AtomicBool,
    tally: Tally,
}

impl Field {
    fn new(share: &Path) -> Self {
        for dir in DIRS {
            std::fs::create_dir_all(share.join(dir)).unwrap();
        }
        let record = |kind: &str, i: usize| format!("{}{kind}{i}", DIRS[i % DIRS.len()]);
        let records = |kind, bound| {
            let names = (0..FILES).map(|i| record(kind, i));
            names.map(|name| Record::new(name, bound)).collect()
        };
        Self {
            remote: records("remote", Duration::ZERO),
            local: records("local", LOCAL_BOUND),
            stop: AtomicBool::new(false),
            tally: Tally::default(),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(SeqCst) || self.tally.is_spoilt()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_mounts_and_four_local_writers_see_what_is_promised() {
    let dir = tempfile::tempdir().unwrap();
    let share = dir.path().join("share");
    let state = dir.path().join("state");
    std::fs::create_dir(&share).unwrap();
    std::fs::create_dir(&state).unwrap();
    let field = Arc::new(Field::new(&share));
    let rules = ShareRules {
        access: Access::ReadWrite,
        ..ShareRules::default()
    };
    let host = Host::start_with(&share, &state, "127.0.0.1:0", rules).await;
    let mut mounts = Vec::new();
    for i in 0..MOUNTS {
        let at = dir.path().join(format!("m{i}"));
        std::fs::create_dir(&at).unwrap();
        let options = Options {
            l1_bytes: L1_BYTES,
            ..Options::default()
        };
        let mounted = world::mount(&host.ticket, &at, &options).await;
        mounts.push(Attached { mounted, at });
    }
    let mut actors = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        let (field, at) = (field.clone(), mount.at.clone());
        let actor = move || Mounter::new(&field, &at, i as u64).act();
        actors.push(tokio::task::spawn_blocking(actor));
    }
    for i in 0..LOCALS {
        let (field, share) = (field.clone(), share.clone());
        let actor = move || Local::new(&field, &share, i as u64).act();
        actors.push(tokio::task::spawn_blocking(actor));
    }
    let resident = run_for(Duration::from_secs(seconds()), &field).await;
    field.stop.store(true, SeqCst);
    for actor in actors {
        actor.await.unwrap();
    }
    println!("{}", field.tally);
    for mount in mounts {
        mount.mounted.unmount().await.unwrap();
    }
    // A session that ends is noticed a moment after it has.
    for _ in 0..200 {
        if host.watches() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(host.watches(), 0, "leases outlive all mounts");
    host.stop().await;
    field.tally.assert_clean();
    println!("resident, from start to end: {resident:?} MiB");
}

/// Lets everybody go on for a while. What this process takes up meanwhile, in MiB.
async fn run_for(time: Duration, field: &Field) -> Vec<u64> {
    let began = Instant::now();
    let mut resident = Vec::new();
    while began.elapsed() < time && !field.tally.is_spoilt() {
        if began.elapsed() >= time * resident.len() as u32 / SAMPLES {
            resident.push(resident_mib());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    resident.push(resident_mib());
    resident
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64 / (1 << 20)
}

struct Attached {
    mounted: Mounted,
    at: std::path::PathBuf,
}
