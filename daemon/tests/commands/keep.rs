//! Fetching ahead and pinning, as a user does it.

use super::*;
use rustix::process::Signal;
use std::time::{Duration, Instant};

const LEN: usize = 3 << 20;

fn desk() -> Desk {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("share/dir/deep")).unwrap();
    fs::write(desk.path("share/dir/large"), vec![7; LEN]).unwrap();
    fs::write(desk.path("share/dir/deep/small"), "small").unwrap();
    fs::write(desk.path("share/beside"), "beside").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    desk
}

fn unmount(desk: &Desk) {
    desk.ok(&["unmount", desk.path("mnt").to_str().unwrap()]);
}

#[test]
fn what_was_warmed_is_read_although_the_host_is_gone() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &["--attr-ttl", "1h"]);
    let dir = desk.path("mnt/dir");
    let dir = dir.to_str().unwrap();
    let checked = desk.run(&["warm", "--check", dir]);
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("0 of 2 files, 0 B of 3 MiB here"), "{said}");
    let said = desk.ok(&["warm", dir]);
    assert!(said.contains("2 of 2 files, 3 MiB of 3 MiB here"), "{said}");
    desk.ok(&["warm", "--check", dir]);
    let json: Value = serde_json::from_str(&desk.ok(&["warm", "--check", "--json", dir])).unwrap();
    assert_eq!(
        (&json["files"], &json["here_files"]),
        (&2.into(), &2.into())
    );
    let mnt = desk.path("mnt");
    let all = desk.run(&["warm", "--check", "--json", mnt.to_str().unwrap()]);
    assert_eq!(all.status.code(), Some(1), "{dir} is not all there is");
    desk.children[0].kill().unwrap();
    assert_eq!(fs::read(desk.path("mnt/dir/large")).unwrap(), vec![7; LEN]);
    assert_eq!(fs::read(desk.path("mnt/dir/deep/small")).unwrap(), b"small");
}

#[test]
fn pins_are_listed_outlive_the_mount_and_are_given_up() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &[]);
    let dir = desk.path("mnt/dir");
    let dir = dir.to_str().unwrap();
    let said = desk.ok(&["pin", dir]);
    assert!(
        said.contains("2 of 2 files, 3 MiB of 3 MiB pinned"),
        "{said}"
    );
    let json: Value = serde_json::from_str(&desk.ok(&["pin", "--json", dir])).unwrap();
    assert_eq!(json["here_files"], 2);
    for _ in 0..2 {
        let said = desk.ok(&["status"]);
        assert!(said.contains(&format!("pinned  {dir}: 2 files")), "{said}");
        assert_eq!(desk.status()["mounts"][0]["pins"][0]["path"], "dir");
        unmount(&desk);
        desk.mount(&ready, &[]);
    }
    // However little is left for others, what is pinned stays.
    desk.ok(&["cache", "stats"]);
    unmount(&desk);
    desk.ok(&["cache", "gc", "--older-than", "0s", "--l2-size", "1"]);
    desk.mount(&ready, &[]);
    desk.ok(&["warm", "--check", dir]);
    fs::remove_dir_all(desk.path("share/dir")).unwrap();
    desk.ok(&["unpin", dir]);
    let said = desk.fails(&["unpin", dir]);
    assert!(said.contains("not pinned"), "{said}");
    assert!(!desk.ok(&["status"]).contains("pinned"));
}

#[test]
fn what_cannot_be_done_is_said_plainly() {
    let mut desk = desk();
    fs::write(desk.path("share/huge"), vec![1; 17 << 20]).unwrap();
    let ready = desk.host(&[]);
    desk.mount(&ready, &["--l2-size", "16M"]);
    let huge = desk.path("mnt/huge");
    for command in ["warm", "pin"] {
        let said = desk.fails(&[command, huge.to_str().unwrap()]);
        assert!(said.contains("it takes") && said.contains("may"), "{said}");
        let gone = desk.path("mnt/gone");
        let said = desk.fails(&[command, gone.to_str().unwrap()]);
        assert!(said.contains("no such file"), "{said}");
        let said = desk.fails(&[command, desk.path("share").to_str().unwrap()]);
        assert!(said.contains("in no mount"), "{said}");
    }
    unmount(&desk);
    desk.mount(&ready, &["--no-l2"]);
    let said = desk.fails(&["warm", huge.to_str().unwrap()]);
    assert!(said.contains("no disk cache"), "{said}");
}

#[test]
fn ctrl_c_ends_it_and_the_mount_goes_on() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &["--attr-ttl", "1h"]);
    let mnt = desk.path("mnt");
    desk.ok(&["warm", mnt.join("beside").to_str().unwrap()]);
    // Names are known then; bytes are not.
    desk.run(&["warm", "--check", mnt.to_str().unwrap()]);
    let host = desk.children[0].id();
    signal(host, Signal::STOP);
    let mut warm = desk.wormhole(&["warm", mnt.to_str().unwrap()]);
    let warm = warm.stdout(Stdio::piped()).stderr(Stdio::piped());
    let warm = warm.spawn().unwrap();
    let asked = || numbers(&desk.status(), "read_ahead").iter().sum::<u64>();
    let deadline = Instant::now() + Duration::from_secs(20);
    while asked() < 2 {
        assert!(Instant::now() < deadline, "nothing was asked for");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(warm.id(), Signal::INT);
    let ended = warm.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("stopped; 6 B of it are here"), "{said}");
    signal(host, Signal::CONT);
    desk.ok(&["warm", mnt.to_str().unwrap()]);
}
