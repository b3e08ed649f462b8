//! Processes as `/proc` shows them: who is whose child, what each has used.
//!
//! A number names a process only until it is given to the next one, so a process is known here by its
//! number and the moment it started. Nothing here can fail: a process that is gone is not there.

use std::collections::{HashMap, HashSet};
use std::fs;

/// One process, now and for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in ticks since the machine did.
    pub(crate) started: u64,
}

impl Identity {
    /// Whether it still runs. A process that has ended but was not waited for does not.
    pub(crate) fn is_alive(self) -> bool {
        read(self.pid).is_some_and(|process| process.identity == self && !process.ended)
    }
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub(crate) identity: Identity,
    /// The number of its parent.
    pub(crate) parent: u32,
    /// Whether it has ended and waits to be reaped.
    pub(crate) ended: bool,
    /// Ticks of processor time of its own.
    pub(crate) own_ticks: u64,
    /// Ticks of descendants that have ended and were waited for.
    pub(crate) reaped_ticks: u64,
}

/// The process that has this number now.
pub(crate) fn read(pid: u32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `roots` that are there, and all that descend from them.
pub(crate) fn tree(roots: &[u32]) -> Vec<Process> {
    let processes = all();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in processes.values() {
        let siblings = children.entry(process.parent).or_default();
        siblings.push(process.identity.pid);
    }
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    let mut next = roots.to_vec();
    while let Some(pid) = next.pop() {
        if let Some(process) = processes.get(&pid).filter(|_| seen.insert(pid)) {
            found.push(*process);
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// Processes whose environment holds `entry`, which is `NAME=value`: they keep it, unlike their parent,
/// when they go on in the background.
pub(crate) fn marked(entry: &str) -> Vec<u32> {
    let has_entry = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut entries = environment.split(|byte| *byte == 0);
        entries.any(|other| other == entry.as_bytes())
    };
    numbers().filter(has_entry).collect()
}

fn all() -> HashMap<u32, Process> {
    let processes = numbers().filter_map(|pid| Some((pid, read(pid)?)));
    processes.collect()
}

fn numbers() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Fields are numbered as in proc(5); the second is the program's name, in parentheses that it may
/// itself contain.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        identity: Identity {
            pid,
            started: number(22)?,
        },
        parent: u32::try_from(number(4)?).ok()?,
        ended: matches!(fields.first(), Some(&("Z" | "X"))),
        own_ticks: number(14)? + number(15)?,
        reaped_ticks: number(16)? + number(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{parse, read, tree};

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let stat = "7 (a) b (c) S 3 7 7 0 -1 0 0 0 0 0 11 4 2 1 20 0 1 0 99 0 0";
        let process = parse(7, stat).expect("a line of stat");
        assert_eq!((process.parent, process.own_ticks), (3, 15));
        assert_eq!((process.reaped_ticks, process.ended), (3, false));
        assert_eq!(process.identity.started, 99);
    }

    #[test]
    fn a_child_is_in_the_tree_until_it_is_reaped() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .expect("sleep");
        let in_tree = |pid| {
            let tree = tree(&[std::process::id()]);
            tree.iter().any(|process| process.identity.pid == pid)
        };
        let identity = read(child.id()).expect("it runs").identity;
        assert!(in_tree(child.id()) && identity.is_alive());
        child.kill().expect("it runs");
        child.wait().expect("it ended");
        assert!(!in_tree(identity.pid) && !identity.is_alive());
    }
}
