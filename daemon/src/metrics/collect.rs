//! From a report to samples: which field is which metric.

use super::names::{self, Metric};
use super::text::{Sample, Value};
use crate::status::report::{
    ByKind, CacheReport, HostReport, LinkReport, MountReport, Report, Role, ShareReport,
};

/// The samples of a process, those of one metric together, in the order of [`names::ALL`].
pub fn samples(report: &Report) -> Vec<Sample> {
    let mut collected = Collected::default();
    let role = report.role.name().to_owned();
    collected.whole(&names::INFO, &[role, report.version.clone()], 1);
    collected.whole(&names::START_TIME, &[], report.since_unix_secs);
    match &report.role {
        Role::Host(host) => collected.host(host),
        Role::Mount(mount) => collected.mount(mount),
    }
    let mut samples = collected.0;
    let place = |sample: &Sample| names::ALL.iter().position(|m| *m == sample.metric);
    samples.sort_by_key(place);
    samples
}

#[derive(Default)]
struct Collected(Vec<Sample>);

impl Collected {
    fn whole(&mut self, metric: &'static Metric, labels: &[String], n: u64) {
        self.add(metric, labels, Value::Whole(n));
    }

    fn real(&mut self, metric: &'static Metric, labels: &[String], n: f64) {
        self.add(metric, labels, Value::Real(n));
    }

