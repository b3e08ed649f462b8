//! `wormhole host`: folders, a socket, tickets, and a line that says how to use them.

pub(super) mod powers;

use super::{advertise, output, process};
use crate::config::{Address, Folder, HostPlan};
use crate::host::{
    AccessWord, Gate, HostState, Service, Share, ShareState, SystemClock, TicketLimits,
};
use crate::metrics::http::MetricsServer;
use crate::shutdown::Shutdown;
use crate::status::report::{
    HostReport, PeerReport, Report, Role, SessionReport, ShareReport, unix_secs,
};
use crate::status::socket::Reporter;
use crate::status::{RuntimeDir, StatusSocket};
use crate::transport::server::{self, PeerSnapshot, ServerStats};
use crate::transport::{Identity, ServerEndpoint};
use anyhow::{Context, bail};
use sd_notify::NotifyState;
use serde::Serialize;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use wormhole_protocol::{Access, Epoch, Ticket};

/// Runs the command until it is asked to end.
pub(super) fn run(plan: HostPlan) -> anyhow::Result<()> {
    process::prepare();
    let runtime = process::runtime()?;
    runtime.block_on(serve(plan))
}

async fn serve(plan: HostPlan) -> anyhow::Result<()> {
    let shutdown = Shutdown::install(|| ())?;
    let host = start(&plan)?;
    let reporter = host.reporter();
    let _status = bind_status(&reporter);
    let _metrics = bind_metrics(plan.metrics, &reporter).await?;
    announce(&plan, &host.invitations)?;
    process::tell_systemd(NotifyState::Ready);
    let ending = async {
        shutdown.requested().await;
        process::tell_systemd(NotifyState::Stopping);
        host.gate.close();
    };
    server::serve(host.endpoint, host.gate.clone(), host.stats.clone(), ending).await;
    Ok(())
}

/// A host that is ready to serve.
struct Host {
    endpoint: ServerEndpoint,
    gate: Arc<Gate>,
    stats: Arc<ServerStats>,
    listening: SocketAddr,
    addresses: Vec<SocketAddr>,
    /// One for each folder, in the order they were given.
    invitations: Vec<Invitation>,
}

/// How to mount a share: what is printed.
struct Invitation {
    service: Arc<Service>,
    ticket: Ticket,
    limits: TicketLimits,
}

/// Opens everything a host needs: the way from a plan to the rooms.
fn start(plan: &HostPlan) -> anyhow::Result<Host> {
    let state = HostState::open(&plan.state_dir)?;
    let identity = Identity::load_or_create(&plan.state_dir)?;
    let shares = plan
        .folders
        .iter()
        .map(|folder| open_share(folder, &state))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let remembered = shares.iter().find_map(|(_, state)| state.port());
    let endpoint = bind(plan.listen, remembered, &identity)?;
    let listening = endpoint.local_addr()?;
    let asked_for_any = plan.listen.is_some_and(|address| address.port == Some(0));
    let addresses = advertise::advertised(listening, &plan.advertise, &advertise::locals());
    let gate = Arc::new(Gate::new(random_epoch()?, Arc::new(SystemClock::new())));
    let mut invitations = Vec::new();
    for (share, state) in shares {
        if !asked_for_any && state.port() != Some(listening.port()) {
            state.set_port(listening.port())?;
        }
        if plan.new_ticket {
            state.revoke_all()?;
        }
        let now = unix_secs(SystemTime::now());
        let limits = ticket_limits(plan, now);
        let ticket = Ticket {
            host: identity.host_key(),
            secret: state.issue(limits, now)?,
            addresses: addresses.clone(),
        };
        invitations.push(Invitation {
            service: gate.add_share_with(share, state, plan.rules)?,
            ticket,
            limits,
        });
    }
    Ok(Host {
        endpoint,
        gate,
        stats: Arc::default(),
        listening,
        addresses,
        invitations,
    })
}

