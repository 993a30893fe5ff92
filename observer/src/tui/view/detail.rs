//! All about one upstream: what fails there and why, what to do, and the evidence.

use ratatui::{
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    columns,
    incidents::{self, Phase},
};
use crate::{
    diagnose::{Evidence, Incident},
    snapshot::{Snapshot, UpstreamRow},
    tui::{
        app::App,
        theme::{FAINT, STRONG, Theme},
        widget::{number, text},
    },
};

/// More lines than any terminal has: no limit.
const ALL: usize = 1000;
/// Verdicts listed.
const FAILURES: usize = 10;
/// Spaces between two pieces of evidence.
const GAP: usize = 3;

/// The screen of its own: everything.
pub(super) fn screen(app: &App, shown: &Snapshot, row: &UpstreamRow, area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let mut lines = vec![title(row, width)];
    for incident in incidents_at(shown, row) {
        lines.extend(heading(app.theme, shown, incident, width));
        lines.extend(advice(incident, 1, width));
        lines.extend(evidence(&incident.latest.evidence, width));
        lines.push(Line::default());
    }
    if lines.len() == 1 {
        lines.push(Line::raw("  no failed try seen here"));
    }
    lines.extend(facts(shown, row, width));
    let left = usize::from(area.height).saturating_sub(lines.len());
    lines.extend(failures(shown, row, width, left));
    lines
}

/// The pane below the table: what the first screen does not say already.
pub(super) fn pane(app: &App, shown: &Snapshot, row: &UpstreamRow, area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let mut lines = vec![title(row, width)];
    let here = || incidents_at(shown, row);
    // What goes on stands above, with its headline and the first advice.
    let alone = here().count() == 1 && here().all(|incident| incident.active(shown.now));
    for incident in here() {
        if !alone {
            lines.extend(heading(app.theme, shown, incident, width));
        }
        lines.extend(advice(incident, if alone { 2 } else { 1 }, width));
        lines.extend(evidence(&incident.latest.evidence, width));
    }
    lines.extend(facts(shown, row, width));
    let left = usize::from(area.height).saturating_sub(lines.len());
    lines.extend(failures(shown, row, width, left));
    lines
}

fn incidents_at<'a>(shown: &'a Snapshot, row: &UpstreamRow) -> impl Iterator<Item = &'a Incident> {
    let key = row.key;
    shown.incidents.iter().filter(move |incident| incident.upstream == key)
}

fn title(row: &UpstreamRow, width: usize) -> Line<'static> {
    let title = format!("── {} ", row.key);
    let rule = "─".repeat(width.saturating_sub(text::width(&title)));
    Line::styled(text::cut(&(title + &rule), width), STRONG)
}

/// What is known of the upstream whether or not it fails.
fn facts(shown: &Snapshot, row: &UpstreamRow, width: usize) -> Vec<Line<'static>> {
    let tries = format!(
        "{}[{}]: {} tries, {} failed; {} retransmits/s, {} resets/s",
        row.proxy.comm,
        row.proxy.pid,
        number::count(row.tries),
        number::count(row.failed),
        number::rate(columns::recent(&row.minute, |second| second.retransmits)),
        number::rate(columns::recent(&row.minute, |second| second.resets)),
    );
    let facts = [("proxy     ", tries), ("listener  ", listener(shown, row)), ("TIME_WAIT ", time_wait(row))];
    let labelled = facts
        .into_iter()
        .flat_map(|(name, fact)| text::labelled(Span::raw(format!("  {name}")), &fact, Style::new(), width, ALL));
    labelled.collect()
}

fn listener(shown: &Snapshot, row: &UpstreamRow) -> String {
    let Some((_, bound, listener)) = &row.listener else {
        return "not on this host, or not seen".to_owned();
    };
    if let Some((closed, queued)) = listener.closed_at {
        let ago = number::span(shown.now.since(closed));
        return format!("{bound} closed {ago} ago with {queued} connections in its queue");
    }
    let process = match (&listener.process, listener.holders) {
        (None, _) => String::new(),
        (Some(process), 0 | 1) => format!(" {}[{}]", process.comm, process.pid),
        (Some(process), holders) => format!(" {}[{}] ×{holders}", process.comm, process.pid),
    };
    let last = listener.last_overflow.map(|last| format!(", the last {} ago", number::span(shown.now.since(last))));
    format!(
        "{bound}{process}: queue {}/{}, {} at most; {} overflows{}",
        listener.depth,
        listener.limit,
        listener.high_water,
        number::count(listener.overflows),
        last.unwrap_or_default(),
    )
}

