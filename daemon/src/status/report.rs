//! The report of a process: the JSON behind `wormhole status --json`, and the numbers behind
//! `--metrics`.
//!
//! The rooms keep counters of their own; these plain structs are the one form in which they leave the
//! process. Fields are only ever added, and every field may be missing when read, so that processes
//! of different versions can be shown together.
//!
//! Units stand last in the names; counters count since the process started.

use crate::path_text::PathText;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// A counter for each of several kinds.
pub type ByKind = BTreeMap<String, u64>;

/// A process, now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Process id.
    pub pid: u32,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// When it started, seconds since 1970.
    #[serde(default)]
    pub since_unix_secs: u64,
    /// What it does.
    #[serde(flatten)]
    pub role: Role,
}

/// What a process does.
#[expect(clippy::large_enum_variant, reason = "a handful of them, on demand")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Role {
    /// It shares folders.
    Host(HostReport),
    /// It mounts one.
    Mount(MountReport),
}

impl Role {
    /// `host` or `mount`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Mount(_) => "mount",
        }
    }
}

/// A host process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostReport {
    /// Where it listens.
    pub listening: Vec<String>,
    /// The addresses in its tickets.
    pub addresses: Vec<String>,
    /// What it shares.
    pub shares: Vec<ShareReport>,
    /// Connections that live.
    pub peers: Vec<PeerReport>,
    /// Hellos refused, by reason.
    pub refusals: ByKind,
    /// Connections turned away before or at their hello.
    pub turned_away: u64,
    /// Connections closed for breaking the protocol.
    pub violations: u64,
}

/// A share of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShareReport {
    /// Its identity, in hex.
    pub id: String,
    /// Its name, control characters escaped.
    pub name: String,
    /// Its folder, control characters escaped.
    pub folder: String,
    /// What mounts may do at the most: `read-only` or `read-write`.
    pub access: String,
    /// Mounts that are there.
    pub sessions: Vec<SessionReport>,
    /// Sessions admitted.
    pub sessions_total: u64,
    /// Requests, by kind.
    pub requests: ByKind,
    /// Faults answered, by fault.
    pub faults: ByKind,
    /// Requests being answered.
    pub in_flight: u64,
    /// Payload sent: contents and listings.
    pub sent_bytes: u64,
    /// Replies broken off because the mount took nothing for too long.
    pub stalls: u64,
    /// Directories that are watched for mounts.
    pub watches: u64,
    /// Leases granted, each time with an answer.
    pub leases_granted: u64,
    /// Answers to mounts that listen without a lease, because the directory could not be watched.
    pub leases_refused: u64,
    /// Directories whose leases were ended to make room for others.
    pub leases_evicted: u64,
    /// Pushes sent to mounts.
    pub pushes: u64,
    /// Times the kernel lost events, so that all leases ended.
    pub events_lost: u64,
    /// Times a mount lost its leases for letting others wait in vain.
    pub mounts_fenced: u64,
}

/// A mount, as the host sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionReport {
    /// First digits of its id.
    pub mount: String,
    /// When it came, seconds since 1970.
    pub since_unix_secs: u64,
    /// What it may do: `read-only` or `read-write`.
    pub access: String,
    /// Requests it made.
    pub requests: u64,
    /// Payload sent to it.
    pub sent_bytes: u64,
    /// Directories it holds leases on.
    pub leases: u64,
    /// Pushes that wait for it.
    pub pushes_waiting: u64,
}

/// A connection of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerReport {
    /// The other end.
    pub address: String,
    /// Smoothed round-trip time in seconds.
    pub rtt_secs: f64,
    /// Sent, with everything QUIC adds.
    pub wire_sent_bytes: u64,
    /// Received, with everything QUIC adds.
    pub wire_received_bytes: u64,
    /// Packets lost on the way out.
    pub lost_packets: u64,
}

/// A mount process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountReport {
    /// Where it is mounted.
    pub mountpoint: PathText,
    /// The share's name, control characters escaped.
    pub share: String,
    /// The share's identity, in hex.
    pub share_id: String,
    /// The addresses in the ticket.
    pub host: String,
    /// The connection to the host.
    pub link: LinkReport,
    /// What programs asked of the kernel and the kernel of us, by operation.
    pub fuse_requests: ByKind,
    /// Of these, being answered.
    pub fuse_in_flight: u64,
    /// What we asked of the host, by kind.
    pub remote_requests: ByKind,
    /// Requests of the kernel given up because their caller was killed.
    pub killed: u64,
    /// Bytes of files that programs were given.
    pub read_bytes: u64,
    /// Bytes of files that the host sent.
    pub fetched_bytes: u64,
    /// Bytes of files that came from the disk cache.
    pub disk_read_bytes: u64,
    /// Bytes of files asked of the host ahead of need.
    pub readahead_bytes: u64,
    /// Small files fetched before anybody asked for them.
    pub bulk_files: u64,
    /// Their bytes.
    pub bulk_bytes: u64,
    /// Bytes of those that were read since.
    pub bulk_used_bytes: u64,
    /// Bytes of files under way.
    pub pending_bytes: u64,
    /// What may be done: `read-only` or `read-write`.
    pub access: String,
    /// When programs are told that what they changed is done: `strict` or `memory`.
    pub durability: String,
    /// Changes programs were told are done, and the host has not answered.
    pub pending_changes: u64,
    /// Of such changes, those the host refused or never heard of.
    pub lost_changes: u64,
    /// The latest of these.
    pub losses: Vec<LossReport>,
    /// Bytes that programs wrote.
    pub written_bytes: u64,
    /// Files that programs wrote whole, and that are in the caches now.
    pub kept_files: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Bytes that programs read of files made or emptied here, from what was written to them.
    pub own_read_bytes: u64,
    /// Bytes that programs wrote and the host has not answered for yet.
    pub dirty_bytes: u64,
    /// Times a program waited for room before it could write.
    pub write_waits: u64,
    /// Pieces of what was written that could not be brought to the host.
    pub failed_writes: u64,
    /// Changes asked of the host.
    pub changes: u64,
    /// Requests for locks.
    pub lock_requests: u64,
    /// Files the host keeps open for this mount.
    pub host_opens: u64,
    /// What the host promised to speak of before it changes.
    pub leases: LeaseReport,
    /// Fetches broken off because the reader went elsewhere.
    pub cancelled: u64,
    /// Reads answered past the caches because the file kept changing.
    pub direct: u64,
    /// The memory cache.
    pub l1: CacheReport,
    /// The disk cache, if there is one.
    pub l2: Option<CacheReport>,
    /// Why there is no disk cache although one was asked for.
    pub l2_note: Option<String>,
    /// What stays in the disk cache.
    pub pins: Vec<PinReport>,
    /// Files the kernel reads from the disk cache by itself.
    pub passthrough: PassthroughReport,
    /// Files and directories the kernel knows.
    pub nodes: u64,
    /// Open files and directories.
    pub handles: u64,
}

