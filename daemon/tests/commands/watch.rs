//! `wormhole watch` as a tool uses it.

use super::*;
use rustix::process::Signal;

/// A running watch, and its lines.
struct Watching(Child, BufReader<std::process::ChildStdout>);

impl Watching {
    fn start(desk: &Desk, args: &[&str]) -> Self {
        let mut command = desk.wormhole(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self(child, stdout)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Skips to the line about an event at a path; others may come between.
    fn wait_for(&mut self, event: &str, path: &Path) -> Value {
        loop {
            let line = self.json();
            if line["event"] == event && line["path"] == path.to_str().unwrap() {
                return line;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn changes_made_elsewhere_are_told_line_by_line() {
    let mut desk = Desk::new();
    fs::create_dir(desk.path("share/dir")).unwrap();
    fs::write(desk.path("share/dir/file"), "one").unwrap();
    let ready = desk.host(&["--rw"]);
    desk.mount(&ready, &["--no-l2"]);
    let ticket = desk.ticket_file(&ready);
    let (mnt, mnt2) = (desk.path("mnt"), desk.path("mnt2"));
    let args = ["mount", "--daemon", "--no-l2", "--ticket-file", &ticket];
    desk.ok(&[&args[..], &[mnt2.to_str().unwrap()]].concat());
    let mut watch = Watching::start(&desk, &["watch", "--json", mnt.to_str().unwrap()]);
    let first = watch.json();
    assert_eq!(first["event"], "watching");
    assert_eq!(
        (&first["directories"], &first["names"]),
        (&2.into(), &2.into())
    );
    // By a program on the host, and through another mount.
    for place in ["share", "mnt2"] {
        let at = desk.path(place).join("dir");
        let made = at.join(place);
        fs::write(&made, "new").unwrap();
        let told = watch.wait_for("created", &mnt.join("dir").join(place));
        assert_eq!(told["kind"], "file");
        fs::write(at.join("file"), place).unwrap();
        watch.wait_for("modified", &mnt.join("dir/file"));
        fs::remove_file(&made).unwrap();
        watch.wait_for("removed", &mnt.join("dir").join(place));
    }
    let mut text = Watching::start(&desk, &["watch", mnt.join("dir").to_str().unwrap()]);
    let mut said = String::new();
    let mut stderr = BufReader::new(text.0.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("watching 1 names in 1 folders"), "{said}");
    fs::remove_file(desk.path("share/dir/file")).unwrap();
    let line = format!("removed     {}", mnt.join("dir/file").display());
    assert_eq!(text.line(), line);
    signal(watch.0.id(), Signal::INT);
    assert_eq!(watch.0.wait().unwrap().code(), Some(130));
    desk.ok(&["unmount", mnt.to_str().unwrap()]);
    assert_eq!(text.0.wait().unwrap().code(), Some(1));
    let said = desk.fails(&["watch", desk.path("share").to_str().unwrap()]);
    assert!(said.contains("in no mount"), "{said}");
}
