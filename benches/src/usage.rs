//! What programs cost: processor time and memory of trees of processes.
//!
//! Take a [`Snapshot`] before the work and one after it; [`Snapshot::since`] is what the work cost.
//! Processes may come and go in between: one that is new counts in full, one that has ended counts
//! through its parent, if that waited for it, and one whose parent has ended is still followed by
//! [`Snapshot::again`].
//!
//! What the kernel does in threads of its own is not in here. Time is in the kernel's ticks, usually
//! of 10 ms.

use crate::procfs::{self, Identity, Process};
use std::collections::HashMap;
use std::fs;

/// What a set of process trees had used at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    roots: Vec<u32>,
    processes: Vec<Process>,
    peak_bytes: u64,
}

/// What was used between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Processor time, in seconds.
    pub cpu_s: f64,
    /// The peaks of memory since [`forget_peaks`] of all processes there at the end, each at its own
    /// time; pages that several share count for each.
    pub peak_bytes: u64,
}

/// What the trees that begin at `roots` have used by now.
pub fn of(roots: &[u32]) -> Snapshot {
    let processes = procfs::tree(roots);
    let peaks = processes
        .iter()
        .filter_map(|process| peak_bytes(process.identity.pid));
    Snapshot {
        roots: roots.to_vec(),
        peak_bytes: peaks.sum(),
        processes,
    }
}

/// Begins anew with the peaks of memory of the trees that begin at `roots`. Where the kernel or lack
/// of rights does not permit it, peaks stay those of each process's life.
pub fn forget_peaks(roots: &[u32]) {
    for process in procfs::tree(roots) {
        // A process that has just ended has no peak to forget.
        let _ = fs::write(format!("/proc/{}/clear_refs", process.identity.pid), "5");
    }
}

impl Snapshot {
    /// The same trees now, with processes that were in them and have lost their parents since.
    #[must_use]
    pub fn again(&self) -> Self {
        let alive = self.processes.iter().filter(|p| p.identity.is_alive());
        let mut roots = self.roots.clone();
        roots.extend(alive.map(|process| process.identity.pid));
        Self {
            roots: self.roots.clone(),
            ..of(&roots)
        }
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Spent {
        let ticks = ticks_between(&earlier.processes, &self.processes);
        Spent {
            cpu_s: seconds(ticks),
            peak_bytes: self.peak_bytes,
        }
    }
}

/// Ticks used between two moments.
///
/// A process that ended in between was waited for by its parent, whose account then grew by all it had
/// ever used. What it had used before the first moment has to be taken off there again.
fn ticks_between(before: &[Process], after: &[Process]) -> u64 {
    let earlier: HashMap<Identity, &Process> = before.iter().map(|p| (p.identity, p)).collect();
    let mut inherited = inherited_ticks(before, after);
    let spent = after.iter().map(|now| {
        let Some(then) = earlier.get(&now.identity) else {
            return now.own_ticks + now.reaped_ticks;
        };
        let known = inherited.remove(&now.identity).unwrap_or(0);
        let reaped = now.reaped_ticks.saturating_sub(then.reaped_ticks);
        now.own_ticks.saturating_sub(then.own_ticks) + reaped.saturating_sub(known)
    });
    spent.sum()
}

/// For each process that is still there: what those of its descendants that are not had used before.
fn inherited_ticks(before: &[Process], after: &[Process]) -> HashMap<Identity, u64> {
    let still: HashMap<Identity, ()> = after.iter().map(|p| (p.identity, ())).collect();
    let by_number: HashMap<u32, &Process> = before.iter().map(|p| (p.identity.pid, p)).collect();
    let mut inherited: HashMap<Identity, u64> = HashMap::new();
    for gone in before.iter().filter(|p| !still.contains_key(&p.identity)) {
        let mut heir = by_number.get(&gone.parent);
        while let Some(process) = heir.filter(|p| !still.contains_key(&p.identity)) {
            heir = by_number.get(&process.parent);
        }
        if let Some(heir) = heir {
            *inherited.entry(heir.identity).or_default() += gone.own_ticks + gone.reaped_ticks;
        }
    }
    inherited
}

fn seconds(ticks: u64) -> f64 {
    let second = rustix::param::clock_ticks_per_second();
    // Exact: a run lasts far fewer than 2^53 ticks.
    ticks as f64 / second as f64
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests;