    fn add(&mut self, metric: &'static Metric, labels: &[String], value: Value) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        self.0.push(Sample {
            metric,
            labels: labels.to_vec(),
            value,
        });
    }

    fn by_kind(&mut self, metric: &'static Metric, labels: &[String], counts: &ByKind) {
        for (kind, n) in counts {
            let labels = [labels, std::slice::from_ref(kind)].concat();
            self.whole(metric, &labels, *n);
        }
    }

    fn host(&mut self, host: &HostReport) {
        for share in &host.shares {
            self.share(share);
        }
        self.by_kind(&names::HOST_REFUSALS, &[], &host.refusals);
        self.whole(&names::HOST_TURNED_AWAY, &[], host.turned_away);
        self.whole(&names::HOST_VIOLATIONS, &[], host.violations);
        self.whole(&names::HOST_CONNECTIONS, &[], host.peers.len() as u64);
        for peer in &host.peers {
            let label = [peer.address.clone()];
            self.real(&names::LINK_RTT, &label, peer.rtt_secs);
            self.whole(&names::LINK_SENT_BYTES, &label, peer.wire_sent_bytes);
            let received = peer.wire_received_bytes;
            self.whole(&names::LINK_RECEIVED_BYTES, &label, received);
            self.whole(&names::LINK_LOST_PACKETS, &label, peer.lost_packets);
        }
    }

    fn share(&mut self, share: &ShareReport) {
        let labels = [share.id.clone(), share.name.clone()];
        self.by_kind(&names::HOST_REQUESTS, &labels, &share.requests);
        self.by_kind(&names::HOST_FAULTS, &labels, &share.faults);
        self.whole(&names::HOST_SENT_BYTES, &labels, share.sent_bytes);
        self.whole(&names::HOST_IN_FLIGHT, &labels, share.in_flight);
        let sessions = share.sessions.len() as u64;
        self.whole(&names::HOST_SESSIONS, &labels, sessions);
        self.whole(&names::HOST_SESSIONS_TOTAL, &labels, share.sessions_total);
        self.whole(&names::HOST_STALLS, &labels, share.stalls);
        for (metric, n) in [
            (&names::HOST_WATCHES, share.watches),
            (&names::HOST_LEASES_GRANTED, share.leases_granted),
            (&names::HOST_LEASES_REFUSED, share.leases_refused),
            (&names::HOST_LEASES_EVICTED, share.leases_evicted),
            (&names::HOST_PUSHES, share.pushes),
            (&names::HOST_EVENTS_LOST, share.events_lost),
            (&names::HOST_MOUNTS_FENCED, share.mounts_fenced),
        ] {
            self.whole(metric, &labels, n);
        }
    }

    fn mount(&mut self, mount: &MountReport) {
        self.by_kind(&names::MOUNT_FUSE_REQUESTS, &[], &mount.fuse_requests);
        self.whole(&names::MOUNT_FUSE_IN_FLIGHT, &[], mount.fuse_in_flight);
        self.by_kind(&names::MOUNT_REMOTE_REQUESTS, &[], &mount.remote_requests);
        for (metric, n) in [
            (&names::MOUNT_READ_BYTES, mount.read_bytes),
            (&names::MOUNT_FETCHED_BYTES, mount.fetched_bytes),
            (&names::MOUNT_DISK_READ_BYTES, mount.disk_read_bytes),
            (&names::MOUNT_READAHEAD_BYTES, mount.readahead_bytes),
            (&names::MOUNT_BULK_FILES, mount.bulk_files),
            (&names::MOUNT_BULK_BYTES, mount.bulk_bytes),
            (&names::MOUNT_BULK_USED_BYTES, mount.bulk_used_bytes),
            (&names::MOUNT_PENDING_BYTES, mount.pending_bytes),
            (&names::MOUNT_WRITTEN_BYTES, mount.written_bytes),
            (&names::MOUNT_KEPT_FILES, mount.kept_files),
            (&names::MOUNT_KEPT_BYTES, mount.kept_bytes),
            (&names::MOUNT_OWN_READ_BYTES, mount.own_read_bytes),
            (&names::MOUNT_DIRTY_BYTES, mount.dirty_bytes),
            (&names::MOUNT_PENDING_CHANGES, mount.pending_changes),
            (&names::MOUNT_LOST_CHANGES, mount.lost_changes),
            (&names::MOUNT_WRITE_WAITS, mount.write_waits),
            (&names::MOUNT_FAILED_WRITES, mount.failed_writes),
            (&names::MOUNT_CHANGES, mount.changes),
            (&names::MOUNT_LOCK_REQUESTS, mount.lock_requests),
            (&names::MOUNT_HOST_OPENS, mount.host_opens),
            (&names::MOUNT_LEASES, mount.leases.held),
            (&names::MOUNT_LEASES_ENDED, mount.leases.ended),
            (&names::MOUNT_PUSHES, mount.leases.pushes),
            (&names::MOUNT_PUSHED_NAMES, mount.leases.names),
            (&names::MOUNT_NAMES_FORGOTTEN, mount.leases.names_forgotten),
            (&names::MOUNT_PASSTHROUGH_OPENS, mount.passthrough.opens),
            (
                &names::MOUNT_PASSTHROUGH_FILES,
                mount.passthrough.open_files,
            ),
            (
                &names::MOUNT_PINNED_FILES,
                mount.pins.iter().map(|pin| pin.files).sum(),
            ),
            (&names::MOUNT_CANCELLED, mount.cancelled),
            (&names::MOUNT_DIRECT, mount.direct),
            (&names::MOUNT_KILLED, mount.killed),
            (&names::MOUNT_NODES, mount.nodes),
            (&names::MOUNT_HANDLES, mount.handles),
        ] {
            self.whole(metric, &[], n);
        }
        if let Some(secs) = mount.leases.heard_secs {
            self.real(&names::MOUNT_LEASES_HEARD, &[], secs);
        }
        self.cache("l1", &mount.l1);
        if let Some(l2) = &mount.l2 {
            self.cache("l2", l2);
        }
        self.link(&mount.link, &mount.host);
    }

    fn link(&mut self, link: &LinkReport, peer: &str) {
        let peer = [peer.to_owned()];
        self.whole(&names::LINK_CONNECTED, &[], link.connected.into());
        self.real(&names::LINK_RTT, &peer, link.rtt_secs);
        self.whole(&names::LINK_THROUGHPUT, &[], link.bytes_per_sec);
        self.whole(&names::LINK_RECONNECTS, &[], link.reconnects);
        self.whole(&names::LINK_SENT_BYTES, &peer, link.wire_sent_bytes);
        self.whole(&names::LINK_RECEIVED_BYTES, &peer, link.wire_received_bytes);
        self.whole(&names::LINK_LOST_PACKETS, &peer, link.lost_packets);
    }

    fn cache(&mut self, level: &str, cache: &CacheReport) {
        let labels = [level.to_owned()];
        for (metric, n) in [
            (&names::CACHE_HITS, Some(cache.hits)),
            (&names::CACHE_MISSES, Some(cache.misses)),
            (&names::CACHE_WRITTEN_BYTES, Some(cache.written_bytes)),
            (&names::CACHE_EVICTED_CHUNKS, cache.evicted_chunks),
            (&names::CACHE_EVICTED_BYTES, cache.evicted_bytes),
            (&names::CACHE_CORRUPT, cache.corrupt),
            (&names::CACHE_REFUSED, cache.refused),
            (&names::CACHE_ERRORS, cache.errors),
            (&names::CACHE_HELD_BYTES, Some(cache.held_bytes)),
            (&names::CACHE_BUDGET_BYTES, Some(cache.budget_bytes)),
        ] {
            if let Some(n) = n {
                self.whole(metric, &labels, n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;
    use crate::status::report::{LeaseReport, PeerReport, SessionReport};
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    fn kinds(kinds: &[(&str, u64)]) -> ByKind {
        kinds.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect()
    }

    fn host() -> Report {
        let share = ShareReport {
            id: "ab".into(),
            name: "films".into(),
            sessions: vec![SessionReport::default(); 2],
            requests: kinds(&[("read", 3)]),
            faults: kinds(&[("NotFound", 1)]),
            sent_bytes: 99,
            ..Default::default()
        };
        let host = HostReport {
            shares: vec![
                share.clone(),
                ShareReport {
                    id: "cd".into(),
                    ..share
                },
            ],
            peers: vec![PeerReport {
                address: "192.0.2.1:5".into(),
                rtt_secs: 0.25,
                ..Default::default()
            }],
            refusals: kinds(&[("expired", 4)]),
            ..Default::default()
        };
        Report::own(UNIX_EPOCH, Role::Host(host))
    }

    fn mount() -> Report {
        let mount = MountReport {
            host: "192.0.2.1:7117".into(),
            fuse_requests: kinds(&[("lookup", 1)]),
            remote_requests: kinds(&[("list", 2)]),
            disk_read_bytes: 17,
            leases: LeaseReport {
                heard_secs: Some(0.5),
                ..Default::default()
            },
            l1: CacheReport {
                evicted_chunks: Some(8),
                ..Default::default()
            },
            l2: Some(CacheReport {
                evicted_bytes: Some(6),
                corrupt: Some(5),
                refused: Some(4),
                errors: Some(3),
                ..Default::default()
            }),
            link: LinkReport {
                connected: true,
                ..Default::default()
            },
            ..Default::default()
        };
        Report::own(UNIX_EPOCH, Role::Mount(mount))
    }

    #[test]
    fn the_two_roles_together_fill_every_metric() {
        let filled: BTreeSet<_> = [host(), mount()]
            .iter()
            .flat_map(samples)
            .map(|sample| sample.metric.name)
            .collect();
        let all: BTreeSet<_> = names::ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(filled, all);
    }

    #[test]
    fn values_land_under_their_names() {
        let page = text::page(&samples(&host()));
        for line in [
            "wormhole_host_requests_total{share=\"ab\",name=\"films\",kind=\"read\"} 3",
            "wormhole_host_requests_total{share=\"cd\",name=\"films\",kind=\"read\"} 3",
            "wormhole_host_sent_bytes_total{share=\"ab\",name=\"films\"} 99",
            "wormhole_host_sessions{share=\"cd\",name=\"films\"} 2",
            "wormhole_host_refusals_total{reason=\"expired\"} 4",
            "wormhole_link_rtt_seconds{peer=\"192.0.2.1:5\"} 0.25",
            "wormhole_host_connections 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\nnot in\n{page}");
        }
        let page = text::page(&samples(&mount()));
        for line in [
            "wormhole_mount_disk_read_bytes_total 17",
            "wormhole_cache_corrupt_total{level=\"l2\"} 5",
            "wormhole_cache_evicted_chunks_total{level=\"l1\"} 8",
            "wormhole_link_connected 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\nnot in\n{page}");
        }
    }

    #[test]
    fn each_metric_is_announced_once() {
        for report in [host(), mount()] {
            let page = text::page(&samples(&report));
            let heads: Vec<_> = page.lines().filter(|l| l.starts_with("# TYPE")).collect();
            let unique: BTreeSet<_> = heads.iter().collect();
            assert_eq!(heads.len(), unique.len());
        }
    }
}