fn open_share(folder: &Folder, state: &HostState) -> anyhow::Result<(Share, ShareState)> {
    let name = folder
        .name
        .clone()
        .unwrap_or_else(|| Share::name_for(&folder.path));
    let share = Share::open(&folder.path, name)?;
    let state = state.share(&share)?;
    Ok((share, state))
}

fn bind(
    listen: Option<Address>,
    remembered: Option<u16>,
    identity: &Identity,
) -> anyhow::Result<ServerEndpoint> {
    let candidates = advertise::candidates(listen, remembered);
    for (i, address) in candidates.iter().enumerate() {
        match ServerEndpoint::bind(*address, identity) {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && i + 1 < candidates.len() => {
                tracing::warn!(
                    "port {} is taken; tickets given out before will not find this host",
                    address.port()
                );
            }
            Err(error) => return Err(error).with_context(|| format!("listening on {address}")),
        }
    }
    bail!("there is no port to listen on")
}

fn ticket_limits(plan: &HostPlan, now: u64) -> TicketLimits {
    TicketLimits {
        expires: plan
            .expires
            .map(|time| now.saturating_add(time.as_secs().max(1))),
        max_mounts: plan.max_mounts,
        access: plan.ticket_access,
    }
}

fn random_epoch() -> anyhow::Result<Epoch> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(Epoch(u64::from_le_bytes(bytes)))
}

/// The status socket; without one the process still does its work.
pub(super) fn bind_status(reporter: &Reporter) -> Option<StatusSocket> {
    let role = reporter().role.name();
    let bound = RuntimeDir::open().and_then(|dir| StatusSocket::bind(&dir, role, reporter.clone()));
    bound
        .inspect_err(|error| tracing::warn!("`wormhole status` will not show this {role}: {error}"))
        .ok()
}

/// The metrics endpoint, if one is wanted.
pub(super) async fn bind_metrics(
    address: Option<SocketAddr>,
    reporter: &Reporter,
) -> anyhow::Result<Option<MetricsServer>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let server = MetricsServer::bind(address, reporter.clone())
        .await
        .with_context(|| format!("--metrics {address}"))?;
    tracing::info!("metrics at http://{}/metrics", server.address());
    Ok(Some(server))
}

/// A share in `--json`.
#[derive(Serialize)]
struct InvitationJson {
    ticket: String,
    share: String,
    addresses: Vec<SocketAddr>,
    expires: Option<String>,
    /// What its holder may do.
    access: AccessWord,
}

fn announce(plan: &HostPlan, invitations: &[Invitation]) -> io::Result<()> {
    if !plan.json {
        return output::line(&text(invitations));
    }
    let shares: Vec<_> = invitations.iter().map(Invitation::json).collect();
    match &shares[..] {
        [one] => output::json(one),
        _ => output::json(&serde_json::json!({ "shares": shares })),
    }
}

impl Invitation {
    fn json(&self) -> InvitationJson {
        InvitationJson {
            ticket: self.ticket.to_string(),
            share: self.service.share().name().to_string(),
            addresses: self.ticket.addresses.clone(),
            expires: self.expires(),
            access: self.limits.access.into(),
        }
    }

    /// What it means to hand the ticket on, where that is more than the first line says.
    fn caution(&self) -> Option<&'static str> {
        match (self.service.rules().access, self.limits.access) {
            (Access::Read, _) => None,
            (Access::ReadWrite, Access::ReadWrite) => Some(
                "Whoever has this ticket can change and delete the files in it. For a ticket only to look, add --ro.",
            ),
            (Access::ReadWrite, Access::Read) => Some(
                "With this ticket files can only be looked at. Holders of its read-write ticket can change and delete them.",
            ),
        }
    }

    fn expires(&self) -> Option<String> {
        let secs = self.limits.expires?;
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(secs))?;
        // Beyond the year 9999 there is no such form; nobody waits for it.
        (secs < 253_402_300_800).then(|| humantime::format_rfc3339_seconds(time).to_string())
    }
}

