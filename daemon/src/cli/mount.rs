//! `wormhole mount`: from a ticket to files, and back to an empty directory.

use super::host::{bind_metrics, bind_status};
use super::plan::MountOrder;
use super::{daemonize, orders, output, process};
use crate::config::{MountPlan, OwnerMode};
use crate::mount::fuse::{FuseOptions, Owner};
use crate::mount::lease::LeaseSnapshot;
use crate::mount::mountpoint::{self, Unmount};
use crate::mount::pending::Loss;
use crate::mount::pins::PinSnapshot;
use crate::mount::stats::LeaseCounts;
use crate::mount::{MountConfig, MountSnapshot, Mounted};
use crate::path_text::PathText;
use crate::shutdown::Shutdown;
use crate::status::report::{
    ByKind, CacheReport, LeaseReport, LinkReport, LossReport, MountReport, PassthroughReport,
    PinReport, Report, Role,
};
use crate::status::socket::Reporter;
use crate::transport::Dialer;
use anyhow::bail;
use sd_notify::NotifyState;
use serde::Serialize;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};
use wormhole_cache::{DiskConfig, DiskStats, MemoryStats};
use wormhole_protocol::{MountId, Ticket};

/// Threads that take requests from the kernel; more gained nothing, and each holds a large buffer.
const SESSION_THREADS: usize = 2;
/// Pause between two looks whether a report that is being made is done.
const REPORT_PAUSE: Duration = Duration::from_millis(5);

/// Runs the command; in the foreground until it is asked to end.
pub(super) fn run(order: MountOrder, verbose: u8) -> anyhow::Result<()> {
    let ticket = order.ticket.read()?;
    let mut plan = order.plan;
    mountpoint::require_fuse(plan.allow_other)?;
    let prepared = mountpoint::prepare(&plan.mountpoint, plan.nonempty)?;
    if prepared.removed_stale {
        tracing::info!(
            "took away what was left of a mount at {} whose process had died",
            PathText::from(prepared.path.as_path())
        );
    }
    plan.mountpoint = prepared.path.into();
    if order.daemon {
        return daemonize::launch(plan, &ticket, verbose);
    }
    serve(&plan, &ticket, |ready| {
        Ok(output::line(&format!("{ready} Ctrl-C unmounts."))?)
    })
}

/// Mounts, tells `announce` when the mount answers, and serves until it ends. If nobody hears the
/// announcement, nothing stays mounted.
pub(super) fn serve(
    plan: &MountPlan,
    ticket: &Ticket,
    announce: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    process::prepare();
    process::runtime()?.block_on(async {
        let place = plan.mountpoint.clone();
        let shutdown = Shutdown::install(move || {
            // In a hurry: at least no dead mount is left behind.
            let _ = mountpoint::unmount(&place, Unmount::Lazy);
        })?;
        let mounted = tokio::select! {
            mounted = start(plan, ticket) => Arc::new(mounted?),
            () = shutdown.requested() => bail!("ended before the share was mounted"),
        };
        let served = attend(plan, ticket, &mounted, &shutdown, announce).await;
        process::tell_systemd(NotifyState::Stopping);
        let unmounted = last_owner(mounted).await.unmount().await;
        served?;
        Ok(unmounted?)
    })
}

async fn attend(
    plan: &MountPlan,
    ticket: &Ticket,
    mounted: &Arc<Mounted>,
    shutdown: &Shutdown,
    announce: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let reporter = reporter(plan, ticket, mounted);
    let _status = bind_status(&reporter);
    let _control = orders::bind(mounted);
    let _metrics = bind_metrics(plan.metrics, &reporter).await?;
    announce(&format!(
        "Mounted \"{}\" at {}, {}.",
        mounted.share_name(),
        plan.mountpoint,
        mounted.access()
    ))?;
    process::tell_systemd(NotifyState::Ready);
    tokio::select! {
        () = mounted.ended() => tracing::info!("unmounted"),
        () = shutdown.requested() => {}
    }
    Ok(())
}

