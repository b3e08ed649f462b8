//! Reports of runs: for a terminal, as JSON, as Markdown and as a page.
//!
//! Everything is made from [`Run`](crate::record::Run)s alone, so a report can be made again from the
//! file. [`table`] arranges a run once, [`summary`] puts it in words; [`terminal`], [`markdown`] and
//! [`html`] only write down what those two say, so that no report tells another story.
//!
//! Names, versions and reasons come from configuration and from other programs: each report makes them
//! harmless for where they are shown.
//!
//! Invariants
//! - `local`, the bare file system, is the limit: shown, never the best.
//! - Where Wormhole is behind is said as prominently as where it is ahead.

mod chart;
pub mod figure;
pub mod html;
pub mod json;
pub mod markdown;
mod style;
pub mod summary;
pub mod table;
pub mod terminal;

#[cfg(test)]
pub(crate) mod sample;

/// The peer that is ours.
pub const SUBJECT: &str = "wormhole";
/// The peer that is the limit, not a competitor.
pub const LIMIT: &str = "local";
