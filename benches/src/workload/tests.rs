//! Tests of every family of workloads on an ordinary folder.

use super::*;
use crate::files::Ground;
use crate::record::{Data, Mode, State};
use crate::sizes::Sizes;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// So small that all of it takes a moment.
pub(crate) fn tiny() -> Sizes {
    Sizes {
        rounds: 1,
        latency_samples: 5,
        warm_files: 2,
        first_byte_file_bytes: 4096,
        seq_file_bytes: (300 << 10) + 7,
        frame_bytes: 1000,
        segment_frames: 2,
        segments: 3,
        random_file_bytes: 1 << 20,
        random_reads: 16,
        readdir_entries: 10,
        readdir_samples: 3,
        walk_files: 60,
        small_serial_files: 20,
        small_parallel_files: 120,
        parallel_file_bytes: (100 << 10) + 3,
        concurrent_file_bytes: 5000,
        fresh_samples: 5,
        write_file_bytes: (70 << 10) + 1,
        create_files: 20,
        create_thread_files: 3,
        ..Sizes::of(Mode::Quick, None, Duration::ZERO)
    }
}

pub(crate) fn job(family: Family, share: &Path) -> Job {
    Job {
        family,
        folder: Ground::folder(share, 0, family),
        origin: Ground::folder(share, 0, family),
        sizes: tiny(),
        data: Data::Random,
        seed: 7,
        deadline: Duration::from_secs(600),
    }
}

pub(crate) fn ground(family: Family, share: &Path) -> Ground {
    Ground::make(share, 0, &[family], &tiny(), Data::Random, 7).expect("files")
}

fn outcomes(job: &Job) -> (Vec<Outcome>, Vec<Report>) {
    let mut tally = Tally::new(job);
    let mut reports = Vec::new();
    run(job, &mut |report| {
        tally.add(report.clone());
        reports.push(report);
    });
    (tally.outcomes(), reports)
}

#[test]
fn every_family_yields_all_its_workloads() {
    for family in &Family::ALL[1..] {
        let share = tempfile::tempdir().expect("a folder");
        let ground = ground(*family, share.path());
        let job = job(*family, share.path());
        let (outcomes, reports) = outcomes(&job);
        let names: Vec<&str> = family.workloads().map(|w| w.name).collect();
        let found: Vec<&str> = outcomes.iter().map(|o| o.workload.name).collect();
        assert_eq!(found, names);
        for outcome in outcomes {
            let name = outcome.workload.name;
            assert_eq!((outcome.state, outcome.reason), (State::Ok, None), "{name}");
            let samples = match name {
                "readdir-names" | "readdir-attrs" => 3,
                _ if outcome.workload.unit == "ms" => 5,
                _ => 1,
            };
            assert_eq!(outcome.samples.len(), samples, "{name}");
            let least = if name == "scrub" {
                0.0
            } else {
                f64::MIN_POSITIVE
            };
            assert!(outcome.samples.iter().all(|s| *s >= least), "{name}");
            let timed = outcome.workload.unit == "MB/s";
            assert_eq!(!outcome.timeline.is_empty(), timed, "{name}");
            assert!(outcome.timeline.is_sorted_by(|a, b| a <= b), "{name}");
        }
        assert!(reports.len() < 2000, "{family:?}: {}", reports.len());
        ground.remove().expect("removed");
    }
}

#[test]
fn amounts_are_those_of_the_files() {
    let sizes = tiny();
    let whole = [
        (Family::SeqRead, sizes.seq_file_bytes),
        (Family::Random, u64::from(sizes.random_reads)),
        (Family::Walk, u64::from(sizes.walk_files)),
        (Family::Parallel, sizes.parallel_file_bytes),
        (Family::Concurrent, 10 * sizes.concurrent_file_bytes),
        (Family::Write, sizes.write_file_bytes),
        (Family::Create, u64::from(sizes.create_files)),
    ];
    for (family, amount) in whole {
        let share = tempfile::tempdir().expect("a folder");
        let _ground = ground(family, share.path());
        let (_, reports) = outcomes(&job(family, share.path()));
        for workload in family.workloads() {
            let amount = match workload.name {
                "create-16" => 16 * u64::from(sizes.create_thread_files),
                _ => amount,
            };
            let last = reports.iter().rev().find_map(|report| match report {
                Report::Point {
                    workload: name,
                    amount,
                    ..
                } if name == workload.name => Some(*amount),
                _ => None,
            });
            assert_eq!(last, Some(stage::float(amount)), "{}", workload.name);
        }
    }
}

#[test]
fn what_is_written_is_there() {
    let share = tempfile::tempdir().expect("a folder");
    let job = job(Family::Write, share.path());
    fs::create_dir(share.path().join("r0")).expect("a folder");
    outcomes(&job);
    let written = fs::read(job.folder.join("large")).expect("what was written");
    assert_eq!(written.len() as u64, job.sizes.write_file_bytes);
}

#[test]
fn whoever_has_no_time_says_how_far_it_came() {
    for family in &Family::ALL[1..] {
        let share = tempfile::tempdir().expect("a folder");
        let _ground = ground(*family, share.path());
        let mut job = job(*family, share.path());
        job.deadline = Duration::ZERO;
        let (outcomes, _) = outcomes(&job);
        for outcome in outcomes {
            let name = outcome.workload.name;
            assert_eq!(outcome.state, State::Timeout, "{name}");
            assert!(outcome.samples.is_empty(), "{name}: nothing was measured");
            let reason = outcome.reason.expect("a reason");
            assert!(reason.starts_with("not begun"), "{name}: {reason}");
        }
    }
}