/// The mount itself, once no report is being made of it any more.
async fn last_owner(mut mounted: Arc<Mounted>) -> Mounted {
    loop {
        match Arc::try_unwrap(mounted) {
            Ok(mounted) => return mounted,
            Err(shared) => mounted = shared,
        }
        tokio::time::sleep(REPORT_PAUSE).await;
    }
}

/// The way from a plan to the rooms.
async fn start(plan: &MountPlan, ticket: &Ticket) -> anyhow::Result<Mounted> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let dialer = Dialer::new(ticket.clone(), MountId(id))?;
    Ok(Mounted::start(mount_config(plan, ticket), Arc::new(dialer)).await?)
}

fn mount_config(plan: &MountPlan, ticket: &Ticket) -> MountConfig {
    MountConfig {
        mountpoint: plan.mountpoint.0.clone(),
        l1_bytes: plan.l1_bytes,
        l2: plan.l2.as_ref().map(|l2| DiskConfig {
            root: l2.root.0.clone(),
            budget_bytes: l2.budget_bytes,
        }),
        write_buffer_bytes: plan.write_buffer_bytes,
        durability: plan.durability,
        read_only: plan.read_only,
        passthrough: plan.passthrough,
        attr_ttl: plan.attr_ttl,
        prefetch_metadata: plan.prefetch_metadata,
        timeout: plan.timeout,
        fuse: FuseOptions {
            // Whom the files come from; never the ticket, which everyone could read in the mount table.
            fs_name: mountpoint::fs_name(&format!("wormhole@{}", ticket.addresses[0])),
            owner: match plan.owner {
                OwnerMode::Me => Owner::Mounter {
                    uid: rustix::process::geteuid().as_raw(),
                    gid: rustix::process::getegid().as_raw(),
                },
                OwnerMode::Host => Owner::Host,
            },
            allow_other: plan.allow_other,
            noexec: plan.noexec,
            threads: SESSION_THREADS,
        },
    }
}

fn reporter(plan: &MountPlan, ticket: &Ticket, mounted: &Arc<Mounted>) -> Reporter {
    let since = SystemTime::now();
    let mountpoint = plan.mountpoint.clone();
    let addresses: Vec<_> = ticket.addresses.iter().map(ToString::to_string).collect();
    let host = addresses.join(", ");
    // Weak: a report must not keep a mount from ending.
    let mounted: Weak<Mounted> = Arc::downgrade(mounted);
    Arc::new(move || {
        let report = mounted
            .upgrade()
            .map(|mounted| mount_report(mounted.snapshot()))
            .unwrap_or_default();
        let report = MountReport {
            mountpoint: mountpoint.clone(),
            host: host.clone(),
            ..report
        };
        Report::own(since, Role::Mount(report))
    })
}

