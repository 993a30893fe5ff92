//! The charts, one below the other with the same times.

use maud::{Markup, PreEscaped, html};
use plotters::style::RGBColor;

use super::{
    super::{
        Report,
        chart::{CAUSES, Chart, FAILED, LIMIT, Layer, MAIN, Mark, PALETTE, SECOND},
        gauge::Gauge,
        series::Slot,
        words::{self, Clock, float, number},
    },
    colour,
};

/// Gauges below this share of their limit all the time have no chart, in percent.
const WORTH_SHOWING: u64 = 20;

/// A chart with what is said around it.
struct Figure {
    title: String,
    unit: String,
    legend: Vec<(RGBColor, String)>,
    height: u32,
    layers: Vec<Layer>,
}

pub(super) fn section(report: &Report, clock: Clock) -> Markup {
    let mut figures = Vec::new();
    if report.failures.count > 0 {
        figures.push(failures(report));
    }
    figures.push(traffic(report));
    let (queues, calm_queues) = gauges(report, &report.series.queues, queue);
    let (ports, calm_ports) = gauges(report, &report.series.ports, time_wait);
    figures.extend(queues);
    figures.extend(ports);
    let slots = || report.series.slots.iter();
    let calm_segments = slots().all(|slot| slot.retransmits == 0);
    if !calm_segments {
        figures.push(retransmits(report));
    }
    let calm_resets = slots().all(|slot| slot.resets_sent + slot.resets_received == 0);
    if !calm_resets {
        figures.push(resets(report));
    }
    let mut calm = Vec::new();
    calm.extend(calm_queues.map(|percent| format!("no accept queue was found {} % full", percent + 1)));
    calm.extend(calm_ports.map(|percent| format!("TIME_WAIT never held {} % of a destination's ports", percent + 1)));
    calm.extend(calm_segments.then(|| "nothing was sent again".to_owned()));
    calm.extend(calm_resets.then(|| "no RST was sent or received".to_owned()));
    html! {
        section id="timeline" {
            h2 { "How it went" }
            p.note {
                "Times are UTC; each step or bar is " (words::width(report.series.width)) ". "
                @if report.failures.count > 0 { "Shaded: tries failed." }
            }
            @for figure in &figures { (draw(report, clock, figure)) }
            @if !calm.is_empty() { p.note { "Without a chart, for want of anything to see: " (calm.join("; ")) "." } }
        }
    }
}

fn draw(report: &Report, clock: Clock, figure: &Figure) -> Markup {
    let bouts = report.failures.bouts.iter().map(|bout| (bout.from, bout.to)).collect();
    let layers = figure.layers.iter().map(|layer| Layer { values: layer.values.clone(), ..*layer }).collect();
    let chart = Chart { series: &report.series, clock, bouts, height: figure.height, layers };
    html! {
        figure {
            figcaption {
                strong { (figure.title) }
                span.unit { (figure.unit) }
                @for (colour, name) in &figure.legend {
                    span.chip { i style=(format!("--own:var(--{})", variable(*colour))) {} (name) }
                }
            }
            div.chart role="img" aria-label=(figure.title) { (PreEscaped(chart.svg())) }
        }
    }
}

fn variable(colour: RGBColor) -> &'static str {
    PALETTE.iter().find(|(each, _)| *each == colour).map_or("main", |(_, name)| name)
}

/// A layer of a count per slot.
fn counts(report: &Report, mark: Mark, colour: RGBColor, of: impl Fn(&Slot) -> u64) -> Layer {
    let values = report.series.slots.iter().map(|slot| Some(float(of(slot)))).collect();
    Layer { mark, colour, values }
}

fn per_slot(report: &Report, what: &str) -> String {
    format!("{what} {}", words::per(report.series.width))
}

/// Failures, a colour for each cause; those that share the last colour are one.
fn failures(report: &Report) -> Figure {
    let mut legend: Vec<(RGBColor, String)> = Vec::new();
    let mut layers = Vec::new();
    for (index, shade) in CAUSES.into_iter().enumerate() {
        let codes: Vec<_> =
            report.causes.iter().map(|cause| cause.code).filter(|code| colour(report, code) == index).collect();
        if codes.is_empty() {
            continue;
        }
        let of = |slot: &Slot| codes.iter().filter_map(|code| slot.failures.get(code)).sum();
        layers.push(counts(report, Mark::Stacked, shade, of));
        legend.push((shade, codes.join(", ")));
    }
    Figure { title: "Failures by cause".to_owned(), unit: per_slot(report, "tries"), legend, height: 210, layers }
}

