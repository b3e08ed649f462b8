//! Flags that change what happens, each seen from outside.

use super::*;

fn desk() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("share/file"), "content").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    desk
}

fn read(desk: &Desk) -> String {
    fs::read_to_string(desk.path("mnt/file")).unwrap()
}

#[test]
fn a_ticket_comes_from_an_argument_a_file_the_environment_or_stdin() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    let ticket = ready["ticket"].as_str().unwrap().to_owned();
    let file = desk.ticket_file(&ready);
    let mnt = desk.path("mnt");
    let mnt = mnt.to_str().unwrap().to_owned();
    let base = ["mount", "--daemon", "--no-l2"];
    for way in ["argument", "file", "environment", "stdin"] {
        let mut command = desk.wormhole(&base);
        match way {
            "argument" => command.args([&ticket, &mnt]),
            "file" => command.args(["--ticket-file", &file, &mnt]),
            "environment" => command.env("WORMHOLE_TICKET", &ticket).arg(&mnt),
            _ => command
                .args(["-", &mnt])
                .stdin(Stdio::from(fs::File::open(&file).unwrap())),
        };
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{way}: {stderr}");
        assert_eq!(read(&desk), "content", "{way}");
        desk.ok(&["unmount", &mnt]);
    }
}

#[test]
fn tickets_can_be_limited_revoked_and_mistyped() {
    let mut desk = desk();
    let ready = desk.host(&["--max-mounts", "1"]);
    desk.mount(&ready, &["--no-l2"]);
    let ticket = desk.ticket_file(&ready);
    let mnt2 = desk.path("mnt2");
    let mnt2 = mnt2.to_str().unwrap().to_owned();
    let said = desk.fails(&["mount", "--ticket-file", &ticket, &mnt2]);
    assert!(said.contains("as many mounts"), "{said}");
    let text = ready["ticket"].as_str().unwrap();
    let typo = text.replacen(
        &text[20..21],
        if &text[20..21] == "q" { "p" } else { "q" },
        1,
    );
    let said = desk.fails(&["mount", &typo, &mnt2]);
    assert!(said.contains("typo"), "{said}");
    assert!(!said.contains(&typo), "an error shows no ticket");
    let mut host = desk.children.pop().unwrap();
    signal(host.id(), rustix::process::Signal::TERM);
    assert!(host.wait().unwrap().success());
    let address = ready["addresses"][0].as_str().unwrap().to_owned();
    desk.host(&["--new-ticket", "--listen", &address]);
    let said = desk.fails(&["mount", "--ticket-file", &ticket, &mnt2]);
    assert!(said.contains("wrong ticket"), "{said}");
}

#[test]
fn a_host_tells_what_it_was_told() {
    let mut desk = desk();
    let flags = [
        "--name",
        "films",
        "--advertise",
        "192.0.2.7:4242",
        "--expires",
        "2h",
    ];
    let ready = desk.host(&flags);
    assert_eq!(ready["share"], "films");
    assert_eq!(ready["addresses"], serde_json::json!(["192.0.2.7:4242"]));
    assert!(!ready["expires"].is_null());
    let status = desk.ok(&["status"]);
    assert!(status.contains("films"), "{status}");
    let secret = ready["ticket"].as_str().unwrap();
    assert!(!status.contains(secret) && !desk.ok(&["status", "--json"]).contains(secret));
}

#[test]
fn metrics_are_served_by_both_roles() {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (host_at, mount_at) = (free(), free());
    let mut desk = desk();
    let ready = desk.host(&["--metrics", &host_at]);
    desk.mount(&ready, &["--no-l2", "--metrics", &mount_at]);
    assert_eq!(read(&desk), "content");
    for (address, prefix) in [(host_at, "wormhole_host_"), (mount_at, "wormhole_mount_")] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(page.contains(prefix), "{page}");
    }
}

