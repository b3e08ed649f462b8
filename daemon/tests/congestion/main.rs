//! The judge of congestion control: real QUIC endpoints under our settings, in virtual time over links
//! that are only computed. Loss detection, pacing and acknowledgement delays are quinn's own; only
//! sockets and clocks are not real. Minutes of many links pass in seconds, and the same seed gives the
//! same run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod changes;
mod cubic;
mod link;
mod quic;
mod sharing;
mod targets;
mod world;
