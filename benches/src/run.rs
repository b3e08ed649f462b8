//! A run of one profile: the link, its self-test, then every peer at every workload, and the record.
//!
//! Peers take turns, round by round, on the same link and the same fresh files; the order of turns
//! rotates, so that nobody always goes first. In a turn a peer's server is started, the share mounted
//! with empty caches, and family after family of workloads done on that one mount. What hangs is killed
//! at its deadline; deadlines are shares of what is left of the run's time, so a run ends in time
//! whatever its peers do.
//!
//! It runs inside a [`sandbox`](crate::netem::sandbox), which ends what it cannot.

mod environment;
mod flame;
mod ledger;
mod memory;
mod mounting;
mod turn;

use crate::files::Ground;
use crate::order::RunOrder;
use crate::peer::{self, Custom, Peer, Site};
use crate::raw;
use crate::record::{Link, Mode, PeerInfo, RawLink, Run, SCHEMA};
use crate::report::LIMIT;
use crate::selftest::{self, Measured};
use crate::site::{self, SiteError};
use crate::sizes::Sizes;
use crate::workload::Family;
use ledger::Ledger;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use turn::Turn;
use wormhole_netem::{Lab, Profile};

/// Who is told how a run goes.
pub trait Progress {
    /// A new thing is being done, and the run has at most so much time left.
    fn step(&mut self, what: &str, left: Duration);
    /// So much of it is done, of one.
    fn fraction(&mut self, done: f64);
}