#[test]
fn a_file_that_is_missing_is_a_failure_with_its_reason() {
    for family in &Family::ALL[1..] {
        if family.writes() {
            continue;
        }
        let share = tempfile::tempdir().expect("a folder");
        let (outcomes, _) = outcomes(&job(*family, share.path()));
        let first = &outcomes[0];
        assert_eq!(first.state, State::Failed, "{family:?}");
        let reason = first.reason.as_deref().expect("a reason");
        assert!(reason.contains("No such file"), "{family:?}: {reason}");
        for later in &outcomes[1..] {
            assert_eq!(later.state, State::Failed);
            let reason = later.reason.as_deref().expect("a reason");
            assert_eq!(
                reason,
                format!("not tried, since {} failed", first.workload.name)
            );
        }
    }
}

#[test]
fn a_listing_that_lacks_entries_is_a_failure() {
    let share = tempfile::tempdir().expect("a folder");
    let _ground = ground(Family::Readdir, share.path());
    let job = job(Family::Readdir, share.path());
    fs::remove_file(job.folder.join("names-00001/e0003")).expect("removed");
    let (outcomes, _) = outcomes(&job);
    assert_eq!(outcomes[0].state, State::Failed);
    assert_eq!(outcomes[0].samples.len(), 1, "the listing before it counts");
}

fn point(workload: &str, seconds: f64, amount: f64) -> Report {
    Report::Point {
        workload: workload.to_owned(),
        seconds,
        amount,
    }
}

#[test]
fn a_rate_is_what_was_done_until_the_end_even_of_one_that_hung() {
    let job = job(Family::SeqRead, Path::new("/"));
    let mut tally = Tally::new(&job);
    tally.add(point("seq-read-cold", 1.0, 4e6));
    tally.add(point("seq-read-cold", 2.0, 8e6));
    tally.add(Report::Done {
        workload: "seq-read-cold".into(),
    });
    tally.add(point("seq-read-again", 2.0, 8e6));
    tally.add(Report::Timeout {
        workload: "seq-read-again".into(),
        seconds: 4.0,
        fraction: 0.379,
    });
    tally.add(point("seq-read-dropped", 1.0, 1e6));
    assert!((tally.fraction() - 2.0 / 3.0).abs() < 1e-9);
    tally.killed(std::time::Instant::now() + Duration::from_secs(99));
    let rows = tally.outcomes();
    assert_eq!(rows[0].samples, [4.0]);
    assert_eq!(rows[0].timeline, [(1.0, 4e6), (2.0, 8e6)]);
    assert_eq!(rows[1].samples, [2.0]);
    let reason = rows[1].reason.as_deref();
    assert_eq!(reason, Some("timed out after 4.0 s at 37 %"));
    assert_eq!(rows[2].state, State::Timeout);
    assert!((rows[2].samples[0] - 0.01).abs() < 0.001, "{:?}", rows[2]);
    let reason = rows[2].reason.as_deref();
    assert_eq!(reason, Some("timed out after 100 s at 0 %"));
}

#[test]
fn frames_that_were_never_shown_are_late() {
    let job = job(Family::Scrub, Path::new("/"));
    let mut tally = Tally::new(&job);
    tally.add(point("scrub", 1.0, 4.0));
    tally.killed(std::time::Instant::now());
    assert_eq!(tally.outcomes()[0].samples, [2.0], "of six frames");
}

#[test]
fn names_of_families_are_the_same_everywhere() {
    for family in Family::ALL {
        let json = serde_json::to_string(&family).expect("json");
        assert_eq!(json, format!("\"{}\"", family.name()));
        assert!(family.workloads().count() > 0);
    }
}

#[test]
fn a_job_and_its_reports_survive_their_way() {
    let job = job(Family::Walk, Path::new("/mnt"));
    let json = serde_json::to_vec(&job).expect("json");
    assert_eq!(serde_json::from_slice::<Job>(&json).expect("a job"), job);
    let report = point("walk-cold", 1.5, 3.0);
    let json = serde_json::to_string(&report).expect("json");
    assert_eq!(
        json,
        r#"{"point":{"workload":"walk-cold","seconds":1.5,"amount":3.0}}"#
    );
    assert_eq!(
        serde_json::from_str::<Report>(&json).expect("a report"),
        report
    );
}

#[test]
fn what_an_earlier_turn_left_is_not_fresh() {
    let share = tempfile::tempdir().expect("a folder");
    let _ground = ground(Family::Fresh, share.path());
    let mut job = job(Family::Fresh, share.path());
    outcomes(&job);
    // A mount that hears of nothing.
    let deaf = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(&job.origin).expect("files") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name");
        fs::copy(&path, deaf.path().join(name)).expect("a copy");
    }
    job.folder = deaf.path().to_owned();
    job.deadline = Duration::from_millis(50);
    for outcome in outcomes(&job).0 {
        assert_eq!(outcome.state, State::Timeout, "{}", outcome.workload.name);
        assert!(outcome.samples.is_empty(), "{}", outcome.workload.name);
    }
}