/// What failed is shaded, under the lines of all.
fn traffic(report: &Report) -> Figure {
    let mut legend = vec![(MAIN, "connections to upstreams".to_owned())];
    let mut layers = vec![counts(report, Mark::Line { width: 3.0 }, MAIN, |slot| slot.connections)];
    if report.counters.answers > 0 {
        legend.push((SECOND, "answers to clients".to_owned()));
        layers.push(counts(report, Mark::Line { width: 1.25 }, SECOND, |slot| slot.answers));
    }
    if report.counters.answers_failed > 0 {
        legend.push((FAILED, "of them 502 or 504".to_owned()));
        layers.insert(0, counts(report, Mark::Area, FAILED, |slot| slot.answers_failed));
    }
    Figure { title: "Traffic".to_owned(), unit: per_slot(report, "number"), legend, height: 130, layers }
}

/// Charts of those that ever were worth showing; else how full the fullest was, in percent.
fn gauges(report: &Report, all: &[Gauge], figure: fn(&Report, &Gauge) -> Figure) -> (Vec<Figure>, Option<u64>) {
    let shown: Vec<_> =
        all.iter().filter(|gauge| gauge.peak.percent() >= WORTH_SHOWING).map(|gauge| figure(report, gauge)).collect();
    let calm = all.first().map_or(0, |gauge| gauge.peak.percent());
    let calm = shown.is_empty().then_some(calm);
    (shown, calm)
}

fn gauge(title: String, unit: &str, what: &str, limit: &str, gauge: &Gauge) -> Figure {
    let layer = |mark, colour, of: fn(&super::super::Level) -> u32| {
        let values = gauge.levels.iter().map(|level| level.as_ref().map(|level| f64::from(of(level)))).collect();
        Layer { mark, colour, values }
    };
    Figure {
        title,
        unit: unit.to_owned(),
        legend: vec![(MAIN, what.to_owned()), (LIMIT, limit.to_owned())],
        height: 130,
        layers: vec![
            layer(Mark::Area, MAIN, |level| level.value),
            layer(Mark::Line { width: 1.5 }, LIMIT, |level| level.limit),
        ],
    }
}

fn queue(report: &Report, queue: &Gauge) -> Figure {
    let limit = format!("limit, at most {}", number(queue.peak.limit.into()));
    let most = format!("the most at a time, at most {}", number(queue.peak.value.into()));
    let title = format!("Accept queue of {}{}", queue.name, within(report, queue));
    gauge(title, "connections", &most, &limit, queue)
}

fn time_wait(report: &Report, ports: &Gauge) -> Figure {
    let most = format!("in TIME_WAIT, at most {}", number(ports.peak.value.into()));
    let limit = format!("ports there are: {}", number(ports.peak.limit.into()));
    let title = format!("TIME_WAIT towards {}{}", ports.name, within(report, ports));
    gauge(title, "ports", &most, &limit, ports)
}

/// Which namespace, where there is more than one with that name.
fn within(report: &Report, gauge: &Gauge) -> String {
    let all = report.series.queues.iter().chain(&report.series.ports);
    let same = all.filter(|each| each.name == gauge.name && each.netns != gauge.netns).count();
    if same > 0 { format!(" (namespace {})", gauge.netns) } else { String::new() }
}

fn retransmits(report: &Report) -> Figure {
    Figure {
        title: "Retransmissions to upstreams".to_owned(),
        unit: per_slot(report, "segments"),
        legend: Vec::new(),
        height: 110,
        layers: vec![counts(report, Mark::Stacked, MAIN, |slot| slot.retransmits)],
    }
}

fn resets(report: &Report) -> Figure {
    Figure {
        title: "Resets".to_owned(),
        unit: per_slot(report, "RSTs"),
        legend: vec![(MAIN, "received from upstreams".to_owned()), (SECOND, "sent by this host".to_owned())],
        height: 110,
        layers: vec![
            counts(report, Mark::Stacked, MAIN, |slot| slot.resets_received),
            counts(report, Mark::Stacked, SECOND, |slot| slot.resets_sent),
        ],
    }
}
