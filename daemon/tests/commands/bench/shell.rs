//! `bench shell`: what is seen from the end of a link.

use super::*;
use std::os::unix::process::CommandExt;

/// Who has no rights at all.
const NOBODY: u32 = 65534;

#[test]
fn a_shell_sees_the_mounts_end_of_a_link_and_nothing_else() {
    let flags = ["--profile", "wan-good", "--link", "tun"];
    let test = "a_shell_sees_the_mounts_end_of_a_link_and_nothing_else";
    let Some(desk) = Desk::with_link(test, &flags) else {
        return;
    };
    let before = Outer::look(&desk);
    let seen = |script| desk.scripted(&flags, script);
    let interfaces = seen("tail -n +3 /proc/net/dev | cut -d: -f1");
    let interfaces: Vec<&str> = interfaces.split_whitespace().collect();
    assert_eq!(interfaces, ["lo", "link0"]);
    let address = seen("ip -4 -o address show dev link0");
    assert!(address.contains(" 10.77.0.2/24 "), "{address}");
    let routes = seen("ip route");
    assert_eq!(routes.lines().count(), 1, "no way out: {routes}");
    assert_eq!(seen("ls /run/netns"), "host\nmount\n");
    // Process 1, the one that holds the link, the shell and what that runs.
    let processes = seen("ls -d /proc/[0-9]* | wc -l");
    assert!(processes.trim().parse::<u32>().unwrap() < 8, "{processes}");
    let folder = desk.path("mnt");
    let script = format!("mount -t tmpfs x {0} && ls -d {0}", folder.display());
    assert!(!seen(&script).is_empty());
    assert_eq!(Outer::look(&desk), before);
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
}

#[test]
fn a_shell_ends_as_its_command_does() {
    let Some(desk) = Desk::with_link("a_shell_ends_as_its_command_does", &["--profile", "none"])
    else {
        return;
    };
    let code = |script: &str| {
        let mut shell = desk.shell(&["--profile", "none"], &["sh", "-c", script]);
        shell.status().unwrap().code()
    };
    assert_eq!(code("exit 0"), Some(0));
    assert_eq!(code("exit 37"), Some(37));
    assert_eq!(code("kill -KILL $$"), Some(137), "as shells say it");
    let output = desk.shell(&["--profile", "none"], &["/no/such/program"]);
    let output = { output }.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/no/such/program"), "{said}");
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
}

#[test]
fn a_shell_without_a_command_is_the_users_and_says_how_to_go_on() {
    let flags = ["--profile", "none"];
    let test = "a_shell_without_a_command_is_the_users_and_says_how_to_go_on";
    let Some(desk) = Desk::with_link(test, &flags) else {
        return;
    };
    let mut shell = desk.bench(&["shell"], &flags);
    shell.env("SHELL", "/bin/sh").stdin(Stdio::piped());
    shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"echo at $((40 + 2))\nexit 5\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "at 42\n");
    let said = String::from_utf8_lossy(&output.stderr);
    for word in ["10.77.0.1", "10.77.0.2", "nsenter", "exit", "none"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn congestion_control_is_set_at_both_ends_or_refused() {
    let test = "congestion_control_is_set_at_both_ends_or_refused";
    let Some(desk) = Desk::with_link(test, &["--profile", "none"]) else {
        return;
    };
    let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let known = fs::read_to_string(path).unwrap();
    // What a connection over the link uses is said by its route, or else by the default.
    let script = "for n in mount host; do nsenter --net=/run/netns/$n sh -c '\
                  ip -4 -o route show | grep -o \"congctl [a-z]*\" | cut -d\" \" -f2 | grep . \
                  || cat /proc/sys/net/ipv4/tcp_congestion_control'; done";
    let mut tried = 0;
    for name in ["cubic", "reno", "bbr"] {
        if !known.split_whitespace().any(|there| there == name) {
            eprintln!("{test} did not run for {name}: this kernel does not have it");
            continue;
        }
        let got = desk.scripted(&["--profile", "none", "--cc", name], script);
        assert_eq!(got, format!("{name}\n{name}\n"));
        tried += 1;
    }
    assert!(tried > 0, "every kernel has one of them: {known}");
    let flags = ["--profile", "none", "--cc", "hope"];
    let output = desk.shell(&flags, &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("\"hope\"") && said.contains(known.trim()),
        "{said}"
    );
}

#[test]
fn an_added_round_trip_is_there() {
    let flags = |rtt| ["--rtt", rtt, "--rate", "100mbit"];
    let Some(desk) = Desk::with_link("an_added_round_trip_is_there", &flags("20ms")) else {
        return;
    };
    let program = env!("CARGO_BIN_EXE_wormhole");
    // The bare transport, host's end to mount's end.
    let script = format!(
        "nsenter --net=/run/netns/host {program} bench-link serve --listen 10.77.0.1:0 >ready &
         until [ -s ready ]; do sleep 0.02; done
         said() {{ sed 's/.*\"'$1'\":\"\\([^\"]*\\)\".*/\\1/' ready; }}
         {program} bench-link fetch $(said address) --key $(said key) --exchanges 5"
    );
    for (rtt, milliseconds) in [("20ms", 20.0), ("130ms", 130.0)] {
        let folder = tempfile::tempdir_in(desk.dir.path()).unwrap();
        let mut shell = desk.shell(&flags(rtt), &["sh", "-c", &script]);
        let output = shell.current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let measured: Value = serde_json::from_slice(&output.stdout).expect(&said);
        let latencies = measured["latencies_ms"].as_array().unwrap();
        assert_eq!(latencies.len(), 5);
        for latency in latencies {
            assert!(
                latency.as_f64().unwrap() >= milliseconds,
                "{rtt}: {measured}"
            );
        }
    }
}

#[test]
fn a_user_without_rights_has_a_lab_where_the_kernel_permits() {
    let test = "a_user_without_rights_has_a_lab_where_the_kernel_permits";
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "{test} did not run: only root can be somebody else; the other tests do the same"
        );
        return;
    }
    let desk = Desk::new();
    use std::os::unix::fs::PermissionsExt;
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    let scratch = desk.path("scratch");
    fs::create_dir(&scratch).unwrap();
    open(desk.dir.path());
    open(&scratch);
    let run = |profile: &str| {
        let mut shell = desk.shell(&["--profile", profile], &["id", "-u"]);
        shell.uid(NOBODY).gid(NOBODY).current_dir("/");
        match shell.output() {
            Ok(output) => output,
            Err(error) => panic!("{}: {error}", env!("CARGO_BIN_EXE_wormhole")),
        }
    };
    // A link that needs no device, and one that may need one that is root's.
    for profile in ["none", "lan"] {
        let output = run(profile);
        let said = String::from_utf8_lossy(&output.stderr);
        let refused = ["namespaces of its own", "can emulate no link"];
        if refused.iter().any(|reason| said.contains(reason)) {
            eprintln!("{test} did not run with profile {profile}: {said}");
            assert_eq!(output.status.code(), Some(1));
        } else {
            assert!(output.status.success(), "{profile}: {said}");
            assert_eq!(output.stdout, b"0\n", "root in there");
        }
        assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
    }
}
