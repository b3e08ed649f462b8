//! Every number of the transport that was tuned rather than given, with its reason.
//!
//! Measured: 4 MB socket buffers lose no packet where the default loses hundreds a run; AES-128-GCM
//! beats AES-256 and ChaCha20 on processors with AES-NI; a larger MTU is the largest gain where the
//! path has one; larger windows than the path holds only add queueing.

mod controller;

pub use controller::{SteadyConfig, SteadyController};

use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::sync::Arc;
use std::time::Duration;
use wormhole_protocol::limits::SESSION_REQUESTS_MAX;

/// Kernel buffers of each socket.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Largest UDP payload that is probed for; most paths end the probing at 1452 or 1472.
pub const MTU_BYTES_MAX: u16 = 6500;
/// Segments the kernel is given at once (UDP GSO).
const GSO_SEGMENTS: u32 = 10;
// A batch above 64 KiB fails with EMSGSIZE, which quinn-udp takes for a lost packet: the MTU would
// collapse to the minimum.
const _: () = assert!(MTU_BYTES_MAX as u32 * GSO_SEGMENTS < 65_507);

/// Bytes a mount lets a host have in flight: 1 Gbit/s at 150 ms is 18 MB.
const MOUNT_RECEIVE_BYTES: u32 = 32 * 1024 * 1024;
/// The same for one stream: one long read may use it all but a reserve for others.
const MOUNT_STREAM_BYTES: u32 = 24 * 1024 * 1024;
/// Bytes a host keeps unacknowledged for one mount.
const HOST_SEND_BYTES: u64 = 24 * 1024 * 1024;
/// What a host buffers for a peer that was not let in yet: a hello is smaller.
const HOST_KNOCKING_BYTES: u32 = 32 * 1024;
/// For a mount that only reads: requests are small, nobody needs to send a host more at once.
const HOST_READER_BYTES: u32 = 1024 * 1024;
/// For a mount that writes: 1 Gbit/s at 150 ms is 18 MB.
const HOST_WRITER_BYTES: u32 = 32 * 1024 * 1024;
/// For one stream: more than a segment of the size mounts send, so that none waits a round trip for leave to
/// send its rest.
const HOST_STREAM_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes behind requests that a mount has under way at once. Less than the host lets it: were the connection's
/// window full of bodies for which the host has no room yet, those it waits for could not come.
pub(super) const BODY_BYTES_MAX: usize = 28 * 1024 * 1024;
const _: () = assert!(BODY_BYTES_MAX + 2 * 1024 * 1024 <= HOST_WRITER_BYTES as usize);

/// A peer that says nothing for so long is gone. A host stopped for 5 s survives.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(12);
/// Keeps NAT bindings alive and notices a dead peer.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Taken for the round-trip time before it is known: a lost handshake packet is sent again after three of
/// these. RFC 9002 says a third of a second; on a longer path than this one more packet is wasted.
const INITIAL_RTT: Duration = Duration::from_millis(150);

/// Room for received datagrams, which are empty and are never read.
const DATAGRAM_BYTES: usize = 64;
/// A packet is lost when one sent so many later has arrived (RFC 9002 says three), or an eighth of a
/// round trip later. Three is too few where packets overtake each other: a few milliseconds of jitter
/// made a tenth of all packets be sent twice. Time tells better (RFC 8985).
const PACKET_THRESHOLD: u32 = 32;

/// How a host sends and receives.
pub fn host_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config
        // One stream for the hello; more after the mount was let in.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .receive_window(VarInt::from_u32(HOST_KNOCKING_BYTES))
        .stream_receive_window(VarInt::from_u32(HOST_STREAM_BYTES))
        .send_window(HOST_SEND_BYTES);
    Arc::new(config)
}

/// How a mount sends and receives.
pub fn mount_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(MOUNT_RECEIVE_BYTES))
        .stream_receive_window(VarInt::from_u32(MOUNT_STREAM_BYTES))
        .send_window(u64::from(HOST_WRITER_BYTES))
        // Bodies go one after the other: a host that gets a body's packets in a row takes them together, and has
        // the first one whole while the others are on their way.
        .send_fairness(false)
        .keep_alive_interval(Some(KEEP_ALIVE));
    Arc::new(config)
}

/// Streams a mount may open once it was let in.
pub fn admitted_streams() -> VarInt {
    VarInt::from_u32(SESSION_REQUESTS_MAX)
}

/// Bytes a host buffers for a mount once it was let in.
pub fn admitted_bytes(writes: bool) -> VarInt {
    VarInt::from_u32(if writes {
        HOST_WRITER_BYTES
    } else {
        HOST_READER_BYTES
    })
}

/// Between the last packet of a question or an answer and the one that follows it (see `transport::tail`):
/// long enough to travel on its own, short beside the round trip.
pub fn tail_delay(rtt: Duration) -> Duration {
    (rtt / 16).clamp(Duration::from_millis(2), Duration::from_millis(20))
}

fn common() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_BYTES_MAX);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(
            u32::try_from(IDLE_TIMEOUT.as_millis()).unwrap_or(12_000),
        ))))
        .mtu_discovery_config(Some(mtu))
        .initial_rtt(INITIAL_RTT)
        .packet_threshold(PACKET_THRESHOLD)
        .congestion_controller_factory(Arc::new(SteadyConfig))
        .ack_frequency_config(None::<AckFrequencyConfig>);
    config
}
