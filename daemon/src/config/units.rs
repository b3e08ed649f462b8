//! Sizes and times as people type them, and as they like to read them.

use std::time::Duration;

/// Reads `64M`, `10GiB`, `512k`, `4096`: powers of 1024, in either case, with or without `B` or `iB`.
///
/// # Errors
/// A sentence for the user.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let malformed = || format!("\"{text}\" is not a size; write for example 256M, 10G or 1048576");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim_end().parse().map_err(|_| malformed())?;
    let unit = text[digits.len()..].to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = match unit.strip_suffix('i') {
        Some("") => return Err(malformed()),
        Some(unit) => unit,
        None => unit,
    };
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(malformed()),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("\"{text}\" is too large"))
}

/// Reads `2h`, `1s 500ms`, `7d`; a number alone is seconds.
///
/// # Errors
/// A sentence for the user.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    if let Ok(secs) = text.trim().parse::<u64>() {
        return Ok(Duration::from_secs(secs));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("\"{text}\" is not a time; write for example 500ms, 30s, 2h or 7d"))
}

/// `1.5 MiB`: at most one digit behind the point, in powers of 1024.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let tenths = u128::from(bytes) * 10 / (1 << (10 * unit));
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        tenth => format!("{}.{tenth} {}", tenths / 10, UNITS[unit]),
    }
}

/// `12.3 MB/s`: decimal, as links are rated.
pub fn show_rate(bytes_per_sec: f64) -> String {
    match bytes_per_sec {
        rate if rate >= 1e9 => format!("{:.2} GB/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.1} MB/s", rate / 1e6),
        rate => format!("{:.1} kB/s", rate / 1e3),
    }
}

/// `3d 4h`, `2m 5s`: the two largest units, none below a second.
pub fn show_age(age: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(age.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// `12.3 ms`, `640 us`, `1.2 s`.
pub fn show_latency(secs: f64) -> String {
    match secs {
        secs if secs >= 1.0 => format!("{secs:.2} s"),
        secs if secs >= 1e-3 => format!("{:.1} ms", secs * 1e3),
        secs => format!("{:.0} us", secs * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1k", 1024),
            ("64M", 64 << 20),
            ("64MB", 64 << 20),
            ("64mib", 64 << 20),
            ("10 G", 10 << 30),
            ("1T", 1 << 40),
            ("7b", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "1.5G",
            "-1",
            "1X",
            "1Mi2",
            "1iB",
            "1i",
            "1kk",
            "18446744073709551616",
            "20000000T",
            "1\u{e9}",
        ] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("0"), Ok(Duration::ZERO));
        assert_eq!(parse_time("1s 500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_time("7d"), Ok(Duration::from_secs(7 * 86400)));
        for text in ["", "-1s", "s", "1 fortnight"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shown() {
        assert_eq!(show_bytes(0), "0 B");
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_bytes(256 << 20), "256 MiB");
        assert_eq!(show_bytes(u64::MAX), "16383.9 PiB");
        assert_eq!(show_rate(12_340_000.0), "12.3 MB/s");
        assert_eq!(show_age(Duration::from_millis(93_784_500)), "1day 2h");
        assert_eq!(show_age(Duration::ZERO), "0s");
        assert_eq!(show_latency(0.0123), "12.3 ms");
        assert_eq!(show_latency(0.000_64), "640 us");
    }
}
