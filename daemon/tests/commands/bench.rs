//! `wormhole bench`: labs by hand, how they end, and whole runs on small links.
//!
//! What cannot be had here (namespaces, a way to emulate links, another user) is said by name on stderr,
//! and its test passes.

mod ends;
mod runs;
mod shell;

use super::*;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Long enough for anything but a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who measures a link has the machine to himself, as far as these tests go.
fn alone() -> MutexGuard<'static, ()> {
    static LINKS: Mutex<()> = Mutex::new(());
    LINKS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Desk {
    /// A desk with a place for files of runs; nothing if `test` cannot have a link with these flags here.
    fn with_link(test: &str, flags: &[&str]) -> Option<Self> {
        let desk = Self::new();
        fs::create_dir(desk.path("scratch")).unwrap();
        let output = desk.shell(flags, &["true"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Some(desk);
        }
        let reasons = [
            "needs namespaces of its own",
            "can emulate no link",
            "no TUN device",
        ];
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
        eprintln!("{test} did not run: {said}");
        None
    }

    /// `wormhole bench`, with its files in here.
    fn bench(&self, action: &[&str], flags: &[&str]) -> Command {
        let mut command = self.wormhole(&["bench"]);
        command
            .args(action)
            .arg("--scratch")
            .arg(self.path("scratch"));
        command.args(flags);
        command
    }

    /// `command` at the mount's end of a link.
    fn shell(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut shell = self.bench(&["shell"], flags);
        shell.arg("--").args(command);
        shell
    }

    /// What a script printed at the mount's end of a link.
    fn scripted(&self, flags: &[&str], script: &str) -> String {
        let output = self.shell(flags, &["sh", "-c", script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Folders of runs that are still there.
    fn scratches(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("scratch")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Waits for what must come.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes that run and have `word` among the words of their command.
fn processes_with(word: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|b| *b == 0).any(|w| w == word.as_bytes()) && runs(*pid)
    };
    pids.filter(has).collect()
}

/// What could have been changed out here: networks, their names, and mounts.
#[derive(Debug, PartialEq)]
struct Outer {
    interfaces: Vec<String>,
    names: Vec<PathBuf>,
    mounts: Vec<String>,
}

impl Outer {
    /// Of mounts, only those in `desk`: other tests have theirs.
    fn look(desk: &Desk) -> Self {
        let interfaces = fs::read_dir("/sys/class/net").unwrap().flatten();
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = desk.dir.path().to_str().unwrap();
        let mut outer = Self {
            interfaces: interfaces
                .map(|entry| entry.file_name().to_str().unwrap().to_owned())
                .collect(),
            names: names.map(|entry| entry.path()).collect(),
            mounts: mounts
                .lines()
                .filter(|line| line.contains(here))
                .map(str::to_owned)
                .collect(),
        };
        outer.interfaces.sort();
        outer.names.sort();
        outer
    }
}
