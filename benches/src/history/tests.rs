//! The history file under bad luck, and its picture.

use super::*;
use crate::record::State;
use crate::report::sample;

#[test]
fn runs_are_remembered_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a/history.jsonl");
    assert!(read(&path).expect("none yet").is_empty());
    let mut runs = sample::runs();
    for entry in &mut runs[0].results {
        if entry.workload == "write-seq" {
            entry.state = State::Timeout;
        }
    }
    append(&path, &runs).expect("appended");
    append(&path, &[sample::wan_good()]).expect("appended");
    let lines = read(&path).expect("read");
    let profiles: Vec<&str> = lines.iter().map(|line| line.profile.as_str()).collect();
    assert_eq!(profiles, ["wan-good", "wan-poor", "wan-good"]);
    let first = &lines[0];
    assert_eq!(first.p50["seq-read-cold"].unit, "MB/s");
    assert!(first.raw_mbit["tcp"] > 0.0);
    assert!(
        !first.p50.contains_key("write-seq"),
        "what did not end well is not remembered"
    );
}

#[test]
fn a_torn_line_costs_only_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    append(&path, &[sample::wan_good()]).expect("appended");
    let whole = std::fs::read(&path).expect("bytes");
    let mut torn = whole.clone();
    torn.extend_from_slice(&whole[..100]);
    torn.extend_from_slice(b"\xc3");
    std::fs::write(&path, &torn).expect("written");
    assert_eq!(read(&path).expect("read").len(), 1);
    append(&path, &[sample::wan_poor()]).expect("appended");
    let lines = read(&path).expect("read");
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1].profile, "wan-poor");
}

#[test]
fn only_the_newest_lines_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    let old = "{}\n".repeat(LINES_MAX + 5);
    std::fs::write(&path, old).expect("written");
    append(&path, &sample::runs()).expect("appended");
    let text = std::fs::read_to_string(&path).expect("text");
    assert_eq!(text.lines().count(), LINES_MAX);
    assert_eq!(
        read(&path).expect("read").len(),
        2,
        "the newest are among them"
    );
}

#[test]
fn many_at_once_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| append(&path, &sample::runs()).expect("appended"));
        }
    });
    assert_eq!(read(&path).expect("read").len(), 16);
}

#[test]
fn other_schemas_are_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    let mut line = Line::new(&sample::wan_good());
    line.schema = SCHEMA + 1;
    let text = serde_json::to_string(&line).expect("JSON");
    std::fs::write(&path, format!("{text}\n")).expect("written");
    assert!(read(&path).expect("read").is_empty());
}

#[test]
fn the_picture_shows_the_way_of_each_workload() {
    let mut history: Vec<Line> = (0..20_u8)
        .map(|at| {
            let mut line = Line::new(&sample::wan_good());
            let point = line.p50.get_mut("seq-read-cold").expect("a point");
            point.value = f64::from(at + 1);
            line
        })
        .collect();
    history[3].p50.remove("stat-cold");
    history.push(Line::new(&sample::wan_poor()));
    let text = render(&history, 100);
    let row = text
        .lines()
        .find(|line| line.starts_with("seq-read-cold "))
        .expect("a row");
    assert!(row.contains("▁") && row.ends_with('█'), "{row}");
    assert!(
        row.contains("1.00 MB/s") && row.contains("20.0 MB/s"),
        "{row}"
    );
    let flat = text
        .lines()
        .find(|line| line.starts_with("mount "))
        .expect("a row");
    assert!(flat.ends_with("▄▄▄▄"), "{flat}");
    assert!(
        text.contains("wan-good (Standard), 20 runs")
            && text.contains("wan-poor (Standard), 1 runs")
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 110),
        "{text}"
    );
    assert!(render(&[], 80).contains("empty"));
}
