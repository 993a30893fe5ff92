//! All about one upstream: what fails there and why, what to do, and the evidence.

use ratatui::{
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
    time::Human,
    tui::{
        app::App,
        theme::Theme,
        widget::{number, text},
    },
};

/// More lines than any terminal has: no limit.
const ALL: usize = 1000;
/// Spaces between two pieces of evidence.
const GAP: usize = 3;

/// The screen of its own: everything.
pub(super) fn screen(app: &App, shown: &Snapshot, row: &UpstreamRow, width: usize) -> Vec<Line<'static>> {
    let mut lines = facts(app.theme, shown, row, width);
    let mut any = false;
    for incident in shown.incidents.iter().filter(|incident| incident.upstream == row.key) {
        any = true;
        lines.push(Line::default());
        lines.extend(heading(app.theme, shown, incident, width));
        lines.extend(advice(app.theme, incident, width));
        lines.extend(evidence(app.theme, &incident.latest.evidence, width));
    }
    if !any {
        lines.push(Line::raw("  no failed try seen here"));
    }
    lines
}

/// The pane below the table: what the first screen does not say already.
pub(super) fn pane(app: &App, shown: &Snapshot, row: &UpstreamRow, width: usize) -> Vec<Line<'static>> {
    let mut lines = facts(app.theme, shown, row, width);
    let here = || shown.incidents.iter().filter(|incident| incident.upstream == row.key);
    // What goes on stands above, with its headline.
    let alone = here().count() == 1 && here().all(|incident| incident.active(shown.now));
    for incident in here() {
        if !alone {
            lines.extend(heading(app.theme, shown, incident, width));
        }
        lines.extend(advice(app.theme, incident, width));
        lines.extend(evidence(app.theme, &incident.latest.evidence, width));
    }
    lines
}

/// What is known of the upstream whether or not it fails.
fn facts(theme: Theme, shown: &Snapshot, row: &UpstreamRow, width: usize) -> Vec<Line<'static>> {
    let title = format!("── {} ", row.key);
    let rule = "─".repeat(width.saturating_sub(text::width(&title)));
    let mut lines = vec![Line::styled(text::cut(&(title + &rule), width), theme.strong())];
    let since = number::clock(shown.wall, shown.since, shown.now);
    let tries = format!(
        "used by {}[{}]: {} tries, {} failed since {since}; {} retransmits/s, {} resets/s",
        row.proxy.comm,
        row.proxy.pid,
        number::count(row.tries),
        number::count(row.failed),
        number::rate(columns::recent(&row.minute, |second| second.retransmits)),
        number::rate(columns::recent(&row.minute, |second| second.resets)),
    );
    for fact in [tries, listener(shown, row), time_wait(row)] {
        lines.extend(text::labelled(Span::raw("  "), &fact, Style::new(), width, ALL));
    }
    lines
}

fn listener(shown: &Snapshot, row: &UpstreamRow) -> String {
    let Some((_, bound, listener)) = &row.listener else {
        return "its listener is not on this host, or was not seen".to_owned();
    };
    if let Some((closed, queued)) = listener.closed_at {
        let ago = number::span(shown.now.since(closed));
        return format!("its listener {bound} was closed {ago} ago with {queued} connections in its queue");
    }
    let process = match (&listener.process, listener.holders) {
        (None, _) => String::new(),
        (Some(process), 0 | 1) => format!(" of {}[{}]", process.comm, process.pid),
        (Some(process), holders) => format!(" of {}[{}], {holders} processes", process.comm, process.pid),
    };
    let last = listener.last_overflow.map(|last| format!(", the last {} ago", Human(shown.now.since(last))));
    format!(
        "listener {bound}{process}: {} of {} in its accept queue, {} at most; {} overflows{}",
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
        None => format!("{used} ports in TIME_WAIT towards it"),
        Some(ports) => format!(
            "{used} of {} ports in TIME_WAIT towards it ({})",
            number::count(ports.into()),
            number::percent(row.time_wait.into(), ports.into())
        ),
    }
}

fn heading(theme: Theme, shown: &Snapshot, incident: &Incident, width: usize) -> Vec<Line<'static>> {
    let (marker, style) = match Phase::of(incident, shown.now) {
        Phase::Failing => ("● ", theme.failing()),
        Phase::Easing => ("○ ", theme.warning()),
        Phase::Over => ("  ended: ", theme.faint()),
    };
    let headline = format!("{}  {}", incidents::rate(incident, shown.now), incidents::summary(incident));
    let mut lines = text::labelled(Span::styled(marker, style), &headline, style, width, ALL);
    let confidence = incident.latest.confidence.name();
    let extent = format!("{} ({confidence})", incidents::extent(shown, incident));
    lines.extend(text::labelled(Span::raw("  "), &extent, Style::new(), width, ALL));
    lines
}

fn advice(theme: Theme, incident: &Incident, width: usize) -> Vec<Line<'static>> {
    let numbered = incident.latest.advice.iter().zip(1_u32..).flat_map(|(advice, number)| {
        let label = if number == 1 { "  fix 1. ".to_owned() } else { format!("      {number}. ") };
        text::labelled(Span::styled(label, theme.strong()), advice, Style::new(), width, ALL)
    });
    numbered.collect()
}

/// `name value` in columns; what is too long for one has lines of its own.
fn evidence(theme: Theme, evidence: &Evidence, width: usize) -> Vec<Line<'static>> {
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
            spans.push(Span::styled(format!("{name} "), theme.faint()));
            spans.push(Span::raw(value.clone()));
            spans.push(Span::raw(blank));
        }
        lines.push(Line::from(spans));
    }
    for (name, value) in long {
        lines.extend(text::labelled(Span::styled(format!("  {name} "), theme.faint()), &value, Style::new(), width, ALL));
    }
    lines
}
