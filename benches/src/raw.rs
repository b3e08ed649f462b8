//! What the bare link gives a plain bulk transfer: the yardstick beside every throughput.
//!
//! Once over TCP, with the congestion control of the lab, and once over QUIC with Wormhole's own
//! settings, both from host to mount as a file system's reads would go.

mod quic;
mod tcp;

pub use quic::quic;
pub use tcp::tcp;

use crate::record::RawLink;
use crate::stats::median;

/// One bulk transfer.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// Payload that arrived.
    pub bytes: u64,
    /// From the first byte to the last.
    pub seconds: f64,
    /// Of a TCP flow: payload rate over the second half, when it had found its pace.
    pub steady_mbit: Option<f64>,
    /// Bytes sent again, of all sent.
    pub retransmitted_pct: Option<f64>,
    /// Smoothed round-trip time under load, at the end or the median of what was seen.
    pub loaded_rtt_ms: Option<f64>,
}

/// Payload of a full TCP segment with timestamps, and the packet it fills.
const SEGMENT_BYTES: f64 = 1448.0;
const PACKET_BYTES: f64 = 1500.0;

impl Flow {
    /// Payload rate.
    pub fn mbit(&self) -> f64 {
        self.bytes as f64 * 8e-6 / self.seconds.max(1e-9)
    }

    /// Of a TCP flow at its pace: the rate of its packets, headers included.
    pub fn on_the_wire_mbit(&self) -> f64 {
        self.steady_mbit.unwrap_or_else(|| self.mbit()) * PACKET_BYTES / SEGMENT_BYTES
    }
}

/// The row of a report for transfers over `protocol`.
pub fn summary(protocol: &str, flows: &[Flow]) -> Option<RawLink> {
    let samples_mbit: Vec<f64> = flows.iter().map(Flow::mbit).collect();
    let of = |value: fn(&Flow) -> Option<f64>| {
        let values: Vec<f64> = flows.iter().filter_map(value).collect();
        median(&values)
    };
    Some(RawLink {
        protocol: protocol.to_owned(),
        mbit: median(&samples_mbit)?,
        samples_mbit,
        retransmitted_pct: of(|flow| flow.retransmitted_pct),
        loaded_rtt_ms: of(|flow| flow.loaded_rtt_ms),
    })
}
