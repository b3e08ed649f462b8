//! `--durability memory` as a user has it: programs do not wait, `wormhole drain` and `unmount` do.

use super::*;
use rustix::process::Signal;
use std::process::{Child, ChildStdin, ChildStdout};

/// A program that has a file open, and does what it is told with it.
struct Writer {
    program: Child,
    go: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Writer {
    fn open(file: &Path) -> Self {
        let script = r#"exec 3>"$1"; echo open; read go; echo text >&3; exec 3>&-; echo closed"#;
        let mut program = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let go = program.stdin.take().unwrap();
        let said = BufReader::new(program.stdout.take().unwrap());
        let mut writer = Self { program, go, said };
        assert_eq!(writer.line(), "open\n");
        writer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line
    }

    /// It writes and closes; returns when it has.
    fn write_and_close(&mut self) {
        self.go.write_all(b"go\n").unwrap();
        assert_eq!(self.line(), "closed\n");
        assert!(self.program.wait().unwrap().success());
    }
}

/// A file was closed in a mount whose host does nothing any more.
fn closed_behind_the_hosts_back() -> (Desk, Value, String) {
    let mut desk = Desk::new();
    let ready = desk.host(&["--rw"]);
    desk.mount(&ready, &["--no-l2", "--durability", "memory"]);
    let mnt = desk.path("mnt").to_str().unwrap().to_owned();
    let mut writer = Writer::open(&desk.path("mnt/file"));
    signal(desk.children[0].id(), Signal::STOP);
    writer.write_and_close();
    assert_eq!(fs::read(desk.path("share/file")).unwrap(), b"");
    assert_eq!(numbers(&desk.status(), "pending_changes"), [1]);
    (desk, ready, mnt)
}

#[test]
fn programs_do_not_wait_for_the_host_and_drain_does() {
    let (desk, _, mnt) = closed_behind_the_hosts_back();
    let said = desk.ok(&["status"]);
    assert!(said.contains("1 changes are on their way"), "{said}");
    let mut draining = desk.wormhole(&["drain", &mnt]).spawn().unwrap();
    // Long enough for it to be told how much there is to come.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(draining.try_wait().unwrap().is_none());
    signal(desk.children[0].id(), Signal::CONT);
    assert!(draining.wait().unwrap().success());
    assert_eq!(fs::read(desk.path("share/file")).unwrap(), b"text\n");
    assert_eq!(numbers(&desk.status(), "pending_changes"), [0]);
}

#[test]
fn unmount_waits_for_what_is_on_its_way() {
    let (desk, _, mnt) = closed_behind_the_hosts_back();
    let mut unmounting = desk.wormhole(&["unmount", &mnt]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(unmounting.try_wait().unwrap().is_none());
    assert!(desk.mounted("mnt"));
    signal(unmounting.id(), Signal::INT);
    assert!(!unmounting.wait().unwrap().success());
    assert!(
        desk.mounted("mnt"),
        "who does not want to wait has lost nothing"
    );
    signal(desk.children[0].id(), Signal::CONT);
    desk.ok(&["unmount", &mnt]);
    assert_eq!(fs::read(desk.path("share/file")).unwrap(), b"text\n");
}

#[test]
fn what_is_lost_is_named_by_drain_and_status() {
    let (mut desk, ready, mnt) = closed_behind_the_hosts_back();
    let mut host = desk.children.pop().unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    fs::remove_file(desk.path("share/file")).unwrap();
    let address = ready["addresses"][0].as_str().unwrap().to_owned();
    desk.host(&["--rw", "--listen", &address]);
    let said = desk.fails(&["drain", &mnt]);
    assert!(
        said.contains("1 changes are lost") && said.contains("  file: "),
        "{said}"
    );
    // Once, so that a script knows of which of its steps.
    desk.ok(&["drain", &mnt]);
    let said = desk.ok(&["status"]);
    assert!(said.contains("LOST    1 changes"), "{said}");
    let said = desk.fails(&["drain", "/"]);
    assert!(said.contains("in no mount"), "{said}");
}
