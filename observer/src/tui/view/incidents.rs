//! What fails, worst first, each with why and what to do; then what will; then what did.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{ALL, Context, explains};
use crate::{
    diagnose::{Confidence, Incident, Warning},
    model::UpstreamKey,
    snapshot::{Snapshot, UpstreamRow},
    time::Time,
    tui::{
        page::Page,
        theme::{FAINT, STRONG},
        widget::{
            number,
            stack::{Block, stack},
            text,
        },
    },
};

/// An incident without a failure for this many seconds is not failing now, though it may not be over.
const FAILING_FOR: u64 = 10;
/// Lines in which an incident can say what happens and what to do.
const FEW_LINES: usize = 3;
/// Incidents that are over and still worth a line.
const ENDED_SHOWN: usize = 5;

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

/// As much as fits. A click on an incident asks why.
pub(super) fn page(context: &Context<'_>, width: usize, height: usize) -> Page {
    let (shown, theme) = (context.shown, context.theme());
    let (active, over): (Vec<_>, Vec<_>) = shown.incidents.iter().partition(|incident| incident.active(shown.now));
    let told = |warning: &Warning| active.iter().any(|incident| tells(shown, incident, warning));
    let warnings: Vec<_> = shown.warnings.iter().filter(|(warning, _)| !told(warning)).collect();
    // The worst few with what to do about them, rather than a bare line for each; and what fails comes first.
    let few = height.div_ceil(FEW_LINES).max(1);
    let few_warnings = if active.len() > few { 0 } else { (few - active.len()).max(1) };
    let hidden = active.len().saturating_sub(few) + warnings.len().saturating_sub(few_warnings);
    let ended_shown = if hidden > 0 { 0 } else { ENDED_SHOWN };
    let mut blocks = Vec::new();
    let told_above = |index: usize, incident: &Incident| {
        let because = incident.latest.because;
        let same = |above: &&&Incident| above.upstream == incident.upstream && above.latest.because == because;
        because.is_some() && active[..index].iter().find(same).is_some()
    };
    let going_on =
        |(index, incident): (usize, &&Incident)| going_on(context, incident, told_above(index, incident), width);
    blocks.extend(active.iter().take(few).enumerate().map(going_on));
    blocks.extend(made_again(context, width));
    blocks.extend(warnings.iter().take(few_warnings).map(|(warning, since)| {
        // What is only wasteful is no news while something fails.
        let brief = !active.is_empty() && warning.cause == "keepalive-off";
        about_to(context, warning, *since, brief, width)
    }));
    // On an upstream's host nothing but a warning may tell of clients that are turned away.
    if active.is_empty() {
        blocks.push(calm(context, width));
    }
    blocks.extend(over.iter().take(ended_shown).map(|incident| ended(context, incident, width)));
    let stacked = stack(blocks, hidden, height, |left_out| {
        Line::styled(text::cut(&format!("  … and {left_out} more, less urgent"), width), theme.warning())
    });
    let mut page = Page::default();
    for (index, (block, line)) in stacked.into_iter().enumerate() {
        if let Some(incident) = block.filter(|block| *block < few).and_then(|block| active.get(block)) {
            page.on_lines(index..index + 1, explains(incident));
        }
        page.line(line);
    }
    page
}

/// What happens, how often, for how long, and why: `502s: 12.3/s for 2 min: accept queue … full`. `×3` before there is a
/// rate, `failing` where the status cannot be told.
pub(super) fn headline(incident: &Incident, shown: &Snapshot) -> String {
    let status = incident.latest.status.map_or_else(|| "failing".to_owned(), |status| format!("{status}s"));
    let rate = match shown.rate(incident) {
        rate if rate > 0.0 => format!("{}/s", number::rate(rate)),
        _ => format!("×{}", number::count(incident.count)),
    };
    let lasted = number::span(incident.latest.time.since(incident.first));
    let upstream = incident.upstream.to_string();
    let summary = brief(incident);
    // Nearly every sentence names its upstream.
    let at = if summary.contains(&upstream) || incident.upstream == UpstreamKey::NONE {
        String::new()
    } else {
        format!(" on {upstream}")
    };
    format!("{status}: {rate}{at} for {lasted}: {summary}")
}

