//! All about one upstream, from both sides where both are on this host.
//!
//! ```text
//! ── 10.0.0.2:8000, 1 of 2 ──────────────────────────────────────────
//! ● 502s: 12.3/s for 2 min: accept queue of 10.0.0.2:8000 full …
//!
//! failed     738 of 1,943 tries in the last 60 s, at most 13 in a second
//!            a ▁▂████ accept-queue-overflow 738
//! queue      ████████████ 129/128 FULL, 129 at most         as its own host sees it
//! workers    8, 8 with a connection open; 32.4/s arrive …
//! backlog    128 in effect, below net.core.somaxconn 4096 …
//! listener   0.0.0.0:8000 gunicorn[4711], 9 processes
//! proxy      nginx[42]: 32.4 tries/s …                      as the proxy sees it
//! TIME_WAIT  455 of 28,232 ports (1%)
//! in the proxy's configuration
//!   ! /etc/nginx/nginx.conf:12: keepalive-not-in-effect …
//! last failures, the latest first
//! ```

use std::fmt::Write as _;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{ALL, Context, columns, configured, evidence, explains, incidents, legend, rule, table};
use crate::{
    diagnose::Verdict,
    event::Application,
    model::Listener,
    snapshot::{Pool, Quantiles, UpstreamRow},
    tui::{
        action::{Action, Subject},
        page::Page,
        theme::{FAINT, STRONG},
        widget::{gauge, number, spark, text},
    },
};

/// Verdicts listed.
const FAILURES: usize = 10;
/// Cells of what a line is about.
const LABEL: usize = 11;
/// Cells of the accept queue's gauge.
const GAUGE: usize = 20;
/// From this backlog on a listener seldom asks for more: what cuts a smaller one is `somaxconn`.
const ROOMY_BACKLOG: u32 = 4096;

/// The whole screen.
pub(super) fn page(context: &Context<'_>, width: usize) -> Page {
    let mut page = Page::default();
    let gone = context.app.upstream.filter(|key| !context.shown.upstreams.iter().any(|row| row.key == *key));
    if let Some(key) = gone {
        page.line(text::cut(&format!("{key} is not known any more; Esc goes back"), width));
        return page;
    }
    let Some(row) = context.selected() else {
        page.line(text::cut("no upstream seen yet", width));
        return page;
    };
    let rows = table::rows(context);
    let place = rows.iter().position(|each| each.key == row.key).map(|at| format!(", {} of {}", at + 1, rows.len()));
    page.line(rule(&format!("{}{}", row.key, place.unwrap_or_default()), width));
    let here: Vec<_> = context.shown.incidents.iter().filter(|incident| incident.upstream == row.key).collect();
    for incident in &here {
        let from = page.lines.len();
        page.lines(incidents::marked(context, incident, width));
        page.on_lines(from..page.lines.len(), explains(incident));
    }
    if here.is_empty() {
        page.line("  no failed try seen here");
    }
    page.line(Line::default());
    page.lines(facts(context, row, width));
    page.lines(configured::lines(context, &row.key, width));
    let from = page.lines.len();
    let failures = failures(context, row, width, true);
    let each = 2;
    for (index, verdict) in verdicts(context, row).take(FAILURES).enumerate() {
        let line = from + 2 + index * each;
        page.on_lines(line..line + each, Action::Explain(Subject::Verdict(Box::new(verdict.clone()))));
    }
    page.lines(failures);
    page
}

