//! Who may change a hosted folder: flags of `wormhole host`, seen from outside.

use super::*;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

/// The one share in `wormhole status --json`, and the status for people.
fn status_of(desk: &Desk) -> (Value, String) {
    let status = desk.status();
    let share = status["hosts"][0]["shares"][0].clone();
    (share, desk.ok(&["status"]))
}

fn end(desk: &mut Desk) {
    let mut host = desk.children.pop().unwrap();
    signal(host.id(), rustix::process::Signal::TERM);
    assert!(host.wait().unwrap().success());
}

#[test]
fn a_folder_is_hosted_read_only_unless_told_otherwise() {
    let mut desk = Desk::new();
    for flags in [&[][..], &["--ro"]] {
        let ready = desk.host(flags);
        assert_eq!(ready["access"], "read-only", "{flags:?}");
        let (share, shown) = status_of(&desk);
        assert_eq!(share["access"], "read-only");
        assert!(shown.contains(", read-only"), "{shown}");
        end(&mut desk);
    }
}

#[test]
fn a_writable_folder_has_a_ticket_of_either_kind() {
    let mut desk = Desk::new();
    let plain = desk.host(&[]);
    // Tickets hold the address: the same for all, so that the same ticket is the same text.
    let address = plain["addresses"][0].as_str().unwrap().to_owned();
    let host = |desk: &mut Desk, flags: &[&str]| {
        end(desk);
        desk.host(&[&["--listen", &address], flags].concat())
    };
    let writing = host(&mut desk, &["--rw"]);
    assert_eq!(writing["access"], "read-write");
    assert_ne!(writing["ticket"], plain["ticket"]);
    let (share, shown) = status_of(&desk);
    assert_eq!(share["access"], "read-write");
    assert!(shown.contains(", read-write"), "{shown}");
    let looking = host(&mut desk, &["--rw", "--ro"]);
    assert_eq!(looking["access"], "read-only");
    assert_eq!(looking["ticket"], plain["ticket"], "the one it had");
    assert_eq!(status_of(&desk).0["access"], "read-write");
    assert_eq!(host(&mut desk, &["--rw"])["ticket"], writing["ticket"]);
    let limited = host(&mut desk, &["--rw", "--expires", "2h"]);
    assert_eq!(limited["access"], "read-write");
    assert_ne!(limited["ticket"], writing["ticket"]);
    let renewed = host(&mut desk, &["--rw", "--new-ticket"]);
    assert_ne!(renewed["ticket"], writing["ticket"]);
    let looking = host(&mut desk, &[]);
    assert_ne!(looking["ticket"], plain["ticket"], "either kind was ended");
}

#[test]
fn what_a_session_may_do_is_what_both_its_ticket_and_the_host_allow() {
    let mut desk = Desk::new();
    fs::write(desk.path("share/file"), "content").unwrap();
    let writing = desk.host(&["--rw"]);
    let address = writing["addresses"][0].as_str().unwrap().to_owned();
    end(&mut desk);
    for (flags, access) in [(&[][..], "read-only"), (&["--rw"], "read-write")] {
        let flags = [flags, &["--listen", &address]].concat();
        desk.host(&flags);
        desk.mount(&writing, &["--no-l2"]);
        let (share, shown) = status_of(&desk);
        assert_eq!(share["sessions"][0]["access"], access);
        assert!(shown.contains(&format!(", {access}: ")), "{shown}");
        assert_eq!(fs::read(desk.path("mnt/file")).unwrap(), b"content");
        let mnt = desk.path("mnt");
        desk.ok(&["unmount", mnt.to_str().unwrap()]);
        end(&mut desk);
    }
}

#[test]
fn flags_that_need_others_or_root_say_so() {
    let desk = Desk::new();
    let share = desk.path("share");
    let share = share.to_str().unwrap();
    for flag in ["--map-users", "--allow-devices"] {
        let output = desk.run(&["host", flag, share]);
        assert_eq!(output.status.code(), Some(2), "wrongly called");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(flag) && said.contains("--rw"), "{said}");
    }
    if !rustix::process::geteuid().is_root() {
        let said = desk.fails(&["host", "--rw", "--map-users", share]);
        assert!(said.contains("root"), "{said}");
        let said = desk.fails(&["host", "--rw", "--allow-devices", share]);
        assert!(said.contains("CAP_MKNOD"), "{said}");
    }
}

/// A desk that any user may enter, with a share that any user may write to.
fn public_desk() -> Desk {
    let desk = Desk::new();
    for (dir, mode) in [("", 0o755), ("share", 0o777)] {
        fs::set_permissions(desk.path(dir), fs::Permissions::from_mode(mode)).unwrap();
    }
    desk
}

#[test]
fn new_files_belong_to_the_user_who_makes_them_only_with_map_users() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    const SOMEBODY: u32 = 4242;
    for (flags, owner) in [(&["--rw"][..], 0), (&["--rw", "--map-users"], SOMEBODY)] {
        let mut desk = public_desk();
        let ready = desk.host(flags);
        desk.mount(&ready, &["--no-l2", "--allow-other", "--owner", "host"]);
        let made = Command::new("sh")
            .args(["-c", ": > \"$0\""])
            .arg(desk.path("mnt/new"))
            .uid(SOMEBODY)
            .gid(SOMEBODY)
            .status()
            .unwrap();
        assert!(made.success(), "{flags:?}");
        let found = fs::metadata(desk.path("share/new")).unwrap();
        assert_eq!((found.uid(), found.gid()), (owner, owner), "{flags:?}");
    }
}

#[test]
fn device_nodes_are_made_only_with_allow_devices() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (flags, allowed) in [(&["--rw"][..], false), (&["--rw", "--allow-devices"], true)] {
        let mut desk = Desk::new();
        let ready = desk.host(flags);
        desk.mount(&ready, &["--no-l2"]);
        let node = desk.path("mnt/null");
        let made = Command::new("mknod")
            .arg(&node)
            .args(["c", "1", "3"])
            .output()
            .unwrap();
        assert_eq!(made.status.success(), allowed, "{flags:?}");
        let there = fs::symlink_metadata(desk.path("share/null"));
        let device = there.is_ok_and(|found| found.file_type().is_char_device());
        assert_eq!(device, allowed, "{flags:?}");
        let fifo = Command::new("mkfifo").arg(desk.path("mnt/fifo")).status();
        assert!(fifo.unwrap().success(), "no device");
    }
}
