//! Bars from left to right, against lines across all of them.

use super::{Canvas, Drawn, Frame, Ink, NAME_CHARS_MAX, picture, scale};
use crate::report::figure;
use plotters::style::text_anchor::HPos;

/// Height of a row: a line of text and its bar.
const ROW: f64 = 44.0;
/// Height of the line that names a rule.
const LINE: i32 = 18;

/// One bar.
pub(in crate::report) struct Bar {
    pub(in crate::report) name: String,
    pub(in crate::report) ink: Ink,
    pub(in crate::report) value: Option<f64>,
    /// Stands behind the name: the value and what is to be said of it.
    pub(in crate::report) words: String,
    /// Each single sample.
    pub(in crate::report) samples: Vec<f64>,
    /// Does not stretch the axis: its bar may leave the picture, which is then marked.
    pub(in crate::report) may_leave: bool,
}

/// A value that all bars are held against.
pub(in crate::report) struct Rule {
    pub(in crate::report) name: String,
    pub(in crate::report) value: f64,
}

/// Bars; the axis has plain numbers, so that they fit a phone.
pub(in crate::report) fn bars(
    title: &str,
    bars: &[Bar],
    rules: &[Rule],
    width: u32,
) -> Option<String> {
    let held = bars.iter().filter(|bar| !bar.may_leave);
    let values = held.flat_map(|bar| bar.samples.iter().copied().chain(bar.value));
    let highest = values
        .chain(rules.iter().map(|rule| rule.value))
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max);
    let all = bars.iter().filter_map(|bar| bar.value).fold(0.0, f64::max);
    let high = if highest > 0.0 {
        highest * 1.06
    } else {
        all * 1.06
    };
    if high <= 0.0 || !high.is_finite() || bars.is_empty() {
        return None;
    }
    let top = 6 + LINE * i32::try_from(rules.len()).ok()?;
    let rows = f64::from(u16::try_from(bars.len()).ok()?) * ROW;
    let frame = Frame {
        width,
        height: pixels(rows) + u32::try_from(top + super::AXIS).ok()?,
        top,
        right: 6,
        x: (0.0, high),
        y: None,
    };
    picture(&frame, title, |canvas| {
        let count = if width >= super::COLUMN { 8 } else { 4 };
        let ticks: Vec<(f64, String)> = scale::even(high, count)
            .into_iter()
            .map(|at| (at, figure::round(at)))
            .collect();
        canvas.axis(&ticks, 0.0, rows)?;
        for (at, bar) in (0_u16..).zip(bars) {
            row(canvas, bar, f64::from(at) * ROW, high)?;
        }
        for (line, (kind, rule)) in (1_i32..).zip(stacked(rules, high)) {
            held_against(canvas, rule, (line, kind), rows, high)?;
        }
        Some(())
    })
}

fn row(canvas: &Canvas<'_>, bar: &Bar, top: f64, high: f64) -> Drawn {
    let name: String = bar.name.chars().take(NAME_CHARS_MAX).collect();
    let words = format!("{name}: {}", bar.words);
    canvas.text(&words, (0.0, top), (0, 12), HPos::Left, Ink::Text)?;
    let Some(value) = bar.value else {
        return Some(());
    };
    let (from, to) = (top + 22.0, top + 36.0);
    canvas.block((0.0, from), (value.min(high), to), bar.ink)?;
    if value > high {
        let arrow = [(-14, -7), (0, 0), (-14, 7)];
        canvas.shape((high, from + 7.0), &arrow, Ink::Text)?;
    }
    for sample in bar.samples.iter().filter(|sample| **sample <= high) {
        canvas.line(
            vec![(*sample, from - 2.0), (*sample, to + 2.0)],
            Ink::Text,
            1,
        )?;
    }
    Some(())
}

/// Rules with their number, the one whose name stands lowest first: so ordered that no rule runs through
/// the name of another on its side.
fn stacked(rules: &[Rule], high: f64) -> Vec<(usize, &Rule)> {
    let (mut right, mut left): (Vec<_>, Vec<_>) = rules
        .iter()
        .enumerate()
        .partition(|(_, rule)| rule.value > high / 2.0);
    left.sort_by(|a, b| b.1.value.total_cmp(&a.1.value));
    right.sort_by(|a, b| a.1.value.total_cmp(&b.1.value));
    left.into_iter().chain(right).collect()
}

/// A line through all rows: the first rule whole, the others dashed, each in its own way; its name at
/// the given line above the rows.
fn held_against(
    canvas: &Canvas<'_>,
    rule: &Rule,
    (line, kind): (i32, usize),
    rows: f64,
    high: f64,
) -> Drawn {
    let lift = f64::from(line * LINE - LINE / 2);
    let (dash, gap) = match kind {
        0 => (rows + lift, 1.0),
        1 => (7.0, 4.0),
        _ => (2.0, 4.0),
    };
    let mut at = 9.0 - lift;
    while at < rows {
        let end = (at + dash).min(rows);
        canvas.line(vec![(rule.value, at), (rule.value, end)], Ink::Rule, 2)?;
        at = end + gap;
    }
    let (side, by) = if rule.value > high / 2.0 {
        (HPos::Right, -6)
    } else {
        (HPos::Left, 6)
    };
    let words = format!("{} {}", rule.name, figure::quantity(rule.value, "MB/s"));
    canvas.text(&words, (rule.value, -lift), (by, 0), side, Ink::Faint)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of rows times their height"
)]
fn pixels(height: f64) -> u32 {
    height as u32
}
