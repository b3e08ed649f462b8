//! Numbers for people: three significant digits, in units of a size that can be read.

use crate::record::Link;

/// Digits that say something: timings repeat no better than that.
const SIGNIFICANT: i32 = 3;

/// `value` with three significant digits, no exponent: `0.0123`, `1.23`, `12.3`, `1230`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "?".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = digits_before_point(value);
    let rounded = round_to(value, SIGNIFICANT - magnitude);
    if !rounded.is_normal() {
        // At the ends of what a number can be.
        return format!("{value:.2e}");
    }
    // Rounding may have made it longer: 9.996 is 10.0.
    let places = (SIGNIFICANT - digits_before_point(rounded)).clamp(0, 9);
    format!("{rounded:.*}", usize::try_from(places).unwrap_or(0))
}

/// 3 for 123.4, 1 for 1.2, 0 for 0.12.
#[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
fn digits_before_point(value: f64) -> i32 {
    value.abs().log10().floor() as i32 + 1
}

fn round_to(value: f64, places: i32) -> f64 {
    // Below this, a power of ten would not be finite.
    let scale = 10_f64.powi(places.min(300));
    (value * scale).round() / scale
}

/// A number and its unit, the unit scaled where a smaller or larger one reads better.
pub fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "ms" => milliseconds(value),
        "MB/s" if value != 0.0 && value < 0.1 => format!("{} kB/s", number(value * 1e3)),
        "MB/s" if value >= 10_000.0 => format!("{} GB/s", number(value / 1e3)),
        _ => format!("{} {unit}", number(value)),
    }
}

fn milliseconds(value: f64) -> String {
    if value != 0.0 && value < 0.1 {
        format!("{} µs", number(value * 1e3))
    } else if value >= 10_000.0 {
        format!("{} s", number(value / 1e3))
    } else {
        format!("{} ms", number(value))
    }
}

/// How many times: `1.04x`, `12.3x`.
pub fn times(ratio: f64) -> String {
    format!("{}x", number(ratio))
}

/// A share: `94 %`, `0.97 %`.
pub fn percent(value: f64) -> String {
    if value.abs() >= 10.0 {
        format!("{value:.0} %")
    } else {
        format!("{} %", number(value))
    }
}

/// Bytes, in powers of 1024.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", number(value), units[unit])
}

/// How the link was emulated.
pub fn emulation(link: &Link) -> String {
    let queue = link
        .queue_bytes
        .map_or_else(|| "as it is".to_owned(), bytes);
    let own = link.own_cost_ms.map_or_else(String::new, |cost| {
        format!(", {} of its own taken off each delay", milliseconds(cost))
    });
    format!("{}, queue {queue}{own}", link.backend)
}

/// A duration of a run: `48 s`, `7 min 30 s`.
pub fn span(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{} s", number(seconds));
    }
    format!(
        "{:.0} min {:.0} s",
        (seconds / 60.0).floor(),
        (seconds % 60.0).floor()
    )
}

/// The link in a few words, as it was asked for: `150 ms, 10 Mbit/s, 1 % loss`.
pub fn link_asked(link: &Link) -> String {
    let rate = link.asked_rate_mbit.map_or_else(
        || "rate as it is".to_owned(),
        |rate| format!("{} Mbit/s", round(rate)),
    );
    let loss = match link.asked_loss_pct {
        0.0 => "no loss".to_owned(),
        loss if link.bursts => format!("{} % loss in bursts", round(loss)),
        loss => format!("{} % loss", round(loss)),
    };
    let jitter = match link.asked_jitter_ms {
        0.0 => String::new(),
        jitter => format!(", {} ms jitter", round(jitter)),
    };
    format!("{} ms, {rate}, {loss}{jitter}", round(link.asked_rtt_ms))
}

/// A number that is round, as somebody typed it or an axis has it: no zeros behind the point.
pub fn round(value: f64) -> String {
    let text = number(value);
    match text.split_once('.') {
        Some((whole, rest)) if rest.bytes().all(|b| b == b'0') => whole.to_owned(),
        Some(_) => text.trim_end_matches('0').to_owned(),
        None => text,
    }
}

/// The link as the self-test found it.
pub fn link_measured(link: &Link) -> String {
    format!(
        "{} ms, {} Mbit/s, {} % loss",
        number(link.rtt_ms),
        number(link.rate_mbit),
        number(link.loss_pct)
    )
}

/// What a raw transfer got: name, rate and what it did to the link.
pub fn raw_link(raw: &crate::record::RawLink) -> String {
    let mut text = format!("{} Mbit/s", number(raw.mbit));
    if let Some(share) = raw.retransmitted_pct {
        text.push_str(&format!(", {} sent again", percent(share)));
    }
    if let Some(rtt) = raw.loaded_rtt_ms {
        text.push_str(&format!(", {} ms round trip under load", number(rtt)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (1.0, "1.00"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (999.6, "1000"),
            (12_345.0, "12300"),
            (-1.234, "-1.23"),
            (f64::NAN, "?"),
            (f64::INFINITY, "?"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(f64::MIN_POSITIVE), "2.23e-308");
        assert!(number(f64::MAX).starts_with("17") || number(f64::MAX).starts_with("1.80e"));
    }

    #[test]
    fn units_are_of_a_readable_size() {
        assert_eq!(quantity(0.0123, "ms"), "12.3 µs");
        assert_eq!(quantity(150.2, "ms"), "150 ms");
        assert_eq!(quantity(12_340.0, "ms"), "12.3 s");
        assert_eq!(quantity(0.0123, "MB/s"), "12.3 kB/s");
        assert_eq!(quantity(0.0, "frames"), "0 frames");
        assert_eq!(bytes(64 << 10), "64.0 KiB");
        assert_eq!(bytes(5), "5.00 B");
        assert_eq!(percent(94.4), "94 %");
        assert_eq!(span(450.0), "7 min 30 s");
    }
}
