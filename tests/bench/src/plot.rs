//! Pictures of a run, as plain SVG: a line per row from the least value to p99, with the middle marked.
//!
//! Called by `report`.

use crate::samples::{Kind, Rows, Summary};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

/// Every time.
pub(crate) fn times(rows: &Rows, title: &str, file: &Path) -> Result<()> {
    draw(rows, title, "ms", file)
}

/// Every rate of bytes.
pub(crate) fn rates(rows: &Rows, title: &str, file: &Path) -> Result<()> {
    draw(rows, title, "MiB/s", file)
}

type Line<'a> = (&'a str, Kind, Summary);

fn draw(rows: &Rows, title: &str, unit: &str, file: &Path) -> Result<()> {
    let of_unit = rows.rows.iter().filter(|row| row.unit == unit);
    let lines: Vec<Line<'_>> =
        of_unit.filter_map(|row| Some((row.what.as_str(), row.kind, row.summary()?))).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let height = u32::try_from(lines.len())?.saturating_mul(LINE_HEIGHT).saturating_add(MARGIN);
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    picture(&area, &lines, title, unit).map_err(|error| anyhow!("{}: {error}", file.display()))
}

fn picture<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    lines: &[Line<'_>],
    title: &str,
    unit: &str,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    area.fill(&WHITE)?;
    let least = lines.iter().map(|(_, _, told)| told.min).fold(f64::MAX, f64::min).max(LEAST);
    let most = lines.iter().map(|(_, _, told)| told.p99).fold(LEAST, f64::max);
    let count = lines.len() as f64;
    // Room at the left for what each line is.
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .margin_left(LABELS)
        .x_label_area_size(36)
        .build_cartesian_2d((least / 1.5..most * 1.5).log_scale(), 0.0..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(unit)
        .x_label_formatter(&|x| format!("{x}"))
        .draw()?;
    for (at, (what, kind, told)) in (0_u32..).zip(lines) {
        let y = count - f64::from(at) - 0.5;
        let colour = colour_of(*kind);
        let ends = [(told.min.max(LEAST), y), (told.p99.max(LEAST), y)];
        chart.draw_series([PathElement::new(ends, colour.stroke_width(3))])?;
        chart.draw_series([Circle::new((told.p50.max(LEAST), y), 5, colour.filled())])?;
        let (_, pixel) = chart.backend_coord(&(least, y));
        let label = format!("{what}  {:.3}", told.p50);
        area.draw(&Text::new(label, (8, pixel - 6), ("sans-serif", 12).into_font().color(&colour)))?;
    }
    area.present()
}

const fn colour_of(kind: Kind) -> RGBColor {
    match kind {
        Kind::Floor => RGBColor(110, 110, 110),
        Kind::Doorbell => RGBColor(0, 90, 181),
        Kind::Peer => RGBColor(200, 80, 0),
    }
}

const WIDTH: u32 = 1100;
const LINE_HEIGHT: u32 = 26;
const MARGIN: u32 = 110;
const LABELS: u32 = 430;
/// A logarithm has no zero.
const LEAST: f64 = 1e-4;