/// What happened, without how the kernel showed it where the sentence says that: between the colon and what lies under it.
fn brief(incident: &Incident) -> String {
    let full = summary(incident);
    // What each rule was missing is for those who ask further.
    if incident.cause == "unknown" {
        return full.split_once("; not settled: ").map(|(what, _)| what.to_owned()).unwrap_or(full);
    }
    if incident.cause != "accept-queue-overflow" || incident.latest.because.is_none() {
        return full;
    }
    let short = full.rsplit_once(": the ").and_then(|(what, how)| Some((what, how.split_once("; ")?.1)));
    short.map(|(what, why)| format!("{what}; {why}")).unwrap_or(full)
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
pub(super) fn extent(context: &Context<'_>, incident: &Incident) -> String {
    let shown = context.shown;
    let tries = if incident.count == 1 { "try" } else { "tries" };
    let count = number::count(incident.count);
    let since = context.since(incident.first);
    let ago = shown.now.since(incident.latest.time);
    let last = if ago.as_secs() < 2 { String::new() } else { format!(", the last {} ago", number::span(ago)) };
    let because = incident.latest.because.map(|because| format!(", because of {because}")).unwrap_or_default();
    format!("{count} {tries} failed {since}{last} · {}{because}", incident.cause)
}

fn going_on(context: &Context<'_>, incident: &Incident, same_as_above: bool, width: usize) -> Block {
    let (shown, theme) = (context.shown, context.theme());
    let (marker, style) = match Phase::of(incident, shown.now) {
        Phase::Failing => ("● ", theme.failing()),
        Phase::Easing | Phase::Over => ("○ ", theme.warning()),
    };
    let headline = headline(incident, shown);
    let headline = |max| text::labelled(Span::styled(marker, style), &headline, style, width, max);
    let extent = || text::labelled(Span::raw("  "), &extent(context, incident), Style::new(), width, 2);
    let advice = incident.latest.advice.first();
    let fix = |max| match advice {
        Some(_) if same_as_above => fix("the same as above: what lies under it is the same", width, 1),
        Some(advice) => fix(advice, width, max),
        None => Vec::new(),
    };
    Block(vec![
        headline(1),
        [headline(1), fix(1)].concat(),
        [headline(2), fix(1)].concat(),
        [headline(2), fix(2)].concat(),
        [headline(3), extent(), fix(3)].concat(),
        [headline(5), extent(), fix(5), vec![Line::default()]].concat(),
    ])
}

fn about_to(context: &Context<'_>, warning: &Warning, since: Time, brief: bool, width: usize) -> Block {
    let (shown, theme) = (context.shown, context.theme());
    let lasts = number::span(shown.now.since(since));
    let summary = format!("warning for {lasts}: {}", warning.summary);
    let summary = |max| text::labelled(Span::styled("! ", theme.warning()), &summary, theme.warning(), width, max);
    let fix = |max| warning.advice.first().map(|advice| fix(advice, width, max)).unwrap_or_default();
    if brief {
        return Block(vec![summary(1)]);
    }
    Block(vec![
        summary(1),
        summary(1),
        summary(1),
        summary(1),
        [summary(2), fix(2)].concat(),
        [summary(3), fix(3), vec![Line::default()]].concat(),
    ])
}

fn ended(context: &Context<'_>, incident: &Incident, width: usize) -> Block {
    let shown = context.shown;
    let verdict = &incident.latest;
    let status = verdict.status.map(|status| format!(" {status}")).unwrap_or_default();
    let line = format!(
        "ended {} at {}:{status} ×{} in {}: {}",
        context.ago(verdict.time),
        number::clock(shown.wall, verdict.time, shown.now),
        number::count(incident.count),
        number::span(verdict.time.since(incident.first)),
        brief(incident),
    );
    let line = |max| text::labelled(Span::styled("  ", FAINT), &line, FAINT, width, max);
    Block(vec![Vec::new(), Vec::new(), line(1), line(1), line(1), line(2)])
}

/// Upstreams whose tries fail without a request that does, as far as is seen: a pool of several hides one that is gone.
fn made_again(context: &Context<'_>, width: usize) -> Vec<Block> {
    let (shown, theme) = (context.shown, context.theme());
    let told = |row: &UpstreamRow| {
        shown.incidents.iter().any(|incident| incident.upstream == row.key && incident.active(shown.now))
    };
    let failing = shown.upstreams.iter().filter(|row| row.failed_per_second > 0.0 && !told(row));
    // Then the proxy has none left to try.
    let all_down = shown.incidents.iter().any(|it| it.cause == "no-live-upstreams" && it.active(shown.now));
    let block = |row: &UpstreamRow| {
        let why = match &row.listener {
            None if row.local => ": nobody is seen to listen there",
            Some((_, _, listener)) if !listener.is_open() => ": its listener has closed",
            _ => "",
        };
        let hidden = if all_down {
            ""
        } else {
            "; no request is seen to: the proxy tries another upstream, or answers otherwise"
        };
        let sentence = format!(
            "{}/s ({}) of the tries at {} fail{why}{hidden}",
            number::rate(row.failed_per_second),
            number::percent(row.failed_per_second, row.tries_per_second),
            row.key,
        );
        let lines = |max| text::labelled(Span::styled("! ", theme.warning()), &sentence, theme.warning(), width, max);
        let start = row.key.endpoint.filter(|_| !why.is_empty()).map(|at| {
            format!("start the application there, or take it out of the pool: ss -ltnp 'sport = :{}'", at.port)
        });
        let fix = |max| start.as_ref().map(|start| fix(start, width, max)).unwrap_or_default();
        Block(vec![
            lines(1),
            lines(1),
            lines(2),
            [lines(2), fix(1)].concat(),
            [lines(3), fix(2)].concat(),
            [lines(3), fix(2), vec![Line::default()]].concat(),
        ])
    };
    failing.take(FEW_LINES).map(block).collect()
}

/// Nothing fails: since when, and how much there was to see.
fn calm(context: &Context<'_>, width: usize) -> Block {
    let (shown, theme) = (context.shown, context.theme());
    let last = shown.incidents.iter().map(|incident| incident.latest.time).max();
    let since = last.unwrap_or(shown.since);
    let seen = match (shown.counters.connections_started, shown.upstreams.len()) {
        (0, 0) => "no connection of a proxy seen yet: a request through it must show here, else ask `observer doctor`"
            .to_owned(),
        (connections, 1) => format!("{} connections to 1 upstream seen", number::count(connections)),
        (connections, upstreams) => format!("{} connections to {upstreams} upstreams seen", number::count(connections)),
    };
    let doubt = if shown.counters.lost.total() > 0 { " (but see what was lost, below)" } else { "" };
    let quiet = number::span(shown.now.since(since));
    let sentence = match last {
        None => format!("no request has failed in the {quiet} watched{doubt}; {seen}"),
        Some(last) => {
            let clock = number::clock(shown.wall, last, shown.now);
            format!("no request has failed for {quiet}, since {clock}{doubt}; {seen}")
        }
    };
    let lines = |max| text::labelled(Span::styled("○ ", theme.calm()), &sentence, Style::new(), width, max);
    let watching = || text::labelled(Span::raw("  "), &format!("watching {}", shown.watching), FAINT, width, 3);
    Block(vec![lines(1), lines(2), lines(4), [lines(4), watching(), vec![Line::default()]].concat()])
}

/// The headline with its marker.
pub(super) fn marked(context: &Context<'_>, incident: &Incident, width: usize) -> Vec<Line<'static>> {
    let (marker, style) = match Phase::of(incident, context.shown.now) {
        Phase::Failing => ("● ", context.theme().failing()),
        Phase::Easing => ("○ ", context.theme().warning()),
        Phase::Over => ("  ended: ", FAINT),
    };
    text::labelled(Span::styled(marker, style), &headline(incident, context.shown), style, width, ALL)
}

/// The extent, and how sure it is.
pub(super) fn extent_in_full(context: &Context<'_>, incident: &Incident) -> String {
    format!("{} ({})", extent(context, incident), incident.latest.confidence.name())
}

fn fix(advice: &str, width: usize, max_lines: usize) -> Vec<Line<'static>> {
    text::labelled(Span::styled("  fix: ", STRONG), advice, STRONG, width, max_lines)
}

/// Whether an incident says already what a warning says: the same cause, or what lies under it, at the same place, be
/// that named as the upstream's address or as the one that its listener is bound to.
fn tells(shown: &Snapshot, incident: &Incident, warning: &Warning) -> bool {
    let bound = || {
        let row = shown.upstreams.iter().find(|row| row.key == incident.upstream);
        row.and_then(|row| row.listener.as_ref()).map(|(_, bound, _)| bound.clone())
    };
    (incident.cause == warning.cause || incident.latest.because == Some(warning.cause))
        && (warning.subject == incident.upstream.to_string() || bound().is_some_and(|bound| bound == warning.subject))
}
