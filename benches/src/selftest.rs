//! Is the link what it claims to be? Measured before any result is believed.
//!
//! - *Round trip*: small datagrams from mount to host and back, one at a time; the median.
//! - *Loss*: small datagrams at half the rate, both directions at once; what is missing.
//! - *Rate*: full datagrams a fifth faster than the rate, one direction after the other; what arrives
//!   is the rate, less what the link loses. Links without a rate, those too fast to flood from user
//!   space, and those on which the flood falls short are measured by a bulk TCP flow.
//!
//! Off by more than [`WARN_OFF`] is a warning in the report, by more than [`REFUSE_OFF`] no run at all.

mod flood;
mod probe;

use crate::raw;
use flood::Flood;
use std::io;
use std::time::Duration;
use wormhole_netem::{LinkEnd, Profile};

/// Round trips that are timed.
pub const PROBES: usize = 50;
/// Relative deviation that is worth a warning.
const WARN_OFF: f64 = 0.10;
/// Relative deviation that makes results worthless.
const REFUSE_OFF: f64 = 0.50;
/// What a machine adds to a round trip by itself.
const OWN_RTT_MS: f64 = 0.3;
/// Loss that is a machine's own hiccup, not a link's property.
const OWN_LOSS_PCT: f64 = 0.1;
/// Above this rate a flood of datagrams measures this machine.
const FLOOD_BITS_MAX: u64 = 300_000_000;
/// Standard deviation of a measured loss, relative to it, that is precise enough.
const LOSS_PRECISION: f64 = 0.03;
const LOSS_PACKETS_MIN: f64 = 2_000.0;
const LOSS_PACKETS_MAX: f64 = 60_000.0;
/// IP and UDP headers and a sequence number.
const SMALL_PACKET_BYTES: u32 = 36;

/// What a link does.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Median round trip.
    pub rtt_ms: f64,
    /// Rate towards the host, and towards the mount.
    pub rate_mbit: [f64; 2],
    /// Loss towards the host, and towards the mount.
    pub loss_pct: [f64; 2],
}

impl Measured {
    /// The rate of the slower direction.
    pub fn rate(&self) -> f64 {
        self.rate_mbit[0].min(self.rate_mbit[1])
    }

    /// The mean loss of both directions.
    pub fn loss(&self) -> f64 {
        f64::midpoint(self.loss_pct[0], self.loss_pct[1])
    }
}

/// How a link compares to its profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Off by more than a little.
    pub warnings: Vec<String>,
    /// Off by so much that nothing measured on it means anything.
    pub refusals: Vec<String>,
}

/// Measures the link between `host` and `mount`, the rate of each direction for `rate_time`.
///
/// # Errors
/// If sockets fail, or nothing at all gets through.
pub fn measure(
    profile: &Profile,
    host: &LinkEnd,
    mount: &LinkEnd,
    rate_time: Duration,
) -> io::Result<Measured> {
    let rtt_ms = probe::round_trip_ms(profile.rtt, host, mount)?;
    let loss_pct = loss(profile, host, mount)?;
    let rate_mbit = rate(profile, host, mount, loss_pct, rate_time)?;
    Ok(Measured {
        rtt_ms,
        rate_mbit,
        loss_pct,
    })
}

fn loss(profile: &Profile, host: &LinkEnd, mount: &LinkEnd) -> io::Result<[f64; 2]> {
    let expected = profile.mean_loss();
    let packets = match expected {
        0.0 => LOSS_PACKETS_MIN,
        p => ((1.0 - p) / (p * LOSS_PRECISION.powi(2))).clamp(LOSS_PACKETS_MIN, LOSS_PACKETS_MAX),
    };
    let rate = profile
        .rate_bits_per_sec
        .unwrap_or(10_000_000)
        .min(10_000_000);
    let flood = Flood {
        packet_bytes: SMALL_PACKET_BYTES as usize,
        bits_per_sec: rate as f64 * 0.5,
        duration: Duration::from_secs_f64(
            packets * f64::from(SMALL_PACKET_BYTES) * 8.0 / (rate as f64 * 0.5),
        ),
        patience: profile.rtt + profile.jitter + Duration::from_millis(500),
    };
    let (up, down) = std::thread::scope(|scope| {
        let up = scope.spawn(|| flood.run(mount, host));
        let down = flood.run(host, mount);
        let up = up
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (up, down)
    });
    Ok([up?.lost_pct(), down?.lost_pct()])
}

fn rate(
    profile: &Profile,
    host: &LinkEnd,
    mount: &LinkEnd,
    loss_pct: [f64; 2],
    time: Duration,
) -> io::Result<[f64; 2]> {
    let by_tcp = |from: &LinkEnd, to: &LinkEnd| {
        raw::tcp(from, to, time + profile.rtt * 20).map(|flow| flow.on_the_wire_mbit())
    };
    let each = |from: &LinkEnd, to: &LinkEnd, loss_pct: f64| match profile.rate_bits_per_sec {
        Some(rate) if rate <= FLOOD_BITS_MAX => {
            let flood = Flood {
                packet_bytes: 1500,
                bits_per_sec: rate as f64 * 1.2,
                duration: time + profile.rtt * 2,
                patience: profile.rtt + profile.jitter + Duration::from_millis(500),
            };
            let flooded = flood.run(from, to)?.rate_mbit() / (1.0 - loss_pct / 100.0);
            if flooded * 1e6 >= rate as f64 * (1.0 - WARN_OFF) {
                return Ok(flooded);
            }
            // Sending packet by packet may have been too much for the machine, not for the link.
            Ok(flooded.max(by_tcp(from, to)?))
        }
        _ => by_tcp(from, to),
    };
    Ok([
        each(mount, host, loss_pct[0])?,
        each(host, mount, loss_pct[1])?,
    ])
}

/// Compares what was measured with what was asked for.
pub fn judge(profile: &Profile, measured: &Measured) -> Judgement {
    let mut judgement = Judgement::default();
    let mut compare = |what: &str, unit: &str, asked: f64, got: f64, own: f64| {
        let off = (got - asked).abs();
        let said =
            format!("the link's {what} is {got:.3} {unit} where {asked} {unit} was asked for");
        if off > REFUSE_OFF * asked + own {
            judgement.refusals.push(said);
        } else if off > WARN_OFF * asked + own {
            judgement.warnings.push(said);
        }
    };
    let rtt_ms = profile.rtt.as_secs_f64() * 1e3;
    let jitter_ms = profile.jitter.as_secs_f64() * 1e3;
    compare(
        "round trip",
        "ms",
        rtt_ms,
        measured.rtt_ms,
        OWN_RTT_MS + jitter_ms,
    );
    for (way, rate, loss) in [
        (
            "towards the host",
            measured.rate_mbit[0],
            measured.loss_pct[0],
        ),
        (
            "towards the mount",
            measured.rate_mbit[1],
            measured.loss_pct[1],
        ),
    ] {
        if let Some(asked) = profile.rate_bits_per_sec {
            compare(
                &format!("rate {way}"),
                "Mbit/s",
                asked as f64 / 1e6,
                rate,
                0.0,
            );
        }
        let asked = profile.mean_loss() * 100.0;
        compare(&format!("loss {way}"), "%", asked, loss, OWN_LOSS_PCT);
    }
    judgement
}

#[cfg(test)]
mod tests;