fn mount_report(snapshot: MountSnapshot) -> MountReport {
    let mut fuse_requests = by_kind(&snapshot.fuse);
    let fuse_in_flight = fuse_requests.remove("in_flight").unwrap_or(0);
    let killed = fuse_requests.remove("killed").unwrap_or(0);
    MountReport {
        share: snapshot.share,
        share_id: snapshot.share_id,
        link: link_report(&snapshot.link),
        fuse_requests,
        fuse_in_flight,
        killed,
        remote_requests: by_kind(&snapshot.remote),
        read_bytes: snapshot.read.served_bytes,
        fetched_bytes: snapshot.read.fetched_bytes,
        disk_read_bytes: snapshot.read.disk_bytes,
        readahead_bytes: snapshot.read.ahead_bytes,
        bulk_files: snapshot.bulk.fetched_files,
        bulk_bytes: snapshot.bulk.fetched_bytes,
        bulk_used_bytes: snapshot.bulk.used_bytes,
        pending_bytes: snapshot.read.pending_bytes,
        access: snapshot.access,
        durability: snapshot.durability.to_string(),
        pending_changes: snapshot.pending.changes,
        lost_changes: snapshot.pending.lost,
        losses: snapshot
            .pending
            .losses
            .into_iter()
            .map(|Loss { path, why }| LossReport { path, why })
            .collect(),
        written_bytes: snapshot.write.taken_bytes,
        kept_files: snapshot.own_bytes.kept_files,
        kept_bytes: snapshot.own_bytes.kept_bytes,
        own_read_bytes: snapshot.own_bytes.read_bytes,
        dirty_bytes: snapshot.write.dirty_bytes,
        write_waits: snapshot.write.waits,
        failed_writes: snapshot.write.failed,
        changes: snapshot.changes.changes,
        lock_requests: snapshot.changes.locks,
        host_opens: snapshot.host_opens as u64,
        leases: lease_report(&snapshot.leases, &snapshot.pushes),
        cancelled: snapshot.read.cancelled,
        direct: snapshot.read.direct,
        l1: l1_report(&snapshot.l1),
        l2: snapshot.l2.as_ref().map(l2_report),
        l2_note: snapshot.l2_note,
        pins: snapshot.pins.into_iter().map(pin_report).collect(),
        passthrough: PassthroughReport {
            note: snapshot.passthrough.note,
            opens: snapshot.passthrough.opens,
            open_files: snapshot.passthrough.open_files,
            files: snapshot
                .passthrough
                .files
                .into_iter()
                .map(Into::into)
                .collect(),
        },
        nodes: snapshot.nodes as u64,
        handles: snapshot.handles as u64,
        ..MountReport::default()
    }
}

/// The fields of a snapshot whose every field counts a kind.
fn by_kind(snapshot: &impl Serialize) -> ByKind {
    serde_json::to_value(snapshot)
        .and_then(serde_json::from_value)
        .unwrap_or_default()
}

