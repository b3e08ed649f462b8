//! A TCP flow with Cubic, as far as sharing a link with it goes: endless data, an acknowledgement for
//! each segment, losses found by three later acknowledgements (SACK), HyStart's delay signal
//! (RFC 9406, RFC 9438). What it resends counts as new: only its share matters here.

use std::collections::BTreeMap;

/// Payload bytes of a segment, beside 28 + 24 of headers.
pub(crate) const SEGMENT_BYTES: usize = 1448;
const C: f64 = 0.4;
const BETA: f64 = 0.7;

pub(crate) struct Cubic {
    window: f64,
    threshold: f64,
    most: f64,
    epoch: Option<f64>,
    next: u64,
    in_flight: BTreeMap<u64, f64>,
    recover: u64,
    min_rtt: f64,
    round_end: u64,
    round_rtt: f64,
    last_ack: f64,
    pub(crate) delivered: u64,
}

impl Cubic {
    pub(crate) fn new(now: f64) -> Self {
        Self {
            window: 10.0,
            threshold: f64::INFINITY,
            most: 0.0,
            epoch: None,
            next: 0,
            in_flight: BTreeMap::new(),
            recover: 0,
            min_rtt: f64::INFINITY,
            round_end: 0,
            round_rtt: f64::INFINITY,
            last_ack: now,
            delivered: 0,
        }
    }

    /// The numbers of the segments to send now.
    pub(crate) fn send(&mut self, now: f64) -> Vec<u64> {
        if now - self.last_ack > 1.0 {
            // Timeout: everything is gone.
            self.in_flight.clear();
            self.threshold = (self.window / 2.0).max(2.0);
            self.window = 1.0;
            self.epoch = None;
            self.last_ack = now;
        }
        let mut sent = Vec::new();
        while (self.in_flight.len() as f64) < self.window {
            self.in_flight.insert(self.next, now);
            sent.push(self.next);
            self.next += 1;
        }
        sent
    }

    /// The segment `number` has arrived at the other end.
    pub(crate) fn acked(&mut self, now: f64, number: u64) {
        let Some(sent) = self.in_flight.remove(&number) else {
            return;
        };
        self.last_ack = now;
        self.delivered += SEGMENT_BYTES as u64;
        let rtt = now - sent;
        self.min_rtt = self.min_rtt.min(rtt);
        self.round_rtt = self.round_rtt.min(rtt);
        if number >= self.round_end {
            let leeway = (self.min_rtt / 8.0).clamp(0.004, 0.016);
            if self.window < self.threshold && self.round_rtt > self.min_rtt + leeway {
                self.threshold = self.window;
            }
            self.round_end = self.next;
            self.round_rtt = f64::INFINITY;
        }
        self.grow(now);
        let lost: Vec<u64> = self
            .in_flight
            .range(..number.saturating_sub(2))
            .map(|(n, _)| *n)
            .collect();
        for n in lost {
            self.in_flight.remove(&n);
            if n >= self.recover {
                self.recover = self.next;
                self.most = self.window;
                self.window = (self.window * BETA).max(2.0);
                self.threshold = self.window;
                self.epoch = None;
            }
        }
    }

    fn grow(&mut self, now: f64) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let began = *self.epoch.get_or_insert(now);
        let most = self.most.max(self.window);
        let k = ((most * (1.0 - BETA)) / C).cbrt();
        let t = now - began + self.min_rtt;
        let cubic = C * (t - k).powi(3) + most;
        let reno = most * BETA + 3.0 * (1.0 - BETA) / (1.0 + BETA) * (now - began) / self.min_rtt;
        let target = cubic.max(reno).min(1.5 * self.window);
        if target > self.window {
            self.window += (target - self.window) / self.window;
        } else {
            self.window += 0.01 / self.window;
        }
    }
}
