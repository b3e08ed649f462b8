//! Locks of programs, seen from two mounts and from the host itself.
//!
//! Each holder is a process of its own, as `fcntl(2)` counts owners. Needs python3.

use super::*;
use std::time::{Duration, Instant};

/// Exclusive, of some bytes, of the process.
const RECORD: &str = "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)";
/// Exclusive, of the whole file, of the open file.
const FLOCK: &str = "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)";
/// Exclusive, of all bytes, of the open file (`F_OFD_SETLK`).
const OFD: &str = "fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))";

/// A writable share, mounted twice.
fn desk() -> Desk {
    let mut desk = Desk::new();
    fs::write(desk.path("share/file"), [0; 100]).unwrap();
    let ready = desk.host(&["--rw"]);
    let ticket = desk.ticket_file(&ready);
    for mnt in ["mnt", "mnt2"] {
        let mnt = desk.path(mnt);
        let args = ["mount", "--daemon", "--no-l2", "--ticket-file", &ticket];
        desk.ok(&[&args[..], &[mnt.to_str().unwrap()]].concat());
    }
    desk
}

/// A process that runs `code` on the file as seen at `place`, and what it says first.
struct Program(Child, BufReader<std::process::ChildStdout>);

impl Program {
    fn start(desk: &Desk, place: &str, code: &str) -> Self {
        let script = format!(
            "import fcntl, struct, sys\nf = open(sys.argv[1], 'r+b')\ntry:\n    {code}\n    print('ok', flush=True)\nexcept BlockingIOError:\n    print('locked', flush=True)\nsys.stdin.read()"
        );
        let mut child = Command::new("python3")
            .args(["-c", &script])
            .arg(desk.path(place).join("file"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self(child, stdout)
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Lets it come to its end.
    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn attempt(desk: &Desk, place: &str, code: &str) -> String {
    let mut program = Program::start(desk, place, code);
    let said = program.said();
    program.end();
    said
}

/// What each place says of `code`: the mount of the holder, another, the host.
fn everywhere(desk: &Desk, code: &str) -> [String; 3] {
    ["mnt", "mnt2", "share"].map(|place| attempt(desk, place, code))
}

#[test]
fn a_lock_holds_in_every_mount_and_on_the_host_and_ends_with_its_process() {
    let desk = desk();
    for (code, tried) in [(RECORD, RECORD), (FLOCK, FLOCK), (OFD, RECORD)] {
        for killed in [false, true] {
            let mut holder = Program::start(&desk, "mnt", code);
            assert_eq!(holder.said(), "ok");
            assert_eq!(everywhere(&desk, tried), ["locked"; 3], "{code}");
            if killed {
                drop(holder);
            } else {
                holder.end();
            }
            assert_eq!(everywhere(&desk, tried), ["ok"; 3], "{code}");
        }
    }
    // The kinds know nothing of each other, nor do ranges that do not meet.
    let mut holder = Program::start(&desk, "mnt", RECORD);
    assert_eq!(holder.said(), "ok");
    assert_eq!(everywhere(&desk, FLOCK), ["ok"; 3]);
    let beside = RECORD.replace("10, 5", "10, 15");
    assert_eq!(everywhere(&desk, &beside), ["ok"; 3]);
}

#[test]
fn a_lock_of_a_program_on_the_host_holds_in_mounts() {
    let desk = desk();
    for code in [RECORD, FLOCK] {
        let mut holder = Program::start(&desk, "share", code);
        assert_eq!(holder.said(), "ok");
        assert_eq!(attempt(&desk, "mnt", code), "locked");
        holder.end();
        assert_eq!(attempt(&desk, "mnt", code), "ok");
    }
}

#[test]
fn who_waits_gets_the_lock_when_it_is_free_and_who_is_killed_waiting_gets_nothing() {
    let desk = desk();
    for code in [RECORD, FLOCK] {
        let waiting = code.replace(" | fcntl.LOCK_NB", "");
        for place in ["mnt", "share"] {
            let mut holder = Program::start(&desk, place, code);
            assert_eq!(holder.said(), "ok");
            let mut waiter = Program::start(&desk, "mnt2", &waiting);
            let mut other = Program::start(&desk, "mnt2", &waiting);
            std::thread::sleep(Duration::from_millis(500));
            let begun = Instant::now();
            other.0.kill().unwrap();
            other.0.wait().unwrap();
            assert!(begun.elapsed() < Duration::from_secs(2), "killed at once");
            assert!(waiter.0.try_wait().unwrap().is_none());
            holder.end();
            assert_eq!(waiter.said(), "ok");
            assert!(begun.elapsed() < Duration::from_secs(4), "{code} {place}");
            waiter.end();
            assert_eq!(everywhere(&desk, code), ["ok"; 3], "{code} {place}");
        }
    }
}
