//! Spans, rates, sizes and shares as people type them.
//!
//! A number, with a fraction if need be, and its unit: `80ms`, `1.5mbit`, `64KiB`, `0.5%`. Nothing else
//! is read: no white space, no sign, no exponent, no other case, nothing left out but a size's unit.
//! What cannot be told exactly in nanoseconds, bits, bytes or millionths is refused, never rounded; so
//! what is printed reads back as the same.

#[cfg(test)]
mod tests;

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A span of time: `250us`, `80ms`, `1.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// Bits per second, in thousands as `tc` counts them: `9600bit`, `800kbit`, `50mbit`, `1.5gbit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate(pub u64);

/// Bytes, always in multiples of 1024: `65536`, `64k` (also `K`, `KiB`), `1M` (`MiB`), `1G` (`GiB`).
/// `kB` and `MB` are refused, for people mean different things by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

/// A share of packets, in millionths: `0.5%`, from `0%` to `100%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Share(pub u32);

/// Loss in bursts (Gilbert, Elliott), told as `ENTER,LEAVE,BADLOSS` or `ENTER,LEAVE,BADLOSS,GOODLOSS`:
/// `1%,20%,50%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Burst {
    /// Chance, with each packet, to go from the good state to the bad one.
    pub enter: Share,
    /// Chance, with each packet, to go from the bad state to the good one.
    pub leave: Share,
    /// Chance of a packet to be lost in the bad state.
    pub bad_loss: Share,
    /// Chance of a packet to be lost in the good state.
    pub good_loss: Share,
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" {fault}: expected {expected}", .text.escape_debug())]
pub struct UnitError {
    text: String,
    fault: Fault,
    expected: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("cannot be read")]
    Form,
    #[error("is too much")]
    TooMuch,
    #[error("is too fine")]
    TooFine,
}

/// Units by name, and how many of the smallest thing counted each is. The largest come first; of the same
/// worth, the first is printed.
type Units = [(&'static str, u64)];

const SPANS: &Units = &[("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
const RATES: &Units = &[
    ("gbit", 1_000_000_000),
    ("mbit", 1_000_000),
    ("kbit", 1_000),
    ("bit", 1),
];
const SIZES: &Units = &[
    ("GiB", 1 << 30),
    ("G", 1 << 30),
    ("MiB", 1 << 20),
    ("M", 1 << 20),
    ("KiB", 1 << 10),
    ("K", 1 << 10),
    ("k", 1 << 10),
    ("", 1),
];
const SHARES: &Units = &[("%", 10_000)];
const WHOLE_PPM: u32 = 1_000_000;

const SPAN_EXPECTED: &str = "a span of time in us, ms or s, such as 80ms or 1.5s";
const RATE_EXPECTED: &str = "bits per second in bit, kbit, mbit or gbit, such as 50mbit";
const SIZE_EXPECTED: &str = "bytes, or multiples of 1024 in k, M or G, such as 65536, 256k or 1M";
const SHARE_EXPECTED: &str = "a percentage from 0% to 100%, in steps of 0.0001%, such as 0.5%";
const BURST_EXPECTED: &str =
    "three or four percentages as ENTER,LEAVE,BADLOSS[,GOODLOSS], such as 1%,20%,50%";

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let nanos = amount(text, SPANS).map_err(UnitError::of(text, SPAN_EXPECTED))?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bits = amount(text, RATES).map_err(UnitError::of(text, RATE_EXPECTED))?;
        Ok(Self(bits))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bytes = amount(text, SIZES).map_err(UnitError::of(text, SIZE_EXPECTED))?;
        Ok(Self(bytes))
    }
}

impl FromStr for Share {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        share(text).map_err(UnitError::of(text, SHARE_EXPECTED))
    }
}

impl FromStr for Burst {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        burst(text).map_err(UnitError::of(text, BURST_EXPECTED))
    }
}

