//! How a lab ends: when it is told to, and when it is killed.

use super::*;
use rustix::process::Signal;

/// A lab with a process in it that would go on for ever.
struct Busy {
    child: Child,
    /// Nobody else sleeps for so long.
    sleep: String,
    sleeper: u32,
}

impl Busy {
    /// Returns when all of it runs.
    fn start(desk: &Desk, flags: &[&str], seconds: u32) -> Self {
        let sleep = format!("{seconds}{}", std::process::id());
        // In the background and in a session of its own, so that nobody ends it but the lab.
        let script = format!(
            "setsid sleep {sleep} & mount -t tmpfs x {0}; echo; wait",
            desk.path("mnt").display()
        );
        let mut shell = desk.shell(flags, &["sh", "-c", &script]);
        let mut child = shell
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let mut sleeper = None;
        until("somebody sleeps in the lab", || {
            sleeper = processes_with(&sleep).pop();
            sleeper.is_some()
        });
        let sleeper = sleeper.unwrap();
        Self {
            child,
            sleep,
            sleeper,
        }
    }

    /// The network in which it sleeps.
    fn network(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/ns/net", self.sleeper)).unwrap()
    }

    /// Waits for the end of all that was in there, and of its network.
    fn is_gone(&self, network: &Path, scratch: &str) {
        until("all processes of the lab are gone", || {
            processes_with(&self.sleep).is_empty() && processes_with(scratch).is_empty()
        });
        // A process that is about to be gone has no command any more, but a network; and the number of
        // one that is gone may be another lab's for a while.
        until("its network is gone", || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let mut networks =
                processes.filter_map(|p| fs::read_link(p.path().join("ns/net")).ok());
            networks.all(|other| other != network)
        });
    }
}

fn links() -> Option<(Desk, [&'static str; 2])> {
    let flags = ["--profile", "wan-good"];
    let thread = std::thread::current();
    let desk = Desk::with_link(thread.name().unwrap_or("a lab's end"), &flags)?;
    Some((desk, flags))
}

#[test]
fn a_lab_that_is_killed_leaves_files_that_the_next_one_removes() {
    let Some((desk, flags)) = links() else {
        return;
    };
    let before = Outer::look(&desk);
    let mut busy = Busy::start(&desk, &flags, 1);
    let network = busy.network();
    let left = desk.scratches();
    assert_eq!(left.len(), 1, "its folder");
    assert_eq!(Outer::look(&desk), before, "nothing is seen of it out here");
    busy.child.kill().unwrap();
    busy.child.wait().unwrap();
    busy.is_gone(&network, left[0].to_str().unwrap());
    assert_eq!(Outer::look(&desk), before);
    assert_eq!(desk.scratches(), left, "files outlive it");

    let output = desk.shell(&flags, &["true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(left[0].to_str().unwrap()), "{said}");
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
}

#[test]
fn the_folder_of_a_lab_that_lives_is_left_alone() {
    let Some((desk, flags)) = links() else {
        return;
    };
    let mut busy = Busy::start(&desk, &flags, 2);
    let network = busy.network();
    let held = desk.scratches();
    let output = desk.shell(&flags, &["true"]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"", "nothing to remove");
    assert_eq!(desk.scratches(), held);
    // Its own first process is killed: the rest ends as well, and the outer one says so and cleans up.
    let first = processes_with("inside");
    let ours = first
        .into_iter()
        .find(|pid| parent(*pid) == busy.child.id());
    signal(ours.expect("process 1 of the lab"), Signal::KILL);
    assert_eq!(busy.child.wait().unwrap().code(), Some(1));
    busy.is_gone(&network, held[0].to_str().unwrap());
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_lab_that_is_told_to_end_does_and_exits_as_told() {
    let Some((desk, flags)) = links() else {
        return;
    };
    let before = Outer::look(&desk);
    for (number, ask, code) in [
        (3, Signal::INT, 130),
        (4, Signal::TERM, 143),
        (5, Signal::HUP, 129),
    ] {
        let mut busy = Busy::start(&desk, &flags, number);
        let network = busy.network();
        let scratch = desk.scratches().remove(0);
        signal(busy.child.id(), ask);
        assert_eq!(busy.child.wait().unwrap().code(), Some(code), "{ask:?}");
        assert_eq!(desk.scratches(), [] as [PathBuf; 0], "{ask:?}");
        busy.is_gone(&network, scratch.to_str().unwrap());
        let mut said = String::new();
        let mut stderr = busy.child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        assert!(
            said.contains("stopped; everything it started is gone"),
            "{said}"
        );
    }
    assert_eq!(Outer::look(&desk), before);
}

#[test]
fn a_run_that_is_told_to_end_keeps_no_results() {
    let Some((desk, _)) = links() else {
        return;
    };
    let report = desk.path("report.json");
    let flags = [
        "--profile",
        "wan-good,lan",
        "--quick",
        "--json",
        report.to_str().unwrap(),
    ];
    let mut run = desk.bench(&[], &flags);
    let mut child = run
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("self-test") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
    }
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(said.contains("stopped") && !said.contains("lan:"), "{said}");
    assert!(!report.exists() && !desk.path("state/wormhole/bench/history.jsonl").exists());
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
}
