//! `wormhole status`: the mounts and hosts on this machine, for people and for scripts.

use super::flags::StatusFlags;
use super::output;
use crate::config::units;
use crate::path_text::PathText;
use crate::status::report::{
    ByKind, CacheReport, HostReport, LeaseReport, MountReport, PassthroughReport, PinReport,
    Report, Role, ShareReport, unix_secs,
};
use crate::status::{RuntimeDir, socket};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// `--json`.
#[derive(Serialize)]
struct StatusJson {
    mounts: Vec<Report>,
    hosts: Vec<Report>,
}

/// Runs the command.
pub(super) fn run(flags: &StatusFlags) -> anyhow::Result<()> {
    let found = socket::ask_all(&RuntimeDir::open_all()?)?;
    for (pid, error) in &found.silent {
        tracing::warn!("process {pid} does not answer: {error}");
    }
    if flags.json {
        let (mounts, hosts) = found
            .reports
            .into_iter()
            .partition(|report| matches!(report.role, Role::Mount(_)));
        return Ok(output::json(&StatusJson { mounts, hosts })?);
    }
    if found.reports.is_empty() {
        return Ok(output::line("Nothing is mounted or hosted here.")?);
    }
    let now = unix_secs(SystemTime::now());
    let shown: Vec<_> = found.reports.iter().map(|r| show(r, now)).collect();
    Ok(output::line(&shown.join("\n\n"))?)
}

/// A block of lines about one process.
fn show(report: &Report, now: u64) -> String {
    let mut text = Text::default();
    let since = age(now, report.since_unix_secs);
    match &report.role {
        Role::Mount(mount) => text.mount(mount, report.pid, &since),
        Role::Host(host) => text.host(host, report.pid, &since, now),
    }
    text.0
}

