//! Whole runs on small links, and what is done with their results.

use super::*;
use serde_json::json;

const BIND: &str = "\
[peer.bind]
serve = [\"true\"]
mount = [\"mount\", \"--bind\", \"{share}\", \"{mountpoint}\"]
version = [\"echo\", \"as of today\"]
";

const NEVER: &str = "\
[peer.never]
mount = [\"sleep\", \"{seconds}\"]
";

/// Of the families `mount` and `first-byte`.
const WORKLOADS: [&str; 3] = ["mount", "first-byte-cold", "first-byte-warm"];

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a run printed.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", command.get_args());
    String::from_utf8(output.stdout).unwrap()
}

fn refused(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{:?}", command.get_args());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Each of `peers` has each of `workloads`, with samples, and there is nothing else.
fn complete(run: &Value, peers: &[&str], workloads: &[&str]) {
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), peers.len() * workloads.len(), "{run}");
    for (peer, workload) in peers
        .iter()
        .flat_map(|p| workloads.iter().map(move |w| (p, w)))
    {
        let row = results
            .iter()
            .find(|row| row["peer"] == *peer && row["workload"] == *workload);
        let row = row.unwrap_or_else(|| panic!("no {workload} of {peer}"));
        assert_eq!(row["state"], "ok", "{row}");
        assert_eq!(row["unit"], "ms");
        assert!(!row["samples"].as_array().unwrap().is_empty(), "{row}");
        for number in ["p50", "p95", "p99", "max"] {
            assert!(row[number].as_f64().unwrap() > 0.0, "{number}: {row}");
        }
        assert!(row["cost"]["client_cpu_s"].as_f64().is_some(), "{row}");
    }
}

/// The link was measured, and is nearly what it should be.
fn measured(run: &Value) {
    let link = &run["link"];
    let number = |name: &str| link[name].as_f64().unwrap();
    assert!(number("rtt_ms") >= number("asked_rtt_ms"), "{link}");
    assert!(number("rate_mbit") > 0.0 && number("rate_mbit") < 1.5 * number("asked_rate_mbit"));
    assert_eq!(number("asked_loss_pct"), 0.0);
    assert!(link["loss_pct"].as_f64().is_some());
    assert!(["tc", "tun"].contains(&link["backend"].as_str().unwrap()));
    let raw = run["raw"].as_array().unwrap();
    let protocols: Vec<&str> = raw
        .iter()
        .map(|row| row["protocol"].as_str().unwrap())
        .collect();
    assert_eq!(protocols, ["tcp", "quic"], "{}", run["warnings"]);
    for row in raw {
        let mbit = row["mbit"].as_f64().unwrap();
        assert!(
            mbit > 0.0 && mbit < 1.5 * number("asked_rate_mbit"),
            "{row}"
        );
    }
}

#[test]
fn a_run_leaves_reports_a_baseline_and_a_history() {
    let flags = ["--profile", "wan-good"];
    let test = "a_run_leaves_reports_a_baseline_and_a_history";
    let Some(desk) = Desk::with_link(test, &flags) else {
        return;
    };
    let _alone = alone();
    let before = Outer::look(&desk);
    let at = |name: &str| desk.path(name).to_str().unwrap().to_owned();
    let (json, markdown, html) = (at("a.json"), at("a.md"), at("a.html"));
    // With terms of its own, and another congestion control than most machines'.
    let small = [
        &flags[..],
        &["--quick", "--only", "mount,first-byte", "--cc", "reno"],
        &["--data", "text", "--rounds", "2", "--seed", "7"],
    ]
    .concat();
    let first = [
        &small[..],
        &["--peers", "wormhole,local", "--save-baseline", "b"],
        &["--json", &json, "--markdown", &markdown, "--html", &html],
    ]
    .concat();
    let printed = done(&mut desk.bench(&[], &first));
    assert!(
        printed.contains("wan-good") && printed.contains("first-byte-cold"),
        "{printed}"
    );
    let run = read(Path::new(&json));
    assert_eq!(run["schema"], 1);
    assert_eq!(
        (&run["profile"], &run["mode"]),
        (&json!("wan-good"), &json!("quick"))
    );
    assert_eq!(
        (&run["seed"], &run["rounds"], &run["data"]),
        (&json!(7), &json!(2), &json!("text"))
    );
    assert_eq!(run["link"]["tcp_congestion_control"], "reno");
    let command = run["command"].as_array().unwrap();
    assert_eq!(command[1], "bench");
    assert!(command.contains(&json!("mount,first-byte")));
    measured(&run);
    complete(&run, &["wormhole", "local"], &WORKLOADS);
    for path in [&markdown, &html] {
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.contains("first-byte-cold") && text.contains("wan-good"),
            "{path}"
        );
    }
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") || page.starts_with("<!doctype html>"));
    assert_eq!(Outer::look(&desk), before);
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);

    let history = desk.ok(&["bench", "history"]);
    assert!(history.contains("wan-good"), "{history}");
    let said = refused(
        &mut desk.wormhole(&["bench", "history", "--profile", "lan"]),
        1,
    );
    assert!(said.contains("no runs"), "{said}");
    let compared = desk.ok(&["bench", "compare", &json, &json]);
    assert!(compared.contains("first-byte-cold"), "{compared}");

    again(&desk, &small, &at("b.json"));
}

