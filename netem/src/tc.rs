//! The link in the kernel: `tc` with netem and tbf.
//!
//! ```text
//!  host ── to-host ┐        middle (a namespace of its own)         ┌ to-mount ── mount
//!                  bridge ── inner-host ════════ inner-mount ── bridge
//!
//!  towards the mount: inner-host (tbf: rate, queue), then to-mount (netem: loss, delay)
//!  towards the host:  inner-mount (tbf: rate, queue), then to-host (netem: loss, delay)
//! ```
//!
//! Two disciplines on two interfaces give each direction the order of the user-space shaper: a queue
//! bounded in bytes, the rate, then loss, then delay. (netem alone counts its queue in packets, keeps
//! packets in flight in the same queue, and loses them before they have used any of the rate.)
//!
//! The ends hand over single packets: segmentation offload is off there (`gso_max_segs 1`), or a qdisc
//! would delay and lose 64 KB at once. tbf counts a frame with its 14 bytes of Ethernet header; its rate
//! is raised by as much, so that full packets get the rate the profile means.
//!
//! Sources: tc-netem(8), tc-tbf(8), ip-link(8).

use crate::lab::{INTERFACE, LabError, MTU_BYTES, run_ip as ip, run_tc};
use crate::profile::{Loss, Profile};
use std::time::Duration;

const ETHERNET_BYTES: u64 = 14;
/// Packets netem may hold; far more than any profile has in flight.
const NETEM_PACKETS: u32 = 1_000_000;
/// Time's worth of bytes that tbf may send at once: it is woken by a timer, and what it is late it must
/// make up. Never less than two packets.
const BURST: Duration = Duration::from_micros(250);

/// Sets up the namespace `middle` and the interfaces of both ends.
pub(crate) fn set_up(profile: &Profile) -> Result<(), LabError> {
    for (end, inner, peer) in [
        ("host", "inner-host", "inner-mount"),
        ("mount", "inner-mount", ""),
    ] {
        let bridge = format!("bridge-{end}");
        ip(&format!("-n middle link add {bridge} type bridge"))?;
        ip(&format!(
            "link add {INTERFACE} netns {end} mtu {MTU_BYTES} gso_max_segs 1 type veth peer name to-{end} netns middle mtu {MTU_BYTES}"
        ))?;
        if !peer.is_empty() {
            ip(&format!(
                "-n middle link add {inner} mtu {MTU_BYTES} type veth peer name {peer} mtu {MTU_BYTES}"
            ))?;
        }
        for port in [format!("to-{end}"), inner.to_owned()] {
            ip(&format!("-n middle link set {port} master {bridge} up"))?;
        }
        ip(&format!("-n middle link set {bridge} up"))?;
    }
    for end in ["host", "mount"] {
        run_tc(&format!(
            "-n middle qdisc add dev to-{end} root netem {}",
            netem(profile)
        ))
        .map_err(LabError::NoNetem)?;
        if let Some(tbf) = tbf(profile) {
            run_tc(&format!("-n middle qdisc add dev inner-{end} root {tbf}"))?;
        }
    }
    Ok(())
}

/// The arguments of netem for one direction.
fn netem(profile: &Profile) -> String {
    let mut words = format!(
        "limit {NETEM_PACKETS} delay {}us",
        profile.rtt.as_micros() / 2
    );
    if !profile.jitter.is_zero() {
        words += &format!(" {}us", profile.jitter.as_micros());
    }
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    match profile.loss {
        Loss::None => {}
        Loss::Random { ppm } => words += &format!(" loss {}%", percent(ppm)),
        Loss::Bursts {
            enter_ppm,
            leave_ppm,
            bad_loss_ppm,
            good_loss_ppm,
        } => {
            words += &format!(
                " loss gemodel {}% {}% {}% {}%",
                percent(enter_ppm),
                percent(leave_ppm),
                percent(bad_loss_ppm),
                percent(good_loss_ppm)
            );
        }
    }
    words
}

/// The qdisc that holds the rate and the queue of one direction, if there is a rate.
fn tbf(profile: &Profile) -> Option<String> {
    let rate = profile.rate_bits_per_sec?;
    let mtu = u64::from(MTU_BYTES);
    let frame = mtu + ETHERNET_BYTES;
    let rate = rate.saturating_mul(frame) / mtu;
    let burst_bits = u128::from(rate) * BURST.as_micros() / 1_000_000;
    let burst = u64::try_from(burst_bits / 8)
        .unwrap_or(u64::MAX)
        .max(2 * frame);
    Some(format!(
        "tbf rate {rate}bit burst {burst} limit {}",
        profile.queue_bytes_effective()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_becomes_the_words_of_tc() {
        assert_eq!(
            netem(&Profile::WAN_POOR),
            "limit 1000000 delay 75000us loss 1%"
        );
        assert_eq!(
            tbf(&Profile::WAN_POOR).as_deref(),
            Some("tbf rate 10093333bit burst 3028 limit 187500")
        );
        let bursts = Profile {
            jitter: Duration::from_millis(3),
            rate_bits_per_sec: None,
            loss: Loss::Bursts {
                enter_ppm: 1_000,
                leave_ppm: 250_000,
                bad_loss_ppm: 500_000,
                good_loss_ppm: 0,
            },
            ..Profile::LAN
        };
        assert_eq!(
            netem(&bursts),
            "limit 1000000 delay 500us 3000us loss gemodel 0.1% 25% 50% 0%"
        );
        assert_eq!(tbf(&bursts), None);
    }
}
