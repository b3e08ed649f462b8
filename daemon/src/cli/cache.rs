//! `wormhole cache`: looking after the disk cache while no mount uses it, or beside one that does.

use super::flags::{CacheAction, CacheFlags, CacheGcFlags, CacheShareFlags};
use super::output;
use crate::config::{L2_BYTES_DEFAULT, units};
use crate::path_text::PathText;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};
use wormhole_cache::{ShareReport, Skipped, SweepReport, VerifyReport};

/// Runs the command.
pub(super) fn run(flags: CacheFlags) -> anyhow::Result<()> {
    match flags.action {
        CacheAction::Stats(flags) => stats(&flags),
        CacheAction::Verify(flags) => verify(&flags),
        CacheAction::Clear(flags) => clear(&flags),
        CacheAction::Gc(flags) => gc(&flags),
    }
}

fn about(root: &Path) -> String {
    format!("the cache in {}", PathText::from(root))
}

/// `stats --json`.
#[derive(Serialize)]
struct StatsJson {
    root: PathText,
    bytes: u64,
    shares: Vec<ShareReport>,
}

fn stats(flags: &CacheShareFlags) -> anyhow::Result<()> {
    let root = flags.place.root()?;
    let mut shares = wormhole_cache::report(&root).with_context(|| about(&root))?;
    if let Some(only) = flags.share {
        shares.retain(|share| share.share == only.to_string());
    }
    let stats = StatsJson {
        bytes: shares.iter().map(|share| share.bytes).sum(),
        root: root.into(),
        shares,
    };
    if flags.place.json {
        return Ok(output::json(&stats)?);
    }
    Ok(output::line(&stats_text(&stats, SystemTime::now()))?)
}

fn stats_text(stats: &StatsJson, now: SystemTime) -> String {
    let mut text = format!(
        "{}: {} in {} shares",
        stats.root,
        units::show_bytes(stats.bytes),
        stats.shares.len()
    );
    let now = crate::status::report::unix_secs(now);
    for share in &stats.shares {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n{}  {:>10}  {:>8} files",
            share.share,
            units::show_bytes(share.bytes),
            share.contents
        );
        if let Some(used) = share.newest_access {
            let age = Duration::from_secs(now.saturating_sub(used));
            let _ = write!(text, "  used {} ago", units::show_age(age));
        }
        match share.in_use_by {
            Some(0) => text.push_str("  in use"),
            Some(pid) => drop(write!(text, "  in use by process {pid}")),
            None => {}
        }
    }
    text
}

fn verify(flags: &CacheShareFlags) -> anyhow::Result<()> {
    let root = flags.place.root()?;
    let progress = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg}")
            .context("the progress line is well-formed")?,
    );
    let mut show = |report: &VerifyReport| {
        progress.set_message(format!("{} checked", units::show_bytes(report.bytes)));
        progress.tick();
    };
    let report =
        wormhole_cache::verify(&root, flags.share, &mut show).with_context(|| about(&root))?;
    progress.finish_and_clear();
    if flags.place.json {
        output::json(&report)?;
    } else {
        let mut text = format!(
            "{} chunks ({}) checked, {} damaged",
            report.checked,
            units::show_bytes(report.bytes),
            report.corrupt
        );
        if report.corrupt > 0 {
            text.push_str(" and removed; they will be fetched again");
        }
        output::line(&text)?;
    }
    name_skipped(&report.skipped);
    Ok(())
}

fn clear(flags: &CacheShareFlags) -> anyhow::Result<()> {
    let root = flags.place.root()?;
    let report = wormhole_cache::clear(&root, flags.share).with_context(|| about(&root))?;
    show_sweep(&report, flags.place.json)?;
    if !report.skipped.is_empty() {
        bail!("not all could be cleared: unmount first");
    }
    Ok(())
}

fn gc(flags: &CacheGcFlags) -> anyhow::Result<()> {
    let root = flags.place.root()?;
    let to_bytes = flags.l2_size.unwrap_or(L2_BYTES_DEFAULT);
    let report = wormhole_cache::gc(&root, flags.older_than, Some(to_bytes))
        .with_context(|| about(&root))?;
    show_sweep(&report, flags.place.json)
}

fn show_sweep(report: &SweepReport, json: bool) -> anyhow::Result<()> {
    if json {
        output::json(report)?;
    } else {
        output::line(&format!(
            "{} files removed, {} freed",
            report.removed_contents,
            units::show_bytes(report.removed_bytes)
        ))?;
    }
    name_skipped(&report.skipped);
    Ok(())
}

fn name_skipped(skipped: &[Skipped]) {
    for share in skipped {
        match share.in_use_by {
            0 => tracing::warn!("share {} is in use and was left alone", share.share),
            pid => tracing::warn!(
                "share {} is in use by process {pid} and was left alone",
                share.share
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_are_shown_for_people() {
        let stats = StatsJson {
            root: "/c".into(),
            bytes: 3 << 20,
            shares: vec![ShareReport {
                share: "ab".into(),
                bytes: 3 << 20,
                contents: 7,
                newest_access: Some(100),
                oldest_access: Some(50),
                in_use_by: Some(42),
            }],
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(160);
        let text = stats_text(&stats, now);
        assert_eq!(
            text,
            "/c: 3 MiB in 1 shares\nab       3 MiB         7 files  used 1m ago  in use by process 42"
        );
    }

    #[test]
    fn a_cache_that_does_not_exist_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let flags = || CacheShareFlags {
            place: super::super::flags::CachePlace {
                cache_dir: Some(dir.path().join("none")),
                json: true,
            },
            share: None,
        };
        for action in [
            CacheAction::Stats(flags()),
            CacheAction::Verify(flags()),
            CacheAction::Clear(flags()),
            CacheAction::Gc(CacheGcFlags {
                place: flags().place,
                older_than: Some(Duration::ZERO),
                l2_size: None,
            }),
        ] {
            run(CacheFlags { action }).unwrap();
        }
    }
}