/// Once more, with a peer of the user's, and held against the first.
fn again(desk: &Desk, small: &[&str], json: &str) {
    let peers = desk.path("peers.toml");
    fs::write(&peers, BIND).unwrap();
    let flags = [
        small,
        &[
            "--peers",
            "bind,wormhole,local",
            "--peers-file",
            peers.to_str().unwrap(),
        ],
        &["--json", json],
        &["--baseline", "b", "--fail-if-slower", "10000%"],
    ]
    .concat();
    let printed = done(&mut desk.bench(&[], &flags));
    assert!(printed.contains("bind"), "{printed}");
    assert!(printed.contains("passed"), "{printed}");
    let run = read(Path::new(json));
    complete(&run, &["wormhole", "local", "bind"], &WORKLOADS);
    let peers = run["peers"].as_array().unwrap();
    let bind = peers.iter().find(|peer| peer["name"] == "bind").unwrap();
    assert_eq!(bind["version"], "as of today");
    let state = desk.path("state/wormhole/bench");
    let history = fs::read_to_string(state.join("history.jsonl")).unwrap();
    assert_eq!(history.lines().count(), 2, "{history}");
    assert!(state.join("baselines/b.json").exists());
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
}

#[test]
fn a_peer_that_hangs_is_a_result_and_is_ended() {
    let flags = ["--rtt", "20ms", "--rate", "20mbit", "--quick"];
    let test = "a_peer_that_hangs_is_a_result_and_is_ended";
    let Some(desk) = Desk::with_link(test, &flags[..4]) else {
        return;
    };
    let _alone = alone();
    let seconds = format!("9{}", std::process::id());
    let (peers, json) = (desk.path("peers.toml"), desk.path("a.json"));
    fs::write(&peers, NEVER.replace("{seconds}", &seconds)).unwrap();
    let families = "mount,first-byte,seq-read,scrub,stat,readdir,walk,small-files,parallel";
    let run = [
        &flags[..],
        &["--peers", "never", "--peers-file", peers.to_str().unwrap()],
        &["--only", families, "--json", json.to_str().unwrap()],
    ]
    .concat();
    // It would sleep for days: that the run ends at all is the point.
    let printed = done(&mut desk.bench(&[], &run));
    assert!(printed.contains("not mounted within"), "{printed}");
    let run = read(&json);
    let results = run["results"].as_array().unwrap();
    assert!(results.len() > families.split(',').count(), "{run}");
    for row in results {
        assert_eq!(
            (&row["peer"], &row["state"]),
            (&json!("never"), &json!("timeout"))
        );
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.contains("not mounted within"), "{reason}");
        assert!(row["p50"].is_null() && row["samples"] == json!([]), "{row}");
    }
    assert_eq!(processes_with(&seconds), [] as [u32; 0]);
    assert_eq!(desk.scratches(), [] as [PathBuf; 0]);
}

#[test]
fn wrong_calls_are_told_before_anything_is_done() {
    let desk = Desk::new();
    let said = refused(&mut desk.wormhole(&["bench", "--profile", "wan-goud"]), 2);
    for profile in ["none", "lan", "wan-good", "wan-poor", "wan-bad"] {
        assert!(said.contains(profile), "{said}");
    }
    for wrong in [
        &["--only", "everything"][..],
        &["--peers", "nobody"],
        &["--fail-if-slower", "50%"],
        &["--quick", "--full"],
        &["--save-baseline", "../b"],
        &["--link", "pigeon"],
    ] {
        refused(desk.wormhole(&["bench"]).args(wrong), 2);
    }
    refused(
        &mut desk.wormhole(&["bench", "shell", "--profile", "lan,none"]),
        2,
    );
    // What would be missed only when there are results.
    let folder = desk.path("mnt");
    let nowhere = folder.join("none/report");
    for flag in ["--json", "--markdown", "--html"] {
        for path in [&folder, &nowhere] {
            let said = refused(desk.wormhole(&["bench", flag]).arg(path), 1);
            assert!(said.contains(path.to_str().unwrap()), "{said}");
            assert!(!said.contains("self-test"), "{said}");
        }
    }
    let said = refused(&mut desk.wormhole(&["bench", "--baseline", "before"]), 1);
    assert!(said.contains("no baseline is called before"), "{said}");
    let said = refused(desk.bench(&[], &[]).args(["--cc", "x"]), 1);
    assert!(
        said.contains("scratch"),
        "a folder that is not there: {said}"
    );
}

