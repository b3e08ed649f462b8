//! A link that is dark for a while: all is lost, nobody is told.

use super::*;

#[test]
fn a_link_dark_for_five_seconds_only_delays_writers() {
    let stage = Stage::new(&[]);
    let crew = Crew::at(&stage.mnt());
    sleep(1.5);
    stage.relay.dark(true);
    sleep(5.0);
    stage.relay.dark(false);
    let light = Instant::now();
    sleep(5.0);
    let accounts = crew.rest();
    accounts.check(&stage);
    accounts.without_errors();
    accounts.went_on_after(light);
    stage.end();
}

/// Longer than requests wait: writers are told, and can go on when the link is back.
fn dark_beyond_the_timeout(flags: &[&'static str], timeout: f64, dark: f64) {
    let stage = Stage::new(flags);
    let crew = Crew::at(&stage.mnt());
    sleep(1.5);
    stage.relay.dark(true);
    let began = Instant::now();
    sleep(dark);
    assert!(stage.is_mounted());
    stage.relay.dark(false);
    let light = Instant::now();
    sleep(20.0);
    let accounts = crew.rest();
    accounts.check(&stage);
    accounts.went_on_after(light);
    let first = accounts.error_times().into_iter().min();
    let first = first.expect("nobody was told").duration_since(began);
    // The connection is given up after 12 s of silence; requests wait from then on.
    let patience = Duration::from_secs_f64(timeout + 12.0 + 5.0);
    assert!(first < patience, "told after {first:?}");
    stage.end();
}

#[test]
fn a_link_dark_beyond_the_timeout_fails_writers_who_can_then_go_on() {
    dark_beyond_the_timeout(&["--timeout", "2s"], 2.0, 20.0);
}

#[test]
#[ignore = "a minute"]
fn a_link_dark_beyond_the_timeout_everybody_has() {
    dark_beyond_the_timeout(&[], 30.0, 60.0);
}

/// A writer that waits for a host that is gone can be killed, and so can the mount be unmounted.
#[test]
fn a_writer_waiting_in_the_dark_can_be_killed_and_the_mount_unmounted() {
    let mut stage = Stage::new(&[]);
    let target = format!("of={}", stage.mnt().join("stuck").display());
    let mut writer = Command::new("dd")
        .args([
            "if=/dev/zero",
            "bs=1M",
            "count=100000",
            "conv=fsync",
            &target,
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sleep(1.0);
    stage.relay.dark(true);
    sleep(2.0);
    assert!(writer.try_wait().unwrap().is_none(), "it waits");
    writer.kill().unwrap();
    let killed = Instant::now();
    assert!(ends(&mut writer));
    assert!(
        killed.elapsed() < Duration::from_secs(5),
        "died only after {:?}",
        killed.elapsed()
    );
    let mnt = stage.mnt();
    let mut unmount = stage.wormhole(&["unmount", "--lazy", mnt.to_str().unwrap()]);
    let output = within("unmounting", move || unmount.output().unwrap());
    assert!(output.status.success(), "{output:?}");
    assert!(!stage.is_mounted());
    assert!(ends(stage.mount.as_mut().unwrap()));
}
