//! Verdicts: sure of what is there, silent about what is chance.

use super::slowdown::Slowdown;
use super::*;
use crate::record::Better;
use crate::report::sample;

fn entry(unit: &str, better: Better, samples: &[f64]) -> Entry {
    let mut entry = sample::wan_poor().results[0].clone();
    entry.unit = unit.to_owned();
    entry.better = better;
    entry.samples = samples.to_vec();
    sample::summarise(&mut entry);
    entry
}

fn between(unit: &str, better: Better, old: &[f64], new: &[f64]) -> Slowdown {
    let (old, new) = (entry(unit, better, old), entry(unit, better, new));
    Slowdown::between(&old, &new).expect("samples")
}

#[test]
fn an_interval_holds_the_truth_and_is_the_same_each_time() {
    let old: Vec<f64> = (0..30).map(|n| 100.0 + f64::from(n % 7)).collect();
    let new: Vec<f64> = old.iter().map(|ms| ms * 2.0).collect();
    let slowdown = between("ms", Better::Lower, &old, &new);
    assert!((slowdown.estimate - 2.0).abs() < 0.01, "{slowdown:?}");
    assert!(slowdown.low > 1.8 && slowdown.low < 2.0);
    assert!(slowdown.high > 2.0 && slowdown.high < 2.2);
    assert_eq!(slowdown, between("ms", Better::Lower, &old, &new));
    let back = between("ms", Better::Lower, &new, &old);
    assert!(back.high < 0.6 && back.low > 0.4);
}

#[test]
fn a_rate_that_halves_is_twice_as_slow() {
    let slowdown = between("MB/s", Better::Higher, &[10.0, 10.1, 9.9], &[5.0, 5.1, 4.9]);
    assert!(slowdown.low > 1.8 && slowdown.high < 2.2, "{slowdown:?}");
}

#[test]
fn three_samples_are_only_sure_where_they_do_not_overlap() {
    let apart = between(
        "IOPS",
        Better::Higher,
        &[100.0, 110.0, 90.0],
        &[60.0, 62.0, 64.0],
    );
    assert!(apart.low > 1.0, "{apart:?}");
    let mixed = between(
        "IOPS",
        Better::Higher,
        &[100.0, 110.0, 60.0],
        &[62.0, 95.0, 64.0],
    );
    assert!(mixed.low < 1.0 && mixed.high > 1.0, "{mixed:?}");
}

#[test]
fn few_samples_are_judged_by_their_extremes_and_one_by_less() {
    let two = between("MB/s", Better::Higher, &[10.0, 8.0], &[5.0, 4.0]);
    assert!(
        (two.low - 8.0 / 5.0).abs() < 1e-9,
        "worst then, best now: {two:?}"
    );
    let one = between("MB/s", Better::Higher, &[10.0], &[5.0]);
    assert!((one.low - 2.0 / slowdown::ALONE).abs() < 1e-9, "{one:?}");
    let same = between("MB/s", Better::Higher, &[10.0], &[9.0]);
    assert!(same.low < 1.0 && same.high > 1.0);
}

#[test]
fn what_is_tiny_is_not_trusted() {
    let fast = between("ms", Better::Lower, &[0.002; 20], &[0.004; 20]);
    assert!(fast.low < 1.0, "{fast:?}");
    let late = between("frames", Better::Lower, &[0.0; 3], &[1.0; 3]);
    assert!(late.low < 1.0, "{late:?}");
    let very_late = between("frames", Better::Lower, &[0.0; 3], &[200.0; 3]);
    assert!(very_late.low > 5.0, "{very_late:?}");
}

#[test]
fn numbers_that_say_nothing_are_left_out() {
    let (none, some) = (
        entry("MB/s", Better::Higher, &[0.0]),
        entry("MB/s", Better::Higher, &[1.0]),
    );
    assert_eq!(Slowdown::between(&none, &some), None);
    let many: Vec<f64> = (1..10_000).map(f64::from).collect();
    let slowdown = between("ms", Better::Lower, &many, &many);
    assert!((slowdown.estimate - 1.0).abs() < 1e-9);
}

