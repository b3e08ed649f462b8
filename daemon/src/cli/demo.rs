//! `wormhole demo`: a folder hosted, mounted, read and compared on this machine alone.
//!
//! ```text
//!   source ── child "host" ── QUIC over loopback ── child "mount" ── kernel ─┐
//!      └───────────────────── compared, byte by byte ────────────────────────┘
//! ```
//!
//! Both children are this very program, started as a user would ([`parties`]). Everything made lies
//! beneath one temporary directory and is gone afterwards, however the demo ends.

mod compare;
mod parties;
mod report;
mod tree;

use super::flags::DemoFlags;
use super::output;
use crate::config::units::{show_bytes, show_rate};
use crate::mount::mountpoint;
use crate::path_text::PathText;
use crate::shutdown::Shutdown;
use crate::status::RuntimeDir;
use crate::status::report::{MountReport, Role};
use crate::status::socket::ask;
use anyhow::{Context, bail, ensure};
use compare::{Listing, Outcome, Pass};
use indicatif::{ProgressBar, ProgressStyle};
use parties::Parties;
use report::DemoReport;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of a generated tree unless told otherwise.
const TREE_BYTES_DEFAULT: u64 = 1 << 30;
/// Room left free beside a generated tree and the disk cache's copy of it.
const SPARE_BYTES: u64 = 64 << 20;
/// The tree is the same each time.
const TREE_SEED: u64 = 0x77_6f72_6d68_6f6c;
/// What is read for the latency of a first byte: one block.
const FIRST_READ_BYTES: usize = 4096;

/// Runs the command.
pub(super) fn run(flags: DemoFlags) -> anyhow::Result<()> {
    mountpoint::require_fuse(false)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting threads")?;
    let parties = Arc::new(Parties::prepare()?);
    let shutdown = {
        let _entered = runtime.enter();
        let hurried = parties.clone();
        Shutdown::install(move || hurried.abandon())?
    };
    let shown = show(&flags, &parties, &shutdown);
    let cleaned = parties.clean();
    // Whoever waits in a blocking call has nothing left to say.
    runtime.shutdown_background();
    let report = shown?;
    cleaned?;
    match flags.json {
        true => output::json(&report)?,
        false => output::line(&report.text())?,
    }
    match report.mismatch_count {
        0 => Ok(()),
        n => bail!("{n} differences between the folder and what the mount showed of it"),
    }
}

/// Everything between preparation and cleaning up.
fn show(flags: &DemoFlags, parties: &Parties, shutdown: &Shutdown) -> anyhow::Result<DemoReport> {
    let source = match &flags.folder {
        Some(folder) => given(folder, parties)?,
        None => generated(flags.size.unwrap_or(TREE_BYTES_DEFAULT), parties, shutdown)?,
    };
    let listing = Listing::of(&source, shutdown)?;
    eprintln!(
        "Hosting {}: {} files, {}",
        PathText::from(source.as_path()),
        listing.files(),
        show_bytes(listing.bytes())
    );
    let begun = Instant::now();
    let ticket = parties.host(&source)?;
    parties.mount(&ticket)?;
    let mounted_secs = begun.elapsed().as_secs_f64();
    eprintln!("Mounted at {}", PathText::from(parties.mountpoint()));
    let first_byte = first_byte(&listing, parties.mountpoint())?;
    let cold = read_all("Cold read", &listing, parties, shutdown, Pass::Cold)?;
    let after_cold = mount_report(parties)?;
    let warm = read_all("Again", &listing, parties, shutdown, Pass::Warm)?;
    let after_warm = mount_report(parties)?;
    Ok(DemoReport::new(
        &listing,
        report::Timing {
            mounted_secs,
            first_byte_secs: first_byte.map(|t| t.as_secs_f64()),
        },
        &cold,
        &warm,
        report::Figures {
            after_cold,
            after_warm,
        },
    ))
}

/// A folder of the user's, which is only read.
fn given(folder: &Path, parties: &Parties) -> anyhow::Result<PathBuf> {
    let source = folder
        .canonicalize()
        .with_context(|| PathText::from(folder).to_string())?;
    ensure!(
        source.is_dir(),
        "{} is not a folder",
        PathText::from(folder)
    );
    ensure!(
        !parties.mountpoint().starts_with(&source),
        "{} holds the place the demo mounts at, which would show itself in itself, for ever: choose \
         another folder, or set TMPDIR to a directory outside of it",
        PathText::from(folder)
    );
    Ok(source)
}

fn generated(bytes: u64, parties: &Parties, shutdown: &Shutdown) -> anyhow::Result<PathBuf> {
    let free = rustix::fs::statvfs(parties.directory())?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    let wanted = bytes.saturating_mul(2).saturating_add(SPARE_BYTES);
    ensure!(
        free >= wanted,
        "the demo needs {} in {}, where {} are free: choose a smaller --size, or set TMPDIR",
        show_bytes(wanted),
        PathText::from(parties.directory()),
        show_bytes(free)
    );
    let source = parties.directory().join("source");
    let bar = progress("Generating", bytes);
    let made = tree::generate(&source, bytes, TREE_SEED, &mut |written| {
        bar.inc(written);
        !shutdown.is_requested()
    });
    bar.finish_and_clear();
    made.context("generating a tree")?;
    ensure!(!shutdown.is_requested(), "ended on request");
    Ok(source)
}

/// From opening a file nobody has opened yet to its first block.
fn first_byte(listing: &Listing, mountpoint: &Path) -> anyhow::Result<Option<Duration>> {
    let Some(path) = listing.largest_file() else {
        return Ok(None);
    };
    let place = mountpoint.join(path);
    // Looking at the directory first is what a person or a shell does.
    if let Some(directory) = place.parent() {
        directory.read_dir()?.for_each(drop);
    }
    let begun = Instant::now();
    let file = File::open(&place);
    let mut block = [0; FIRST_READ_BYTES];
    match file.and_then(|file| file.read_at(&mut block, 0)) {
        Ok(_) => Ok(Some(begun.elapsed())),
        // The comparison says what is wrong with it, if anything.
        Err(_) => Ok(None),
    }
}

fn read_all(
    what: &str,
    listing: &Listing,
    parties: &Parties,
    shutdown: &Shutdown,
    pass: Pass,
) -> anyhow::Result<Outcome> {
    let bar = progress(what, listing.bytes());
    let outcome = compare::compare(listing, parties.mountpoint(), pass, shutdown, &bar);
    bar.finish_and_clear();
    ensure!(!shutdown.is_requested(), "ended on request");
    parties.check()?;
    eprintln!(
        "{what}: {} verified at {}",
        show_bytes(outcome.bytes),
        show_rate(outcome.bytes_per_sec())
    );
    Ok(outcome)
}

/// What the mount says of itself; nothing if it cannot be asked, which is no reason to fail.
fn mount_report(parties: &Parties) -> anyhow::Result<Option<MountReport>> {
    let Ok(directory) = RuntimeDir::open() else {
        return Ok(None);
    };
    match ask(&directory.socket("mount", parties.mount_pid()?)) {
        Ok(report) => Ok(match report.role {
            Role::Mount(mount) => Some(mount),
            Role::Host(_) => None,
        }),
        Err(error) => {
            tracing::warn!("the mount does not say what its caches did: {error}");
            Ok(None)
        }
    }
}

/// Draws on a terminal only.
fn progress(what: &str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg:12} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
    );
    let bar = ProgressBar::new(bytes).with_message(what.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
