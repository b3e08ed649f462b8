//! The gate: silent on an unchanged tree, loud at a slow-down; names without tricks.

use super::*;
use crate::record::{Entry, State};
use crate::report::sample;

fn half() -> Threshold {
    "50%".parse().expect("a threshold")
}

fn again(seed: u64, factor: f64, slow: impl Fn(&Entry) -> bool + Copy) -> Vec<Run> {
    sample::runs()
        .iter()
        .map(|run| sample::again(run, seed, factor, slow))
        .collect()
}

fn reads(entry: &Entry) -> bool {
    let name = entry.workload.as_str();
    let kinds = ["seq-read-cold", "random", "small", "parallel", "concurrent"];
    entry.peer == SUBJECT && kinds.iter().any(|kind| name.starts_with(kind))
}

#[test]
fn an_unchanged_tree_passes() {
    for seed in 0..4 {
        let baseline = again(seed, 1.0, |_| false);
        let report = gate(&again(seed + 1000, 1.0, |_| false), &baseline, half());
        assert!(report.passed(), "seed {seed}: {:?}", report.failed);
        assert!(!report.rows.is_empty() && !report.means.is_empty());
    }
}

#[test]
fn a_read_path_twice_as_slow_fails() {
    for seed in 0..4 {
        let report = gate(
            &again(seed, 2.0, reads),
            &again(seed + 99, 1.0, reads),
            half(),
        );
        assert!(
            !report.passed(),
            "seed {seed}: {}",
            report.render(120, false)
        );
    }
}

#[test]
fn a_slow_down_of_everything_does_not_hide_in_noise() {
    let mut baseline = sample::runs();
    for (at, value) in baseline
        .iter_mut()
        .flat_map(|run| &mut run.results)
        .flat_map(|entry| entry.samples.iter_mut())
        .enumerate()
    {
        // Each row alone is far too noisy to say anything.
        *value *= [0.5, 1.0, 2.0][at % 3];
    }
    let slow: Vec<Run> = baseline
        .iter()
        .map(|run| sample::again(run, 3, 2.2, |entry| entry.peer == SUBJECT))
        .collect();
    let report = gate(&slow, &baseline, half());
    assert!(
        report.failed.iter().any(|line| line.contains("everything")),
        "{}",
        report.render(200, false)
    );
}

#[test]
fn what_all_became_slower_by_is_the_machine() {
    let report = gate(&again(1, 2.0, |_| true), &again(1, 1.0, |_| true), half());
    assert!(report.passed(), "{:?}", report.failed);
    assert!(
        report
            .rows
            .iter()
            .any(|row| row.note.contains("every other peer"))
    );
}

#[test]
fn the_limit_alone_excuses_nothing() {
    let only = |runs: Vec<Run>| -> Vec<Run> {
        let keep = |entry: &Entry| entry.peer == SUBJECT || entry.peer == LIMIT;
        runs.into_iter()
            .map(|mut run| {
                run.results.retain(keep);
                run
            })
            .collect()
    };
    let (now, then) = (only(again(1, 2.0, |_| true)), only(again(2, 1.0, |_| true)));
    assert!(!gate(&now, &then, half()).passed());
}

#[test]
fn another_peer_does_not_concern_the_gate_unless_asked_for() {
    let slow = |entry: &Entry| entry.peer == "sshfs";
    let (now, then) = (again(1, 4.0, slow), again(2, 1.0, slow));
    assert!(gate(&now, &then, half()).passed());
    assert!(!gate_of("sshfs", &now, &then, half()).passed());
}

#[test]
fn what_does_not_finish_any_more_fails_at_any_threshold() {
    let baseline = sample::runs();
    let mut now = baseline.clone();
    let entry = now[1]
        .results
        .iter_mut()
        .find(|e| e.workload == "stat-cold");
    entry.expect("an entry").state = State::Failed;
    let report = gate(&now, &baseline, "10000%".parse().expect("a threshold"));
    assert_eq!(report.failed.len(), 1);
    assert!(report.failed[0].contains("stat-cold on wan-poor"));
}

#[test]
fn nothing_to_compare_is_not_a_pass() {
    let mut quick = sample::runs();
    for run in &mut quick {
        run.mode = crate::record::Mode::Quick;
    }
    for now in [quick, Vec::new()] {
        let report = gate(&now, &sample::runs(), half());
        assert!(!report.passed());
        assert!(
            report.failed[0].contains("nothing of wormhole"),
            "{:?}",
            report.failed
        );
    }
}

#[test]
fn the_text_says_what_failed_and_why() {
    let unable = |mut runs: Vec<Run>| {
        for entry in runs.iter_mut().flat_map(|run| &mut run.results) {
            if entry.workload == "write-seq" {
                entry.state = State::Unavailable;
            }
        }
        runs
    };
    let (now, then) = (unable(again(1, 3.0, reads)), unable(again(2, 1.0, reads)));
    let report = gate(&now, &then, half());
    let text = report.render(100, false);
    assert!(
        text.contains("TOO SLOW: seq-read-cold on wan-poor"),
        "{text}"
    );
    assert!(
        text.contains("failed: nothing may be more than 50% slower"),
        "{text}"
    );
    assert!(
        text.contains("not compared: write-seq on wan-good"),
        "{text}"
    );
}

#[test]
fn a_baseline_is_kept_and_found_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("bench");
    let name: Name = "v0.1-main_2".parse().expect("a name");
    let unknown = load(&folder, &name).expect_err("none yet").to_string();
    assert!(unknown.contains("there is none yet"), "{unknown}");
    let path = save(&folder, &name, &sample::runs()).expect("saved");
    assert_eq!(path, folder.join("v0.1-main_2.json"));
    assert!(load(&folder, &name).expect("loaded") == sample::runs());
    let other = load(&folder, &"x".parse().expect("a name")).expect_err("none");
    assert!(
        other.to_string().contains("there are: v0.1-main_2"),
        "{other}"
    );
}

#[test]
fn names_lead_nowhere_else() {
    let long = "x".repeat(65);
    for text in [
        "", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\0", "ü", &long,
    ] {
        assert!(text.parse::<Name>().is_err(), "{text:?}");
    }
    assert!("a..b".parse::<Name>().is_ok());
}

#[test]
fn thresholds_are_percentages() {
    assert!((half().factor() - 1.5).abs() < 1e-9);
    assert_eq!(half().to_string(), "50%");
    for text in [
        "", "%", "50", "-5%", "0%", "1e3%", "NaN%", "inf%", "1.2.3%", "99999%",
    ] {
        assert!(text.parse::<Threshold>().is_err(), "{text:?}");
    }
}