#[test]
fn cache_commands_report_verify_and_clear() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    let cache = desk.path("cache2");
    let cache = cache.to_str().unwrap().to_owned();
    desk.mount(&ready, &["--cache-dir", &cache]);
    assert_eq!(read(&desk), "content");
    let mnt = desk.path("mnt");
    desk.ok(&["unmount", mnt.to_str().unwrap()]);
    let json = |args: &[&str]| -> Value { serde_json::from_str(&desk.ok(args)).unwrap() };
    let stats = json(&["cache", "stats", "--json", "--cache-dir", &cache]);
    assert!(numbers(&stats, "bytes").iter().any(|n| *n > 0), "{stats}");
    let verified = json(&["cache", "verify", "--json", "--cache-dir", &cache]);
    assert_eq!(numbers(&verified, "corrupt"), [0], "{verified}");
    desk.ok(&["cache", "gc", "--older-than", "7d", "--cache-dir", &cache]);
    let stats = json(&["cache", "stats", "--json", "--cache-dir", &cache]);
    assert!(
        numbers(&stats, "bytes").iter().any(|n| *n > 0),
        "it is not that old"
    );
    desk.ok(&["cache", "clear", "--cache-dir", &cache]);
    let stats = json(&["cache", "stats", "--json", "--cache-dir", &cache]);
    assert!(numbers(&stats, "bytes").iter().all(|n| *n == 0), "{stats}");
}

#[test]
fn a_share_in_use_is_not_cleared_and_no_l2_leaves_no_trace() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    desk.mount(&ready, &["--no-l2"]);
    assert_eq!(read(&desk), "content");
    let mnt = desk.path("mnt");
    desk.ok(&["unmount", mnt.to_str().unwrap()]);
    assert_eq!(fs::read_dir(desk.path("cache")).unwrap().count(), 0);
    desk.mount(&ready, &[]);
    assert_eq!(read(&desk), "content");
    let said = desk.run(&["cache", "clear"]);
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let pid = mount_pid(&desk, &mnt);
    assert!(said.contains(&pid.to_string()), "{said}");
}

#[test]
fn mount_options_of_fstab_are_taken() {
    let mut desk = desk();
    let ready = desk.host(&[]);
    let options = "ro,noauto,_netdev,x-systemd.automount,l1_size=8M,no_l2,attr_ttl=5s,owner=host";
    desk.mount(&ready, &["-o", options]);
    assert_eq!(read(&desk), "content");
    let capacity = numbers(&desk.status(), "budget_bytes");
    assert!(capacity.contains(&(8 << 20)), "{capacity:?}");
}

#[test]
fn a_mount_writes_if_its_ticket_lets_it_and_no_option_forbids_it() {
    for (flags, options, writes) in [
        (&[][..], "rw,no_l2", false),
        (&["--rw", "--ro"], "rw,no_l2", false),
        (&["--rw"], "ro,no_l2", false),
        (&["--rw"], "rw,no_l2", true),
        (&["--rw"], "no_l2", true),
    ] {
        let mut desk = desk();
        let ready = desk.host(flags);
        desk.mount(&ready, &["-o", options]);
        let wrote = fs::write(desk.path("mnt/new"), "n");
        assert_eq!(wrote.is_ok(), writes, "{flags:?} {options}");
        if let Err(error) = wrote {
            let kind = std::io::ErrorKind::ReadOnlyFilesystem;
            assert_eq!(error.kind(), kind, "{flags:?} {options}");
        }
        assert_eq!(desk.path("share/new").exists(), writes);
    }
}

#[test]
fn wrong_calls_exit_with_2_and_failures_with_1() {
    let desk = desk();
    let code = |args: &[&str]| desk.run(args).status.code();
    assert_eq!(code(&["mount"]), Some(2));
    assert_eq!(code(&["host"]), Some(2));
    assert_eq!(code(&["host", "--no-such-flag", "x"]), Some(2));
    assert_eq!(code(&["host", "/nowhere/at/all"]), Some(1));
    assert_eq!(code(&["status"]), Some(0));
    assert_eq!(code(&["--version"]), Some(0));
    let mnt = desk.path("mnt");
    let said = desk.fails(&["mount", "no-ticket-at-all", mnt.to_str().unwrap()]);
    assert!(said.contains("ticket"), "{said}");
}