#[test]
fn a_mean_is_surer_than_its_parts() {
    let noisy = |times: f64| -> Vec<f64> { [60.0, 100.0, 160.0].map(|ms| ms * times).to_vec() };
    let single = between("ms", Better::Lower, &noisy(1.0), &noisy(2.0));
    assert!(single.low < 1.0, "{single:?}");
    let parts: Vec<Slowdown> = (0_u8..12)
        .map(|at| {
            let off = 1.0 + f64::from(at) / 50.0;
            between("ms", Better::Lower, &noisy(off), &noisy(2.0 * off))
        })
        .collect();
    let mean = Slowdown::mean(&parts.iter().collect::<Vec<_>>()).expect("parts");
    assert!((mean.estimate - 2.0).abs() < 0.01);
    assert!(mean.low > 1.25, "{} to {}", mean.low, mean.high);
    assert!(Slowdown::mean(&[]).is_none());
    assert!((mean.relieved(2.0).estimate - 1.0).abs() < 0.01);
}

#[test]
fn the_same_runs_are_within_noise() {
    let runs = sample::runs();
    let rows = rows(&runs, &runs);
    assert_eq!(
        rows.len(),
        runs.iter().map(|run| run.results.len()).sum::<usize>()
    );
    for row in rows {
        let silent = matches!(row.verdict, Verdict::Noise | Verdict::NotComparable);
        assert!(silent, "{row:?}");
        assert_eq!(row.verdict == Verdict::Noise, row.slowdown.is_some());
    }
    assert!(warnings(&runs, &runs).is_empty());
}

#[test]
fn what_finished_and_does_not_now_is_slower() {
    let old = [sample::wan_poor()];
    let mut new = old.clone();
    for state in [State::Timeout, State::Failed] {
        new[0].results[2].state = state;
        new[0].results[2].reason = Some("the mount went away".into());
        let row = &rows(&old, &new)[2];
        assert_eq!(row.verdict, Verdict::Slower);
        assert!(row.note.contains("the mount went away"));
        assert_eq!(rows(&new, &old)[2].verdict, Verdict::Faster);
    }
    new[0].results[2].state = State::Unavailable;
    assert_eq!(rows(&old, &new)[2].verdict, Verdict::NotComparable);
}

#[test]
fn other_terms_are_not_compared() {
    let old = [sample::wan_poor()];
    let mut quick = old.clone();
    quick[0].mode = crate::record::Mode::Quick;
    let mut link = old.clone();
    link[0].link.asked_rtt_ms = 80.0;
    let mut data = old.clone();
    data[0].data = crate::record::Data::Text;
    for other in [quick, link, data, [sample::wan_good()]] {
        let rows = rows(&old, &other);
        assert!(
            rows.iter()
                .all(|row| row.verdict == Verdict::NotComparable && !row.note.is_empty())
        );
    }
}

#[test]
fn another_machine_is_warned_of() {
    let old = [sample::wan_poor()];
    let mut new = old.clone();
    new[0].environment.cpu = "another".into();
    new[0].environment.cores = 64;
    new[0].link.backend = "tc".into();
    let found = warnings(&old, &new);
    for word in ["processor", "cores", "link emulation"] {
        assert!(found.iter().any(|warning| warning.contains(word)), "{word}");
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn the_text_names_every_row_and_says_what_counts() {
    let old = sample::runs();
    let new: Vec<Run> = old
        .iter()
        .map(|run| sample::again(run, 5, 3.0, |entry| entry.workload == "seq-read-cold"))
        .collect();
    let text = render(&old, &new, 120, false);
    for word in [
        "wan-good",
        "wan-poor",
        "sshfs-tuned",
        "create-fsync",
        "slower",
        "within noise",
    ] {
        assert!(text.contains(word), "{word} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
    assert!(render(&old, &new, 120, true).contains('\u{1b}'));
}