fn age(now: u64, since: u64) -> String {
    units::show_age(Duration::from_secs(now.saturating_sub(since)))
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// One more line.
    fn line(&mut self, indent: usize, line: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{:indent$}{line}", "");
    }

    fn mount(&mut self, mount: &MountReport, pid: u32, since: &str) {
        let mountpoint = &mount.mountpoint;
        self.line(
            0,
            &format!("mount {mountpoint} (process {pid}, for {since})"),
        );
        self.line(
            2,
            &format!(
                "share   \"{}\" {} at {}",
                mount.share, mount.share_id, mount.host
            ),
        );
        let link = &mount.link;
        let state = if link.connected {
            let rate = match link.bytes_per_sec {
                0 => String::new(),
                #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
                rate => format!(", up to {}", units::show_rate(rate as f64)),
            };
            format!(
                "connected, RTT {}{rate}",
                units::show_latency(link.rtt_secs)
            )
        } else {
            let secs = Duration::from_secs(link.since_secs);
            let why = link.last_error.as_deref().unwrap_or("trying again");
            format!("LOST for {}: {why}", units::show_age(secs))
        };
        self.line(
            2,
            &format!(
                "link    {state}; {} sent, {} received; {} reconnects",
                units::show_bytes(link.wire_sent_bytes),
                units::show_bytes(link.wire_received_bytes),
                link.reconnects
            ),
        );
        self.line(
            2,
            &format!(
                "read    {} by programs: {} from the host ({} ahead of need), {} from the disk cache",
                units::show_bytes(mount.read_bytes),
                units::show_bytes(mount.fetched_bytes),
                units::show_bytes(mount.readahead_bytes),
                units::show_bytes(mount.disk_read_bytes),
            ),
        );
        if mount.bulk_files > 0 {
            self.line(2, &format!("bulk    {}", in_bulk(mount)));
        }
        self.line(2, &format!("write   {}", written(mount)));
        if mount.lost_changes > 0 {
            let lost = mount.lost_changes;
            self.line(2, &format!("LOST    {lost} changes, the latest of"));
            for loss in &mount.losses {
                self.line(10, &format!("{}: {}", loss.path, loss.why));
            }
        }
        self.line(2, &format!("leases  {}", leases(&mount.leases)));
        self.line(2, &format!("L1      {}", cache(&mount.l1)));
        match (&mount.l2, &mount.l2_note) {
            (Some(l2), _) => self.line(2, &format!("L2      {}", cache(l2))),
            (None, Some(note)) => self.line(2, &format!("L2      none: {note}")),
            (None, None) => self.line(2, "L2      none"),
        }
        self.line(2, &format!("direct  {}", direct(&mount.passthrough)));
        for file in &mount.passthrough.files {
            self.line(10, &file.to_string());
        }
        for pin in &mount.pins {
            self.line(2, &format!("pinned  {}", pinned(pin, mountpoint)));
        }
        self.line(
            2,
            &format!(
                "now     {} requests of programs, {} under way; {} files open",
                mount.fuse_in_flight,
                units::show_bytes(mount.pending_bytes),
                mount.handles
            ),
        );
        self.line(2, &format!("asked   {}", kinds(&mount.remote_requests)));
    }

    fn host(&mut self, host: &HostReport, pid: u32, since: &str, now: u64) {
        let listening = host.listening.join(", ");
        self.line(
            0,
            &format!("host on {listening} (process {pid}, for {since})"),
        );
        self.line(2, &format!("tickets lead to {}", host.addresses.join(", ")));
        for share in &host.shares {
            self.share(share, now);
        }
        for peer in &host.peers {
            self.line(
                2,
                &format!(
                    "peer    {} RTT {}; {} sent, {} received",
                    peer.address,
                    units::show_latency(peer.rtt_secs),
                    units::show_bytes(peer.wire_sent_bytes),
                    units::show_bytes(peer.wire_received_bytes)
                ),
            );
        }
        if !host.refusals.is_empty() {
            self.line(2, &format!("refused {}", kinds(&host.refusals)));
        }
    }

    fn share(&mut self, share: &ShareReport, now: u64) {
        self.line(
            2,
            &format!(
                "share   \"{}\" {} {}{}",
                share.name,
                share.id,
                share.folder,
                access(&share.access)
            ),
        );
        self.line(
            4,
            &format!(
                "{} mounts, {} requests being answered, {} sent; {}",
                share.sessions.len(),
                share.in_flight,
                units::show_bytes(share.sent_bytes),
                kinds(&share.requests)
            ),
        );
        if share.leases_granted + share.leases_refused > 0 {
            self.line(
                4,
                &format!(
                    "{} folders watched, {} pushes; not leased {}, ended for others {}, events lost {}, fenced {}",
                    share.watches,
                    share.pushes,
                    share.leases_refused,
                    share.leases_evicted,
                    share.events_lost,
                    share.mounts_fenced
                ),
            );
        }
        for session in &share.sessions {
            self.line(
                4,
                &format!(
                    "mount {} for {}{}: {} requests, {} sent, {} leases, {} pushes waiting",
                    session.mount,
                    age(now, session.since_unix_secs),
                    access(&session.access),
                    session.requests,
                    units::show_bytes(session.sent_bytes),
                    session.leases,
                    session.pushes_waiting
                ),
            );
        }
    }
}

/// `, read-write`; nothing for a process of a version that does not say.
fn access(word: &str) -> String {
    if word.is_empty() {
        String::new()
    } else {
        format!(", {word}")
    }
}

fn cache(cache: &CacheReport) -> String {
    let rate = match cache.hit_rate() {
        Some(rate) => format!("{:.0} % hits", rate * 100.0),
        None => "not asked yet".to_owned(),
    };
    let held = units::show_bytes(cache.held_bytes);
    let budget = units::show_bytes(cache.budget_bytes);
    let mut text = format!("{rate}, {held} of {budget}");
    for (count, what) in [
        (cache.corrupt, "damaged"),
        (cache.errors, "disk errors"),
        (cache.refused, "not kept"),
    ] {
        if let Some(n @ 1..) = count {
            let _ = write!(text, ", {n} {what}");
        }
    }
    text
}

