//! Tests of the judgement of a link, and of measuring one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use super::*;

fn as_asked(profile: &Profile) -> Measured {
    let rate = profile.rate_bits_per_sec.unwrap_or(1_000_000_000) as f64 / 1e6;
    Measured {
        rtt_ms: profile.rtt.as_secs_f64() * 1e3 + 0.1,
        rate_mbit: [rate; 2],
        loss_pct: [profile.mean_loss() * 100.0; 2],
    }
}

#[test]
fn a_link_that_does_what_was_asked_is_believed() {
    for profile in Profile::ALL {
        assert_eq!(judge(&profile, &as_asked(&profile)), Judgement::default());
    }
}

#[test]
fn a_little_off_is_a_warning_and_far_off_is_refused() {
    let profile = Profile::WAN_POOR;
    let with = |change: &dyn Fn(&mut Measured)| {
        let mut measured = as_asked(&profile);
        change(&mut measured);
        let judgement = judge(&profile, &measured);
        (judgement.warnings.len(), judgement.refusals.len())
    };
    assert_eq!(with(&|m| m.rtt_ms = 160.0), (0, 0));
    assert_eq!(with(&|m| m.rtt_ms = 170.0), (1, 0));
    assert_eq!(with(&|m| m.rtt_ms = 300.0), (0, 1));
    assert_eq!(with(&|m| m.rate_mbit[1] = 8.5), (1, 0));
    assert_eq!(with(&|m| m.rate_mbit = [4.0, 4.0]), (0, 2));
    assert_eq!(with(&|m| m.loss_pct[0] = 1.3), (1, 0));
    assert_eq!(with(&|m| m.loss_pct[0] = 0.0), (0, 1));
    assert_eq!(with(&|m| m.loss_pct = [2.0, 2.0]), (0, 2));
}

#[test]
fn jitter_is_no_fault_of_the_round_trip() {
    let profile = Profile {
        jitter: Duration::from_millis(40),
        ..Profile::WAN_POOR
    };
    let mut measured = as_asked(&profile);
    measured.rtt_ms += 45.0;
    assert_eq!(judge(&profile, &measured), Judgement::default());
}

#[test]
fn loopback_is_fast_near_and_complete() {
    let here = LinkEnd::here();
    let measured = measure(&Profile::NONE, &here, &here, Duration::from_millis(200)).unwrap();
    assert!(measured.rtt_ms < 1000.0 && measured.rate() > 0.0);
    let flood = Flood {
        packet_bytes: 100,
        bits_per_sec: 8e5,
        duration: Duration::from_millis(200),
        patience: Duration::from_millis(500),
    };
    let arrived = flood.run(&here, &here).unwrap();
    // 800 kbit/s in packets of 100 bytes: 1,000 a second.
    assert!(arrived.lost_pct() < 100.0);
    assert!(arrived.rate_mbit() > 0.0);
}
