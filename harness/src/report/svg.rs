//! Drawings as SVG text that takes its ink from the page around it.
//!
//! Plotters writes colours as numbers. Text and lines are drawn in [`INK`], a colour that nothing else
//! uses, and that becomes `currentColor` in the end: so one drawing suits a light page and a dark one.

use plotters::coord::Shift;
use plotters::prelude::*;

/// What plotters can report about a drawing in memory.
pub(super) type DrawError = DrawingAreaErrorKind<std::io::Error>;

/// A place to draw.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The colour of text and lines; see the header.
pub(super) const INK: RGBColor = RGBColor(1, 2, 3);
const INK_TEXT: &str = "#010203";

/// Colours that stand apart from each other, for colour-blind readers too, on white and on black:
/// Okabe and Ito's set without its yellow, which fades on white.
pub(super) const PALETTE: [RGBColor; 7] = [
    RGBColor(0x1f, 0x83, 0xc4),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x88, 0x88, 0x88),
];

/// The colour of the `index`-th thing.
pub(super) fn colour(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// Text of `size` pixels in [`INK`].
pub(super) fn ink(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Runs `draw` on an empty canvas and returns the drawing.
pub(super) fn draw(
    size: (u32, u32),
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), DrawError>,
) -> Result<String, DrawError> {
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&canvas)?;
        canvas.present()?;
    }
    Ok(text.replace(INK_TEXT, "currentColor"))
}