/// What is known of the upstream whether or not it fails: what may be in short supply first.
pub(super) fn facts(context: &Context<'_>, row: &UpstreamRow, width: usize) -> Vec<Line<'static>> {
    let mut lines = timeline(context, row, width);
    let plain = Style::new();
    let pressing = row.ports_gone_in.is_some() || columns::nearly(row.time_wait, row.ports.unwrap_or(u32::MAX));
    let ports = vec![("TIME_WAIT", time_wait(row), if pressing { context.theme().warning() } else { plain })];
    let proxy = std::iter::once(("proxy", proxy(row), plain));
    let times = times(row).map(|times| ("times", times, plain));
    let (first, last) = if pressing { (ports, Vec::new()) } else { (Vec::new(), ports) };
    let own = row.listener.as_ref().map(|(netns, bound, listener)| {
        let elsewhere = *netns != row.key.netns && row.key.netns.known();
        let elsewhere = if elsewhere { ", in another network namespace" } else { "" };
        own_side(context, row, listener, format!("{bound}{}{elsewhere}", owner(listener)))
    });
    let nobody = if row.local {
        "nobody listens there on this host, as far as is seen"
    } else {
        "not on this host: only the proxy's side is seen"
    };
    let nobody = own.is_none().then(|| ("listener", nobody.to_owned(), plain));
    let all = first.into_iter().chain(own.unwrap_or_default()).chain(proxy).chain(times).chain(last).chain(nobody);
    lines.extend(all.flat_map(|(name, text, style)| {
        let label = Span::styled(text::pad(name, LABEL, false), FAINT);
        text::labelled(label, &text, style, width, ALL)
    }));
    lines
}

/// As its own host sees it.
fn own_side(
    context: &Context<'_>,
    row: &UpstreamRow,
    listener: &Listener,
    bound: String,
) -> Vec<(&'static str, String, Style)> {
    let plain = Style::new();
    let bound = ("listener", bound, plain);
    if let Some((closed, queued)) = listener.closed_at {
        let closed = format!("{}, with {queued} connections in its queue", context.ago(closed));
        return vec![("closed", closed, context.theme().warning()), bound];
    }
    let full = if columns::full(listener) { context.theme().warning().patch(STRONG) } else { plain };
    vec![
        ("queue", queue(context, listener), full),
        ("workers", workers(listener, row.pool), plain),
        ("backlog", backlog(listener, row.somaxconn), plain),
        bound,
    ]
}

/// What the proxy's tries came to.
fn proxy(row: &UpstreamRow) -> String {
    if row.proxy.pid == 0 {
        return "no try of one has ended yet".to_owned();
    }
    format!(
        "{}[{}]: {} tries/s, {}/s fail ({}); {} retransmits/s, {} resets/s; in all {} tries, {} failed",
        row.proxy.comm,
        row.proxy.pid,
        number::rate(row.tries_per_second),
        number::rate(row.failed_per_second),
        number::percent(row.failed_per_second, row.tries_per_second),
        number::rate(row.retransmits_per_second),
        number::rate(row.resets_per_second),
        number::count(row.tries),
        number::count(row.failed),
    )
}

/// How long it takes to connect, and to get the first of an answer.
fn times(row: &UpstreamRow) -> Option<String> {
    let told = |what: &str, quantiles: Option<Quantiles>| {
        quantiles.map(|Quantiles { count, p50, p99 }| {
            let (half, most) = (number::short(p50), number::short(p99));
            format!("{what}: half within {half}, 99 % within {most} ({} measured)", number::count(count))
        })
    };
    let told: Vec<_> =
        [told("connect", row.connect), told("first byte", row.first_byte)].into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn time_wait(row: &UpstreamRow) -> String {
    let used = number::count(row.time_wait.into());
    let of = match row.ports {
        None => format!("{used} ports"),
        Some(ports) => format!(
            "{used} of {} ports ({})",
            number::count(ports.into()),
            number::percent(row.time_wait.into(), ports.into())
        ),
    };
    match row.ports_gone_in {
        Some(left) => format!("{of}; at this rate all are gone in {}", number::span(left)),
        None => of,
    }
}

/// ` gunicorn[4711], 9 processes`
fn owner(listener: &Listener) -> String {
    match (&listener.process, listener.holders) {
        (None, _) => String::new(),
        (Some(process), 0 | 1) => format!(" {}[{}]", process.comm, process.pid),
        (Some(process), holders) => format!(" {}[{}], {holders} processes", process.comm, process.pid),
    }
}

fn queue(context: &Context<'_>, listener: &Listener) -> String {
    let Listener { depth, limit, high_water, overflows, last_overflow, .. } = listener;
    let bar = gauge::marked(*depth, *limit, *high_water, GAUGE);
    let full = if columns::full(listener) { " FULL" } else { "" };
    let last = last_overflow.map(|last| format!(", the last {}", context.ago(last))).unwrap_or_default();
    format!("{bar} {depth}/{limit}{full}, {high_water} at most; {} overflows{last}", number::count(*overflows))
}

/// What the application asked for is not known, only what came of it.
fn backlog(listener: &Listener, somaxconn: Option<u32>) -> String {
    let limit = listener.limit;
    match somaxconn {
        None => format!("{limit} in effect; net.core.somaxconn is not known"),
        Some(somaxconn) if limit < somaxconn => {
            format!(
                "{limit} in effect, below net.core.somaxconn {somaxconn}: what the application asked for, unless somaxconn \
                 was raised since"
            )
        }
        Some(somaxconn) if limit == somaxconn && limit < ROOMY_BACKLOG => {
            format!("{limit} in effect: clamped to net.core.somaxconn {somaxconn}, most likely")
        }
        Some(somaxconn) if limit == somaxconn => {
            format!("{limit} in effect, as much as net.core.somaxconn {somaxconn} lets through")
        }
        Some(somaxconn) => {
            format!("{limit} in effect, above net.core.somaxconn {somaxconn}, which was lowered since")
        }
    }
}

fn workers(listener: &Listener, pool: Option<Pool>) -> String {
    let Some(pool) = pool else {
        if let Some(application) = listener.application {
            return format!("{application}; what they do is not measured");
        }
        return match listener.workers() {
            None => "how many is not known".to_owned(),
            Some(1) => "1 process; what it does is not measured".to_owned(),
            Some(workers) => format!("{workers}; what they do is not measured"),
        };
    };
    let Pool { workers, application, busy, arrivals_per_second, accepted_per_second, seconds_per_request, needed } =
        pool;
    let (come, taken) = (number::rate(arrivals_per_second), number::rate(accepted_per_second));
    let mut text = match application {
        // At capacity what they accept is what they can do.
        Some(known) if needed.is_some() => {
            format!("{}, {busy} busy; can do {taken}/s, {come}/s come in", at_once(known, workers))
        }
        Some(known) => {
            format!("{}, {busy} connections open; {come}/s come in, {taken}/s are accepted", at_once(known, workers))
        }
        None => format!("{workers}, {busy} with a connection open; {come}/s arrive, {taken}/s are accepted"),
    };
    if let Some(seconds) = seconds_per_request {
        let at_work = arrivals_per_second * seconds;
        // Writing to a string cannot fail.
        let _ = write!(text, "; {come}/s × {seconds:.2} s each is work for {at_work:.1}");
    }
    if let Some(needed) = needed {
        let _ = write!(text, ": {needed} would do");
    }
    text
}

/// `gunicorn: 2 workers x 4 threads`
fn at_once(application: Application, workers: u32) -> String {
    let Application { software, workers: counted, threads, event_loop } = application;
    // Where they were not told apart their number is a guess.
    let count = match (counted, workers) {
        (None, workers) => format!("{workers} workers, as it seems"),
        (Some(_), 1) => "1 worker".to_owned(),
        (Some(_), workers) => format!("{workers} workers"),
    };
    match threads {
        _ if event_loop && counted.is_none() => format!("{software}: event loop"),
        _ if event_loop => format!("{software}: {count}, event loop"),
        None => format!("{software}: {count}"),
        Some(1) => format!("{software}: {count} x 1 thread"),
        Some(threads) => format!("{software}: {count} x {threads} threads"),
    }
}

/// The last minute's failures, a row of bars for each cause, all to the same scale.
fn timeline(context: &Context<'_>, row: &UpstreamRow, width: usize) -> Vec<Line<'static>> {
    let failed: u64 = row.minute.iter().map(|second| u64::from(second.failed)).sum();
    let tries: u64 = row.minute.iter().map(|second| u64::from(second.tries)).sum();
    let most = row.minute.iter().map(|second| second.failed).max().unwrap_or(0);
    let (failed_text, tries_text) = (number::count(failed), number::count(tries));
    let peak = if most > 0 { format!(", at most {most} in a second") } else { String::new() };
    let total = format!("{failed_text} of {tries_text} tries in the last 60 s{peak}");
    let label = Span::styled(text::pad("failed", LABEL, false), FAINT);
    let mut lines = text::labelled(label, &total, Style::new(), width, ALL);
    let highest = row.by_cause.iter().flat_map(|(_, seconds)| seconds).copied().max().unwrap_or(0);
    for (cause, seconds) in &row.by_cause {
        let count: u64 = seconds.iter().copied().map(u64::from).sum();
        if count == 0 {
            continue;
        }
        let name = format!(" {cause} {}", number::count(count));
        let bars = spark::to_scale(seconds, highest, width.saturating_sub(LABEL + 2 + text::width(&name)).min(60));
        let style = legend::style(context, cause);
        lines.push(Line::from(vec![
            Span::raw(" ".repeat(LABEL)),
            Span::styled(format!("{} {bars}", legend::letter(cause)), style),
            Span::raw(text::cut(&name, width.saturating_sub(LABEL + 2))),
        ]));
    }
    lines
}

fn verdicts<'a>(context: &Context<'a>, row: &UpstreamRow) -> impl Iterator<Item = &'a Verdict> {
    let key = row.key;
    context.shown.recent.iter().filter(move |verdict| verdict.upstream == key)
}

/// The last verdicts here, the latest first; with what each rests on, if wanted.
pub(super) fn failures(
    context: &Context<'_>,
    row: &UpstreamRow,
    width: usize,
    with_evidence: bool,
) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default(), Line::styled("last failures, the latest first", FAINT)];
    for verdict in verdicts(context, row).take(FAILURES) {
        let status = verdict.status.map_or_else(|| "  -".to_owned(), |status| status.to_string());
        let (proxy, confidence) = (&verdict.proxy, verdict.confidence.name());
        let client = verdict.client.map(|client| format!(" for {client}")).unwrap_or_default();
        let time = context.exactly(verdict.time);
        let line =
            format!("  {time}  {status}  {}[{}]{client}  {} ({confidence})", proxy.comm, proxy.pid, verdict.cause);
        lines.push(Line::raw(text::cut(&line, width)));
        if with_evidence {
            let evidence = format!("    {}", evidence::sentence(&verdict.evidence));
            lines.push(Line::styled(text::cut(&evidence, width), FAINT));
        }
    }
    if lines.len() > 2 { lines } else { Vec::new() }
}
