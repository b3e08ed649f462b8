//! `wormhole warm`, `pin`, `unpin`: asks the mount a path is in, and shows how it goes.

use super::Failure;
use super::flags::{PinFlags, UnpinFlags, WarmFlags};
use super::output;
use super::place::Place;
use crate::config::units;
use crate::control::{Order, Warmth, Word};
use crate::path_text::PathText;
use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// Between two turns of the spinner.
const TICK: Duration = Duration::from_millis(200);

/// Runs `wormhole warm`.
pub(super) fn warm(flags: &WarmFlags) -> Result<(), Failure> {
    let place = Place::of(&flags.path)?;
    let order = Order::Warm {
        path: place.path.clone().into(),
        check: flags.check,
    };
    let end = carry_out(&place, &order)?;
    let shown = PathText::from(flags.path.as_path());
    show(&end, flags.json, &shown, "here")?;
    match end.is_complete() {
        true => Ok(()),
        false if flags.check && end.failed == 0 => Err(anyhow!("not all of it is here").into()),
        false => Err(unfinished(&end)),
    }
}

/// Runs `wormhole pin`.
pub(super) fn pin(flags: &PinFlags) -> Result<(), Failure> {
    let place = Place::of(&flags.path)?;
    let order = Order::Pin {
        path: place.path.clone().into(),
    };
    let end = carry_out(&place, &order)?;
    let shown = PathText::from(flags.path.as_path());
    show(&end, flags.json, &shown, "pinned and here")?;
    match end.is_complete() {
        true => Ok(()),
        false => Err(unfinished(&end)),
    }
}

/// Runs `wormhole unpin`.
pub(super) fn unpin(flags: &UnpinFlags) -> Result<(), Failure> {
    let place = Place::of(&flags.path)?;
    let order = Order::Unpin {
        path: place.path.clone().into(),
    };
    carry_out(&place, &order).map(drop)
}

fn show(end: &Warmth, json: bool, shown: &PathText, is: &str) -> Result<(), Failure> {
    let text = format!(
        "{shown}: {} of {} files, {} of {} {is}",
        end.here_files,
        end.files,
        units::show_bytes(end.here_bytes),
        units::show_bytes(end.bytes)
    );
    match json {
        true => output::json(end),
        false => output::line(&text),
    }
    .map_err(|error| Failure::Failed(error.into()))
}

fn unfinished(end: &Warmth) -> Failure {
    let first = end
        .first_failure
        .as_deref()
        .unwrap_or("for no reason given");
    anyhow!("{} could not be fetched, the first {first}", end.failed).into()
}

/// Has a mount carry out an order, and shows how far it is until it is done.
fn carry_out(place: &Place, order: &Order) -> Result<Warmth, Failure> {
    let bar = progress_bar()?;
    let mut last = Warmth::default();
    let end = place.ask(order, |word| {
        match word {
            Word::Progress(warmth) => {
                show_progress(&bar, &warmth);
                last = warmth;
            }
            Word::Done(warmth) => return Ok(Some(warmth)),
            Word::Failed { why } => bail!("{why}"),
            // Words about other orders.
            Word::Watching { .. }
            | Word::Change { .. }
            | Word::Draining { .. }
            | Word::Drained { .. } => {}
        }
        Ok(None)
    });
    bar.finish_and_clear();
    end.map_err(|error| match error {
        Failure::Stopped(code, _) => {
            let here = units::show_bytes(last.here_bytes);
            Failure::Stopped(code, anyhow!("stopped; {here} of it are here"))
        }
        other => other,
    })
}

/// Drawn on stderr, and only on a terminal.
fn progress_bar() -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg}")
            .context("the progress line is well-formed")?,
    );
    bar.enable_steady_tick(TICK);
    Ok(bar)
}

fn show_progress(bar: &ProgressBar, warmth: &Warmth) {
    let text = match warmth.surveyed {
        false => format!("{} files found", warmth.files),
        true => format!(
            "{} of {} ({} of {} files)",
            units::show_bytes(warmth.here_bytes),
            units::show_bytes(warmth.bytes),
            warmth.here_files,
            warmth.files
        ),
    };
    bar.set_message(text);
}