/// Small files that came before they were read, and how much of that was in vain.
fn in_bulk(mount: &MountReport) -> String {
    let unused = mount.bulk_bytes.saturating_sub(mount.bulk_used_bytes);
    format!(
        "{} small files of {} before they were read; {} not read so far",
        mount.bulk_files,
        units::show_bytes(mount.bulk_bytes),
        units::show_bytes(unused),
    )
}

/// What the kernel reads without asking.
fn direct(passthrough: &PassthroughReport) -> String {
    match &passthrough.note {
        Some(note) => format!("no file is read past this program: {note}"),
        None => format!(
            "{} files are open that the kernel reads from L2 by itself, {} opened so far",
            passthrough.open_files, passthrough.opens
        ),
    }
}

fn pinned(pin: &PinReport, mountpoint: &Path) -> String {
    // Of the root itself the path is empty.
    let path = match pin.path.as_os_str().is_empty() {
        true => PathText::from(mountpoint),
        false => PathText::from(mountpoint.join(&pin.path)),
    };
    let mut text = format!(
        "{path}: {} files, {}",
        pin.files,
        units::show_bytes(pin.bytes)
    );
    if let Some(note) = &pin.note {
        let _ = write!(text, "; {note}");
    }
    text
}

/// `read 12, list 3`: what is not zero.
fn kinds(kinds: &ByKind) -> String {
    let some: Vec<_> = kinds
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(kind, n)| format!("{kind} {n}"))
        .collect();
    if some.is_empty() {
        "nothing yet".to_owned()
    } else {
        some.join(", ")
    }
}

/// What the host promised, and what it said.
fn leases(leases: &LeaseReport) -> String {
    if leases.term_secs.is_none() {
        return "none: what the host says is believed for a short time only".to_owned();
    }
    let age = leases.heard_secs.unwrap_or(0.0);
    let pause = if leases.live { "" } else { ", paused" };
    format!(
        "{} directories{pause}; {} pushes of {} names; the host last heard {age:.1} s ago",
        leases.held, leases.pushes, leases.names
    )
}