/// A change that programs were told is done, and is not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossReport {
    /// Of what, beneath the mount point.
    pub path: PathText,
    /// Why.
    pub why: String,
}

/// The leases of a mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseReport {
    /// Directories on which there is one.
    pub held: u64,
    /// Whether they are believed now: not between two uses that are far apart, nor for long without a connection.
    pub live: bool,
    /// How long they last after the host was asked; none if it gives no leases.
    pub term_secs: Option<f64>,
    /// How long ago the host was last heard about them.
    pub heard_secs: Option<f64>,
    /// What the host told unasked.
    pub pushes: u64,
    /// Names it told of.
    pub names: u64,
    /// How often it was told how far this mount has heard.
    pub acknowledged: u64,
    /// Leases the host ended.
    pub ended: u64,
    /// How often the kernel was told to forget where names lead.
    pub names_forgotten: u64,
}

/// The connection of a mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkReport {
    /// Whether it is there now.
    pub connected: bool,
    /// For how long it has been, or has not.
    pub since_secs: u64,
    /// What the last failed attempt said, while it is not there.
    pub last_error: Option<String>,
    /// Smoothed round-trip time in seconds.
    pub rtt_secs: f64,
    /// Highest rate at which payload arrived lately; 0 if unknown.
    pub bytes_per_sec: u64,
    /// Times it was made again after a loss.
    pub reconnects: u64,
    /// Sent over this connection, with everything QUIC adds.
    pub wire_sent_bytes: u64,
    /// Received over this connection, with everything QUIC adds.
    pub wire_received_bytes: u64,
    /// Packets lost on the way out.
    pub lost_packets: u64,
}

/// A subtree that stays in the disk cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PinReport {
    /// Beneath the mount point.
    pub path: PathText,
    /// Files in it.
    pub files: u64,
    /// The room they take when all of them are here.
    pub bytes: u64,
    /// What is the matter with it, if anything is.
    pub note: Option<String>,
}

/// Files the kernel reads from the disk cache by itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassthroughReport {
    /// Why it reads none, if it does not.
    pub note: Option<String>,
    /// Opens since mounting.
    pub opens: u64,
    /// Files that are open now.
    pub open_files: u64,
    /// Some of them, beneath the mount point.
    pub files: Vec<PathText>,
}

/// A cache.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheReport {
    /// Questions it could answer.
    pub hits: u64,
    /// Questions it could not.
    pub misses: u64,
    /// What it holds.
    pub held_bytes: u64,
    /// What it may hold.
    pub budget_bytes: u64,
    /// Chunks given up for lack of room; memory only.
    pub evicted_chunks: Option<u64>,
    /// Bytes given up for lack of room; disk only.
    pub evicted_bytes: Option<u64>,
    /// Chunks whose content did not match their checksum, refetched; disk only.
    pub corrupt: Option<u64>,
    /// Bytes put in.
    pub written_bytes: u64,
    /// Chunks not kept because the disk was too slow or had failed; disk only.
    pub refused: Option<u64>,
    /// Errors of the file system; disk only.
    pub errors: Option<u64>,
}

impl CacheReport {
    /// Hits of all questions, 0 to 1; `None` before the first question.
    pub fn hit_rate(&self) -> Option<f64> {
        let asked = self.hits.saturating_add(self.misses);
        #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
        (asked > 0).then(|| self.hits as f64 / asked as f64)
    }
}

impl Report {
    /// The report of this process.
    pub fn own(since: SystemTime, role: Role) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since_unix_secs: unix_secs(since),
            role,
        }
    }
}

/// Seconds since 1970; 0 for anything before.
pub fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_flat_object_and_reads_back() {
        let report = Report::own(
            UNIX_EPOCH,
            Role::Mount(MountReport {
                mountpoint: "/mnt/a b".into(),
                ..Default::default()
            }),
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["role"], "mount");
        assert_eq!(json["mountpoint"], "/mnt/a b");
        assert_eq!(json["pid"], std::process::id());
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let json = r#"{"pid":7,"role":"host","shares":[{"name":"x","news":1}],"later":{}}"#;
        let report: Report = serde_json::from_str(json).unwrap();
        let Role::Host(host) = report.role else {
            panic!("a host")
        };
        assert_eq!(host.shares[0].name, "x");
    }

    #[test]
    fn a_hit_rate_needs_a_question() {
        let mut cache = CacheReport::default();
        assert_eq!(cache.hit_rate(), None);
        cache.hits = 3;
        cache.misses = 1;
        assert_eq!(cache.hit_rate(), Some(0.75));
    }
}
