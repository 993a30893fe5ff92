//! The report as one page that needs nothing else: no network, no script. All text is escaped by maud as it is put in.

mod charts;
mod sections;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Cause, Report,
    chart::PALETTE,
    words::{self, Clock, capital, number, share},
};

/// Rules of the page; colours are variables that light, dark and print set.
const STYLE: &str = include_str!("html/style.css");

/// The whole page.
pub fn render(report: &Report) -> String {
    let clock = Clock::of(report);
    let title = format!("{} on {}", words::headline(report), report.about.host);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(chart_style())) }
            }
            body {
                main {
                    (head(report, clock))
                    (charts::section(report, clock))
                    (sections::course(report, clock))
                    (sections::causes(report, clock))
                    (sections::warnings(report, clock))
                    (sections::upstreams(report))
                    (sections::unseen(report))
                    (sections::host(report, clock))
                }
                footer {
                    "A draft by observer " (report.about.version) ", from the recorded events. What it cannot know is \
                     yours to add: who was affected, what was done, what will be."
                }
            }
        }
    }
    .into_string()
}

/// In a chart every colour is an attribute; the page's variables take its place.
fn chart_style() -> String {
    let rules = PALETTE.iter().map(|(colour, name)| {
        let hex = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
        format!("svg [fill=\"{hex}\"]{{fill:var(--{name})}}svg [stroke=\"{hex}\"]{{stroke:var(--{name})}}\n")
    });
    rules.collect()
}

/// What is to be got in ten seconds.
fn head(report: &Report, clock: Clock) -> Markup {
    let caveats = words::caveats(report);
    html! {
        header {
            p.eyebrow { "Incident report · " (report.about.host) " · " (clock.date(report.from)) " to " (clock.date(report.to)) " UTC" }
            h1.quiet[report.failures.count == 0] { (words::headline(report)) }
            p.lead { (words::lead(report)) }
        }
        @if !caveats.is_empty() {
            aside.caveat {
                strong { "Not everything was seen." }
                ul { @for caveat in &caveats { li { (caveat) } } }
            }
        }
        (figures(report, clock))
        @if report.failures.count > 0 { (why(report)) }
    }
}

/// The numbers that everybody asks for.
fn figures(report: &Report, clock: Clock) -> Markup {
    let Some((first, last)) = report.failures.span else { return html! {} };
    let concerned = report.upstreams.items.iter().filter(|upstream| !upstream.failures.is_empty()).count();
    let peak = report.failures.peak.map(|(time, count)| (clock.time(time), count, report.series.width));
    html! {
        dl.figures {
            div { dt { "failed" } dd { (number(report.failures.count)) } dd.small { (statuses(report)) } }
            div {
                dt { "of all tries" }
                dd { (share(report.failures.count, report.tries.max(report.failures.count))) }
                dd.small { "of " (number(report.tries)) }
            }
            @if report.counters.answers > 0 {
                div {
                    dt { "of clients’ answers" }
                    dd { (share(report.counters.answers_failed, report.counters.answers)) }
                    dd.small { (number(report.counters.answers_failed)) " of " (number(report.counters.answers)) }
                }
            }
            div { dt { "from – to, UTC" } dd { (clock.time(first)) } dd.small { "to " (clock.time(last)) } }
            @if let Some((time, count, width)) = peak {
                div { dt { "peak" } dd { (number(count)) } dd.small { "in " (words::width(width)) " from " (time) } }
            }
            div {
                dt { "upstreams" }
                dd { (concerned) }
                dd.small { "of " (report.upstreams.items.len() as u64 + report.upstreams.others) " used" }
            }
        }
    }
}

fn statuses(report: &Report) -> String {
    let (observed, expected) = (&report.failures.observed, &report.failures.expected);
    match (observed.is_empty(), expected.is_empty()) {
        (true, true) => "status not known".to_owned(),
        (false, true) => words::statuses(observed),
        (true, false) => format!("expected {}", words::statuses(expected)),
        (false, false) => format!("{}; expected {}", words::statuses(observed), words::statuses(expected)),
    }
}

/// The main causes, a sentence and a cure for each.
fn why(report: &Report) -> Markup {
    let (named, others) = words::named(report);
    html! {
        section.why aria-label="Why" {
            @for cause in named {
                div.reason style=(format!("--own:var(--cause-{})", colour(report, cause.code))) {
                    p.share { (share(cause.count, report.failures.count)) }
                    div {
                        p.chain { a href=(format!("#{}", cause.code)) { (words::chain(cause)) } }
                        p { (code_spans(&capital(&cause.summary))) "." }
                        @if let Some(advice) = cause.advice.items.first() {
                            p.fix { strong { "Fix: " } (code_spans(&advice.text)) "." }
                        }
                    }
                }
            }
            @if others > 0 { p.small { "and " (others) " more below" } }
        }
    }
}

/// A cause's code with its colour.
fn chip(report: &Report, code: &str) -> Markup {
    let known = report.causes.iter().any(|cause| cause.code == code);
    html! {
        span.chip {
            @if known { i style=(format!("--own:var(--cause-{})", colour(report, code))) {} }
            (code)
        }
    }
}

/// The number of a cause's colour, the same all over the report.
fn colour(report: &Report, code: &str) -> usize {
    let others = super::chart::CAUSES.len() - 1;
    let mut known = report.causes.iter().map(|cause: &Cause| cause.code).filter(|code| *code != "unknown");
    known.position(|each| each == code).map_or(others, |rank| rank.min(others))
}

/// Text of which some is between backticks, as pages and advice write commands.
fn code_spans(text: &str) -> Markup {
    html! {
        @for (index, piece) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (piece) } } @else { (piece) }
        }
    }
}
