//! Distributions: every sample a dot on a logarithmic axis, the median and the 95th percentile marked.

use super::{Canvas, Drawn, Frame, Ink, NAME_CHARS_MAX, picture, scale};
use crate::report::figure;
use plotters::style::text_anchor::HPos;

/// Height of a row: a line of text and its dots.
const ROW: f64 = 48.0;
/// Height of the dots' part, from its middle.
const SPREAD: f64 = 7.0;
/// Most dots of a row; more are thinned by rank.
const DOTS_MAX: usize = 120;

/// One row.
pub(in crate::report) struct Strip {
    pub(in crate::report) name: String,
    pub(in crate::report) ink: Ink,
    pub(in crate::report) samples: Vec<f64>,
    pub(in crate::report) p50: Option<f64>,
    pub(in crate::report) p95: Option<f64>,
    /// Stands behind the name.
    pub(in crate::report) words: String,
    /// Does not stretch the axis: its dots may lie beyond the edge, which is then marked.
    pub(in crate::report) may_leave: bool,
}

/// Strips of milliseconds, beside a value that they are held against.
pub(in crate::report) fn strips(
    title: &str,
    strips: &[Strip],
    rule: Option<(&str, f64)>,
    width: u32,
) -> Option<String> {
    let (low, high) = ends(strips, rule)?;
    let rule = rule.filter(|rule| rule.1 < high);
    let rows = f64::from(u16::try_from(strips.len()).ok()?) * ROW;
    let top = if rule.is_some() { 24 } else { 6 };
    let frame = Frame {
        width,
        height: u32::try_from(strips.len()).ok()? * 48 + u32::try_from(top + super::AXIS).ok()?,
        top,
        right: 6,
        x: (low.log10(), high.log10()),
        y: None,
    };
    picture(&frame, title, |canvas| {
        let count = if width >= super::COLUMN { 9 } else { 5 };
        let ticks: Vec<(f64, String)> = scale::decades(low, high, count)
            .into_iter()
            .map(|at| (at.log10(), label(at)))
            .collect();
        canvas.axis(&ticks, 0.0, rows)?;
        if let Some((name, value)) = rule {
            held_against(canvas, name, value, rows, (low * high).sqrt())?;
        }
        for (at, strip) in (0_u16..).zip(strips) {
            row(canvas, strip, f64::from(at) * ROW, (low, high))?;
        }
        Some(())
    })
}

/// Lowest and highest value of the axis.
fn ends(strips: &[Strip], rule: Option<(&str, f64)>) -> Option<(f64, f64)> {
    let any_stays = strips.iter().any(|strip| !strip.may_leave);
    let held = strips.iter().filter(|strip| !strip.may_leave || !any_stays);
    let values = held.flat_map(|strip| strip.samples.iter().copied());
    let (low, high) = values
        .filter(|value| *value > 0.0 && value.is_finite())
        .fold((f64::MAX, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if high <= 0.0 {
        return None;
    }
    // A rule far from all is of no help.
    let near = rule
        .map(|rule| rule.1)
        .filter(|at| *at > low / 8.0 && *at < high * 8.0);
    let (low, high) = near.map_or((low, high), |at| (low.min(at), high.max(at)));
    // A little air, and at least a factor of four, so that noise does not fill the picture.
    let air = (4.0 / (high / low)).sqrt().max(1.25);
    Some((low / air, high * air))
}

fn label(at: f64) -> String {
    if at < 0.1 {
        return format!("{} µs", figure::round(at * 1e3));
    }
    format!("{} ms", figure::round(at))
}

fn row(canvas: &Canvas<'_>, strip: &Strip, top: f64, (low, high): (f64, f64)) -> Drawn {
    let name: String = strip.name.chars().take(NAME_CHARS_MAX).collect();
    let words = format!("{name}: {}", strip.words);
    canvas.text(&words, (low.log10(), top), (0, 12), HPos::Left, Ink::Text)?;
    let middle = top + 33.0;
    let inside = |value: f64| value >= low && value <= high;
    for (at, sample) in thinned(&strip.samples).into_iter().enumerate() {
        // Up and down by turns, so that equal samples do not hide each other.
        let turn = u8::try_from(at * 5 % 8).unwrap_or(0);
        let off = (f64::from(turn) / 7.0 - 0.5) * 2.0 * SPREAD;
        if inside(sample) {
            canvas.dot((sample.log10(), middle + off), 3, strip.ink, 0.5)?;
        }
    }
    if let Some(p95) = strip.p95.filter(|p95| inside(*p95)) {
        let at = p95.log10();
        canvas.line(vec![(at, middle - 10.0), (at, middle + 10.0)], Ink::Text, 2)?;
    }
    match strip.p50 {
        Some(p50) if inside(p50) => {
            let rhombus = [(0, -9), (5, 0), (0, 9), (-5, 0)];
            canvas.shape((p50.log10(), middle), &rhombus, Ink::Text)
        }
        Some(p50) if p50 > high => canvas.shape(
            (high.log10(), middle),
            &[(-12, -6), (0, 0), (-12, 6)],
            strip.ink,
        ),
        Some(_) => canvas.shape(
            (low.log10(), middle),
            &[(12, -6), (0, 0), (12, 6)],
            strip.ink,
        ),
        None => Some(()),
    }
}

fn held_against(canvas: &Canvas<'_>, name: &str, value: f64, rows: f64, middle: f64) -> Drawn {
    let x = value.log10();
    let mut at = -6.0;
    while at < rows {
        // Not through the words above each row's dots.
        if at < 0.0 || at % ROW >= 20.0 {
            canvas.line(vec![(x, at), (x, (at + 6.0).min(rows))], Ink::Rule, 1)?;
        }
        at += 9.0;
    }
    let (side, by) = if value > middle {
        (HPos::Right, -6)
    } else {
        (HPos::Left, 6)
    };
    let words = format!("{name} {}", figure::quantity(value, "ms"));
    canvas.text(&words, (value.log10(), 0.0), (by, -12), side, Ink::Faint)
}

fn thinned(samples: &[f64]) -> Vec<f64> {
    let usable = samples
        .iter()
        .copied()
        .filter(|s| *s > 0.0 && s.is_finite());
    let mut sorted: Vec<f64> = usable.collect();
    if sorted.len() <= DOTS_MAX {
        return sorted;
    }
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    (0..DOTS_MAX)
        .map(|at| sorted[at * last / (DOTS_MAX - 1)])
        .collect()
}