/// What became of what programs wrote.
fn written(mount: &MountReport) -> String {
    if mount.access != "read-write" {
        return "not possible: read-only".to_owned();
    }
    let mut text = format!(
        "{} by programs, {} not on the host yet",
        units::show_bytes(mount.written_bytes),
        units::show_bytes(mount.dirty_bytes)
    );
    if mount.durability == "memory" {
        let _ = write!(
            text,
            "; {} changes are on their way (--durability memory)",
            mount.pending_changes
        );
    }
    if mount.failed_writes > 0 {
        let _ = write!(text, "; {} pieces FAILED", mount.failed_writes);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::{LinkReport, LossReport, PeerReport, SessionReport};

    fn report(role: Role) -> Report {
        Report {
            pid: 7,
            version: String::new(),
            since_unix_secs: 100,
            role,
        }
    }

    #[test]
    fn a_mount_is_shown_with_its_link_and_caches() {
        let mount = MountReport {
            mountpoint: "/m".into(),
            share: "films".into(),
            share_id: "ab".into(),
            host: "192.0.2.1:7117".into(),
            link: LinkReport {
                connected: true,
                rtt_secs: 0.05,
                bytes_per_sec: 12_000_000,
                ..Default::default()
            },
            l1: CacheReport {
                hits: 3,
                misses: 1,
                ..Default::default()
            },
            l2_note: Some("in use".into()),
            pins: vec![
                PinReport {
                    path: "a/b".into(),
                    files: 3,
                    bytes: 2 << 20,
                    note: None,
                },
                PinReport {
                    note: Some("gone".into()),
                    ..PinReport::default()
                },
            ],
            passthrough: PassthroughReport {
                opens: 9,
                open_files: 1,
                files: vec!["films/a".into()],
                note: None,
            },
            access: "read-write".into(),
            written_bytes: 3 << 20,
            dirty_bytes: 1 << 20,
            failed_writes: 2,
            durability: "memory".into(),
            pending_changes: 4,
            lost_changes: 1,
            losses: vec![LossReport {
                path: "films/b".into(),
                why: "no room".into(),
            }],
            leases: LeaseReport {
                held: 3,
                live: true,
                term_secs: Some(10.0),
                heard_secs: Some(1.5),
                pushes: 5,
                names: 8,
                ..Default::default()
            },
            ..Default::default()
        };
        let text = show(&report(Role::Mount(mount.clone())), 165);
        for part in [
            "mount /m (process 7, for 1m 5s)",
            "\"films\" ab at 192.0.2.1:7117",
            "connected, RTT 50.0 ms, up to 12.0 MB/s",
            "write   3 MiB by programs, 1 MiB not on the host yet; 4 changes are on their way \
             (--durability memory); 2 pieces FAILED",
            "LOST    1 changes, the latest of\n          films/b: no room\n",
            "leases  3 directories; 5 pushes of 8 names; the host last heard 1.5 s ago",
            "L1      75 % hits",
            "L2      none: in use",
            "direct  1 files are open that the kernel reads from L2 by itself, 9 opened so far\n",
            "          films/a\n",
            "pinned  /m/a/b: 3 files, 2 MiB\n",
            "pinned  /m: 0 files, 0 B; gone\n",
            "asked   nothing yet",
        ] {
            assert!(text.contains(part), "{part}\nnot in\n{text}");
        }
        let lost = MountReport {
            passthrough: PassthroughReport {
                note: Some("turned off".into()),
                ..PassthroughReport::default()
            },
            link: LinkReport {
                last_error: Some("no route".into()),
                since_secs: 9,
                ..Default::default()
            },
            leases: LeaseReport::default(),
            ..mount
        };
        let text = show(&report(Role::Mount(lost)), 165);
        assert!(text.contains("LOST for 9s: no route"), "{text}");
        assert!(text.contains("leases  none"), "{text}");
        assert!(text.contains("past this program: turned off"), "{text}");
    }

    #[test]
    fn a_host_is_shown_with_its_peers() {
        let host = HostReport {
            listening: vec!["[::]:7117".into()],
            addresses: vec!["192.0.2.1:7117".into()],
            shares: vec![ShareReport {
                id: "ab".into(),
                name: "films".into(),
                folder: "/srv/films".into(),
                access: "read-write".into(),
                sessions: vec![SessionReport {
                    mount: "0102".into(),
                    since_unix_secs: 160,
                    access: "read-only".into(),
                    requests: 9,
                    sent_bytes: 1 << 20,
                    leases: 3,
                    pushes_waiting: 1,
                }],
                watches: 5,
                leases_granted: 7,
                pushes: 2,
                requests: [("read".to_owned(), 4), ("list".to_owned(), 0)].into(),
                ..Default::default()
            }],
            peers: vec![PeerReport {
                address: "192.0.2.9:4000".into(),
                rtt_secs: 0.001,
                ..Default::default()
            }],
            refusals: [("expired".to_owned(), 2)].into(),
            ..Default::default()
        };
        let text = show(&report(Role::Host(host)), 165);
        for part in [
            "host on [::]:7117 (process 7",
            "\"films\" ab /srv/films, read-write",
            "; read 4\n",
            "mount 0102 for 5s, read-only: 9 requests, 1 MiB sent, 3 leases, 1 pushes waiting",
            "5 folders watched, 2 pushes; not leased 0, ended for others 0, events lost 0, fenced 0\n",
            "peer    192.0.2.9:4000 RTT 1.0 ms",
            "refused expired 2",
        ] {
            assert!(text.contains(part), "{part}\nnot in\n{text}");
        }
    }
}