/// A report as a run writes it, of one peer at one workload.
fn report(profile: &str, samples: &[f64]) -> Value {
    let worst = samples.iter().copied().fold(0.0, f64::max);
    let link = json!({
        "backend": "tun", "asked_rtt_ms": 50.0, "asked_rate_mbit": 100.0, "asked_loss_pct": 0.0,
        "asked_jitter_ms": 0.0, "bursts": false, "queue_bytes": 625_000, "rtt_ms": 50.5,
        "rate_mbit": 99.0, "loss_pct": 0.0, "rate_each_mbit": [99.0, 99.5],
        "loss_each_pct": [0.0, 0.0], "tcp_congestion_control": "cubic",
        "quic_congestion_control": "steady",
    });
    let environment = json!({
        "wormhole": "0.1.0", "kernel": "6.1", "cpu": "one", "cores": 2, "memory_bytes": 1 << 30,
        "file_system": "ext4", "drops_page_cache": true, "load": 0.5,
    });
    let row = json!({
        "peer": "wormhole", "workload": "first-byte-cold", "unit": "ms", "better": "lower",
        "samples": samples, "p50": samples[samples.len() / 2], "p95": worst, "p99": worst,
        "max": worst, "state": "ok", "reason": null, "of_link_pct": null, "cost": null,
        "timeline": [],
    });
    json!({
        "schema": 1, "profile": profile, "started": "2026-01-01T00:00:00Z", "seconds": 60.0,
        "mode": "quick", "data": "random", "seed": 1, "rounds": 1,
        "command": ["wormhole", "bench"], "environment": environment, "link": link, "raw": [],
        "peers": [{
            "name": "wormhole", "version": "0.1.0", "settings": [], "durability": "read-only",
            "available": true, "reason": null, "install": null,
        }],
        "results": [row], "warnings": [],
    })
}

#[test]
fn reports_are_compared_and_what_is_none_is_refused() {
    let desk = Desk::new();
    let file = |name: &str, content: &str| {
        fs::write(desk.path(name), content).unwrap();
        desk.path(name).to_str().unwrap().to_owned()
    };
    let samples = |middle: f64| {
        (0..20)
            .map(|n| middle + f64::from(n % 3))
            .collect::<Vec<_>>()
    };
    let fast = file("fast", &report("wan-good", &samples(50.0)).to_string());
    let slow = file("slow", &report("wan-good", &samples(100.0)).to_string());
    let compare = |before: &str, after: &str| desk.run(&["bench", "compare", before, after]);
    let slower = compare(&fast, &slow);
    assert!(slower.status.success());
    let slower = String::from_utf8(slower.stdout).unwrap();
    assert!(
        slower.contains("first-byte-cold") && slower.contains("slower"),
        "{slower}"
    );
    let same = desk.ok(&["bench", "compare", &fast, &fast]);
    assert!(same.contains("first-byte-cold"), "{same}");
    assert_ne!(same, slower);

    let mut newer = report("wan-good", &[1.0]);
    newer["schema"] = json!(2);
    for (name, content) in [
        ("broken", "{\"schema\": 1,".to_owned()),
        ("other", "{\"a\": 1}".to_owned()),
        ("empty", String::new()),
        ("newer", newer.to_string()),
    ] {
        let path = file(name, &content);
        for pair in [[&fast, &path], [&path, &fast]] {
            let output = compare(pair[0], pair[1]);
            assert_eq!(output.status.code(), Some(1), "{name}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&path), "it says which: {said}");
        }
    }
    let output = compare(&fast, "/nowhere/at/all");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nowhere/at/all"), "{said}");
}

#[test]
fn a_history_begins_empty() {
    let desk = Desk::new();
    let said = refused(&mut desk.wormhole(&["bench", "history"]), 1);
    assert!(
        said.contains("no runs") && said.contains("history.jsonl"),
        "{said}"
    );
}