fn time_wait(row: &UpstreamRow) -> String {
    let used = number::count(row.time_wait.into());
    match row.ports {
        None => format!("{used} ports"),
        Some(ports) => format!(
            "{used} of {} ports ({})",
            number::count(ports.into()),
            number::percent(row.time_wait.into(), ports.into())
        ),
    }
}

/// The last verdicts here, the latest first, in what room is left; a heading alone would be no use.
fn failures(shown: &Snapshot, row: &UpstreamRow, width: usize, left: usize) -> Vec<Line<'static>> {
    let here = shown.recent.iter().filter(|verdict| verdict.upstream == row.key);
    let mut lines = vec![Line::default(), Line::styled("  last failures here", FAINT)];
    lines.extend(here.take(FAILURES.min(left.saturating_sub(lines.len()))).map(|verdict| {
        let status = verdict.status.map_or_else(|| "  -".to_owned(), |status| status.to_string());
        let time = shown.wall.rfc3339(verdict.time);
        let time = time.get(11..23).unwrap_or(&time);
        let (proxy, confidence) = (&verdict.proxy, verdict.confidence.name());
        let line = format!("  {time}Z  {status}  {}[{}]  {} ({confidence})", proxy.comm, proxy.pid, verdict.cause);
        Line::raw(text::cut(&line, width))
    }));
    if lines.len() > 2 { lines } else { Vec::new() }
}

fn heading(theme: Theme, shown: &Snapshot, incident: &Incident, width: usize) -> Vec<Line<'static>> {
    let (marker, style) = match Phase::of(incident, shown.now) {
        Phase::Failing => ("● ", theme.failing()),
        Phase::Easing => ("○ ", theme.warning()),
        Phase::Over => ("  ended: ", FAINT),
    };
    let headline = incidents::headline(incident, shown.now);
    let mut lines = text::labelled(Span::styled(marker, style), &headline, style, width, ALL);
    let confidence = incident.latest.confidence.name();
    let extent = format!("{} ({confidence})", incidents::extent(shown, incident));
    lines.extend(text::labelled(Span::raw("  "), &extent, Style::new(), width, ALL));
    lines
}

/// The advice from the `first` on, counted from 1.
fn advice(incident: &Incident, first: usize, width: usize) -> Vec<Line<'static>> {
    let numbered = incident.latest.advice.iter().zip(1..).skip(first - 1).flat_map(|(advice, number): (_, usize)| {
        let label = if number == first { format!("  fix {number}. ") } else { format!("      {number}. ") };
        text::labelled(Span::styled(label, STRONG), advice, Style::new(), width, ALL)
    });
    numbered.collect()
}

/// `name value` in columns; what is too long for one has lines of its own.
fn evidence(evidence: &Evidence, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(2);
    let pairs: Vec<_> = evidence.iter().map(|(name, value)| (name, value.to_string())).collect();
    let cells = |(name, value): &(&str, String)| text::width(name) + 1 + text::width(value) + GAP;
    let (short, long): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|pair| cells(pair) <= (room / 2).max(32));
    let column = short.iter().map(cells).max().unwrap_or(1);
    let mut lines: Vec<Line<'static>> = Vec::new();
    for line in short.chunks((room / column).max(1)) {
        let mut spans = vec![Span::raw("  ")];
        for (name, value) in line {
            let blank = " ".repeat(column - cells(&(name, value.clone())) + GAP);
            spans.push(Span::styled(format!("{name} "), FAINT));
            spans.push(Span::raw(value.clone()));
            spans.push(Span::raw(blank));
        }
        lines.push(Line::from(spans));
    }
    for (name, value) in long {
        lines.extend(text::labelled(Span::styled(format!("  {name} "), FAINT), &value, Style::new(), width, ALL));
    }
    lines
}
