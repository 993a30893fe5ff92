//! Charts as SVG. Every colour in them is one of [`PALETTE`], so that a style sheet can put others in their place: the
//! same chart serves light, dark and print.

use std::{error::Error, ops::Range};

use plotters::{
    coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{
    series::Series,
    words::{Clock, float, number},
};
use crate::time::Time;

/// Width of a chart, in CSS pixels at full size.
const WIDTH: u32 = 1060;
/// Units of the drawing to one CSS pixel: it places by whole units.
const SCALE: u32 = 4;
/// Room for the numbers at the left, the same in all charts, so that their times stand one above the other.
const LEFT: u32 = 62;
/// Room for half a time at the right.
const RIGHT: u32 = 30;
/// Room for the times below.
const BELOW: u32 = 24;
/// Size of letters, in CSS pixels.
const LETTERS: f64 = 11.5;
/// plotters-svg divides sizes by this.
const FONT_FACTOR: f64 = 1.24;
/// Ticks that a time axis has at most, and values that a scale has at most.
const MAX_TICKS: u64 = 8;
const MAX_VALUES: f64 = 5.0;

const fn rgb(hex: u32) -> RGBColor {
    let [_, r, g, b] = hex.to_be_bytes();
    RGBColor(r, g, b)
}

/// Colours of causes by rank, told apart by the colour-blind too (P. Tol, "bright"); grey is what is unknown, or all others.
pub(super) const CAUSES: [RGBColor; 7] =
    [rgb(0x0044_77aa), rgb(0x00ee_6677), rgb(0x00cc_bb44), rgb(0x0022_8833), rgb(0x0066_ccee), rgb(0x00aa_3377), OTHER];
/// The last of [`CAUSES`].
pub(super) const OTHER: RGBColor = rgb(0x0099_999a);
/// What is measured.
pub(super) const MAIN: RGBColor = rgb(0x0036_5f87);
/// A second measure beside it.
pub(super) const SECOND: RGBColor = rgb(0x00c8_6a1e);
/// What went wrong of what is measured.
pub(super) const FAILED: RGBColor = rgb(0x00d0_3040);
/// A limit; the page has its lines broken.
pub(super) const LIMIT: RGBColor = rgb(0x008a_5a00);
/// Stretches in which tries failed.
const BOUT: RGBColor = rgb(0x00fb_e3e4);
const GRID: RGBColor = rgb(0x00e3_e6ea);
const AXIS: RGBColor = rgb(0x009a_a2ab);
const LABEL: RGBColor = rgb(0x0050_5a64);

/// Every colour with the name of its CSS variable.
pub(super) const PALETTE: [(RGBColor, &str); 15] = [
    (CAUSES[0], "cause-0"),
    (CAUSES[1], "cause-1"),
    (CAUSES[2], "cause-2"),
    (CAUSES[3], "cause-3"),
    (CAUSES[4], "cause-4"),
    (CAUSES[5], "cause-5"),
    (OTHER, "cause-6"),
    (MAIN, "main"),
    (SECOND, "second"),
    (FAILED, "failed"),
    (LIMIT, "limit"),
    (BOUT, "bout"),
    (GRID, "grid"),
    (AXIS, "axis"),
    (LABEL, "label"),
];

/// One measure of a chart; a value for each slot, `None` where there is none.
pub(super) struct Layer {
    /// How it is drawn.
    pub(super) mark: Mark,
    /// One of [`PALETTE`].
    pub(super) colour: RGBColor,
    /// Slot by slot.
    pub(super) values: Vec<Option<f64>>,
}

/// How a measure is drawn.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mark {
    /// A bar for each slot, upon those of the layers before.
    Stacked,
    /// A line in steps over a shaded area.
    Area,
    /// A line in steps, so many CSS pixels wide: where two lines are one, the wider one shows under the other.
    Line {
        /// CSS pixels.
        width: f64,
    },
}

/// A chart over a report's time.
pub(super) struct Chart<'a> {
    /// The slots.
    pub(super) series: &'a Series,
    /// For the times below.
    pub(super) clock: Clock,
    /// Stretches to shade.
    pub(super) bouts: Vec<(Time, Time)>,
    /// CSS pixels.
    pub(super) height: u32,
    /// What it shows, the first lowest.
    pub(super) layers: Vec<Layer>,
}