fn link_report(link: &crate::mount::link::LinkSnapshot) -> LinkReport {
    let wire = |field: &str| {
        let wire = link.wire.as_ref()?;
        wire.get(field)?.as_u64()
    };
    LinkReport {
        connected: link.connected,
        since_secs: link.since_secs,
        last_error: link.last_error.clone(),
        rtt_secs: Duration::from_micros(link.rtt_us).as_secs_f64(),
        bytes_per_sec: link.bytes_per_sec,
        reconnects: link.reconnects,
        wire_sent_bytes: wire("wire_bytes_out").unwrap_or(0),
        wire_received_bytes: wire("wire_bytes_in").unwrap_or(0),
        lost_packets: wire("lost_packets").unwrap_or(0),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds, for people")]
fn lease_report(leases: &LeaseSnapshot, pushes: &LeaseCounts) -> LeaseReport {
    let seconds = |millis: u64| millis as f64 / 1000.0;
    LeaseReport {
        held: leases.held as u64,
        live: leases.live,
        term_secs: leases.term_ms.map(seconds),
        heard_secs: leases.heard_ms.map(seconds),
        pushes: pushes.pushes,
        names: pushes.names,
        acknowledged: pushes.heard,
        ended: pushes.ended,
        names_forgotten: pushes.names_forgotten,
    }
}

fn pin_report(pin: PinSnapshot) -> PinReport {
    PinReport {
        path: pin.path.into(),
        files: pin.files,
        bytes: pin.bytes,
        note: pin.note,
    }
}

fn l1_report(stats: &MemoryStats) -> CacheReport {
    CacheReport {
        hits: stats.hits,
        misses: stats.misses,
        held_bytes: stats.resident_bytes,
        budget_bytes: stats.capacity_bytes,
        written_bytes: stats.inserted_bytes,
        evicted_chunks: Some(stats.evicted),
        ..CacheReport::default()
    }
}

fn l2_report(stats: &DiskStats) -> CacheReport {
    CacheReport {
        hits: stats.hits,
        misses: stats.misses,
        held_bytes: stats.resident_bytes,
        budget_bytes: stats.budget_bytes,
        written_bytes: stats.written_bytes,
        evicted_chunks: None,
        evicted_bytes: Some(stats.evicted_bytes),
        corrupt: Some(stats.corrupt),
        refused: Some(stats.refused),
        errors: Some(stats.errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::L2Plan;
    use crate::mount::beliefs::PrefetchMetadata;
    use crate::mount::durability::Durability;
    use crate::mount::stats::{FuseSnapshot, RemoteSnapshot};
    use wormhole_protocol::{HostKey, Secret};

    fn ticket() -> Ticket {
        Ticket {
            host: HostKey([7; 32]),
            secret: Secret::from_bytes([9; 16]),
            addresses: vec!["[2001:db8::7]:7117".parse().unwrap()],
        }
    }

    #[test]
    fn every_field_of_the_plan_reaches_the_mount() {
        let plan = MountPlan {
            mountpoint: "/m".into(),
            l1_bytes: 7,
            l2: Some(L2Plan {
                root: "/c".into(),
                budget_bytes: 8,
            }),
            write_buffer_bytes: 11,
            durability: Durability::Memory,
            read_only: true,
            attr_ttl: Some(Duration::from_secs(9)),
            prefetch_metadata: PrefetchMetadata::Off,
            timeout: Duration::from_secs(10),
            owner: OwnerMode::Host,
            allow_other: true,
            nonempty: false,
            noexec: true,
            passthrough: true,
            metrics: None,
        };
        let config = mount_config(&plan, &ticket());
        assert_eq!(config.mountpoint, std::path::Path::new("/m"));
        assert_eq!(config.l1_bytes, 7);
        assert_eq!(config.write_buffer_bytes, 11);
        assert_eq!(config.durability, Durability::Memory);
        assert!(config.read_only && config.passthrough);
        assert_eq!(config.l2.as_ref().map(|l2| l2.budget_bytes), Some(8));
        assert_eq!(config.attr_ttl, Some(Duration::from_secs(9)));
        assert_eq!(config.prefetch_metadata, PrefetchMetadata::Off);
        assert_eq!(config.timeout, Duration::from_secs(10));
        assert_eq!(config.fuse.owner, Owner::Host);
        assert!(config.fuse.allow_other && config.fuse.noexec);
        assert_eq!(config.fuse.fs_name, "wormhole@[2001:db8::7]:7117");
        let mine = MountPlan {
            owner: OwnerMode::Me,
            l2: None,
            ..plan
        };
        let config = mount_config(&mine, &ticket());
        assert!(matches!(config.fuse.owner, Owner::Mounter { .. }));
        assert!(config.l2.is_none());
    }

    #[test]
    fn counters_of_kinds_become_kinds() {
        let fuse = FuseSnapshot {
            lookup: 3,
            in_flight: 2,
            ..Default::default()
        };
        let kinds = by_kind(&fuse);
        assert_eq!(kinds["lookup"], 3);
        assert_eq!(kinds["in_flight"], 2);
        let remote = RemoteSnapshot {
            list: 5,
            ..Default::default()
        };
        assert_eq!(by_kind(&remote)["list"], 5);
    }

    #[test]
    fn figures_of_the_connection_are_found_in_what_the_transport_says() {
        let wire = crate::transport::RemoteSnapshot {
            wire_bytes_in: 5,
            wire_bytes_out: 6,
            lost_packets: 7,
            ..Default::default()
        };
        let report = link_report(&crate::mount::link::LinkSnapshot {
            connected: true,
            since_secs: 1,
            reconnects: 2,
            last_error: None,
            rtt_us: 1500,
            bytes_per_sec: 3,
            wire: Some(serde_json::to_value(wire).unwrap()),
        });
        assert_eq!(report.wire_received_bytes, 5);
        assert_eq!(report.wire_sent_bytes, 6);
        assert_eq!(report.lost_packets, 7);
        assert_eq!(report.rtt_secs, 0.0015);
    }
}
