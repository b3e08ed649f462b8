//! Progress over time: one line for each peer, with marks along it and its name at the end.

use super::{Canvas, Drawn, Frame, Ink, picture, scale};
use crate::report::figure;
use plotters::style::text_anchor::HPos;

/// Most points of a line.
const POINTS_MAX: usize = 160;
/// Marks along a line.
const MARKS: usize = 7;
/// Height of the picture, and how far apart names at the right must be.
const HEIGHT: u32 = 340;
const NAMES_APART: f64 = 17.0;
/// Room for names at the right.
const NAMES: i32 = 112;

/// One line: seconds, and bytes until then.
pub(in crate::report) struct Curve {
    pub(in crate::report) name: String,
    pub(in crate::report) ink: Ink,
    pub(in crate::report) points: Vec<(f64, f64)>,
}

/// Megabytes over seconds; `link` is what the link could carry, in MB/s.
pub(in crate::report) fn lines(
    title: &str,
    curves: &[Curve],
    link: f64,
    width: u32,
) -> Option<String> {
    let curves: Vec<Curve> = curves.iter().map(megabytes).collect();
    let points = curves.iter().flat_map(|curve| &curve.points);
    let (seconds, most) = points.fold((0.0_f64, 0.0_f64), |(x, y), point| {
        (x.max(point.0), y.max(point.1))
    });
    if seconds <= 0.0 || most <= 0.0 || !seconds.is_finite() || !most.is_finite() {
        return None;
    }
    let top = most * 1.08;
    let frame = Frame {
        width,
        height: HEIGHT,
        top: 24,
        right: NAMES,
        x: (0.0, seconds),
        y: Some((0.0, top)),
    };
    let per_pixel = top / f64::from(frame.bottom() - frame.top);
    picture(&frame, title, |canvas| {
        let count = if width >= super::COLUMN { 8 } else { 4 };
        let ticks: Vec<(f64, String)> = scale::even(seconds, count)
            .into_iter()
            .map(|at| (at, format!("{} s", figure::round(at))))
            .collect();
        canvas.axis(&ticks, top, 0.0)?;
        for at in scale::even(top, 5).into_iter().skip(1) {
            canvas.line(vec![(0.0, at), (seconds, at)], Ink::Grid, 1)?;
            let words = format!("{} MB", figure::round(at));
            canvas.text(&words, (0.0, at), (4, -9), HPos::Left, Ink::Faint)?;
        }
        possible(canvas, link, seconds, top)?;
        for (number, curve) in curves.iter().enumerate() {
            draw(canvas, curve, number)?;
        }
        names(canvas, &curves, (seconds, top), per_pixel)
    })
}

fn megabytes(curve: &Curve) -> Curve {
    let every = curve.points.len().div_ceil(POINTS_MAX).max(1);
    let last = curve.points.last().copied();
    let thin = curve.points.iter().copied().step_by(every).chain(last);
    Curve {
        name: curve.name.clone(),
        ink: curve.ink,
        points: thin
            .filter(|(at, bytes)| at.is_finite() && bytes.is_finite())
            .map(|(at, bytes)| (at, bytes / 1e6))
            .collect(),
    }
}

/// What the link could have carried: a dotted line.
fn possible(canvas: &Canvas<'_>, link: f64, seconds: f64, top: f64) -> Drawn {
    if link <= 0.0 || !link.is_finite() {
        return Some(());
    }
    let end = (top / link).min(seconds);
    for dash in 0..60_u8 {
        let from = end * f64::from(dash) / 60.0;
        let to = end * (f64::from(dash) + 0.5) / 60.0;
        canvas.line(vec![(from, from * link), (to, to * link)], Ink::Rule, 2)?;
    }
    let words = format!("- - the link: {}", figure::quantity(link, "MB/s"));
    canvas.text(&words, (0.0, top), (4, -12), HPos::Left, Ink::Faint)
}

fn draw(canvas: &Canvas<'_>, curve: &Curve, number: usize) -> Drawn {
    canvas.line(curve.points.clone(), curve.ink, 3)?;
    let every = (curve.points.len() / MARKS).max(1);
    for point in curve.points.iter().skip(every / 2).step_by(every) {
        canvas.shape(*point, mark(number), curve.ink)?;
    }
    Some(())
}

/// A mark for each line: square, triangle, rhombus, hourglass, cross, arrow.
fn mark(number: usize) -> &'static [(i32, i32)] {
    const MARKS: [&[(i32, i32)]; 6] = [
        &[(-5, -5), (5, -5), (5, 5), (-5, 5)],
        &[(0, -7), (7, 6), (-7, 6)],
        &[(0, -8), (7, 0), (0, 8), (-7, 0)],
        &[(-6, -7), (6, -7), (-6, 7), (6, 7)],
        &[
            (-2, -7),
            (2, -7),
            (2, -2),
            (7, -2),
            (7, 2),
            (2, 2),
            (2, 7),
            (-2, 7),
            (-2, 2),
            (-7, 2),
            (-7, -2),
            (-2, -2),
        ],
        &[(-6, -7), (8, 0), (-6, 7)],
    ];
    MARKS[number % MARKS.len()]
}

/// Names at the right, at `end` the last second and the highest value, each as near the end of its line as the others leave room.
fn names(canvas: &Canvas<'_>, curves: &[Curve], end: (f64, f64), per_pixel: f64) -> Drawn {
    let (seconds, top) = end;
    let mut ends: Vec<(f64, usize)> = curves
        .iter()
        .enumerate()
        .filter_map(|(number, curve)| curve.points.last().map(|end| (end.1, number)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    // From the lowest up, and down again where that went beyond the top.
    let apart = NAMES_APART * per_pixel;
    let mut places: Vec<f64> = Vec::new();
    for (end, _) in &ends {
        let free = places.last().map_or(0.0, |below| below + apart);
        places.push(end.max(free));
    }
    let mut free = top;
    for place in places.iter_mut().rev() {
        *place = place.min(free);
        free = *place - apart;
    }
    for ((_, number), at) in ends.into_iter().zip(places) {
        let name: String = curves[number].name.chars().take(13).collect();
        let mark = moved(mark(number), 14);
        canvas.shape((seconds, at), &mark, curves[number].ink)?;
        canvas.text(&name, (seconds, at), (26, 0), HPos::Left, Ink::Text)?;
    }
    Some(())
}

fn moved(corners: &[(i32, i32)], by: i32) -> Vec<(i32, i32)> {
    corners
        .iter()
        .map(|(x, y)| (x * 4 / 5 + by, y * 4 / 5))
        .collect()
}
