//! Killing, stopping and restarting either side.

use super::*;
use rustix::process::Signal;
use std::os::unix::fs::FileExt;

const LEN: usize = 24 << 20;

fn content() -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// A desk whose share holds one file that has been left alone long enough to be cached.
fn desk() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("share/file"), content()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    desk
}

#[test]
fn a_host_killed_during_a_read_and_restarted_is_picked_up() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &["--no-l2"]);
    let file = fs::File::open(desk.path("mnt/file")).unwrap();
    let mut got = vec![0; LEN];
    let half = LEN / 2;
    file.read_exact_at(&mut got[..half], 0).unwrap();
    let mut host = desk.children.pop().unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    // The read begins while there is no host, and ends with the next one.
    let reading = std::thread::spawn(move || {
        file.read_exact_at(&mut got[half..], half as u64).unwrap();
        got
    });
    let address = ready["addresses"][0].as_str().unwrap().to_owned();
    let again = desk.host(&["--listen", &address]);
    assert_eq!(
        again["ticket"], ready["ticket"],
        "the ticket outlives the host"
    );
    assert!(reading.join().unwrap() == content());
}

#[test]
fn a_host_stopped_for_five_seconds_only_delays() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &["--no-l2", "--l1-size", "1M"]);
    let host = desk.children[0].id();
    signal(host, Signal::STOP);
    let path = desk.path("mnt/file");
    let reading = std::thread::spawn(move || fs::read(path).unwrap());
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(!reading.is_finished());
    signal(host, Signal::CONT);
    assert!(reading.join().unwrap() == content());
    let reconnects = numbers(&desk.status(), "reconnects");
    assert!(reconnects.iter().all(|n| *n == 0), "the session survived");
}

#[test]
fn a_killed_mount_leaves_a_cache_from_which_the_next_reads_without_the_network() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &[]);
    let mnt = desk.path("mnt");
    assert!(fs::read(mnt.join("file")).unwrap() == content());
    // The disk cache is written behind the reader's back; wait until it has all.
    let written = |desk: &Desk| find(&desk.status(), "l2").unwrap()["written_bytes"].as_u64();
    while written(&desk).unwrap() < LEN as u64 {
        std::thread::yield_now();
    }
    let pid = mount_pid(&desk, &mnt);
    signal(pid, Signal::KILL);
    // The process may look dead while its last thread still holds the device.
    while runs(pid) || fs::read_dir(&mnt).is_ok() {
        std::thread::yield_now();
    }
    // The remains of the dead mount are taken away by the next.
    desk.mount(&ready, &[]);
    assert!(fs::read(mnt.join("file")).unwrap() == content());
    let fetched = numbers(&desk.status(), "fetched_bytes");
    assert_eq!(fetched, [0], "all of it came from disk");
}

#[test]
fn control_c_unmounts_and_says_goodbye() {
    let mut desk = desk();
    let ready = desk.host(&["--max-mounts", "1"]);
    let ticket = desk.ticket_file(&ready);
    let mnt = desk.path("mnt");
    let args = [
        "mount",
        "--no-l2",
        "--ticket-file",
        &ticket,
        mnt.to_str().unwrap(),
    ];
    for _ in 0..3 {
        let mut child = desk
            .wormhole(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        if !line.contains("mnt") {
            let said = child.wait_with_output().unwrap().stderr;
            panic!("{line}{}", String::from_utf8_lossy(&said));
        }
        assert_eq!(fs::metadata(mnt.join("file")).unwrap().len(), LEN as u64);
        // One seat, and each mount before gave it back.
        signal(child.id(), Signal::INT);
        assert!(child.wait().unwrap().success());
        assert!(!desk.mounted("mnt"));
    }
}

#[test]
fn unmount_ends_the_process_and_a_second_mount_is_refused() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &[]);
    let mnt = desk.path("mnt");
    let mnt = mnt.to_str().unwrap();
    let ticket = desk.ticket_file(&ready);
    let said = desk.fails(&["mount", "--ticket-file", &ticket, mnt]);
    assert!(said.contains("already"), "{said}");
    let pid = mount_pid(&desk, Path::new(mnt));
    desk.ok(&["unmount", mnt]);
    assert!(!desk.mounted("mnt"));
    assert!(!runs(pid));
    let said = desk.fails(&["unmount", mnt]);
    assert!(!said.is_empty());
}

#[test]
fn a_mount_gathers_no_more_than_its_write_buffer() {
    const ROOM: u64 = 4 << 20;
    let mut desk = Desk::new();
    fs::write(desk.path("source"), content()).unwrap();
    let ready = desk.host(&["--rw"]);
    desk.mount(&ready, &["--no-l2", "--write-buffer", "4M"]);
    let host = desk.children[0].id();
    // The host takes nothing any more: what is written stays in the mount. A process of its own writes: what
    // this one had open, its children would close, and wait for the host.
    let script = r#"exec 3>"$2"; echo open; read go; exec cat "$1" >&3"#;
    let mut writing = Command::new("sh")
        .args(["-c", script, "sh"])
        .args([desk.path("source"), desk.path("mnt/file")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(writing.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    signal(host, Signal::STOP);
    let mut go = writing.stdin.take().unwrap();
    go.write_all(b"go\n").unwrap();
    let dirty = || numbers(&desk.status(), "dirty_bytes")[0];
    while dirty() < ROOM {
        std::thread::yield_now();
    }
    assert_eq!(dirty(), ROOM);
    assert!(writing.try_wait().unwrap().is_none(), "it waits for room");
    signal(host, Signal::CONT);
    assert!(writing.wait().unwrap().success());
    assert!(fs::read(desk.path("share/file")).unwrap() == content());
}
