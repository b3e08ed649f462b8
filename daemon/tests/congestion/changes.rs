//! Paths that change, and processors that are late.

use super::link::way;
use super::quic::Task;
use super::world::{Flow, World};
use std::time::Duration;

#[test]
fn a_link_that_slows_down_is_followed() {
    for seed in 1..=3 {
        let fast = way(20.0, 60, 0.001);
        let mut world = World::new(fast, seed);
        let mount = world.fetch();
        let mut flows = vec![Flow::default()];
        world.run(10.0, &[mount], &mut flows);
        world.down.way.bits_per_sec /= 4.0;
        world.run(25.0, &[mount], &mut flows);
        let share = flows[0].mbit(14.0, 25.0) / 5.0;
        let rtt = flows[0].rtt_mean(14.0) / 0.06;
        assert!(share > 0.85, "seed {seed}: share {share}");
        assert!(rtt < 1.5, "seed {seed}: rtt {rtt}");
    }
}

#[test]
fn a_link_that_speeds_up_is_followed() {
    for seed in 1..=3 {
        let mut world = World::new(way(5.0, 60, 0.001), seed);
        let mount = world.fetch();
        let mut flows = vec![Flow::default()];
        world.run(10.0, &[mount], &mut flows);
        world.down.way.bits_per_sec *= 4.0;
        world.run(25.0, &[mount], &mut flows);
        let share = flows[0].mbit(13.0, 25.0) / 20.0;
        assert!(share > 0.85, "seed {seed}: share {share}");
    }
}

#[test]
fn a_path_that_becomes_longer_is_followed() {
    for seed in 1..=3 {
        let mut world = World::new(way(20.0, 40, 0.001), seed);
        let mount = world.fetch();
        let mut flows = vec![Flow::default()];
        world.run(10.0, &[mount], &mut flows);
        world.down.way.delay *= 3;
        world.up.way.delay *= 3;
        world.down.way.queue_bytes *= 3.0;
        world.run(40.0, &[mount], &mut flows);
        let share = flows[0].mbit(14.0, 40.0) / 20.0;
        let rtt = flows[0].rtt_mean(25.0) / 0.12;
        assert!(share > 0.85, "seed {seed}: share {share}");
        assert!(rtt < 1.5, "seed {seed}: rtt {rtt}");
    }
}

#[test]
fn packets_that_overtake_each_other_cost_little() {
    for seed in 1..=3 {
        let mut line = way(20.0, 50, 0.001);
        line.late = (0.25, Duration::from_millis(4));
        let mut world = World::new(line, seed);
        let mount = world.fetch();
        let mut flows = vec![Flow::default()];
        world.run(20.0, &[mount], &mut flows);
        let share = flows[0].mbit(world.begun(mount), 20.0) / 20.0;
        let stats = world.host(mount).connection().unwrap().stats();
        let lost = stats.path.lost_bytes as f64 / stats.udp_tx.bytes as f64;
        assert!(share > 0.85, "seed {seed}: share {share}");
        assert!(lost < 0.051, "seed {seed}: lost {lost}");
    }
}

#[test]
fn a_host_without_processor_time_keeps_going() {
    let links = [
        (10.0, 150, 0.01),
        (20.0, 60, 0.005),
        (100.0, 50, 0.002),
        (1000.0, 1, 0.0003),
    ];
    for (mbit, rtt, quantum) in links {
        let mut world = World::new(way(mbit, rtt, 0.0), 1);
        world.starved = Some(quantum);
        let mount = world.fetch();
        let mut flows = vec![Flow::default()];
        let secs = if mbit > 500.0 { 1.5 } else { 10.0 };
        world.run(secs, &[mount], &mut flows);
        let share = flows[0].mbit(secs / 5.0, secs) / mbit;
        let stats = world.host(mount).connection().unwrap().stats();
        let lost = stats.path.lost_bytes as f64 / stats.udp_tx.bytes as f64;
        assert!(share > 0.85, "{mbit} Mbit/s, {rtt} ms: share {share}");
        assert!(lost < 0.05, "{mbit} Mbit/s, {rtt} ms: lost {lost}");
    }
}

#[test]
fn a_pause_costs_neither_the_estimate_nor_a_burst() {
    for seed in 1..=3 {
        let mut world = World::new(way(20.0, 100, 0.001), seed);
        let mount = world.fetch();
        let mut flows = vec![Flow::default()];
        world.run(4.0, &[mount], &mut flows);
        let drops = world.down.queue_drops;
        for pause in 0..5 {
            let from = 4.0 + 6.0 * f64::from(pause);
            world.resting = true;
            world.run(from + 4.0, &[mount], &mut flows);
            world.resting = false;
            world.run(from + 6.0, &[mount], &mut flows);
            // What was still to be sent when the pause began is long gone; a round trip and a half pass
            // before what is sent at its end arrives in full flow.
            let share = flows[0].mbit(from + 4.3, from + 6.0) / 20.0;
            assert!(share > 0.8, "seed {seed}, pause {pause}: share {share}");
        }
        assert!(
            world.down.queue_drops - drops < 20,
            "{}",
            world.down.queue_drops - drops
        );
    }
}

/// 95th percentile of 200 exchanges, in round trips.
fn exchanges(mbit: f64, rtt_ms: u64, loss: f64, seed: u64) -> (f64, f64) {
    let mut world = World::new(way(mbit, rtt_ms, loss), seed);
    let rtt = Duration::from_millis(rtt_ms);
    let mount = world.ask(rtt);
    let mut flows = vec![Flow::default()];
    world.run(650.0 * rtt.as_secs_f64(), &[mount], &mut flows);
    let Task::Ask(ask) = world.task(mount) else {
        panic!("no exchanges");
    };
    let mut took: Vec<f64> = ask
        .took
        .iter()
        .map(|t| t.as_secs_f64() / rtt.as_secs_f64())
        .collect();
    assert!(took.len() >= 200, "{} exchanges", took.len());
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 95 / 100])
}

#[test]
fn an_answer_is_there_within_three_round_trips() {
    for (mbit, rtt, loss) in [(10.0, 150, 0.01), (1.0, 300, 0.05)] {
        for seed in 1..=20 {
            let (p50, p95) = exchanges(mbit, rtt, loss, seed);
            assert!(p50 < 1.3, "{mbit} Mbit/s, seed {seed}: p50 {p50}");
            assert!(p95 < 3.0, "{mbit} Mbit/s, seed {seed}: p95 {p95}");
        }
    }
}
