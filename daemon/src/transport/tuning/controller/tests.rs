//! The controller on a simulated link: one bottleneck with a rate, a delay, a bounded queue and random
//! loss; deterministic, packet by packet.

#![expect(
    clippy::cast_possible_truncation,
    reason = "simulated times and sizes are small"
)]

use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const MTU: u64 = 1200;

struct Link {
    bytes_per_sec: f64,
    rtt: Duration,
    loss: f64,
    queue_bytes: f64,
}

struct Ran {
    /// Delivered bytes over what the link could carry in the second half of the run.
    share: f64,
    /// Mean queueing delay over the round-trip time in the second half.
    queueing: f64,
}

/// A generator good enough for loss (xorshift64*), the same every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Runs `flows` controllers over one link for `secs`.
fn run(link: &Link, flows: usize, secs: u64, idle: impl Fn(f64) -> bool) -> (Ran, Vec<f64>) {
    let start = Instant::now();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut controllers: Vec<_> = (0..flows)
        .map(|_| SteadyController::new(start, MTU as u16))
        .collect();
    let mut in_flight = vec![0u64; flows];
    let mut delivered = vec![0u64; flows];
    let mut pacer = vec![0.0f64; flows];
    let mut srtt = vec![link.rtt.as_secs_f64(); flows];
    let mut free_at = 0.0f64;
    // Ends of packets: (time in ns, flow, sent in ns, lost).
    let mut ends: BinaryHeap<Reverse<(u64, usize, u64, bool)>> = BinaryHeap::new();
    let (mut now, mut queueing, mut queued) = (0.0f64, 0.0f64, 0u64);
    let at = |secs: f64| start + Duration::from_secs_f64(secs);
    while now < secs as f64 {
        for flow in 0..flows {
            // Like quinn's pacer: a window over the smoothed round-trip time, a quarter faster.
            while in_flight[flow] + MTU <= controllers[flow].window()
                && pacer[flow] <= now
                && !idle(now)
            {
                let pace = controllers[flow].window() as f64 / srtt[flow] * 1.25;
                pacer[flow] = pacer[flow].max(now - 0.002) + MTU as f64 / pace;
                in_flight[flow] += MTU;
                let backlog = (free_at - now).max(0.0) * link.bytes_per_sec;
                let full = backlog + MTU as f64 > link.queue_bytes;
                let lost = full || dice.roll() < link.loss;
                if !full {
                    free_at = free_at.max(now) + MTU as f64 / link.bytes_per_sec;
                    if now > secs as f64 / 2.0 {
                        queueing += free_at - now;
                        queued += 1;
                    }
                }
                // A loss is noticed about a round trip later, as an acknowledgement would be.
                let end = free_at.max(now) + link.rtt.as_secs_f64();
                ends.push(Reverse((
                    (end * 1e9) as u64,
                    flow,
                    (now * 1e9) as u64,
                    lost,
                )));
            }
        }
        let next_send = (0..flows)
            .filter(|f| in_flight[*f] + MTU <= controllers[*f].window() && !idle(now))
            .map(|f| pacer[f])
            .fold(f64::INFINITY, f64::min);
        let next_end = ends
            .peek()
            .map_or(f64::INFINITY, |Reverse(e)| e.0 as f64 / 1e9);
        let next = next_send.min(next_end);
        if !next.is_finite() {
            now += 0.001;
            continue;
        }
        now = now.max(next);
        while let Some(Reverse((end, flow, sent, lost))) = ends.peek().copied() {
            if end as f64 / 1e9 > now {
                break;
            }
            ends.pop();
            in_flight[flow] -= MTU;
            let (sent, end) = (sent as f64 / 1e9, end as f64 / 1e9);
            if lost {
                controllers[flow].on_congestion_event(at(end), at(sent), false, MTU);
                continue;
            }
            let sample = end - sent;
            srtt[flow] += (sample - srtt[flow]) / 8.0;
            let limited = idle(now);
            controllers[flow].acked(
                at(end),
                at(sent),
                MTU,
                limited,
                Duration::from_secs_f64(srtt[flow]),
            );
            if end > secs as f64 / 2.0 {
                delivered[flow] += MTU;
            }
        }
    }
    let possible = link.bytes_per_sec * secs as f64 / 2.0;
    let shares: Vec<_> = delivered.iter().map(|d| *d as f64 / possible).collect();
    let ran = Ran {
        share: shares.iter().sum(),
        queueing: queueing / queued.max(1) as f64 / link.rtt.as_secs_f64(),
    };
    (ran, shares)
}

fn link(mbit: f64, rtt_ms: u64, loss: f64) -> Link {
    let bytes_per_sec = mbit * 1e6 / 8.0;
    let rtt = Duration::from_millis(rtt_ms);
    let bdp = bytes_per_sec * rtt.as_secs_f64();
    Link {
        bytes_per_sec,
        rtt,
        loss,
        queue_bytes: bdp.max(65536.0),
    }
}

#[test]
fn a_clean_link_is_filled_with_a_short_queue() {
    let (ran, _) = run(&link(100.0, 50, 0.0), 1, 30, |_| false);
    assert!(ran.share > 0.9, "share {}", ran.share);
    assert!(ran.queueing < 0.6, "queueing {}", ran.queueing);
}

#[test]
fn random_loss_hardly_costs_bandwidth() {
    for (mbit, rtt, loss) in [(10.0, 150, 0.01), (1.0, 300, 0.05), (50.0, 80, 0.001)] {
        let (ran, _) = run(&link(mbit, rtt, loss), 1, 60, |_| false);
        assert!(
            ran.share > 0.8,
            "{mbit} Mbit/s, {loss}: share {}",
            ran.share
        );
        assert!(
            ran.queueing < 1.0,
            "{mbit} Mbit/s: queueing {}",
            ran.queueing
        );
    }
}

#[test]
fn two_flows_share_and_neither_starves() {
    let (ran, shares) = run(&link(20.0, 60, 0.0), 2, 60, |_| false);
    assert!(ran.share > 0.85, "share {}", ran.share);
    assert!(shares.iter().all(|s| *s > 0.15), "{shares:?}");
}

#[test]
fn an_idle_sender_does_not_forget_the_link() {
    // Bursts of two seconds, pauses of two.
    let busy_half = |t: f64| (t as u64 / 2) % 2 == 1;
    let (ran, _) = run(&link(20.0, 100, 0.01), 1, 40, busy_half);
    assert!(ran.share > 0.35, "share {}", ran.share);
}

#[test]
fn persistent_congestion_starts_anew_with_a_small_window() {
    let now = Instant::now();
    let mut controller = SteadyController::new(now, 1200);
    controller.on_congestion_event(now, now, true, 40_000);
    assert_eq!(controller.window(), WINDOW_PACKETS_MIN * MTU);
}
