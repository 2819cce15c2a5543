//! Horizontal bars, one a part: plain ones and stacked ones.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::numbers;
use super::part::Part;
use super::svg::{self, Canvas, DrawError, INK};

const WIDTH: i32 = 760;
const ROW: i32 = 24;
/// Columns of a drawing: names end at the first, bars at the second, notes follow.
const NAMES: i32 = 150;
const BARS: i32 = 650;
const LEGEND: i32 = 30;

/// One bar: its pieces from left to right as shares of the full width, and what is written behind it.
struct Bar {
    name: String,
    pieces: Vec<f64>,
    note: String,
}

/// Operations per second, on a logarithmic scale: parts differ by orders of magnitude.
pub(super) fn rates(parts: &[Part]) -> Result<String, DrawError> {
    let largest = parts.iter().map(Part::rate).fold(10.0, f64::max).log10().ceil();
    let bar = |part: &Part| Bar {
        name: part.name.clone(),
        pieces: vec![part.rate().max(1.0).log10() / largest],
        note: numbers::short(part.rate()),
    };
    let marks = (0..=largest as i32)
        .map(|power| (f64::from(power) / largest, numbers::short(10f64.powi(power))));
    let marks: Vec<(f64, String)> = marks.collect();
    bars(&parts.iter().map(bar).collect::<Vec<_>>(), &[], &marks)
}

/// Faults by kind, stacked to the whole, with their number behind.
pub(super) fn faults(parts: &[Part]) -> Result<String, DrawError> {
    let bar = |part: &Part| {
        let all = part.fault_count().max(1) as f64;
        Bar {
            name: part.name.clone(),
            pieces: part.faults.iter().map(|fault| fault.count as f64 / all).collect(),
            note: numbers::short(part.fault_count() as f64),
        }
    };
    let kinds = parts.first().map(|part| part.faults.as_slice()).unwrap_or_default();
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.what.as_str()).collect();
    bars(&parts.iter().map(bar).collect::<Vec<_>>(), &kinds, &percent_marks(1.0))
}

/// Page tables as a share of the memory in use.
pub(super) fn overhead(parts: &[Part]) -> Result<String, DrawError> {
    let largest = round_up(parts.iter().map(Part::table_share).fold(0.001, f64::max));
    let bar = |part: &Part| Bar {
        name: part.name.clone(),
        pieces: vec![part.table_share() / largest],
        note: numbers::percent(part.table_share()),
    };
    bars(&parts.iter().map(bar).collect::<Vec<_>>(), &[], &percent_marks(largest))
}

/// The first of 1, 2, 4 and 8 times a power of ten that is not below `value`: its quarters are short
/// numbers.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0]
        .map(|step| step * power)
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(10.0 * power)
}

/// Five marks from nothing to `largest`, in percent.
fn percent_marks(largest: f64) -> Vec<(f64, String)> {
    let mark = |quarter: u32| {
        let share = f64::from(quarter) / 4.0;
        let percent = format!("{:.3}", share * largest * 100.0);
        (share, format!("{} %", percent.trim_end_matches('0').trim_end_matches('.')))
    };
    (0..=4).map(mark).collect()
}

fn bars(bars: &[Bar], kinds: &[&str], marks: &[(f64, String)]) -> Result<String, DrawError> {
    let top = if kinds.is_empty() { 4 } else { LEGEND };
    let bottom = top + ROW * bars.len() as i32;
    svg::draw((WIDTH as u32, (bottom + 26) as u32), |canvas| {
        legend(canvas, kinds)?;
        scale(canvas, marks, top, bottom)?;
        for (row, bar) in bars.iter().enumerate() {
            one(canvas, bar, top + ROW * row as i32)?;
        }
        Ok(())
    })
}

fn one(canvas: &Canvas<'_>, bar: &Bar, top: i32) -> Result<(), DrawError> {
    let middle = top + ROW / 2;
    let right = svg::ink(13).pos(Pos::new(HPos::Right, VPos::Center));
    let left = svg::ink(13).pos(Pos::new(HPos::Left, VPos::Center));
    canvas.draw(&Text::new(bar.name.as_str(), (NAMES - 8, middle), right))?;
    let mut from = 0.0;
    for (index, share) in bar.pieces.iter().enumerate() {
        let corners = [(place(from), top + 3), (place(from + share), top + ROW - 3)];
        canvas.draw(&Rectangle::new(corners, svg::colour(index).filled()))?;
        from += share;
    }
    canvas.draw(&Text::new(bar.note.as_str(), (place(from) + 6, middle), left))
}

/// The marks of the scale below, and a thin line up from each.
fn scale(
    canvas: &Canvas<'_>,
    marks: &[(f64, String)],
    top: i32,
    bottom: i32,
) -> Result<(), DrawError> {
    let style = svg::ink(11).pos(Pos::new(HPos::Center, VPos::Top));
    for (share, text) in marks {
        let x = place(*share);
        canvas.draw(&PathElement::new(vec![(x, top), (x, bottom)], INK.mix(0.15)))?;
        canvas.draw(&Text::new(text.as_str(), (x, bottom + 6), style.clone()))?;
    }
    Ok(())
}

fn legend(canvas: &Canvas<'_>, kinds: &[&str]) -> Result<(), DrawError> {
    let style = svg::ink(12).pos(Pos::new(HPos::Left, VPos::Center));
    let mut x = NAMES;
    for (index, kind) in kinds.iter().enumerate() {
        canvas.draw(&Rectangle::new([(x, 6), (x + 12, 18)], svg::colour(index).filled()))?;
        canvas.draw(&Text::new(*kind, (x + 17, 12), style.clone()))?;
        // Sans-serif letters of 12 pixels are about 7 wide.
        x += 17 + 7 * kind.len() as i32 + 16;
    }
    Ok(())
}

fn place(share: f64) -> i32 {
    NAMES + (share * f64::from(BARS - NAMES)).round() as i32
}