fn text(invitations: &[Invitation]) -> String {
    let mut text = String::new();
    for invitation in invitations {
        let share = invitation.service.share();
        let path = crate::path_text::PathText::from(share.path());
        // Writing to a string cannot fail.
        let access = AccessWord::from(invitation.limits.access);
        let _ = write!(text, "Sharing {path} as \"{}\", {access}", share.name());
        if let Some(expires) = invitation.expires() {
            let _ = write!(text, ", until {expires}");
        }
        if let Some(most) = invitation.limits.max_mounts {
            let _ = write!(text, ", with at most {most} mounts at once");
        }
        if let Some(caution) = invitation.caution() {
            let _ = write!(text, ".\n{}", caution.trim_end_matches('.'));
        }
        let _ = write!(
            text,
            ".\nOn the other machine, type:\n\n    wormhole mount {} <mountpoint>\n\n",
            invitation.ticket
        );
    }
    let addresses: Vec<_> = invitations
        .first()
        .map_or(&[][..], |first| &first.ticket.addresses)
        .iter()
        .map(ToString::to_string)
        .collect();
    let _ = write!(
        text,
        "Reachable at {}. Ctrl-C ends it.",
        addresses.join(", ")
    );
    text
}

impl Host {
    fn reporter(&self) -> Reporter {
        let since = SystemTime::now();
        let (gate, stats) = (self.gate.clone(), self.stats.clone());
        let listening = vec![self.listening.to_string()];
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        Arc::new(move || {
            let report = HostReport {
                listening: listening.clone(),
                addresses: addresses.clone(),
                ..report(&gate, &stats)
            };
            Report::own(since, Role::Host(report))
        })
    }
}

fn report(gate: &Gate, stats: &ServerStats) -> HostReport {
    let snapshot = gate.snapshot();
    let server = stats.snapshot();
    HostReport {
        shares: snapshot.shares.into_iter().map(share_report).collect(),
        peers: server.peers.iter().map(peer_report).collect(),
        refusals: snapshot
            .refusals
            .into_iter()
            .map(|(reason, n)| (reason.to_owned(), n))
            .collect(),
        turned_away: server.refused,
        violations: server.violations,
        ..HostReport::default()
    }
}

fn share_report(share: crate::host::ShareSnapshot) -> ShareReport {
    let counters = share.counters;
    let session = |session: crate::host::SessionSnapshot| SessionReport {
        mount: session.mount,
        since_unix_secs: session.since,
        access: session.access.to_string(),
        requests: session.requests,
        sent_bytes: session.bytes,
        leases: session.leases as u64,
        pushes_waiting: session.pushes_waiting as u64,
    };
    ShareReport {
        id: share.id,
        name: share.name,
        folder: share.path,
        access: share.access.to_string(),
        sessions: share.sessions.into_iter().map(session).collect(),
        sessions_total: counters.sessions_total,
        requests: counters
            .requests
            .into_iter()
            .map(|(kind, n)| (kind.to_owned(), n))
            .collect(),
        faults: counters.faults,
        in_flight: counters.in_flight,
        sent_bytes: counters.payload_bytes,
        stalls: counters.stalls,
        watches: share.leases.watches,
        leases_granted: share.leases.granted,
        leases_refused: share.leases.refused,
        leases_evicted: share.leases.evicted,
        pushes: share.leases.pushes,
        events_lost: share.leases.overflows,
        mounts_fenced: share.leases.fenced,
    }
}

fn peer_report(peer: &PeerSnapshot) -> PeerReport {
    PeerReport {
        address: peer.address.to_string(),
        rtt_secs: Duration::from_micros(peer.rtt_us).as_secs_f64(),
        wire_sent_bytes: peer.wire_bytes_out,
        wire_received_bytes: peer.wire_bytes_in,
        lost_packets: peer.lost_packets,
    }
}

#[cfg(test)]
mod tests;