impl Chart<'_> {
    /// The chart as an `<svg>` element.
    pub(super) fn svg(&self) -> String {
        let mut text = String::new();
        match self.draw(&mut text) {
            Ok(()) => text,
            // Drawing into memory does not fail; if it ever does, the numbers are in the tables.
            Err(error) => format!("<p>This chart could not be drawn: {error}</p>"),
        }
    }

    fn draw(&self, text: &mut String) -> Result<(), Box<dyn Error + '_>> {
        let area = SVGBackend::with_string(text, (WIDTH * SCALE, self.height * SCALE)).into_drawing_area();
        let slots = float(u64::try_from(self.series.slots.len()).unwrap_or(u64::MAX)).max(1.0);
        let values = values_up_to(self.highest());
        let top = values.last().copied().unwrap_or(1.0);
        let mut chart = ChartBuilder::on(&area)
            .margin_top(10 * SCALE)
            .margin_right(RIGHT * SCALE)
            .x_label_area_size(BELOW * SCALE)
            .y_label_area_size(LEFT * SCALE)
            .build_cartesian_2d(Axis { end: slots, ticks: self.time_ticks() }, Axis { end: top, ticks: values })?;
        for (from, to) in &self.bouts {
            let band = [(self.slot_of(*from).floor(), 0.0), (self.slot_of(*to).floor() + 1.0, top)];
            chart.draw_series([Rectangle::new(band, BOUT.filled())])?;
        }
        let letters = ("sans-serif", LETTERS * FONT_FACTOR * f64::from(SCALE)).into_font().color(&LABEL);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.stroke_width(SCALE))
            .axis_style(AXIS.stroke_width(SCALE))
            .set_all_tick_mark_size(4 * SCALE)
            .x_label_style(letters.clone().pos(Pos::new(HPos::Center, VPos::Top)))
            .y_label_style(letters.pos(Pos::new(HPos::Right, VPos::Center)))
            .x_label_formatter(&|slot| self.tick_label(*slot))
            .y_label_formatter(&|value| value_label(*value))
            .draw()?;
        let mut below = vec![0.0; self.series.slots.len()];
        for layer in &self.layers {
            match layer.mark {
                Mark::Stacked => {
                    let bars = layer.values.iter().zip(&mut below).enumerate().filter_map(|(slot, (value, below))| {
                        let value = value.filter(|value| *value > 0.0)?;
                        let (slot, base) = (position(slot), *below);
                        *below += value;
                        Some(Rectangle::new([(slot, base), (slot + 1.0, *below)], layer.colour.filled()))
                    });
                    chart.draw_series(bars.collect::<Vec<_>>())?;
                }
                Mark::Area => {
                    let shade = layer.colour.mix(0.25).filled();
                    let pieces = steps(layer).into_iter().map(|mut piece| {
                        let ends = [piece.last(), piece.first()].map(|end| end.map(|(slot, _)| (*slot, 0.0)));
                        piece.extend(ends.into_iter().flatten());
                        Polygon::new(piece, shade)
                    });
                    chart.draw_series(pieces)?;
                    chart.draw_series(lines(layer, 1.5))?;
                }
                Mark::Line { width } => {
                    chart.draw_series(lines(layer, width))?;
                }
            }
        }
        area.present()?;
        Ok(())
    }

    /// The highest value, stacked bars upon each other.
    fn highest(&self) -> f64 {
        let stacked = (0..self.series.slots.len()).map(|slot| {
            let bars = self.layers.iter().filter(|layer| layer.mark == Mark::Stacked);
            bars.filter_map(|layer| *layer.values.get(slot)?).sum::<f64>()
        });
        let single = self.layers.iter().flat_map(|layer| layer.values.iter().flatten().copied());
        stacked.chain(single).fold(0.0, f64::max)
    }

    fn slot_of(&self, time: Time) -> f64 {
        time.since(self.series.from).as_secs_f64() / float(self.series.width)
    }

    /// Times that read well on a clock, as positions among the slots.
    fn time_ticks(&self) -> Vec<f64> {
        const STEPS: [u64; 17] =
            [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];
        let begin = self.clock.second(self.series.from);
        let length = self.series.width * u64::try_from(self.series.slots.len()).unwrap_or(1);
        let step = STEPS.into_iter().find(|step| length / step <= MAX_TICKS);
        let step = step.unwrap_or_else(|| (length / MAX_TICKS).next_multiple_of(86_400));
        let ticks =
            (begin.next_multiple_of(step)..=begin + length).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        ticks.map(|second| float(second - begin) / float(self.series.width)).collect()
    }

    fn tick_label(&self, slot: f64) -> String {
        let seconds = std::time::Duration::from_secs_f64(slot * float(self.series.width));
        // Whole seconds come back from the division a little less than whole.
        let time = self.series.from + seconds + std::time::Duration::from_millis(1);
        let label = self.clock.time(time);
        label.strip_suffix(":00").unwrap_or(&label).to_owned()
    }
}

fn position(slot: usize) -> f64 {
    float(u64::try_from(slot).unwrap_or(u64::MAX))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few pixels")]
fn lines(layer: &Layer, width: f64) -> Vec<PathElement<(f64, f64)>> {
    let style = layer.colour.stroke_width((width * f64::from(SCALE)) as u32);
    steps(layer).into_iter().map(|piece| PathElement::new(piece, style)).collect()
}

/// Corners of the steps, in pieces where there are values.
fn steps(layer: &Layer) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    for (slot, value) in layer.values.iter().enumerate() {
        if let Some(value) = value {
            piece.extend([(position(slot), *value), (position(slot) + 1.0, *value)]);
        } else if !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    pieces.extend((!piece.is_empty()).then_some(piece));
    pieces
}

/// Round values from zero to at least this one.
fn values_up_to(highest: f64) -> Vec<f64> {
    let magnitudes = (0..).map(|exponent| 10_f64.powi(exponent));
    let mut steps = magnitudes.flat_map(|magnitude| [magnitude, 2.0 * magnitude, 5.0 * magnitude]);
    let step = steps.find(|step| highest / step <= MAX_VALUES).unwrap_or(1.0);
    let mut values = vec![0.0];
    while values.last().is_some_and(|last| *last < highest) || values.len() < 2 {
        values.push(position(values.len()) * step);
    }
    values
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ticks are whole, and not below zero")]
fn value_label(value: f64) -> String {
    number(value as u64)
}

/// A linear axis from zero with its ticks.
#[derive(Clone)]
struct Axis {
    end: f64,
    ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "pixels of a chart fit")]
    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * value / self.end).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.end
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_begin_at_nothing_and_end_above_everything() {
        assert_eq!(values_up_to(0.0), [0.0, 1.0]);
        assert_eq!(values_up_to(4.0), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(values_up_to(129.0), [0.0, 50.0, 100.0, 150.0]);
        assert_eq!(values_up_to(28_232.0), [0.0, 10_000.0, 20_000.0, 30_000.0]);
    }
}
