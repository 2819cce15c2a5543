//! Memory over time, a small drawing for each part: frames in use, and the page tables among them.

use plotters::prelude::*;

use super::numbers;
use super::part::{Part, Sample};
use super::svg::{self, DrawError, INK};

const SIZE: (u32, u32) = (370, 190);
const MIB: f64 = (1u32 << 20) as f64;

/// The curve of one part.
pub(super) fn memory(part: &Part) -> Result<String, DrawError> {
    let end = part.samples.last().map_or(0.0, |last| last.seconds).max(0.001);
    let used = |sample: &Sample| sample.used_bytes as f64 / MIB;
    let tables = |sample: &Sample| sample.table_bytes as f64 / MIB;
    let largest = part.samples.iter().map(used).fold(0.1, f64::max) * 1.05;
    svg::draw(SIZE, |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin(6)
            .margin_right(14)
            .caption(format!("{}, MiB", part.name), svg::ink(14))
            .x_label_area_size(24)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..end, 0.0..largest)?;
        chart
            .configure_mesh()
            .axis_style(INK.mix(0.5))
            .bold_line_style(INK.mix(0.12))
            .light_line_style(TRANSPARENT)
            .label_style(svg::ink(11))
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&|seconds| format!("{} s", plain(*seconds)))
            .y_label_formatter(&|mib| numbers::short(*mib))
            .draw()?;
        let points = |value: fn(&Sample) -> f64| {
            part.samples.iter().map(move |sample| (sample.seconds, value(sample)))
        };
        let (first, second) = (svg::colour(0), svg::colour(1));
        chart.draw_series(
            AreaSeries::new(points(used), 0.0, first.mix(0.25)).border_style(first.stroke_width(2)),
        )?;
        chart.draw_series(LineSeries::new(points(tables), second.stroke_width(2)))?;
        Ok(())
    })
}

/// A number of seconds without needless digits.
fn plain(seconds: f64) -> String {
    let text = format!("{seconds:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
