//! Two measurements of the same things, side by side, with a verdict that knows noise.
//!
//! Rows are matched by profile, peer and workload. The rule for "slower" and "faster" is
//! [`slowdown`]'s: the confidence interval of the slowdown must lie wholly on one side of 1. What was
//! measured under other terms (mode, data, link) is not compared at all.

pub mod slowdown;

mod text;

pub(crate) use text::table;

pub use text::render;

use crate::record::{Entry, Run, State};
use crate::report::figure;
use slowdown::Slowdown;

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Beyond noise.
    Faster,
    /// Beyond noise; or it finished before and does not now.
    Slower,
    /// No difference that could not be chance.
    Noise,
    /// Nothing to be said; the note says why.
    NotComparable,
}

impl Verdict {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Noise => "within noise",
            Self::NotComparable => "not comparable",
        }
    }
}

/// One peer at one workload on one profile, then and now.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name of the profile.
    pub profile: String,
    /// Name of the peer.
    pub peer: String,
    /// Name of the workload.
    pub workload: String,
    /// Median then, with its unit.
    pub old: Option<String>,
    /// Median now, with its unit.
    pub new: Option<String>,
    /// How many times as slow now.
    pub slowdown: Option<Slowdown>,
    /// What it means.
    pub verdict: Verdict,
    /// Why it is not comparable, or what changed besides speed.
    pub note: String,
}

/// Every row of either side, in the order of `new`, then what only `old` has.
pub fn rows(old: &[Run], new: &[Run]) -> Vec<Row> {
    let mut rows = Vec::new();
    for run in latest(new) {
        let before = old.iter().rev().find(|b| b.profile == run.profile);
        for entry in &run.results {
            rows.push(row(before, run, entry));
        }
        for entry in before.iter().flat_map(|before| &before.results) {
            if find(run, entry).is_none() {
                rows.push(gone(&run.profile, entry, "not measured now"));
            }
        }
    }
    for run in latest(old) {
        if !new.iter().any(|now| now.profile == run.profile) {
            let missing = |entry| gone(&run.profile, entry, "this profile was not measured now");
            rows.extend(run.results.iter().map(missing));
        }
    }
    rows
}

/// The last run of each profile, in their order.
fn latest(runs: &[Run]) -> impl Iterator<Item = &Run> {
    runs.iter().enumerate().filter_map(|(at, run)| {
        let again = runs[at + 1..]
            .iter()
            .any(|later| later.profile == run.profile);
        (!again).then_some(run)
    })
}

fn find<'a>(run: &'a Run, like: &Entry) -> Option<&'a Entry> {
    run.results
        .iter()
        .find(|entry| entry.peer == like.peer && entry.workload == like.workload)
}

fn row(before: Option<&Run>, run: &Run, entry: &Entry) -> Row {
    let mut row = Row {
        profile: run.profile.clone(),
        peer: entry.peer.clone(),
        workload: entry.workload.clone(),
        old: None,
        new: shown(entry),
        slowdown: None,
        verdict: Verdict::NotComparable,
        note: String::new(),
    };
    let Some(before) = before else {
        row.note = "this profile was not measured before".to_owned();
        return row;
    };
    let Some(old) = find(before, entry) else {
        row.note = "not measured before".to_owned();
        return row;
    };
    row.old = shown(old);
    match terms_differ(before, run) {
        Some(note) => row.note = note,
        None => judge(&mut row, old, entry),
    }
    row
}

fn gone(profile: &str, entry: &Entry, note: &str) -> Row {
    Row {
        profile: profile.to_owned(),
        peer: entry.peer.clone(),
        workload: entry.workload.clone(),
        old: shown(entry),
        new: None,
        slowdown: None,
        verdict: Verdict::NotComparable,
        note: note.to_owned(),
    }
}

fn shown(entry: &Entry) -> Option<String> {
    entry.p50.map(|p50| figure::quantity(p50, &entry.unit))
}

/// Why two runs measured different things, if they did: sizes follow mode and link.
fn terms_differ(old: &Run, new: &Run) -> Option<String> {
    if old.mode != new.mode {
        return Some(format!(
            "other sizes: {:?} then, {:?} now",
            old.mode, new.mode
        ));
    }
    if old.data != new.data {
        return Some(format!(
            "other data: {:?} then, {:?} now",
            old.data, new.data
        ));
    }
    let (then, now) = (figure::link_asked(&old.link), figure::link_asked(&new.link));
    let queues = old.link.queue_bytes == new.link.queue_bytes;
    if then != now || !queues {
        return Some(format!("another link: {then} then, {now} now"));
    }
    None
}

fn judge(row: &mut Row, old: &Entry, new: &Entry) {
    let worked = |state| matches!(state, State::Ok | State::Timeout);
    match (old.state, new.state) {
        (State::Ok, State::Timeout | State::Failed) => {
            row.verdict = Verdict::Slower;
            let reason = new.reason.as_deref().unwrap_or("no reason known");
            row.note = format!("it finished before; now: {reason}");
        }
        (State::Timeout | State::Failed, State::Ok) => {
            row.verdict = Verdict::Faster;
            row.note = "it did not finish before".to_owned();
        }
        (then, now) if !worked(then) || !worked(now) => {
            row.note = format!("{} then, {} now", state_words(then), state_words(now));
        }
        _ => row_of_samples(row, old, new),
    }
}

fn row_of_samples(row: &mut Row, old: &Entry, new: &Entry) {
    if old.unit != new.unit || old.better != new.better {
        row.note = format!("{} then, {} now", old.unit, new.unit);
        return;
    }
    let Some(slowdown) = Slowdown::between(old, new) else {
        row.note = "no samples".to_owned();
        return;
    };
    row.verdict = if slowdown.low > 1.0 {
        Verdict::Slower
    } else if slowdown.high < 1.0 {
        Verdict::Faster
    } else {
        Verdict::Noise
    };
    row.slowdown = Some(slowdown);
}

fn state_words(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Timeout => "timed out",
        State::Failed => "failed",
        State::Unavailable => "unavailable",
    }
}

/// What differs between where the two were measured: reasons to doubt any verdict.
pub fn warnings(old: &[Run], new: &[Run]) -> Vec<String> {
    let mut found = Vec::new();
    for run in latest(new) {
        let Some(before) = old.iter().rev().find(|b| b.profile == run.profile) else {
            continue;
        };
        for warning in places_differ(before, run) {
            if !found.contains(&warning) {
                found.push(warning);
            }
        }
    }
    found
}

fn places_differ(old: &Run, new: &Run) -> Vec<String> {
    let (then, now) = (&old.environment, &new.environment);
    let differences = [
        ("processor", then.cpu.clone(), now.cpu.clone()),
        ("kernel", then.kernel.clone(), now.kernel.clone()),
        ("cores", then.cores.to_string(), now.cores.to_string()),
        (
            "file system",
            then.file_system.clone(),
            now.file_system.clone(),
        ),
        (
            "link emulation",
            old.link.backend.clone(),
            new.link.backend.clone(),
        ),
        (
            "TCP congestion control",
            old.link.tcp_congestion_control.clone(),
            new.link.tcp_congestion_control.clone(),
        ),
        (
            "dropping of the page cache",
            then.drops_page_cache.to_string(),
            now.drops_page_cache.to_string(),
        ),
    ];
    differences
        .into_iter()
        .filter(|(_, then, now)| then != now)
        .map(|(what, then, now)| format!("another {what}: {then} then, {now} now"))
        .collect()
}

#[cfg(test)]
mod tests;
