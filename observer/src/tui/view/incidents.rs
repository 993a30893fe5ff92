//! What fails, worst first, each with why and what to do; then what will; then what did.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::{
    diagnose::{Confidence, Incident, Warning},
    snapshot::Snapshot,
    time::Time,
    tui::{
        theme::Theme,
        widget::{
            number,
            stack::{Block, stack},
            text,
        },
    },
};

/// An incident without a failure for this many seconds is not failing now, though it may not be over.
const FAILING_FOR: u64 = 10;
/// Incidents that are over and still worth a line.
const OVER_SHOWN: usize = 5;

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It fails now.
    Failing,
    /// It has failed, but not in the last seconds.
    Easing,
    /// It is over.
    Over,
}

impl Phase {
    pub(super) fn of(incident: &Incident, now: Time) -> Self {
        if !incident.active(now) {
            Self::Over
        } else if now.since(incident.latest.time).as_secs() < FAILING_FOR {
            Self::Failing
        } else {
            Self::Easing
        }
    }
}

/// As much as fits.
pub(super) fn lines(theme: Theme, shown: &Snapshot, width: usize, height: usize) -> Vec<Line<'static>> {
    let active = || shown.incidents.iter().filter(|incident| incident.active(shown.now));
    let over = shown.incidents.iter().filter(|incident| !incident.active(shown.now));
    let mut blocks = Vec::new();
    if active().next().is_none() {
        blocks.push(calm(theme, shown, width));
    }
    // A block takes a line at least, so that there is no use in laying out more of them than lines.
    blocks.extend(active().take(height + 1).map(|incident| going_on(theme, shown, incident, width)));
    let told = |warning: &Warning| active().any(|incident| tells(shown, incident, warning));
    let warnings = shown.warnings.iter().filter(|(warning, _)| !told(warning));
    blocks.extend(warnings.take(height + 1).map(|(warning, since)| warning_block(theme, shown, warning, *since, width)));
    blocks.extend(over.take(OVER_SHOWN).map(|incident| ended(theme, shown, incident, width)));
    let laid_out = blocks.len();
    let all = active().count().max(1) + shown.warnings.len().min(laid_out);
    stack(blocks, height, |left_out| {
        let more = left_out.max(all.saturating_sub(laid_out));
        Line::styled(text::cut(&format!("  … {more} more: enlarge the terminal"), width), theme.warning())
    })
}

/// `502 12.3/s`, `502 ×3` before there is a rate, `failing` where the status cannot be told.
pub(super) fn rate(incident: &Incident, now: Time) -> String {
    let status = incident.latest.status.map_or_else(|| "failing".to_owned(), |status| status.to_string());
    match incident.rate(now) {
        rate if rate > 0.0 => format!("{status} {}/s", number::rate(rate)),
        _ => format!("{status} ×{}", number::count(incident.count)),
    }
}

/// What happened, with as much doubt as there is.
pub(super) fn summary(incident: &Incident) -> String {
    let doubt = match (incident.latest.confidence, incident.cause) {
        (Confidence::Certain, _) => String::new(),
        (_, "unknown") => "cause unknown: ".to_owned(),
        (confidence, _) => format!("{}: ", confidence.name()),
    };
    doubt + &incident.latest.summary
}

/// How many, since when, and by what code to ask further.
pub(super) fn extent(shown: &Snapshot, incident: &Incident) -> String {
    let lasted = incident.latest.time.since(incident.first);
    let since = number::clock(shown.wall, incident.first, shown.now);
    let count = number::count(incident.count);
    let because = incident.latest.because.map(|because| format!(", because of {because}")).unwrap_or_default();
    let ago = shown.now.since(incident.latest.time);
    let last = if ago.as_secs() < 2 { String::new() } else { format!(", last {} ago", number::span(ago)) };
    format!("{count} in {} since {since}{last} · {}{because}", number::span(lasted), incident.cause)
}

