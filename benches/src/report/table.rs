//! A run arranged as a table: workloads as rows, peers as columns, and who is best in each row.
//!
//! Knows nothing of how a table is shown.

use super::{LIMIT, figure};
use crate::record::{Better, Entry, Run, State};
use crate::workload::WORKLOADS;

/// A run as rows and columns.
#[derive(Debug)]
pub struct Table<'a> {
    /// The columns: peers that have a result, the limit last.
    pub peers: Vec<&'a str>,
    /// The rows, in the order of [`WORKLOADS`], then what it does not know.
    pub rows: Vec<Row<'a>>,
}

/// One workload.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its name.
    pub workload: &'a str,
    /// Unit of its numbers.
    pub unit: &'a str,
    /// Which way is better.
    pub better: Better,
    /// One for each peer.
    pub cells: Vec<Option<Cell<'a>>>,
}

/// One peer at one workload.
#[derive(Debug)]
pub struct Cell<'a> {
    /// What was recorded.
    pub entry: &'a Entry,
    /// Nobody who finished was better; more than one in case of a tie.
    pub best: bool,
    /// How many times as slow as the best: `1.0` for the best itself. None where it makes no
    /// sense: for the limit, against zero.
    pub ratio: Option<f64>,
}

impl<'a> Table<'a> {
    /// Arranges `run`.
    pub fn new(run: &'a Run) -> Self {
        let peers = columns(run);
        let rows = workloads(run)
            .into_iter()
            .map(|workload| row(run, &peers, workload))
            .collect();
        Self { peers, rows }
    }
}

/// Whether `peer` could not run at all: that is said once, and not in every row.
fn is_absent(run: &Run, peer: &str) -> bool {
    run.peers
        .iter()
        .any(|info| info.name == peer && !info.available)
}

/// Peers with results: as the run lists them, then others, the limit last.
fn columns(run: &Run) -> Vec<&str> {
    let listed = run.peers.iter().map(|peer| peer.name.as_str());
    let mut peers: Vec<&str> = Vec::new();
    for name in listed.chain(run.results.iter().map(|entry| entry.peer.as_str())) {
        let has_results = run.results.iter().any(|entry| entry.peer == name);
        if has_results && !is_absent(run, name) && !peers.contains(&name) {
            peers.push(name);
        }
    }
    peers.sort_by_key(|name| *name == LIMIT);
    peers
}

/// Workloads with results, in the order of a report.
fn workloads(run: &Run) -> Vec<&str> {
    let known = WORKLOADS.iter().map(|workload| workload.name);
    let mut names: Vec<&str> = known
        .filter(|name| run.results.iter().any(|entry| entry.workload == *name))
        .collect();
    for entry in &run.results {
        if !names.contains(&entry.workload.as_str()) {
            names.push(&entry.workload);
        }
    }
    names
}

/// What `peer` did at `workload`.
pub fn find<'a>(run: &'a Run, peer: &str, workload: &str) -> Option<&'a Entry> {
    run.results
        .iter()
        .find(|entry| entry.peer == peer && entry.workload == workload)
}

fn row<'a>(run: &'a Run, peers: &[&str], workload: &'a str) -> Row<'a> {
    let entries: Vec<Option<&Entry>> = peers.iter().map(|peer| find(run, peer, workload)).collect();
    let any = entries.iter().flatten().next();
    let best = best(entries.iter().flatten());
    Row {
        workload,
        unit: any.map_or("", |entry| &entry.unit),
        better: any.map_or(Better::Lower, |entry| entry.better),
        cells: entries
            .into_iter()
            .map(|entry| entry.map(|entry| cell(entry, best)))
            .collect(),
    }
}

/// Whether `entry` can be the best of its row.
fn competes(entry: &Entry) -> bool {
    entry.state == State::Ok && entry.peer != LIMIT
}

fn best<'a>(entries: impl Iterator<Item = &'a &'a Entry>) -> Option<f64> {
    entries
        .filter(|entry| competes(entry))
        .filter_map(|entry| entry.p50.map(|p50| (entry.better, p50)))
        .reduce(|a, b| {
            let better = match a.0 {
                Better::Lower => b.1 < a.1,
                Better::Higher => b.1 > a.1,
            };
            if better { b } else { a }
        })
        .map(|(_, p50)| p50)
}

fn cell(entry: &Entry, best: Option<f64>) -> Cell<'_> {
    let ratio = match (entry.p50, best) {
        (Some(p50), Some(best)) if entry.peer != LIMIT => slowness(entry.better, p50, best),
        _ => None,
    };
    Cell {
        entry,
        best: competes(entry) && entry.p50.is_some() && entry.p50 == best,
        ratio,
    }
}

/// How many times as slow `value` is as `reference`.
pub fn slowness(better: Better, value: f64, reference: f64) -> Option<f64> {
    let (above, below) = match better {
        Better::Lower => (value, reference),
        Better::Higher => (reference, value),
    };
    (above > 0.0 && below > 0.0).then(|| above / below)
}

impl Cell<'_> {
    /// The number, with its unit.
    pub fn value(&self) -> Option<String> {
        self.entry
            .p50
            .map(|p50| figure::quantity(p50, &self.entry.unit))
    }

    /// What has to be said instead of, or after, the number.
    pub fn remark(&self) -> Option<String> {
        match self.entry.state {
            State::Ok => None,
            State::Timeout => Some(timed_out(self.entry.reason.as_deref())),
            State::Failed => Some("failed".to_owned()),
            State::Unavailable => Some("cannot".to_owned()),
        }
    }

    /// The 95th percentile, where samples are single operations: latencies.
    pub fn p95(&self) -> Option<String> {
        let latency = self.entry.unit == "ms";
        let p95 = self.entry.p95.filter(|_| latency)?;
        Some(figure::quantity(p95, &self.entry.unit))
    }
}