impl UnitError {
    fn of(text: &str, expected: &'static str) -> impl FnOnce(Fault) -> Self {
        move |fault| Self {
            text: text.to_owned(),
            fault,
            expected,
        }
    }
}

fn share(text: &str) -> Result<Share, Fault> {
    let ppm = amount(text, SHARES)?;
    let ppm = u32::try_from(ppm).map_err(|_| Fault::TooMuch)?;
    if ppm > WHOLE_PPM {
        return Err(Fault::TooMuch);
    }
    Ok(Share(ppm))
}

fn burst(text: &str) -> Result<Burst, Fault> {
    let mut shares = text.split(',').map(share);
    let mut next = || shares.next().ok_or(Fault::Form)?;
    let (enter, leave, bad_loss) = (next()?, next()?, next()?);
    let good_loss = shares.next().transpose()?.unwrap_or_default();
    if shares.next().is_some() {
        return Err(Fault::Form);
    }
    Ok(Burst {
        enter,
        leave,
        bad_loss,
        good_loss,
    })
}

/// How many of the smallest thing counted `text` tells.
fn amount(text: &str, units: &Units) -> Result<u64, Fault> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let (_, scale) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(Fault::Form)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err(Fault::Form),
        Some(parts) => parts,
        None => (number, ""),
    };
    if whole.is_empty() || fraction.contains('.') {
        return Err(Fault::Form);
    }
    let whole: u64 = whole.parse().map_err(|_| Fault::TooMuch)?;
    let whole = whole.checked_mul(*scale).ok_or(Fault::TooMuch)?;
    whole
        .checked_add(part(fraction, *scale)?)
        .ok_or(Fault::TooMuch)
}

/// The digits behind the point, as so many of `scale`, if that is exact.
fn part(digits: &str, scale: u64) -> Result<u64, Fault> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let places = u32::try_from(digits.len()).map_err(|_| Fault::TooFine)?;
    let parts: u64 = digits.parse().map_err(|_| Fault::TooFine)?;
    let one = 10_u128.checked_pow(places).ok_or(Fault::TooFine)?;
    let scaled = u128::from(parts) * u128::from(scale);
    if !scaled.is_multiple_of(one) {
        return Err(Fault::TooFine);
    }
    u64::try_from(scaled / one).map_err(|_| Fault::TooFine)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0ms");
        }
        print(f, nanos, SPANS)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0.into(), RATES)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, scale): &&(&str, u64)| self.0 != 0 && self.0.is_multiple_of(*scale);
        match SIZES.iter().find(whole) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0.into(), SHARES)
    }
}

impl fmt::Display for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.enter, self.leave, self.bad_loss)?;
        if self.good_loss != Share::default() {
            write!(f, ",{}", self.good_loss)?;
        }
        Ok(())
    }
}

/// In the largest of `units` there is at least one of, or else in the smallest; scales are powers of ten.
fn print(f: &mut fmt::Formatter<'_>, amount: u128, units: &Units) -> fmt::Result {
    let fits = |(_, scale): &&(&str, u64)| amount >= u128::from(*scale);
    let Some((unit, scale)) = units.iter().find(fits).or(units.last()) else {
        return Ok(());
    };
    let scale = u128::from(*scale);
    write!(f, "{}", amount / scale)?;
    if !amount.is_multiple_of(scale) {
        // The leading one keeps the zeros behind the point.
        let fraction = (scale + amount % scale).to_string();
        write!(f, ".{}", fraction[1..].trim_end_matches('0'))?;
    }
    f.write_str(unit)
}

/// Each may stand in a file of profiles.
macro_rules! from_string {
    ($($unit:ty),*) => {$(
        impl TryFrom<String> for $unit {
            type Error = UnitError;

            fn try_from(text: String) -> Result<Self, UnitError> {
                text.parse()
            }
        }
    )*};
}

from_string!(Span, Rate, Size, Share, Burst);
