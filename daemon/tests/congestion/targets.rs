//! What a bulk transfer must reach on the links that results are reported for, from its start on: rate,
//! losses of our own making, and the length of the queue.

use super::link::{Way, way};
use super::world::{Flow, World};

/// Loss beyond the link's.
const OWN_LOSS: f64 = 0.05;
/// Smoothed round-trip time over the path's own, on average.
const WAITING: f64 = 1.5;

struct Outcome {
    share: f64,
    lost: f64,
    waiting: f64,
}

fn bulk(way: Way, secs: f64, seed: u64) -> Outcome {
    let mut world = World::new(way, seed);
    let mount = world.fetch();
    let mut flows = vec![Flow::default()];
    world.run(secs, &[mount], &mut flows);
    let begun = world.begun(mount);
    let stats = world.host(mount).connection().expect("one").stats();
    Outcome {
        share: flows[0].mbit(begun, secs) * 1e6 / way.bits_per_sec,
        lost: stats.path.lost_bytes as f64 / stats.udp_tx.bytes as f64,
        waiting: flows[0].rtt_mean(begun) / (2.0 * way.delay.as_secs_f64()),
    }
}

/// `share` is for the mean of all seeds, `least` for each.
fn judge(way: Way, secs: f64, seeds: u64, share: f64, least: f64) {
    let mut shares = 0.0;
    for seed in 1..=seeds {
        let out = bulk(way, secs, seed);
        assert!(out.share >= least, "seed {seed}: share {}", out.share);
        let lost_max = way.loss + OWN_LOSS;
        assert!(out.lost <= lost_max, "seed {seed}: lost {}", out.lost);
        let waiting = WAITING + way.machines();
        assert!(out.waiting <= waiting, "seed {seed}: rtt {}", out.waiting);
        shares += out.share;
    }
    let mean = shares / seeds as f64;
    assert!(mean >= share, "mean share {mean}");
}

#[test]
fn lan() {
    judge(way(1000.0, 1, 0.0), 1.5, 1, 0.9, 0.9);
}

#[test]
fn wan_good() {
    judge(way(100.0, 50, 0.0), 10.0, 2, 0.9, 0.9);
}

#[test]
fn wan_poor() {
    // A lost question costs a timeout, which is 3 % of the time.
    judge(way(10.0, 150, 0.01), 15.0, 20, 0.91, 0.89);
}

#[test]
fn wan_bad() {
    // A handshake that loses several packets leaves a host with a wrong idea of the distance for seconds.
    judge(way(1.0, 300, 0.05), 25.0, 60, 0.86, 0.77);
}