fn going_on(theme: Theme, shown: &Snapshot, incident: &Incident, width: usize) -> Block {
    let (marker, style) = match Phase::of(incident, shown.now) {
        Phase::Failing => ("● ", theme.failing()),
        Phase::Easing | Phase::Over => ("○ ", theme.warning()),
    };
    let headline = format!("{}  {}", rate(incident, shown.now), summary(incident));
    let headline = |max| text::labelled(Span::styled(marker, style), &headline, style, width, max);
    let extent = || text::labelled(Span::raw("  "), &extent(shown, incident), Style::new(), width, 1);
    let advice = incident.latest.advice.first();
    let fix = |max| advice.map(|advice| fix(theme, advice, width, max)).unwrap_or_default();
    Block(vec![
        headline(1),
        [headline(1), fix(1)].concat(),
        [headline(2), fix(1)].concat(),
        [headline(2), extent(), fix(1)].concat(),
        [headline(3), extent(), fix(2)].concat(),
        [headline(4), extent(), fix(4), vec![Line::default()]].concat(),
    ])
}

fn warning_block(theme: Theme, shown: &Snapshot, warning: &Warning, since: Time, width: usize) -> Block {
    let lasts = number::span(shown.now.since(since));
    let summary = format!("warning for {lasts}  {}", warning.summary);
    let summary = |max| text::labelled(Span::styled("! ", theme.warning()), &summary, theme.warning(), width, max);
    let fix = |max| warning.advice.first().map(|advice| fix(theme, advice, width, max)).unwrap_or_default();
    Block(vec![
        summary(1),
        summary(1),
        summary(2),
        [summary(2), fix(1)].concat(),
        [summary(2), fix(2)].concat(),
        [summary(3), fix(3), vec![Line::default()]].concat(),
    ])
}

fn ended(theme: Theme, shown: &Snapshot, incident: &Incident, width: usize) -> Block {
    let verdict = &incident.latest;
    let status = verdict.status.map(|status| format!(" {status}")).unwrap_or_default();
    let line = format!(
        "ended {} ago at {}:{status} ×{} in {}: {}",
        number::span(shown.now.since(verdict.time)),
        number::clock(shown.wall, verdict.time, shown.now),
        number::count(incident.count),
        number::span(verdict.time.since(incident.first)),
        summary(incident),
    );
    let line = |max| text::labelled(Span::styled("  ", theme.faint()), &line, theme.faint(), width, max);
    Block(vec![Vec::new(), Vec::new(), line(1), line(1), line(2)])
}

/// Nothing fails: since when, and how much there was to see.
fn calm(theme: Theme, shown: &Snapshot, width: usize) -> Block {
    let last = shown.incidents.iter().map(|incident| incident.latest.time).max();
    let since = last.unwrap_or(shown.since);
    let seen = match (shown.counters.connections_started, shown.upstreams.len()) {
        (0, 0) => "no connection of a proxy seen yet".to_owned(),
        (connections, 1) => format!("{} connections to 1 upstream seen", number::count(connections)),
        (connections, upstreams) => format!("{} connections to {upstreams} upstreams seen", number::count(connections)),
    };
    let doubt = if shown.counters.lost.total() > 0 { " (but see what was lost, below)" } else { "" };
    let sentence = format!(
        "no failing tries since {} ({}){doubt}; {seen}",
        number::clock(shown.wall, since, shown.now),
        number::span(shown.now.since(since)),
    );
    let lines = |max| text::labelled(Span::styled("○ ", theme.calm()), &sentence, Style::new(), width, max);
    Block(vec![lines(1), lines(2), lines(4), [lines(4), vec![Line::default()]].concat()])
}

fn fix(theme: Theme, advice: &str, width: usize, max_lines: usize) -> Vec<Line<'static>> {
    text::labelled(Span::styled("  fix: ", theme.strong()), advice, theme.strong(), width, max_lines)
}

/// Whether an incident says already what a warning says: the same cause at the same place, be it named as the
/// upstream's address or as the address that its listener is bound to.
fn tells(shown: &Snapshot, incident: &Incident, warning: &Warning) -> bool {
    let bound = || {
        let row = shown.upstreams.iter().find(|row| row.key == incident.upstream);
        row.and_then(|row| row.listener.as_ref()).map(|(_, bound, _)| bound.to_string())
    };
    incident.cause == warning.cause
        && (warning.subject == incident.upstream.to_string() || bound().is_some_and(|bound| bound == warning.subject))
}
