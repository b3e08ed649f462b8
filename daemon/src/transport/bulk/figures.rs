//! What the sender of a bulk transfer knows of the path.

use super::super::tuning::SteadyController;
use parking_lot::Mutex;
use quinn::Connection;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Most samples kept of one connection; what comes later is not looked at.
const SAMPLES_MAX: usize = 8000;

/// The sender's side of a transfer, over the life of its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SenderFigures {
    /// The congestion controller.
    pub controller: String,
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// QUIC packets sent.
    pub sent_packets: u64,
    /// Bytes of packets taken for lost, and so sent again.
    pub lost_bytes: u64,
    /// Packets taken for lost.
    pub lost_packets: u64,
    /// Times that a batch of packets was taken for lost.
    pub congestion_events: u64,
    /// Lowest round-trip time.
    pub min_rtt_us: u64,
    /// Smoothed round-trip time now.
    pub rtt_us: u64,
    /// Congestion window now.
    pub window_bytes: u64,
    /// UDP payload size of the path.
    pub mtu_bytes: u64,
    /// The path while the transfer ran.
    pub samples: Vec<SenderSample>,
}

/// A moment of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SenderSample {
    /// Since the transfer began.
    pub at_ms: u64,
    /// Smoothed round-trip time.
    pub rtt_us: u64,
    /// Congestion window.
    pub window_bytes: u64,
    /// Packets taken for lost so far.
    pub lost_packets: u64,
}

/// Samples of one connection.
#[derive(Default)]
pub(super) struct Samples {
    taken: Mutex<Vec<SenderSample>>,
}

impl Samples {
    /// Looks at the path until dropped.
    pub(super) async fn take(&self, connection: &Connection, interval: Duration) {
        let begun = Instant::now();
        self.taken.lock().clear();
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        for _ in 0..SAMPLES_MAX {
            tick.tick().await;
            let path = connection.stats().path;
            self.taken.lock().push(SenderSample {
                at_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                rtt_us: micros(path.rtt),
                window_bytes: path.cwnd,
                lost_packets: path.lost_packets,
            });
        }
        std::future::pending().await
    }

    /// The figures now.
    pub(super) fn figures(&self, connection: &Connection) -> SenderFigures {
        let stats = connection.stats();
        let ours = connection
            .congestion_state()
            .into_any()
            .is::<SteadyController>();
        SenderFigures {
            controller: if ours { "steady" } else { "other" }.to_owned(),
            sent_bytes: stats.udp_tx.bytes,
            sent_packets: stats.path.sent_packets,
            lost_bytes: stats.path.lost_bytes,
            lost_packets: stats.path.lost_packets,
            congestion_events: stats.path.congestion_events,
            min_rtt_us: micros(stats.path.min_rtt),
            rtt_us: micros(stats.path.rtt),
            window_bytes: stats.path.cwnd,
            mtu_bytes: stats.path.current_mtu.into(),
            samples: self.taken.lock().clone(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
