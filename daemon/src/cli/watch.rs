//! `wormhole watch`: what changes in a mount, a line for each change.

use super::Failure;
use super::flags::WatchFlags;
use super::output;
use super::place::Place;
use crate::control::{Kind, Order, What, Word};
use crate::path_text::PathText;
use anyhow::bail;
use serde::Serialize;

/// One line of `--json`.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Watching {
        event: &'static str,
        directories: u64,
        names: u64,
    },
    Change {
        event: What,
        path: &'a PathText,
        kind: Kind,
    },
}

/// Runs the command, until it is stopped or cannot go on.
pub(super) fn run(flags: &WatchFlags) -> Result<(), Failure> {
    let place = Place::of(&flags.path)?;
    let order = Order::Watch {
        path: place.path.clone().into(),
    };
    place.ask(&order, |word| {
        let is_read = match word {
            Word::Watching { directories, names } => watching(flags.json, directories, names)?,
            Word::Change { what, path, kind } => {
                let path = PathText::from(place.mountpoint.join(&path));
                change(flags.json, what, &path, kind)?
            }
            Word::Failed { why } => bail!("{why}"),
            // Words about other orders.
            Word::Progress(_) | Word::Done(_) | Word::Draining { .. } | Word::Drained { .. } => {
                true
            }
        };
        // Whoever has seen enough (`| head`) is no error.
        Ok((!is_read).then_some(()))
    })
}

fn watching(json: bool, directories: u64, names: u64) -> anyhow::Result<bool> {
    if json {
        let line = Line::Watching {
            event: "watching",
            directories,
            names,
        };
        return Ok(output::next_line(&serde_json::to_string(&line)?)?);
    }
    eprintln!("watching {names} names in {directories} folders; Ctrl-C ends");
    Ok(true)
}

fn change(json: bool, what: What, path: &PathText, kind: Kind) -> anyhow::Result<bool> {
    if json {
        let line = Line::Change {
            event: what,
            path,
            kind,
        };
        return Ok(output::next_line(&serde_json::to_string(&line)?)?);
    }
    let word = match what {
        What::Created => "created",
        What::Removed => "removed",
        What::Modified => "modified",
        What::Attributes => "attributes",
    };
    Ok(output::next_line(&format!("{word:<10}  {path}"))?)
}
