//! Connections that share a link: whoever came first, none has less than a quarter.

use super::link::{Way, way};
use super::world::{Flow, World};

/// The second flow joins here, and shares count from [`JUDGED`] on.
const JOINS: f64 = 5.0;
const JUDGED: f64 = 10.0;

/// Starts a flow; its place.
type Start = fn(&mut World) -> usize;

fn run(way: Way, secs: f64, seed: u64, starts: [Start; 2]) -> Vec<Flow> {
    let mut world = World::new(way, seed);
    let mut flows = vec![Flow::default(), Flow::default()];
    let first = starts[0](&mut world);
    world.run(JOINS, &[first], &mut flows[..1]);
    let second = starts[1](&mut world);
    world.run(secs, &[first, second], &mut flows);
    let share = |flow: &Flow| flow.mbit(JUDGED, secs) * 1e6 / way.bits_per_sec;
    let shares: Vec<f64> = flows.iter().map(share).collect();
    assert!(
        shares.iter().all(|share| *share >= 0.25),
        "{way:?}, seed {seed}: {shares:?}"
    );
    flows
}

/// `waiting` bounds the smoothed round-trip time of the first over the path's own.
fn ours_and_ours(way: Way, secs: f64, seeds: u64, waiting: f64) {
    for seed in 1..=seeds {
        let flows = run(way, secs, seed, [World::fetch, World::fetch]);
        let rtt = flows[0].rtt_mean(JUDGED) / (2.0 * way.delay.as_secs_f64());
        let waiting = waiting + way.machines();
        assert!(rtt <= waiting, "{way:?}, seed {seed}: rtt {rtt}");
    }
}

#[test]
fn ours_and_ours_on_a_clean_line() {
    ours_and_ours(way(20.0, 50, 0.0), 30.0, 10, 1.5);
}

#[test]
fn ours_and_ours_on_a_poor_line() {
    ours_and_ours(way(10.0, 150, 0.01), 40.0, 20, 1.5);
}

#[test]
fn ours_and_ours_on_a_bad_line() {
    // Thirteen packets each: what each keeps to spare is felt.
    ours_and_ours(way(1.0, 300, 0.05), 90.0, 20, 1.85);
}

#[test]
fn ours_and_ours_at_hand() {
    ours_and_ours(way(50.0, 4, 0.0), 25.0, 2, 2.0);
}

#[test]
fn ours_and_tcp_cubic() {
    let orders: [[Start; 2]; 2] = [[World::fetch, World::tcp], [World::tcp, World::fetch]];
    for order in orders {
        run(way(100.0, 50, 0.0), 30.0, 1, order);
        run(way(20.0, 50, 0.0), 40.0, 1, order);
        run(way(20.0, 20, 0.0), 40.0, 1, order);
        run(way(5.0, 100, 0.0), 60.0, 1, order);
    }
}
