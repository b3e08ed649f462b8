//! Tests of a worker and its other end, and of what happens to one that hangs.

use super::*;
use crate::record::State;
use crate::workload::Family;
use crate::workload::tests::{ground, job};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::path::Path;

/// Set in a test process that is to be a worker.
const WORKER: &str = "WORMHOLE_TEST_WORKER";

/// This test binary, to run the test `name` as a worker.
fn this_as_worker(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", &format!("worker::tests::{name}"), "--nocapture"])
        .env(WORKER, "1");
    command
}

/// Is a worker, if this process is to be one.
fn be_worker() {
    if std::env::var_os(WORKER).is_some() {
        // What the test runner has begun to say is not part of the first report.
        io::stdout().write_all(b"\n").expect("a pipe");
        worker_main(io::stdin(), io::stdout());
        std::process::exit(0);
    }
}

/// A shell that takes a job and then does this.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("cat >/dev/null\n{script}")]);
    command
}

fn never_hangs() {
    panic!("a worker that can be killed does not hang");
}

#[test]
fn a_worker_does_its_job() {
    be_worker();
    let share = tempfile::tempdir().expect("a folder");
    let _ground = ground(Family::SeqRead, share.path());
    let job = job(Family::SeqRead, share.path());
    let mut fractions = Vec::new();
    let result = run_job(
        &mut this_as_worker("a_worker_does_its_job"),
        &LinkEnd::here(),
        &job,
        |fraction| fractions.push(fraction),
        never_hangs,
    );
    assert!(!result.hung && !result.left_behind);
    for outcome in &result.outcomes {
        assert_eq!((outcome.state, outcome.samples.len()), (State::Ok, 1));
    }
    assert_eq!(result.outcomes.len(), 3);
    assert!(fractions.is_sorted(), "{fractions:?}");
    assert_eq!(fractions.last(), Some(&1.0));
}

#[test]
fn a_worker_that_hangs_is_killed_and_what_it_did_counts() {
    be_worker();
    let share = tempfile::tempdir().expect("a folder");
    let _ground = ground(Family::SmallFiles, share.path());
    let mut job = job(Family::SmallFiles, share.path());
    // Opening a pipe that nobody writes to is as good as a mount that does not answer.
    let path = job.folder.join("serial/000/f00012");
    std::fs::remove_file(&path).expect("removed");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    job.deadline = Duration::from_secs(3);
    let result = run_job(
        &mut this_as_worker("a_worker_that_hangs_is_killed_and_what_it_did_counts"),
        &LinkEnd::here(),
        &job,
        |_| (),
        never_hangs,
    );
    assert!(!result.hung && !result.left_behind);
    let [serial, many] = &result.outcomes[..] else {
        panic!("two workloads: {result:?}");
    };
    assert_eq!((serial.state, many.state), (State::Timeout, State::Timeout));
    let done = serial.samples[0] * 3.0;
    assert!(
        (done - 12.0).abs() < 6.0,
        "twelve in up to three seconds: {done}"
    );
    let reason = serial.reason.as_deref().expect("a reason");
    assert!(reason.ends_with(" at 60 %"), "{reason}");
    let reason = many.reason.as_deref().expect("a reason");
    assert!(reason.starts_with("not begun"), "{reason}");
}

#[test]
fn samples_before_a_kill_count() {
    let mut job = job(Family::Stat, Path::new("/"));
    job.deadline = Duration::from_secs(1);
    let script = r#"
        echo '{"sample":{"workload":"stat-cold","value":1.5}}'
        echo '{"progress":{"workload":"stat-cold","fraction":0.25}}'
        echo 'no report'
        echo '{"sample":{"workload":"stat-cold","value":2.5}}'
        exec sleep 1000"#;
    let result = run_job(
        &mut shell(script),
        &LinkEnd::here(),
        &job,
        |_| (),
        never_hangs,
    );
    let cold = &result.outcomes[0];
    assert_eq!(cold.samples, [1.5, 2.5]);
    assert_eq!(cold.state, State::Timeout);
    let reason = cold.reason.as_deref().expect("a reason");
    assert!(reason.ends_with("at 25 %"), "{reason}");
}

#[test]
fn a_worker_that_ends_early_failed_with_what_it_said() {
    let job = job(Family::Stat, Path::new("/"));
    let script = r#"
        echo '{"sample":{"workload":"stat-cold","value":1.5}}'
        echo '{"done":{"workload":"stat-cold"}}'
        echo 'out of luck' >&2
        exit 3"#;
    let result = run_job(
        &mut shell(script),
        &LinkEnd::here(),
        &job,
        |_| (),
        never_hangs,
    );
    let [cold, warm] = &result.outcomes[..] else {
        panic!("two workloads: {result:?}");
    };
    assert_eq!((cold.state, &cold.samples[..]), (State::Ok, &[1.5][..]));
    assert_eq!(warm.state, State::Failed);
    let reason = warm.reason.as_deref();
    assert_eq!(reason, Some("its worker ended: out of luck"));
}

#[test]
fn a_worker_that_fails_says_so_of_all() {
    be_worker();
    let job = job(Family::SmallFiles, Path::new("/nonexistent"));
    let result = run_job(
        &mut this_as_worker("a_worker_that_fails_says_so_of_all"),
        &LinkEnd::here(),
        &job,
        |_| (),
        never_hangs,
    );
    let reasons: Vec<&str> = result
        .outcomes
        .iter()
        .filter_map(|o| o.reason.as_deref())
        .collect();
    assert!(reasons[0].contains("No such file"), "{reasons:?}");
    assert_eq!(reasons[1], "not tried, since small-serial failed");
}

#[test]
fn a_worker_that_does_not_start_is_a_failure() {
    let job = job(Family::Stat, Path::new("/"));
    let mut command = Command::new("/nonexistent/worker");
    let result = run_job(&mut command, &LinkEnd::here(), &job, |_| (), never_hangs);
    for outcome in &result.outcomes {
        assert_eq!(outcome.state, State::Failed);
        let reason = outcome.reason.as_deref().expect("a reason");
        assert!(reason.starts_with("its worker did not start"), "{reason}");
    }
}

#[test]
fn a_worker_refuses_what_is_no_job() {
    let mut output = Vec::new();
    let error = work(&b"{}"[..], &mut output).expect_err("that is no job");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let endless = io::repeat(b' ');
    work(endless, &mut output).expect_err("it does not read for ever");
    assert!(output.is_empty());
}

/// A process that the kernel cannot kill while its mount is there.
#[derive(Default)]
struct Stuck {
    killed: bool,
    released: std::rc::Rc<std::cell::Cell<bool>>,
}

impl Mortal for Stuck {
    fn ended(&mut self) -> bool {
        self.killed && self.released.get()
    }

    fn kill(&mut self) {
        self.killed = true;
    }
}

#[test]
fn whoever_cannot_be_killed_ends_with_its_mount() {
    let mut stuck = Stuck::default();
    let mount = stuck.released.clone();
    let patience = Patience {
        kill: Duration::ZERO,
        hang: Duration::ZERO,
    };
    let ending = see_off(&mut stuck, Instant::now(), patience, || mount.set(true));
    assert_eq!(ending, Ending::Hung);

    let ending = see_off(&mut Stuck::default(), Instant::now(), patience, || ());
    assert_eq!(ending, Ending::LeftBehind);

    let mut mortal = Stuck::default();
    mortal.released.set(true);
    let ending = see_off(&mut mortal, Instant::now(), patience, never_hangs);
    assert_eq!(ending, Ending::Killed);
}
