//! What is counted when processes come and go, and that real ones are seen at all.

use super::{forget_peaks, of, ticks_between};
use crate::procfs::{Process, read};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

/// A shell that does what is written to it, and a line from it that says when it is done.
struct Shell(Child);

impl Shell {
    fn start() -> Self {
        let mut command = Command::new("sh");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().expect("sh"))
    }

    fn run(&mut self, script: &str) {
        let input = self.0.stdin.as_mut().expect("piped");
        writeln!(input, "{script}; echo").expect("it reads");
        let output = self.0.stdout.as_mut().expect("piped");
        let mut line = String::new();
        // Nothing follows the one line, so nothing is lost with the buffer.
        BufReader::new(output).read_line(&mut line).expect("done");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ended");
    }
}

const WORK: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";

#[test]
fn time_of_a_process_and_of_its_reaped_child_is_seen() {
    let mut shell = Shell::start();
    let before = of(&[shell.0.id()]);
    shell.run(WORK);
    let own = before.again();
    shell.run(&format!("sh -c '{WORK}; true'"));
    assert!(own.since(&before).cpu_s > 0.0);
    assert!(own.again().since(&own).cpu_s > 0.0);
    assert_eq!(own.since(&own).cpu_s, 0.0);
}

#[test]
fn a_peak_can_be_forgotten() {
    let mut shell = Shell::start();
    shell.run("x=$(head -c 30000000 /dev/zero | tr '\\0' x); x=");
    let roots = [shell.0.id()];
    let high = of(&roots).peak_bytes;
    forget_peaks(&roots);
    let low = of(&roots).peak_bytes;
    assert!(high > 30_000_000, "{high}");
    assert!(low > 0 && low < high, "{low} of {high}");
}

#[test]
fn an_orphan_is_followed() {
    let mut shell = Shell::start();
    shell.run("sh -c 'sleep 100 & wait' & true");
    let before = loop {
        let snapshot = of(&[shell.0.id()]);
        if snapshot.processes.len() == 3 {
            break snapshot;
        }
    };
    let child_of = |pid| {
        let mut children = before.processes.iter().filter(|p| p.parent == pid);
        children.next().expect("a child").identity
    };
    let middle = child_of(shell.0.id()).pid;
    let sleeper = child_of(middle);
    shell.run(&format!("kill -9 {middle}; wait"));
    let after = before.again();
    assert!(after.processes.iter().any(|p| p.identity == sleeper));
    shell.run(&format!("kill -9 {}", sleeper.pid));
}

/// This process as a template: identity, parent and ticks are what matters.
fn process(pid: u32, parent: u32, own_ticks: u64, reaped_ticks: u64) -> Process {
    let mut process = read(std::process::id()).expect("this one");
    process.identity.pid = pid;
    Process {
        parent,
        own_ticks,
        reaped_ticks,
        ..process
    }
}

#[test]
fn what_was_used_before_is_not_counted_when_it_is_reaped() {
    let before = [process(1, 0, 10, 0), process(2, 1, 100, 0)];
    // The child used 5 more, ended, and was waited for.
    let after = [process(1, 0, 11, 105)];
    assert_eq!(ticks_between(&before, &after), 6);
}

#[test]
fn a_grandchild_is_inherited_through_its_parent() {
    let before = [
        process(1, 0, 0, 0),
        process(2, 1, 10, 0),
        process(3, 2, 20, 0),
    ];
    let after = [process(1, 0, 0, 33)];
    assert_eq!(ticks_between(&before, &after), 3);
}

#[test]
fn one_that_nobody_waited_for_takes_nothing_away() {
    let before = [process(1, 0, 10, 0), process(2, 1, 100, 0)];
    let after = [process(1, 0, 17, 0), process(4, 1, 3, 1)];
    assert_eq!(ticks_between(&before, &after), 11);
}
