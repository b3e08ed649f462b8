//! Killing, stopping and restarting either side during writes.

use super::*;

/// `rounds` mounts are killed in mid-writing.
fn mounts_killed(rounds: usize, seconds: f64) {
    let mut stage = Stage::new(&[]);
    for round in 0..rounds {
        let sub = format!("round-{round}");
        fs::create_dir(stage.share().join(&sub)).unwrap();
        let mnt = stage.mnt();
        let crew = within("a new folder is seen", move || {
            until("the folder is there", || mnt.join(&sub).exists());
            Crew::at(&mnt.join(&sub))
        });
        sleep(seconds);
        stage.kill_mount();
        let accounts = crew.rest();
        accounts.at_least(20);
        stage.start_mount();
        accounts.check_in(&stage, &format!("round-{round}"));
    }
    stage.end();
}

#[test]
fn a_mount_killed_during_writes_loses_nothing_it_acknowledged() {
    mounts_killed(2, 1.5);
}

#[test]
#[ignore = "minutes"]
fn mounts_killed_over_and_over() {
    mounts_killed(30, 4.0);
}

/// `rounds` hosts are killed in mid-writing and started again, while the writers go on.
fn hosts_killed(rounds: usize, seconds: f64) {
    let mut stage = Stage::new(&[]);
    stage.hosts_to_be(rounds);
    let crew = Crew::at(&stage.mnt());
    let mut restarted = Instant::now();
    for _ in 0..rounds {
        sleep(seconds);
        stage.kill_host();
        sleep(0.5);
        stage.start_host();
        restarted = Instant::now();
    }
    sleep(seconds + 4.0);
    let accounts = crew.rest();
    accounts.check(&stage);
    accounts.went_on_after(restarted);
    accounts.at_least(20);
    stage.end();
}

#[test]
fn a_host_killed_during_writes_and_restarted_loses_nothing_it_acknowledged() {
    hosts_killed(2, 1.5);
}

#[test]
#[ignore = "minutes"]
fn hosts_killed_over_and_over() {
    hosts_killed(30, 4.0);
}

#[test]
fn a_host_stopped_for_ten_seconds_only_delays_writers() {
    let stage = Stage::new(&[]);
    let crew = Crew::at(&stage.mnt());
    sleep(1.0);
    stage.stop_host(true);
    sleep(10.0);
    stage.stop_host(false);
    let woken = Instant::now();
    sleep(4.0);
    let accounts = crew.rest();
    accounts.check(&stage);
    accounts.without_errors();
    accounts.went_on_after(woken);
    stage.end();
}

/// An editor that crashes: what was closed but never made durable is at the host all the same.
#[test]
fn what_was_closed_outlives_a_mount_killed_at_once() {
    let mut stage = Stage::new(&[]);
    let path = stage.mnt().join("closed");
    let content = account::pattern("closed", 0, 20 << 20);
    let written = content.clone();
    within("writing", move || fs::write(path, written).unwrap());
    stage.kill_mount();
    assert!(fs::read(stage.share().join("closed")).unwrap() == content);
    stage.start_mount();
    let path = stage.mnt().join("closed");
    assert!(within("reading", move || fs::read(path).unwrap()) == content);
    stage.end();
}
