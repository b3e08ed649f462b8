//! Every metric: its name, kind, labels and meaning.
//!
//! `docs/METRICS.md` lists the same, which a test keeps. Names follow the conventions of Prometheus:
//! base units (seconds, bytes) last, counters end in `_total`. A name once published is not reused for
//! something else.

/// What a metric's value does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// As the text format names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($ident:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $ident: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All of them, in the order they are documented and written.
        pub static ALL: &[&Metric] = &[$(&$ident),*];
    };
}

metrics! {
    INFO = Gauge "wormhole_info" ["role", "version"] "Always 1; its labels say what runs.";
    START_TIME = Gauge "wormhole_start_time_seconds" [] "When the process started, seconds since 1970.";

    HOST_REQUESTS = Counter "wormhole_host_requests_total" ["share", "name", "kind"] "Requests begun, by kind.";
    HOST_FAULTS = Counter "wormhole_host_faults_total" ["share", "name", "fault"] "Requests answered or broken off with a fault, by fault.";
    HOST_SENT_BYTES = Counter "wormhole_host_sent_bytes_total" ["share", "name"] "Payload handed to the transport: file contents and listings.";
    HOST_IN_FLIGHT = Gauge "wormhole_host_requests_in_flight" ["share", "name"] "Requests being answered.";
    HOST_SESSIONS = Gauge "wormhole_host_sessions" ["share", "name"] "Mounts that are there.";
    HOST_SESSIONS_TOTAL = Counter "wormhole_host_sessions_total" ["share", "name"] "Mounts admitted, reconnects included.";
    HOST_STALLS = Counter "wormhole_host_stalls_total" ["share", "name"] "Replies broken off because the mount took nothing for too long.";
    HOST_WATCHES = Gauge "wormhole_host_watches" ["share", "name"] "Directories that are watched for mounts with leases.";
    HOST_LEASES_GRANTED = Counter "wormhole_host_leases_granted_total" ["share", "name"] "Leases granted, each time with an answer.";
    HOST_LEASES_REFUSED = Counter "wormhole_host_leases_refused_total" ["share", "name"] "Answers without a lease because the directory could not be watched.";
    HOST_LEASES_EVICTED = Counter "wormhole_host_leases_evicted_total" ["share", "name"] "Directories whose leases were ended to make room for others.";
    HOST_PUSHES = Counter "wormhole_host_pushes_total" ["share", "name"] "Pushes sent to mounts.";
    HOST_EVENTS_LOST = Counter "wormhole_host_events_lost_total" ["share", "name"] "Times the kernel lost events of watched directories, so that all leases ended.";
    HOST_MOUNTS_FENCED = Counter "wormhole_host_mounts_fenced_total" ["share", "name"] "Times a mount lost its leases for letting others wait in vain.";
    HOST_REFUSALS = Counter "wormhole_host_refusals_total" ["reason"] "Hellos refused, by reason.";
    HOST_TURNED_AWAY = Counter "wormhole_host_turned_away_total" [] "Connections turned away before or at their hello.";
    HOST_VIOLATIONS = Counter "wormhole_host_violations_total" [] "Connections closed for breaking the protocol.";
    HOST_CONNECTIONS = Gauge "wormhole_host_connections" [] "Connections that are there.";

    MOUNT_FUSE_REQUESTS = Counter "wormhole_mount_fuse_requests_total" ["op"] "Requests of the kernel, by operation.";
    MOUNT_FUSE_IN_FLIGHT = Gauge "wormhole_mount_fuse_requests_in_flight" [] "Requests of the kernel being answered.";
    MOUNT_REMOTE_REQUESTS = Counter "wormhole_mount_remote_requests_total" ["kind"] "Requests to the host, by kind; those of kind renewal nobody waited for.";
    MOUNT_READ_BYTES = Counter "wormhole_mount_read_bytes_total" [] "Bytes of files given to programs.";
    MOUNT_FETCHED_BYTES = Counter "wormhole_mount_fetched_bytes_total" [] "Bytes of files sent by the host.";
    MOUNT_DISK_READ_BYTES = Counter "wormhole_mount_disk_read_bytes_total" [] "Bytes of files taken from the disk cache.";
    MOUNT_READAHEAD_BYTES = Counter "wormhole_mount_readahead_bytes_total" [] "Bytes of files asked of the host ahead of need.";
    MOUNT_BULK_FILES = Counter "wormhole_mount_bulk_files_total" [] "Small files sent by the host before a program asked for them.";
    MOUNT_BULK_BYTES = Counter "wormhole_mount_bulk_bytes_total" [] "Their bytes.";
    MOUNT_BULK_USED_BYTES = Counter "wormhole_mount_bulk_used_bytes_total" [] "Bytes of those that programs read since; the rest came in vain, so far.";
    MOUNT_PENDING_BYTES = Gauge "wormhole_mount_pending_bytes" [] "Bytes of files under way.";
    MOUNT_WRITTEN_BYTES = Counter "wormhole_mount_written_bytes_total" [] "Bytes of files that programs wrote.";
    MOUNT_KEPT_FILES = Counter "wormhole_mount_kept_files_total" [] "Files that programs wrote whole, and that went to the caches once the host had vouched for them.";
    MOUNT_KEPT_BYTES = Counter "wormhole_mount_kept_bytes_total" [] "Their bytes.";
    MOUNT_OWN_READ_BYTES = Counter "wormhole_mount_own_read_bytes_total" [] "Bytes that programs read of files made or emptied here, from what was written to them.";
    MOUNT_DIRTY_BYTES = Gauge "wormhole_mount_dirty_bytes" [] "Bytes that were written and the host has not answered for yet.";
    MOUNT_PENDING_CHANGES = Gauge "wormhole_mount_pending_changes" [] "Changes that programs were told are done and the host has not answered (durability memory).";
    MOUNT_LOST_CHANGES = Counter "wormhole_mount_lost_changes_total" [] "Of such changes, those that failed.";
    MOUNT_WRITE_WAITS = Counter "wormhole_mount_write_waits_total" [] "Times a program waited for room before it could write.";
    MOUNT_FAILED_WRITES = Counter "wormhole_mount_failed_writes_total" [] "Pieces of what was written that could not be brought to the host.";
    MOUNT_CHANGES = Counter "wormhole_mount_changes_total" [] "Changes asked of the host.";
    MOUNT_LOCK_REQUESTS = Counter "wormhole_mount_lock_requests_total" [] "Requests for locks.";
    MOUNT_HOST_OPENS = Gauge "wormhole_mount_host_opens" [] "Files the host keeps open for this mount.";
    MOUNT_LEASES = Gauge "wormhole_mount_leases" [] "Directories of which the host tells what changes in them.";
    MOUNT_LEASES_ENDED = Counter "wormhole_mount_leases_ended_total" [] "Times the host ended a lease, or all.";
    MOUNT_LEASES_HEARD = Gauge "wormhole_mount_leases_heard_seconds" [] "How long ago the host was last heard about leases; absent if never.";
    MOUNT_PUSHES = Counter "wormhole_mount_pushes_total" [] "Changes the host told of, in batches.";
    MOUNT_PUSHED_NAMES = Counter "wormhole_mount_pushed_names_total" [] "Names in these.";
    MOUNT_NAMES_FORGOTTEN = Counter "wormhole_mount_names_forgotten_total" [] "Times the kernel was told to forget where names lead.";
    MOUNT_PASSTHROUGH_OPENS = Counter "wormhole_mount_passthrough_opens_total" [] "Opens of files that the kernel reads from the disk cache by itself.";
    MOUNT_PASSTHROUGH_FILES = Gauge "wormhole_mount_passthrough_files" [] "Such files that are open.";
    MOUNT_PINNED_FILES = Gauge "wormhole_mount_pinned_files" [] "Files that stay in the disk cache.";
    MOUNT_CANCELLED = Counter "wormhole_mount_cancelled_total" [] "Fetches broken off because the reader went elsewhere.";
    MOUNT_DIRECT = Counter "wormhole_mount_direct_reads_total" [] "Reads answered past the caches because the file kept changing.";
    MOUNT_KILLED = Counter "wormhole_mount_killed_total" [] "Requests of the kernel given up because their caller was killed.";
    MOUNT_NODES = Gauge "wormhole_mount_nodes" [] "Files and directories the kernel knows.";
    MOUNT_HANDLES = Gauge "wormhole_mount_handles" [] "Open files and directories.";

    CACHE_HITS = Counter "wormhole_cache_hits_total" ["level"] "Questions a cache could answer; level is l1 (memory) or l2 (disk).";
    CACHE_MISSES = Counter "wormhole_cache_misses_total" ["level"] "Questions a cache could not answer.";
    CACHE_WRITTEN_BYTES = Counter "wormhole_cache_written_bytes_total" ["level"] "Bytes put into a cache.";
    CACHE_EVICTED_CHUNKS = Counter "wormhole_cache_evicted_chunks_total" ["level"] "Chunks given up for lack of room (l1).";
    CACHE_EVICTED_BYTES = Counter "wormhole_cache_evicted_bytes_total" ["level"] "Bytes given up for lack of room (l2).";
    CACHE_CORRUPT = Counter "wormhole_cache_corrupt_total" ["level"] "Chunks whose content did not match their checksum (l2).";
    CACHE_REFUSED = Counter "wormhole_cache_refused_total" ["level"] "Chunks not kept because the disk was too slow or had failed (l2).";
    CACHE_ERRORS = Counter "wormhole_cache_errors_total" ["level"] "Errors of the file system (l2).";
    CACHE_HELD_BYTES = Gauge "wormhole_cache_held_bytes" ["level"] "Bytes a cache holds.";
    CACHE_BUDGET_BYTES = Gauge "wormhole_cache_budget_bytes" ["level"] "Bytes a cache may hold.";

    LINK_CONNECTED = Gauge "wormhole_link_connected" [] "1 while the mount is connected to its host, else 0.";
    LINK_RTT = Gauge "wormhole_link_rtt_seconds" ["peer"] "Smoothed round-trip time.";
    LINK_THROUGHPUT = Gauge "wormhole_link_throughput_bytes_per_second" [] "Highest rate at which payload arrived lately.";
    LINK_RECONNECTS = Counter "wormhole_link_reconnects_total" [] "Times the connection was made again after a loss.";
    LINK_SENT_BYTES = Counter "wormhole_link_wire_sent_bytes_total" ["peer"] "Bytes sent over the connection, with everything QUIC adds.";
    LINK_RECEIVED_BYTES = Counter "wormhole_link_wire_received_bytes_total" ["peer"] "Bytes received over the connection, with everything QUIC adds.";
    LINK_LOST_PACKETS = Counter "wormhole_link_lost_packets_total" ["peer"] "Packets sent over the connection and lost.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn names_are_unique_well_formed_and_say_their_kind() {
        for (i, metric) in ALL.iter().enumerate() {
            let name = metric.name;
            assert!(name.starts_with("wormhole_"), "{name}");
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            assert!(metric.help.ends_with('.'), "{name}");
            assert!(ALL[..i].iter().all(|other| other.name != name), "{name}");
        }
    }

    #[test]
    fn the_document_lists_exactly_these() {
        let mut rows = String::new();
        for metric in ALL {
            let labels: Vec<_> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            writeln!(
                rows,
                "| `{}` | {} | {} | {} |",
                metric.name,
                metric.kind.name(),
                labels.join(", "),
                metric.help
            )
            .unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md");
        let document = std::fs::read_to_string(path).unwrap();
        let listed: String = document
            .lines()
            .filter(|line| line.starts_with("| `wormhole_"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            listed, rows,
            "docs/METRICS.md must hold these rows:\n{rows}"
        );
    }
}
