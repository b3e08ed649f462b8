//! The program as a user runs it: processes that are started, killed, stopped and restarted.
//!
//! Needs root or fusermount3, and /dev/fuse.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod bench_link;
mod durability;
mod few_watches;
mod flags;
mod host_access;
mod keep;
mod lives;
mod locks;
mod watch;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A machine's worth of folders of its own, and what runs in it.
struct Desk {
    dir: TempDir,
    children: Vec<Child>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["share", "mnt", "mnt2", "run", "cache", "state"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        use std::os::unix::fs::PermissionsExt;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir.path().join("run"), private).unwrap();
        Self {
            dir,
            children: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `wormhole`, with every place it keeps things in here.
    fn wormhole(&self, args: &[&str]) -> Command {
        self.wormhole_by(&[], args)
    }

    fn wormhole_by(&self, starter: &[&str], args: &[&str]) -> Command {
        let mut words = starter.to_vec();
        words.push(env!("CARGO_BIN_EXE_wormhole"));
        words.extend(args);
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env_remove("WORMHOLE_TICKET")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.wormhole(args).output().unwrap()
    }

    /// Runs to success; what it printed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs to failure; what it said.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Hosts `share`; the object it printed when ready.
    fn host(&mut self, flags: &[&str]) -> Value {
        self.host_by(&[], flags)
    }

    /// The same, started by the program `starter`, which gets the command as its last arguments.
    fn host_by(&mut self, starter: &[&str], flags: &[&str]) -> Value {
        let share = self.path("share");
        let mut args = vec!["host", "--json"];
        if !flags.contains(&"--listen") {
            args.extend(["--listen", "127.0.0.1:0"]);
        }
        args.extend(flags);
        args.push(share.to_str().unwrap());
        let mut child = self
            .wormhole_by(starter, &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        self.children.push(child);
        serde_json::from_str(&line).unwrap()
    }

    /// Mounts at `mnt` in the background, the ticket coming from a file.
    fn mount(&self, ready: &Value, flags: &[&str]) {
        let ticket = self.ticket_file(ready);
        let mnt = self.path("mnt");
        let mut args = vec!["mount", "--daemon", "--ticket-file", &ticket];
        args.extend(flags);
        args.push(mnt.to_str().unwrap());
        self.ok(&args);
    }

    fn ticket_file(&self, ready: &Value) -> String {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path("ticket");
        let mut file = fs::File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(ready["ticket"].as_str().unwrap().as_bytes())
            .unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).unwrap()
    }

    fn mounted(&self, name: &str) -> bool {
        let path = self.path(name);
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table
            .lines()
            .any(|line| line.split(' ').nth(4) == path.to_str())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for name in ["mnt", "mnt2"] {
            if self.mounted(name) {
                let path = self.path(name);
                let _ = self.run(&["unmount", "--lazy", path.to_str().unwrap()]);
            }
        }
        for child in &mut self.children {
            signal(child.id(), rustix::process::Signal::CONT);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// The first value named `key` anywhere in a JSON value.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => map
            .get(key)
            .or_else(|| map.values().find_map(|value| find(value, key))),
        Value::Array(items) => items.iter().find_map(|item| find(item, key)),
        _ => None,
    }
}

/// Every number named `key` anywhere in a JSON value.
fn numbers(value: &Value, key: &str) -> Vec<u64> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(name, value)| {
                let own = (name == key).then(|| value.as_u64()).flatten();
                own.into_iter().chain(numbers(value, key))
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| numbers(item, key)).collect(),
        _ => Vec::new(),
    }
}

/// The process that serves the mount at `path`.
fn mount_pid(desk: &Desk, path: &Path) -> u32 {
    let wanted = path.to_str().unwrap().to_owned();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = process.file_name().to_str().unwrap_or("").parse::<u32>() else {
            continue;
        };
        let socket = desk.path("run").join(format!("wormhole/mount-{pid}.sock"));
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let names_it = words.split(|b| *b == 0).any(|w| w == wanted.as_bytes());
        if names_it && socket.exists() {
            return pid;
        }
    }
    panic!("nobody serves {wanted}");
}

/// Whether a process is there and not merely waiting for its parent to notice its end.
fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}