/// What was done in time, in percent: the last thing a reason says, if it says it.
fn share(reason: Option<&str>) -> Option<f64> {
    let (_, rest) = reason?.rsplit_once(" at ")?;
    let number = rest.strip_suffix('%')?.trim_end();
    number.parse::<f64>().ok().filter(|n| n.is_finite())
}

/// `timed out at 37 %`.
fn timed_out(reason: Option<&str>) -> String {
    match share(reason) {
        Some(share) => format!("timed out at {share} %"),
        None => "timed out".to_owned(),
    }
}

/// What failed or could not be done, for people: peer, workloads, why. What ran out of time says how far
/// it came where its figure stands; here is what never began, such as a mount that hung.
pub fn mishaps(run: &Run) -> Vec<(&str, String, String)> {
    let mut found: Vec<(&str, String, String)> = Vec::new();
    let is_told = |entry: &Entry| match entry.state {
        State::Ok => true,
        State::Timeout => share(entry.reason.as_deref()).is_some(),
        State::Failed | State::Unavailable => is_absent(run, &entry.peer),
    };
    let untold = run.results.iter().filter(|entry| !is_told(entry));
    for entry in untold {
        let reason = entry.reason.as_deref().unwrap_or("no reason known");
        match found.last_mut() {
            Some((peer, workloads, said)) if *peer == entry.peer && said == reason => {
                workloads.push_str(", ");
                workloads.push_str(&entry.workload);
            }
            _ => found.push((&entry.peer, entry.workload.clone(), reason.to_owned())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn cell_of<'t>(table: &'t Table<'_>, peer: &str, workload: &str) -> &'t Cell<'t> {
        let column = table.peers.iter().position(|p| *p == peer).expect("a peer");
        let row = table
            .rows
            .iter()
            .find(|r| r.workload == workload)
            .expect("a row");
        row.cells[column].as_ref().expect("a cell")
    }

    #[test]
    fn the_limit_is_last_and_never_best() {
        let run = sample::wan_poor();
        let table = Table::new(&run);
        assert_eq!(table.peers.last(), Some(&"local"));
        assert!(!table.peers.contains(&"nfs"));
        for row in &table.rows {
            let limit = row
                .cells
                .last()
                .expect("a column")
                .as_ref()
                .expect("a cell");
            assert!(!limit.best && limit.ratio.is_none(), "{}", row.workload);
            assert!(
                row.cells.iter().flatten().any(|cell| cell.best),
                "{}",
                row.workload
            );
        }
    }

    #[test]
    fn ratios_say_how_many_times_as_slow() {
        let run = sample::wan_poor();
        let table = Table::new(&run);
        let ours = cell_of(&table, "wormhole", "seq-read-cold");
        assert!(ours.best);
        assert_eq!(ours.ratio, Some(1.0));
        let theirs = cell_of(&table, "sshfs", "seq-read-cold");
        assert!(theirs.ratio.expect("a ratio") > 4.0);
        let behind = cell_of(&table, "wormhole", "first-byte-warm");
        assert!(!behind.best && behind.ratio.expect("a ratio") > 1.0);
        let none_late = cell_of(&table, "sshfs", "scrub");
        assert_eq!(none_late.ratio, None, "nothing is so many times zero");
    }

    #[test]
    fn who_times_out_is_shown_and_does_not_compete() {
        let mut run = sample::wan_poor();
        for entry in &mut run.results {
            if entry.peer == "rclone" && entry.workload == "seq-read-cold" {
                entry.p50 = Some(1e6);
            }
        }
        let table = Table::new(&run);
        let late = cell_of(&table, "rclone", "seq-read-cold");
        assert!(!late.best);
        assert_eq!(late.remark().as_deref(), Some("timed out at 37 %"));
        assert!(cell_of(&table, "wormhole", "seq-read-cold").best);
        assert_eq!(timed_out(Some("timed out after 3 s at noon")), "timed out");
    }

    #[test]
    fn why_something_has_no_figure_is_told_once() {
        let mut run = sample::wan_poor();
        let told = |run: &Run| {
            let mishaps = mishaps(run).into_iter();
            let ours = mishaps.filter(|(peer, ..)| *peer == "wormhole");
            ours.map(|(_, _, reason)| reason).collect::<Vec<_>>()
        };
        let before = told(&run);
        let ours = |entry: &&mut Entry| entry.peer == "wormhole" && entry.state == State::Ok;
        let mut late: Vec<&mut Entry> = run.results.iter_mut().filter(ours).collect();
        late[0].state = State::Timeout;
        late[0].reason = Some("timed out after 3 s at 37 %".to_owned());
        assert_eq!(told(&run), before, "it stands where the figure does");
        let mut late: Vec<&mut Entry> = run.results.iter_mut().filter(ours).collect();
        for entry in &mut late[..2] {
            entry.state = State::Timeout;
            entry.reason = Some("not mounted within 10 s".to_owned());
        }
        let after = told(&run);
        let new: Vec<_> = after.iter().filter(|said| !before.contains(said)).collect();
        assert_eq!(new, ["not mounted within 10 s"]);
    }

    #[test]
    fn ties_are_all_marked() {
        let mut run = sample::wan_poor();
        run.results.retain(|entry| entry.workload == "scrub");
        for entry in &mut run.results {
            entry.p50 = Some(0.0);
        }
        let table = Table::new(&run);
        assert_eq!(
            table.rows[0]
                .cells
                .iter()
                .flatten()
                .filter(|c| c.best)
                .count(),
            4
        );
    }
}