/// Why there are no results.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No link.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The link is not what it claims to be.
    #[error(
        "{}. Nothing measured on it would mean anything; is this machine busy with something else?",
        .0.join("; ")
    )]
    WrongLink(Vec<String>),
    /// The link could not be measured.
    #[error("the link's self-test: {0}")]
    SelfTest(io::Error),
    /// The ends of the link.
    #[error("the link's ends: {0}")]
    Ends(io::Error),
    /// A peer that nobody knows.
    #[error(transparent)]
    Unknown(#[from] peer::UnknownPeer),
    /// A bad file of the user's own peers.
    #[error(transparent)]
    Own(#[from] peer::CustomError),
    /// Nobody to measure.
    #[error("none of the peers that were asked for can run here: {0}")]
    Nobody(String),
    /// The files of the run.
    #[error("the files to read, in {}: {error}", .folder.display())]
    Files {
        /// Where.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Time for everything.
fn budget(mode: Mode) -> Duration {
    Duration::from_secs(match mode {
        Mode::Quick => 105,
        Mode::Standard => 540,
        Mode::Full => 3600,
    })
}

/// How long the self-test floods each direction.
fn rate_time(mode: Mode) -> Duration {
    Duration::from_millis(match mode {
        Mode::Quick => 1500,
        Mode::Standard | Mode::Full => 3000,
    })
}

/// How long each bulk transfer over the bare link takes, and how many there are of each kind.
fn raw_effort(mode: Mode) -> (Duration, u32) {
    match mode {
        Mode::Quick => (Duration::from_secs(4), 1),
        Mode::Standard => (Duration::from_secs(10), 1),
        Mode::Full => (Duration::from_secs(20), 3),
    }
}

/// Runs `order`, with `scratch` for files.
///
/// # Errors
/// [`RunError`]. What goes wrong with a peer is a result, not an error.
pub fn run(order: &RunOrder, scratch: &Path, progress: &mut dyn Progress) -> Result<Run, RunError> {
    let began = Instant::now();
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let environment = environment::look(scratch);
    let total = budget(order.mode);
    let left = || total.saturating_sub(began.elapsed());

    let lab = site::open(&order.link)?;
    progress.step("link: self-test", left());
    let profile = &order.link.profile;
    let measured = selftest::measure(profile, lab.host(), lab.mount(), rate_time(order.mode))
        .map_err(RunError::SelfTest)?;
    let judgement = selftest::judge(profile, &measured);
    if !judgement.refusals.is_empty() {
        return Err(RunError::WrongLink(judgement.refusals));
    }
    let mut warnings = judgement.warnings;
    let (raw, controller) = raw_link(order, &lab, progress, &left, &mut warnings);
    let link = link(order, &lab, &measured, controller);
    let site = Site {
        host: lab.host().try_clone().map_err(RunError::Ends)?,
        mount: lab.mount().try_clone().map_err(RunError::Ends)?,
        program: order.program.clone(),
    };

    let sizes = sizes(order);
    let chosen = chosen(order)?;
    let infos: Vec<PeerInfo> = chosen.iter().map(|peer| peer.info(&site)).collect();
    let (ready, absent) = split(chosen, &infos);
    if ready.is_empty() {
        return Err(RunError::Nobody(reasons(&infos)));
    }
    let mut ledger = Ledger::new(&order.families, measured.rate());
    for info in absent {
        ledger.unavailable(
            &info.name,
            info.reason.as_deref().unwrap_or("not available"),
        );
    }
    rounds(
        order,
        &sizes,
        &site,
        &ready,
        scratch,
        began + total,
        progress,
        &mut ledger,
    )?;

    if !environment.drops_page_cache {
        warnings.push(
            "the page cache could not be dropped (not root): what is called cold is cold for each mount, but the server's files may have been in memory".to_owned(),
        );
    }
    Ok(Run {
        schema: SCHEMA,
        profile: profile.to_string(),
        started,
        seconds: began.elapsed().as_secs_f64(),
        mode: order.mode,
        data: order.data,
        seed: order.link.seed,
        rounds: sizes.rounds,
        command: order.command.clone(),
        environment,
        link,
        raw,
        peers: infos,
        results: ledger.entries(),
        warnings,
    })
}

fn sizes(order: &RunOrder) -> Sizes {
    let profile = &order.link.profile;
    let rate_mbit = profile.rate_bits_per_sec.map(|rate| rate as f64 / 1e6);
    let mut sizes = Sizes::of(order.mode, rate_mbit, profile.rtt);
    if let Some(rounds) = order.rounds {
        sizes.rounds = rounds;
    }
    sizes
}

/// Who was asked for; everybody if nobody was.
fn chosen(order: &RunOrder) -> Result<Vec<Box<dyn Peer>>, RunError> {
    let own = match &order.own_peers {
        Some(text) => Custom::parse(text)?,
        None => Vec::new(),
    };
    let mut names = order.peers.clone();
    if names.is_empty() {
        names.extend(peer::all().iter().map(|peer| peer.name().to_owned()));
        names.extend(own.iter().map(|peer| peer.name().to_owned()));
    }
    Ok(peer::choose(&names, own)?)
}

/// Those who can run, and what is known of those who cannot.
fn split(chosen: Vec<Box<dyn Peer>>, infos: &[PeerInfo]) -> (Vec<Box<dyn Peer>>, Vec<&PeerInfo>) {
    let absent = infos.iter().filter(|info| !info.available).collect();
    let ready = chosen
        .into_iter()
        .zip(infos)
        .filter(|(_, info)| info.available)
        .map(|(peer, _)| peer)
        .collect();
    (ready, absent)
}

fn reasons(infos: &[PeerInfo]) -> String {
    let reason = |info: &PeerInfo| {
        let reason = info.reason.as_deref().unwrap_or("not available");
        format!("{}: {reason}", info.name)
    };
    infos.iter().map(reason).collect::<Vec<_>>().join("; ")
}

#[expect(
    clippy::too_many_arguments,
    reason = "the whole of a run meets here, and nowhere else"
)]
fn rounds(
    order: &RunOrder,
    sizes: &Sizes,
    site: &Site,
    peers: &[Box<dyn Peer>],
    scratch: &Path,
    end: Instant,
    progress: &mut dyn Progress,
    ledger: &mut Ledger,
) -> Result<(), RunError> {
    let share = scratch.join("share");
    let files = |error| RunError::Files {
        folder: share.clone(),
        error,
    };
    std::fs::create_dir(&share).map_err(files)?;
    // The bare file system goes first, since it takes next to nothing of the time that the others share.
    let (near, far): (Vec<&dyn Peer>, Vec<&dyn Peer>) = peers
        .iter()
        .map(Box::as_ref)
        .partition(|peer| peer.name() == LIMIT);
    let mut turns_left = sizes.rounds * u32::try_from(far.len()).unwrap_or(u32::MAX);
    for round in 0..sizes.rounds {
        let left = end.saturating_duration_since(Instant::now());
        progress.step(
            &format!("round {} of {}: files", round + 1, sizes.rounds),
            left,
        );
        let seed = order.link.seed.wrapping_add(u64::from(round));
        let ground =
            Ground::make(&share, round, &order.families, sizes, order.data, seed).map_err(files)?;
        let (before, after) = far.split_at(round as usize % far.len().max(1));
        for &peer in near.iter().chain(after).chain(before) {
            let left = end.saturating_duration_since(Instant::now());
            let turn = Turn {
                order,
                sizes,
                site,
                share: &share,
                round,
                folder: scratch.join(format!("{}-{round}", peer.name())),
                end: Instant::now() + left / turns_left.max(1),
                run_end: end,
            };
            turns_left -= u32::from(peer.name() != LIMIT);
            turn.take(peer, progress, ledger);
        }
        ground.remove().map_err(files)?;
    }
    Ok(())
}

/// Bulk transfers over the bare link, and the name of our congestion controller.
fn raw_link(
    order: &RunOrder,
    lab: &Lab,
    progress: &mut dyn Progress,
    left: &dyn Fn() -> Duration,
    warnings: &mut Vec<String>,
) -> (Vec<RawLink>, String) {
    let (duration, count) = raw_effort(order.mode);
    let (mut tcp, mut quic) = (Vec::new(), Vec::new());
    let mut controller = String::from("unknown");
    for _ in 0..count {
        progress.step("link: bulk TCP", left());
        match raw::tcp(lab.host(), lab.mount(), duration) {
            Ok(flow) => tcp.push(flow),
            Err(error) => warnings.push(format!("bulk TCP over the bare link: {error}")),
        }
        progress.step("link: bulk QUIC", left());
        match raw::quic(&order.program, lab.host(), lab.mount(), duration) {
            Ok((flow, name)) => {
                quic.push(flow);
                controller = name;
            }
            Err(error) => warnings.push(format!("bulk QUIC over the bare link: {error}")),
        }
    }
    let raw = [("tcp", tcp), ("quic", quic)];
    let rows = raw
        .iter()
        .filter_map(|(name, flows)| raw::summary(name, flows));
    (rows.collect(), controller)
}

fn link(order: &RunOrder, lab: &Lab, measured: &Measured, controller: String) -> Link {
    let profile: &Profile = &order.link.profile;
    Link {
        backend: lab.backend().to_string(),
        asked_rtt_ms: profile.rtt.as_secs_f64() * 1e3,
        asked_rate_mbit: profile.rate_bits_per_sec.map(|rate| rate as f64 / 1e6),
        asked_loss_pct: profile.mean_loss() * 100.0,
        asked_jitter_ms: profile.jitter.as_secs_f64() * 1e3,
        bursts: matches!(profile.loss, crate::netem::Loss::Bursts { .. }),
        queue_bytes: profile
            .rate_bits_per_sec
            .map(|_| profile.queue_bytes_effective()),
        own_cost_ms: lab.own_cost().map(|cost| cost.as_secs_f64() * 1e3),
        rtt_ms: measured.rtt_ms,
        rate_mbit: measured.rate(),
        loss_pct: measured.loss(),
        rate_each_mbit: measured.rate_mbit,
        loss_each_pct: measured.loss_pct,
        tcp_congestion_control: site::congestion_control(lab.host())
            .unwrap_or_else(|error| format!("unknown ({error})")),
        quic_congestion_control: controller,
    }
}

/// Families in the order of a run, each once; all if none is named.
///
/// # Errors
/// The first name that means nothing, with those that do.
pub fn families(names: &[String]) -> Result<Vec<Family>, String> {
    if names.is_empty() {
        return Ok(Family::ALL.to_vec());
    }
    if let Some(unknown) = names.iter().find(|name| {
        Family::ALL
            .iter()
            .all(|family| family.name() != name.as_str())
    }) {
        let known = Family::ALL.map(Family::name).join(", ");
        return Err(format!(
            "there is no workload \"{}\"; there are: {known}",
            unknown.escape_debug()
        ));
    }
    let mut families = Family::ALL.to_vec();
    families.retain(|family| names.iter().any(|name| name == family.name()));
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_exactly_and_run_in_their_own_order() {
        let of =
            |names: &[&str]| families(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), Ok(Family::ALL.to_vec()));
        assert_eq!(
            of(&["seq-read", "first-byte", "seq-read"]),
            Ok(vec![Family::FirstByte, Family::SeqRead])
        );
        let error = of(&["seq"]).expect_err("no such workload");
        assert!(
            error.contains("\"seq\"") && error.contains("seq-read"),
            "{error}"
        );
    }

    #[test]
    fn what_was_found_out_is_kept_in_the_record() {
        assert_eq!(SCHEMA, 1);
        assert!(budget(Mode::Quick) < Duration::from_secs(120));
        assert!(budget(Mode::Standard) < Duration::from_secs(600));
    }
}
