//! A loss-tolerant congestion controller: from what was sent, acknowledged and lost, how much may be on
//! the way.
//!
//! The window follows what the path delivers, not what it loses: the highest delivery rate of late
//! times the lowest round-trip time, and a little more. Random loss, which makes Cubic fall to a tenth
//! of a link with 1 % of it, costs nothing but what is sent again. The idea is BBR's, reduced to a
//! window, since quinn's pacer derives its rate from the window (1.25 windows in a smoothed round trip).
//!
//! ```text
//!              the rate grows
//!            ┌────────────────────┐
//!            v                    │
//!   startup ──> drain ──> up ──> down ──> cruise ──┐
//!   x2 a round   until    ^     look at            │ some rounds
//!                empty    │     the queue          │
//!                         └────────────────────────┘
//! ```
//!
//! - [`rate`]: delivery rates, taken packet by packet, so that bursts of acknowledgements are no rate.
//! - [`rtt`]: the lowest round-trip time, and whether a queue stands on the path.
//! - [`loss`]: what is lost at all times, and what is lost because there was no room.
//! - [`model`]: the phases and the window, made of the three.
//!
//! Invariants
//! - Pure: instants come in, nothing asks a clock. The same calls give the same window.
//! - The window is never below [`model::WINDOW_PACKETS_MIN`] packets nor above
//!   [`model::WINDOW_BYTES_MAX`].
//! - Idleness teaches nothing: an estimate is replaced by a better or a later one, never by a pause.
//!
//! Sources: draft-ietf-ccwg-bbr (delivery rate sampling, phases, probing in turns, bounds from loss);
//! Cardwell et al., "BBR: congestion-based congestion control", ACM Queue 14(5), 2016; Arun and
//! Balakrishnan, "Copa", NSDI 2018 (telling a foreign queue from one's own by draining); RFC 9406
//! (leaving slow start when delay rises); RFC 9002 (losses, persistent congestion).
//!
//! Judged by `daemon/tests/congestion/` with quinn's real machinery in virtual time.

mod loss;
mod model;
mod rate;
mod rtt;

use model::Model;
use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Makes [`SteadyController`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct SteadyConfig;

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(SteadyController::new(now, current_mtu))
    }
}

/// The model behind quinn's interface. See the module.
#[derive(Debug, Clone)]
pub struct SteadyController {
    model: Model,
}

impl SteadyController {
    /// A controller at the start of a connection.
    pub fn new(now: Instant, mtu: u16) -> Self {
        Self {
            model: Model::new(now, mtu.into()),
        }
    }
}

impl Controller for SteadyController {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.model.sent(now, bytes);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        self.model.acked(now, sent, bytes);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        self.model.acks_ended(now, in_flight, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.model.lost(lost_bytes);
        if is_persistent_congestion {
            self.model.restart(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.model.set_mtu(new_mtu.into());
    }

    fn window(&self) -> u64 {
        self.model.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.model.window_initial()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
