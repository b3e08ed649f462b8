//! A host whose user may watch few directories: everything is right, and promised for a shorter time.

use super::*;
use std::time::{Duration, Instant};

/// What `fs.inotify.max_user_watches` is set to on the smallest of machines; here the limit of a user
/// namespace, so that nobody else on this machine feels it.
const WATCHES: u64 = 64;
const DIRS: usize = 200;
/// `--attr-ttl` of these mounts is a second; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

const STARTER: [&str; 5] = ["unshare", "--user", "--map-root-user", "sh", "-c"];

fn file(at: &Path, i: usize) -> PathBuf {
    at.join(format!("dir{i}/file"))
}

fn write_all(at: &Path, text: &str) {
    for i in 0..DIRS {
        fs::write(file(at, i), format!("{text} {i}")).unwrap();
        fs::write(file(at, i).with_file_name(text), "").unwrap();
    }
}

/// Waits until every file holds `text`, and a file of that name is beside it.
fn see_all(at: &Path, text: &str) {
    let begun = Instant::now();
    for i in 0..DIRS {
        let expected = format!("{text} {i}");
        while fs::read_to_string(file(at, i)).unwrap() != expected
            || !file(at, i).with_file_name(text).exists()
        {
            assert!(begun.elapsed() < PATIENCE, "{text} {i} is not seen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_cannot_be_watched_is_asked_for_again_and_again() {
    let script = format!("echo {WATCHES} > /proc/sys/user/max_inotify_watches && exec \"$@\"");
    let starter = [&STARTER[..], &[&script, "sh"]].concat();
    let tried = Command::new(starter[0])
        .args(&starter[1..])
        .arg("true")
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!(
            "what_cannot_be_watched_is_asked_for_again_and_again did not run: no user namespaces"
        );
        return;
    }
    let mut desk = Desk::new();
    let share = desk.path("share");
    for i in 0..DIRS {
        fs::create_dir(share.join(format!("dir{i}"))).unwrap();
    }
    write_all(&share, "first");
    let ready = desk.host_by(&starter, &["--rw"]);
    desk.mount(&ready, &["--no-l2"]);
    let ticket = desk.ticket_file(&ready);
    let (mnt, mnt2) = (desk.path("mnt"), desk.path("mnt2"));
    let args = ["mount", "--daemon", "--no-l2", "--ticket-file", &ticket];
    desk.ok(&[&args[..], &[mnt2.to_str().unwrap()]].concat());
    see_all(&mnt, "first");
    see_all(&mnt2, "first");
    write_all(&share, "second");
    see_all(&mnt, "second");
    see_all(&mnt2, "second");
    write_all(&mnt2, "third");
    see_all(&mnt2, "third");
    see_all(&mnt, "third");
    let status = desk.status();
    let share = &status["hosts"][0]["shares"][0];
    let watches = share["watches"].as_u64().unwrap();
    assert!((1..=WATCHES).contains(&watches), "{share}");
    assert!(share["leases_refused"].as_u64().unwrap() > 0, "{share}");
    desk.ok(&["unmount", mnt.to_str().unwrap()]);
    desk.ok(&["unmount", mnt2.to_str().unwrap()]);
}
