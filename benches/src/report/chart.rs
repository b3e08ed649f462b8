//! Charts as SVG: one canvas, and three kinds of picture on it.
//!
//! Drawn by `plotters` with stand-in colours (see [`style`]). Values are laid out along x in their own
//! unit, rows along y in pixels, since a row must hold a line of text whatever its values are. Names
//! stand above their bar rather than beside it, so that a picture is readable at the width of a phone.

mod bars;
mod lines;
mod scale;
mod strips;

pub(super) use bars::{Bar, Rule, bars};
pub(super) use lines::{Curve, lines};
pub(super) use strips::{Strip, strips};

use super::style::{self, Ink};
use plotters::backend::SVGBackend;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::element::{
    Circle, Drawable, EmptyElement, PathElement, PointCollection, Rectangle, Text,
};
use plotters::prelude::{Color, DrawingArea, IntoDrawingArea};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontFamily, IntoFont, ShapeStyle};

/// Width of a picture in one of the page's two columns.
pub(super) const COLUMN: u32 = 520;
/// Width of a picture across the page.
pub(super) const PAGE: u32 = 1100;
/// Width of any picture on a phone.
pub(super) const PHONE: u32 = 330;
/// Height of the letters as `plotters` counts it: 13 pixels on the page.
const LETTERS: f64 = 16.0;
/// Room for the labels of the axis.
const AXIS: i32 = 26;
/// Left and right of the picture.
const MARGIN: i32 = 10;
/// Longest name in a picture; the tables have all of it.
const NAME_CHARS_MAX: usize = 24;

type Area<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Place = (f64, f64);
/// Writing to memory does not fail; what fails is left out by the caller.
type Drawn = Option<()>;

/// Where on the picture values go.
struct Frame {
    width: u32,
    height: u32,
    /// Pixels kept free above, and to the right.
    top: i32,
    right: i32,
    x: (f64, f64),
    /// Values from bottom to top; pixels from top to bottom if `None`.
    y: Option<(f64, f64)>,
}

impl Frame {
    fn bottom(&self) -> i32 {
        i32::try_from(self.height).unwrap_or(i32::MAX) - AXIS
    }
}

/// Draws by `paint`, and makes it a picture with a title for those who do not see it.
fn picture(frame: &Frame, title: &str, paint: impl FnOnce(&Canvas<'_>) -> Drawn) -> Option<String> {
    let mut svg = String::new();
    {
        let size = (frame.width, frame.height);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let right = i32::try_from(frame.width).ok()? - frame.right - MARGIN;
        let pixels = (MARGIN..right, frame.top..frame.bottom());
        let free = f64::from(frame.bottom() - frame.top);
        let (low, high) = frame.y.map_or((0.0, free), |(low, high)| (high, low));
        let spec = Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(
            frame.x.0..frame.x.1,
            low..high,
            pixels,
        );
        let canvas = Canvas {
            area: root.apply_coord_spec(spec),
        };
        paint(&canvas)?;
        canvas.area.present().ok()?;
    }
    let (_, content) = svg.split_once('>')?;
    let title = super::html::escaped(title);
    Some(style::themed(&format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>{content}",
        frame.width, frame.height
    )))
}

struct Canvas<'a> {
    area: Area<'a>,
}

impl<'a> Canvas<'a> {
    fn draw<E>(&self, element: &E) -> Drawn
    where
        for<'b> &'b E: PointCollection<'b, Place>,
        E: Drawable<SVGBackend<'a>>,
    {
        self.area.draw(element).ok()
    }

    fn line(&self, points: Vec<Place>, ink: Ink, width: u32) -> Drawn {
        let style = ShapeStyle {
            stroke_width: width,
            ..ink.stand_in().to_rgba().stroke_width(width)
        };
        self.draw(&PathElement::new(points, style))
    }

    fn block(&self, from: Place, to: Place, ink: Ink) -> Drawn {
        self.draw(&Rectangle::new([from, to], ink.stand_in().filled()))
    }

    fn dot(&self, at: Place, radius: i32, ink: Ink, opacity: f64) -> Drawn {
        self.draw(&Circle::new(
            at,
            radius,
            ink.stand_in().mix(opacity).filled(),
        ))
    }

    /// A shape around `at`, its corners in pixels.
    fn shape(&self, at: Place, corners: &[(i32, i32)], ink: Ink) -> Drawn {
        let polygon = plotters::element::Polygon::new(corners.to_vec(), ink.stand_in().filled());
        self.draw(&(EmptyElement::at(at) + polygon))
    }

    /// `text` at `at`, moved by pixels.
    fn text(&self, text: &str, at: Place, by: (i32, i32), side: HPos, ink: Ink) -> Drawn {
        let font = (FontFamily::SansSerif, LETTERS).into_font();
        let colour = ink.stand_in();
        let style = plotters::style::TextStyle::from(font)
            .color(&colour)
            .pos(Pos::new(side, VPos::Center));
        let text = Text::new(shortened(text), by, style);
        self.draw(&(EmptyElement::at(at) + text))
    }

    /// Thin lines across the rows, with values below; those near the edge lean inwards.
    fn axis(&self, ticks: &[(f64, String)], top: f64, bottom: f64) -> Drawn {
        let range = self.area.get_x_range();
        let (pixels, _) = self.area.get_pixel_range();
        let width = f64::from(pixels.end - pixels.start);
        for (at, label) in ticks {
            self.line(vec![(*at, top), (*at, bottom)], Ink::Grid, 1)?;
            let from_left = (at - range.start) / (range.end - range.start) * width;
            let (side, by) = match from_left {
                near if near < 22.0 => (HPos::Left, -4),
                far if far > width - 22.0 => (HPos::Right, 4),
                _ => (HPos::Center, 0),
            };
            self.text(label, (*at, bottom), (by, 14), side, Ink::Faint)?;
        }
        Some(())
    }
}

/// A name no longer than a picture is wide, and without what an XML reader stumbles over.
fn shortened(name: &str) -> String {
    let clean = super::terminal::plain(name);
    if clean.chars().count() <= NAME_CHARS_MAX * 2 {
        return clean;
    }
    clean
        .chars()
        .take(NAME_CHARS_MAX * 2 - 1)
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests;
