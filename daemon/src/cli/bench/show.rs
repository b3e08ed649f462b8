//! What is done with results: shown, written, remembered, compared.

use super::flags::{CompareFlags, HistoryFlags};
use super::plan::Outputs;
use crate::cli::output;
use crate::config::places;
use anyhow::{Context, bail};
use std::io;
use std::path::{Path, PathBuf};
use wormhole_benches::record::Run;
use wormhole_benches::{baseline, compare as comparison, history as past, report};

/// Columns where there is no terminal to ask.
const WIDTH_DEFAULT: usize = 120;
const HISTORY: &str = "history.jsonl";

/// Prints the report of one profile.
pub(super) fn terminal(run: &Run) -> anyhow::Result<()> {
    let text = report::terminal::render(run, width(), colour());
    Ok(output::line(text.trim_end())?)
}

/// Looks for what would keep [`finish`] from its work: nobody should wait for results that are lost.
pub(super) fn check(outputs: &Outputs) -> anyhow::Result<()> {
    let files = [&outputs.json, &outputs.markdown, &outputs.html];
    for path in files.into_iter().flatten() {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if path.is_dir() {
            bail!("{} is a folder: name a file for the report", path.display());
        }
        if !folder.unwrap_or(Path::new(".")).is_dir() {
            bail!("{}: there is no such folder for it", path.display());
        }
    }
    if let Some((name, _)) = &outputs.baseline {
        baseline::load(&baselines()?, name)?;
    }
    folder().map(drop)
}

/// Writes what was asked for, remembers the runs, and holds them against the baseline.
pub(super) fn finish(outputs: &Outputs, runs: &[Run]) -> anyhow::Result<()> {
    if let Some(path) = &outputs.json {
        report::json::write(path, runs)?;
    }
    if let Some(path) = &outputs.markdown {
        write(path, &report::markdown::render(runs))?;
    }
    if let Some(path) = &outputs.html {
        write(path, &report::html::render(runs))?;
    }
    past::append(&folder()?.join(HISTORY), runs)?;
    // Before the new one is saved, which may have the same name.
    let gate = match &outputs.baseline {
        Some((name, threshold)) => Some((baseline::load(&baselines()?, name)?, threshold)),
        None => None,
    };
    if let Some(name) = &outputs.save_baseline {
        let path = baseline::save(&baselines()?, name, runs)?;
        eprintln!("saved as baseline {name}: {}", path.display());
    }
    let Some((before, threshold)) = gate else {
        return Ok(());
    };
    let Some(threshold) = threshold else {
        let text = comparison::render(&before, runs, width(), colour());
        return Ok(output::line(text.trim_end())?);
    };
    let gate = baseline::gate(runs, &before, *threshold);
    output::line(gate.render(width(), colour()).trim_end())?;
    // It need not be slowness: there may be nothing that could be compared.
    match gate.failed.as_slice() {
        [] => Ok(()),
        [only] => bail!("not as the baseline: {only}"),
        [first, others @ ..] => bail!("not as the baseline: {first}; and {} more", others.len()),
    }
}

/// `wormhole bench compare`.
pub(super) fn compare(flags: &CompareFlags) -> anyhow::Result<()> {
    let before = report::json::read(&flags.before)?;
    let after = report::json::read(&flags.after)?;
    let text = comparison::render(&before, &after, width(), colour());
    Ok(output::line(text.trim_end())?)
}

/// `wormhole bench history`.
pub(super) fn history(flags: &HistoryFlags) -> anyhow::Result<()> {
    let path = folder()?.join(HISTORY);
    let mut lines = past::read(&path)?;
    if let Some(profile) = &flags.profile {
        lines.retain(|line| line.profile == *profile);
    }
    if lines.is_empty() {
        bail!(
            "no runs are remembered in {}; `wormhole bench` adds them",
            path.display()
        );
    }
    Ok(output::line(past::render(&lines, width()).trim_end())?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn folder() -> anyhow::Result<PathBuf> {
    let folder = places::state_dir()?.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

fn baselines() -> anyhow::Result<PathBuf> {
    Ok(folder()?.join("baselines"))
}

fn width() -> usize {
    let said = std::env::var("COLUMNS")
        .ok()
        .and_then(|text| text.parse().ok());
    let asked = || {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0).then(|| usize::from(size.ws_col))
    };
    said.or_else(asked).unwrap_or(WIDTH_DEFAULT)
}

fn colour() -> bool {
    rustix::termios::isatty(io::stdout()) && std::env::var_os("NO_COLOR").is_none()
}
