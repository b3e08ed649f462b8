//! Tests of how much of everything a run does.

use super::*;
use crate::files::Ground;
use crate::workload::Family;

const MODES: [Mode; 3] = [Mode::Quick, Mode::Standard, Mode::Full];

/// The profiles, and what lies beyond them on both sides.
fn links() -> Vec<(Option<f64>, Duration)> {
    let ms = Duration::from_millis;
    vec![
        (None, ms(0)),
        (Some(100_000.0), ms(0)),
        (Some(1000.0), ms(1)),
        (Some(100.0), ms(50)),
        (Some(10.0), ms(150)),
        (Some(1.0), ms(300)),
        (Some(0.05), ms(5000)),
    ]
}

#[test]
fn sizes_are_within_their_limits_on_any_link() {
    for mode in MODES {
        let seq_max = if mode == Mode::Quick { 256 } else { 1024 } * MIB;
        for (rate, rtt) in links() {
            let sizes = Sizes::of(mode, rate, rtt);
            assert!((256 * KIB..=seq_max).contains(&sizes.seq_file_bytes));
            assert!(sizes.rounds * sizes.latency_samples >= 10);
            assert!(sizes.latency_samples <= 100);
            assert!((1..=sizes.latency_samples).contains(&sizes.warm_files));
            assert!(
                sizes.first_byte_file_bytes >= FIRST_BYTES as u64,
                "all of it is read"
            );
            assert!((KIB..=MIB).contains(&sizes.frame_bytes));
            assert!((200..=10_000).contains(&sizes.walk_files));
            assert!((20..=10_000).contains(&sizes.small_serial_files));
            assert!((50..=10_000).contains(&sizes.small_parallel_files));
            assert!((10..=1000).contains(&sizes.create_files));
            assert!((5..=250).contains(&sizes.create_thread_files));
            assert!(sizes.write_file_bytes <= sizes.seq_file_bytes);
            assert!((3..=10).contains(&sizes.readdir_samples));
            assert_eq!(sizes.readdir_entries, 1000);
            let slots = sizes.random_file_bytes / RANDOM_SLOT_BYTES;
            assert_eq!(u64::from(sizes.random_reads), slots);
            let bytes = Ground::bytes(&Family::ALL, &sizes);
            assert!(bytes < 5 << 30, "{mode:?} {rate:?}: {bytes}");
        }
    }
}

#[test]
fn a_better_link_and_a_more_thorough_run_never_do_less() {
    let amounts = |sizes: &Sizes| {
        [
            sizes.seq_file_bytes,
            sizes.parallel_file_bytes,
            sizes.walk_files.into(),
            sizes.small_serial_files.into(),
            sizes.small_parallel_files.into(),
            sizes.write_file_bytes,
            sizes.create_thread_files.into(),
            sizes.frame_bytes,
            sizes.frames(),
            u64::from(sizes.rounds * sizes.latency_samples),
        ]
    };
    let no_less = |more: &Sizes, less: &Sizes| {
        let pairs = amounts(more).into_iter().zip(amounts(less));
        pairs.into_iter().all(|(more, less)| more >= less)
    };
    for mode in MODES {
        let all: Vec<Sizes> = links()
            .iter()
            .map(|(r, t)| Sizes::of(mode, *r, *t))
            .collect();
        for pair in all.windows(2) {
            assert!(no_less(&pair[0], &pair[1]), "{pair:#?}");
        }
    }
    for (rate, rtt) in links() {
        let all = MODES.map(|mode| Sizes::of(mode, rate, rtt));
        for pair in all.windows(2) {
            assert!(no_less(&pair[1], &pair[0]), "{pair:#?}");
        }
    }
}

#[test]
fn a_video_takes_two_fifths_of_its_link() {
    for (rate, rtt) in &links()[2..6] {
        let rate = rate.expect("a rate");
        let sizes = Sizes::of(Mode::Standard, Some(rate), *rtt);
        let per_second = u32::try_from(sizes.frame_bytes).expect("small") * FRAMES_PER_SECOND * 8;
        let share = f64::from(per_second) / (rate * 1e6);
        // A frame is at most 1 MiB, and whole KiB.
        assert!((0.19..=0.41).contains(&share), "{rate}: {share}");
    }
}

#[test]
fn a_good_peer_reads_a_large_file_in_the_time_meant_for_it() {
    for (mode, seconds) in [
        (Mode::Quick, 3.0),
        (Mode::Standard, 20.0),
        (Mode::Full, 25.0),
    ] {
        let sizes = Sizes::of(mode, Some(10.0), Duration::from_millis(150));
        let kib = u32::try_from(sizes.seq_file_bytes / KIB).expect("small");
        let took = f64::from(kib) * 1024.0 * 8.0 / 10e6;
        assert!((took - seconds).abs() < 0.01, "{took}");
    }
}
