//! `wormhole drain`: waits until the host has what programs were told is done.

use super::Failure;
use super::flags::DrainFlags;
use super::place::Place;
use crate::config::units;
use crate::control::{Loss, Order, Word};
use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;

/// Runs the command.
pub(super) fn run(flags: &DrainFlags) -> Result<(), Failure> {
    drain(&Place::of(&flags.path)?)
}

/// Waits for a mount, showing what is still to come.
pub(super) fn drain(place: &Place) -> Result<(), Failure> {
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg}")
            .context("the progress line is well-formed")?,
    );
    let end = place.ask(&Order::Drain, |word| {
        match word {
            Word::Draining {
                changes,
                bytes,
                connected,
            } => {
                bar.set_message(to_come(changes, bytes, connected));
                bar.tick();
            }
            Word::Drained { lost, losses } => return Ok(Some((lost, losses))),
            Word::Failed { why } => bail!("{why}"),
            // Words about other orders.
            Word::Progress(_) | Word::Done(_) | Word::Watching { .. } | Word::Change { .. } => {}
        }
        Ok(None)
    });
    bar.finish_and_clear();
    match end? {
        (0, _) => Ok(()),
        (lost, losses) => Err(anyhow!(lost_text(lost, &losses)).into()),
    }
}

fn to_come(changes: u64, bytes: u64, connected: bool) -> String {
    let away = if connected { "" } else { "; the host is away" };
    let bytes = units::show_bytes(bytes);
    format!("{bytes} and {changes} changes to come{away}")
}

fn lost_text(lost: u64, losses: &[Loss]) -> String {
    let mut text = format!("{lost} changes are lost that programs were told are done, the latest:");
    for loss in losses {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {}: {}", loss.path, loss.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_named() {
        let loss = Loss {
            path: "a/b".into(),
            why: "no room".into(),
        };
        let text = lost_text(3, &[loss]);
        assert!(text.starts_with("3 changes are lost"), "{text}");
        assert!(text.ends_with("\n  a/b: no room"), "{text}");
    }

    #[test]
    fn a_host_that_is_away_is_told() {
        assert_eq!(to_come(2, 1 << 20, true), "1 MiB and 2 changes to come");
        assert!(to_come(0, 0, false).ends_with("the host is away"));
    }
}
