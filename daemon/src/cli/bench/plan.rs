//! What the flags of `wormhole bench` mean: checked, with defaults filled in.

use super::flags::{DataFlag, LinkFlags, RunFlags, ShellFlags};
use super::inside::ShellOrder;
use anyhow::{Context, anyhow, bail};
use std::path::PathBuf;
use std::str::FromStr;
use wormhole_benches::baseline::{Name, Threshold};
use wormhole_benches::netem::{Backend, Catalog, Overrides, Profile};
use wormhole_benches::order::{LinkOrder, RunOrder};
use wormhole_benches::peer::{Custom, choose};
use wormhole_benches::record::{Data, Mode};
use wormhole_benches::run::families;

/// A place for files that outlives a reboot by custom, and so is on a disk.
const SCRATCH_DEFAULT: &str = "/var/tmp";
const PROFILE_DEFAULT: &str = "wan-good";

/// A shell to open.
pub(super) struct ShellPlan {
    pub(super) place: PathBuf,
    pub(super) order: ShellOrder,
}

/// Profiles to measure.
pub(super) struct RunPlan {
    pub(super) place: PathBuf,
    pub(super) orders: Vec<RunOrder>,
    pub(super) outputs: Outputs,
}

/// What is done with the results.
pub(super) struct Outputs {
    pub(super) json: Option<PathBuf>,
    pub(super) markdown: Option<PathBuf>,
    pub(super) html: Option<PathBuf>,
    pub(super) save_baseline: Option<Name>,
    pub(super) baseline: Option<(Name, Option<Threshold>)>,
}

pub(super) fn shell(flags: ShellFlags) -> anyhow::Result<ShellPlan> {
    let mut links = links(&flags.link)?;
    let (Some(link), true) = (links.pop(), links.is_empty()) else {
        bail!("a shell is at the end of one link: give one --profile");
    };
    Ok(ShellPlan {
        place: place(&flags.link),
        order: ShellOrder {
            link,
            command: flags.command,
        },
    })
}

pub(super) fn run(flags: RunFlags, command: Vec<String>) -> anyhow::Result<RunPlan> {
    let links = links(&flags.link)?;
    let families = families(&flags.only).map_err(|error| anyhow!("--only: {error}"))?;
    let own_peers = flags.peers_file.as_ref().map(read).transpose()?;
    let own = match &own_peers {
        Some(text) => Custom::parse(text).context("--peers-file")?,
        None => Vec::new(),
    };
    choose(&flags.peers, own).context("--peers")?;
    let program = std::env::current_exe().context("finding this program")?;
    let mode = match (flags.quick, flags.full) {
        (true, _) => Mode::Quick,
        (_, true) => Mode::Full,
        _ => Mode::Standard,
    };
    let data = match flags.data {
        DataFlag::Random => Data::Random,
        DataFlag::Text => Data::Text,
    };
    let flamegraphs = flags.flamegraph.as_ref().map(std::path::absolute);
    let flamegraphs = flamegraphs.transpose().context("--flamegraph")?;
    let orders = links
        .into_iter()
        .map(|link| RunOrder {
            link,
            mode,
            data,
            families: families.clone(),
            peers: flags.peers.clone(),
            own_peers: own_peers.clone(),
            rounds: flags.rounds,
            flamegraphs: flamegraphs.clone(),
            program: program.clone(),
            command: command.clone(),
        })
        .collect();
    Ok(RunPlan {
        place: place(&flags.link),
        orders,
        outputs: outputs(flags)?,
    })
}

fn outputs(flags: RunFlags) -> anyhow::Result<Outputs> {
    let threshold = parsed(flags.fail_if_slower.as_deref(), "--fail-if-slower")?;
    let baseline = parsed(flags.baseline.as_deref(), "--baseline")?;
    Ok(Outputs {
        json: flags.json,
        markdown: flags.markdown,
        html: flags.html,
        save_baseline: parsed(flags.save_baseline.as_deref(), "--save-baseline")?,
        baseline: baseline.map(|name| (name, threshold)),
    })
}

fn place(flags: &LinkFlags) -> PathBuf {
    flags
        .scratch
        .clone()
        .unwrap_or_else(|| SCRATCH_DEFAULT.into())
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn parsed<T: FromStr>(text: Option<&str>, flag: &'static str) -> anyhow::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.map(|text| text.parse().context(flag)).transpose()
}

/// A link for each profile that is named, with what was said to be different about it.
fn links(flags: &LinkFlags) -> anyhow::Result<Vec<LinkOrder>> {
    let catalog = match &flags.profiles {
        Some(path) => Catalog::parse(&read(path)?).context("--profiles")?,
        None => Catalog::default(),
    };
    let overrides = Overrides {
        rtt: parsed(flags.rtt.as_deref(), "--rtt")?,
        rate: parsed(flags.rate.as_deref(), "--rate")?,
        loss: parsed(flags.loss.as_deref(), "--loss")?,
        jitter: parsed(flags.jitter.as_deref(), "--jitter")?,
        queue: parsed(flags.queue.as_deref(), "--queue")?,
        burst: parsed(flags.burst.as_deref(), "--burst")?,
    };
    let backend: Option<Backend> = parsed(flags.link.as_deref(), "--link")?;
    profiles(flags, &catalog, &overrides)?
        .into_iter()
        .map(|profile| {
            Ok(LinkOrder {
                profile,
                backend,
                congestion_control: flags.cc.clone(),
                seed: flags.seed,
            })
        })
        .collect()
}

fn profiles(
    flags: &LinkFlags,
    catalog: &Catalog,
    overrides: &Overrides,
) -> anyhow::Result<Vec<Profile>> {
    if flags.profile.is_empty() && !overrides.is_empty() {
        return Ok(vec![overrides.apply(None)?]);
    }
    let default = [PROFILE_DEFAULT.to_owned()];
    let names = match flags.profile.as_slice() {
        [] => &default,
        names => names,
    };
    names
        .iter()
        .map(|name| Ok(overrides.apply(Some(&catalog.find(name)?))?))
        .collect()
}

#[cfg(test)]
mod tests;
