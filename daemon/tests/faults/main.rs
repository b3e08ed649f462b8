//! What goes wrong while programs write: processes killed, stopped and restarted, a link that goes dark, a
//! disk that is full, a folder that is gone. Each test looks at the content afterwards: nothing that `fsync`
//! or `close` acknowledged may be missing or wrong, and nothing appended may be there twice.
//!
//! The processes are the program as a user runs it. Between them is a relay in this process, so that the
//! link can be cut. Needs root or fusermount3, and /dev/fuse. The long versions are ignored unless asked for:
//! `cargo test -p wormhole --test faults -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod account;
mod crew;
mod disks;
mod links;
mod lives;
mod relay;
mod writers;

use crew::Crew;
use relay::Relay;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for anything but a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host, a relay and a mount, each of which can be made to fail.
struct Stage {
    dir: TempDir,
    relay: Relay,
    listen: String,
    host: Option<Child>,
    /// Hosts to be, see [`Stage::hosts_to_be`].
    waiting: Vec<Child>,
    mount: Option<Child>,
    mount_flags: Vec<&'static str>,
}

impl Stage {
    fn new(mount_flags: &[&'static str]) -> Self {
        Self::on(|_| true, mount_flags).unwrap()
    }

    /// Like [`Self::new`], but `prepare` makes something of the share first; nothing if it cannot.
    fn on(prepare: impl FnOnce(&Path) -> bool, mount_flags: &[&'static str]) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["share", "mnt", "run", "cache", "state"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        use std::os::unix::fs::PermissionsExt;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir.path().join("run"), private).unwrap();
        if !prepare(&dir.path().join("share")) {
            return None;
        }
        // Whoever gets this port in between makes the host fail, and the test with it.
        let port = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut stage = Self {
            relay: Relay::to(port),
            listen: port.to_string(),
            dir,
            host: None,
            waiting: Vec::new(),
            mount: None,
            mount_flags: mount_flags.to_vec(),
        };
        stage.start_host();
        stage.start_mount();
        Some(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn share(&self) -> PathBuf {
        self.path("share")
    }

    fn mnt(&self) -> PathBuf {
        self.path("mnt")
    }

    /// `wormhole`, with every place it keeps things in here.
    fn wormhole(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole"));
        command
            .args(args)
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env_remove("WORMHOLE_TICKET")
            .stdin(Stdio::null());
        command
    }

    /// `command`, which says on one line when it is ready, and its complaints go to a log.
    fn spawned(&self, mut command: Command, log: &str) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path(log))
            .unwrap();
        command.stdout(Stdio::piped()).stderr(log).spawn().unwrap()
    }

    /// The line that says a process is ready.
    fn ready(child: &mut Child) -> String {
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        // What else it prints, nobody waits for.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        line
    }

    /// Makes processes ready that become hosts when they are told to. A process that is started while
    /// writers are at work closes their descriptors first, and so would wait for the very host it is to be.
    fn hosts_to_be(&mut self, count: usize) {
        for _ in 0..count {
            let front = self.relay.front().to_string();
            let mut command = self.wormhole(&[]);
            command = {
                let program = command.get_program().to_owned();
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", "read go && exec \"$@\"", "sh"])
                    .arg(program);
                for (name, value) in command.get_envs() {
                    match value {
                        Some(value) => shell.env(name, value),
                        None => shell.env_remove(name),
                    };
                }
                shell
            };
            command
                .args(["host", "--rw", "--json", "--listen", &self.listen])
                .args(["--advertise", &front])
                .arg(self.share())
                .stdin(Stdio::piped());
            let child = self.spawned(command, "host.log");
            self.waiting.push(child);
        }
    }

    /// Starts the host, anew if there was one: at the same port, with the same state.
    fn start_host(&mut self) {
        if self.waiting.is_empty() {
            self.hosts_to_be(1);
        }
        let mut child = self.waiting.pop().unwrap();
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let line = Self::ready(&mut child);
        self.host = Some(child);
        let said = fs::read_to_string(self.path("host.log")).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{said}"));
        fs::write(self.path("ticket"), ready["ticket"].as_str().unwrap()).unwrap();
    }

    fn start_mount(&mut self) {
        let (ticket, mnt) = (self.path("ticket"), self.mnt());
        let mut command = self.wormhole(&["mount", "--no-l2", "--ticket-file"]);
        command.arg(ticket).args(&self.mount_flags).arg(&mnt);
        let mut child = self.spawned(command, "mount.log");
        let line = Self::ready(&mut child);
        self.mount = Some(child);
        let said = fs::read_to_string(self.path("mount.log")).unwrap();
        assert!(line.contains("mnt"), "not mounted: {line} {said}");
    }

    fn kill_host(&mut self) {
        let mut host = self.host.take().unwrap();
        host.kill().unwrap();
        host.wait().unwrap();
    }

    fn kill_mount(&mut self) {
        let mut mount = self.mount.take().unwrap();
        mount.kill().unwrap();
        mount.wait().unwrap();
    }

    fn stop_host(&self, stopped: bool) {
        let to = match stopped {
            true => rustix::process::Signal::STOP,
            false => rustix::process::Signal::CONT,
        };
        signal(self.host.as_ref().unwrap(), to);
    }

    fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mnt = self.mnt();
        table
            .lines()
            .any(|line| line.split(' ').nth(4) == mnt.to_str())
    }

    /// Unmounts and ends the host, neither of which may take long.
    fn end(mut self) {
        let mnt = self.mnt();
        assert!(self.is_mounted(), "the mount did not stay");
        let unmount = self.wormhole(&["unmount", mnt.to_str().unwrap()]);
        let output = within("unmounting", move || {
            let mut unmount = unmount;
            unmount.output().unwrap()
        });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(!self.is_mounted());
        let mut mount = self.mount.take().unwrap();
        assert!(ends(&mut mount), "the mount's process stays");
        let mut host = self.host.take().unwrap();
        signal(&host, rustix::process::Signal::INT);
        assert!(ends(&mut host), "the host's process stays");
    }
}

/// A test that panics leaves nothing behind. What was said is shown.
impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["host.log", "mount.log"] {
                let said = fs::read_to_string(self.path(log)).unwrap_or_default();
                eprintln!("{log}: {said}");
            }
        }
        let rest = self.waiting.iter_mut();
        for child in rest.chain(&mut self.host).chain(&mut self.mount) {
            signal(child, rustix::process::Signal::CONT);
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.is_mounted() {
            let _ = Command::new("umount").arg("-l").arg(self.mnt()).status();
        }
    }
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether a process ends soon.
fn ends(child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Does what may hang if something is wrong, in a thread that nobody waits for then.
fn within<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    result
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| panic!("{what}: hangs or failed"))
}

/// Waits for what must come.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn sleep(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}
