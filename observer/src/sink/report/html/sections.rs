//! Everything below the charts.

use maud::{Markup, html};

use super::{
    super::{
        Cause, Listed, MomentKind, Report,
        cause::{Advised, EvidenceLine},
        page,
        words::{self, Clock, capital, number, share},
    },
    chip, code_spans, colour,
};
use crate::host;

pub(super) fn course(report: &Report, clock: Clock) -> Markup {
    html! {
        section id="course" {
            h2 { "Course of events" }
            table.course {
                thead { tr { th { "UTC" } th { "what" } th { "" } } }
                tbody {
                    @for moment in &report.moments.items {
                        tr.failure[moment.kind == MomentKind::Failure] {
                            td.time { (clock.time(moment.time)) }
                            td.kind { (moment.kind.name()) }
                            td {
                                @if let Some(cause) = moment.cause { (chip(report, cause)) " " }
                                (moment.text)
                            }
                        }
                    }
                }
            }
            @if report.moments.others > 0 {
                p.note { (number(report.moments.others)) " more changes of listeners and settings in between are left out." }
            }
        }
    }
}

pub(super) fn causes(report: &Report, clock: Clock) -> Markup {
    html! {
        @if !report.causes.is_empty() {
            section id="causes" {
                h2 { "Root causes" }
                @for cause in &report.causes { (cause_section(report, clock, cause)) }
            }
        }
    }
}

fn cause_section(report: &Report, clock: Clock, cause: &Cause) -> Markup {
    let checks: Vec<_> =
        std::iter::once(cause.code).chain(cause.because.iter().map(|(code, _)| *code)).flat_map(page::checks).collect();
    html! {
        article id=(cause.code) style=(format!("--own:var(--cause-{})", colour(report, cause.code))) {
            h3 { (words::chain(cause)) }
            p.facts {
                (words::count_of(cause.count, "failure", "failures"))
                " · " (share(cause.count, report.failures.count)) " of all"
                " · " (clock.span(cause.span)) " UTC"
                " · " (words::confidence(&cause.confidence))
            }
            p.sentence {
                (code_spans(&capital(&cause.summary))) ". "
                span.note { "(at " (clock.time(cause.summary_time)) ")" }
            }
            @if !cause.missing.items.is_empty() {
                h4 { "What was missing to settle it" }
                (sentences(&cause.missing, cause.count))
            }
            div.columns {
                div {
                    h4 { "What to do" }
                    (sentences(&cause.advice, cause.count))
                    @if !checks.is_empty() {
                        h4 { "Check by hand" }
                        ul { @for check in &checks { li { code { (check) } } } }
                    }
                    h4 { "Where" }
                    ul {
                        @for (upstream, count) in &cause.upstreams.items { li { (upstream) ": " (number(*count)) } }
                        @if cause.upstreams.others > 0 { li { (number(cause.upstreams.others)) " more upstreams" } }
                    }
                }
                div {
                    h4 { "Evidence" }
                    (evidence(&cause.evidence))
                }
            }
            h4 { "How it comes about" }
            dl.chain {
                (link(cause.code, None))
                @for (code, count) in &cause.because { (link(code, Some(("because", *count, cause.count)))) }
                @for (code, count) in &cause.also { (link(code, Some(("also", *count, cause.count)))) }
            }
        }
    }
}

/// A link of the chain from the failure to what lies under it.
fn link(code: &str, under: Option<(&str, u64, u64)>) -> Markup {
    html! {
        dt {
            @if let Some((word, count, all)) = under {
                span.note { (word) " (" (share(count, all)) ") " }
            }
            (code)
        }
        dd { (code_spans(&page::excerpt(code))) " " span.note { code { "observer explain " (code) } } }
    }
}

fn sentences(listed: &Listed<Advised>, all: u64) -> Markup {
    html! {
        ul {
            @for Advised { text, count } in &listed.items {
                li {
                    (code_spans(text))
                    @if *count < all { " " span.note { "(" (share(*count, all)) " of them)" } }
                }
            }
            @if listed.others > 0 { li.note { "said otherwise " (words::count_of(listed.others, "time", "times")) } }
        }
    }
}

fn evidence(lines: &[EvidenceLine]) -> Markup {
    let spreads = lines.iter().any(|line| words::spread(line).is_some());
    html! {
        table.evidence {
            @if spreads { thead { tr { th { "" } th { "this one" } th { "all of them" } } } }
            tbody {
                @for line in lines {
                    tr {
                        th scope="row" { (line.name) }
                        td { (words::value(&line.name, &line.value)) }
                        @if spreads { td.note { (words::spread(line).unwrap_or_default()) } }
                    }
                }
            }
        }
    }
}

pub(super) fn warnings(report: &Report, clock: Clock) -> Markup {
    html! {
        @if !report.warnings.items.is_empty() {
            section id="warnings" {
                h2 { "Warnings" }
                p.note { "Conditions that make tries fail, before or while they do. Repeated every 30 s while they hold." }
                table {
                    thead { tr { th { "UTC" } th { "leads to" } th { "as said last" } } }
                    tbody {
                        @for warned in &report.warnings.items {
                            tr {
                                td.time { (clock.span(warned.span)) br; span.note { "said " (words::times(warned.said)) } }
                                td { (chip(report, warned.cause)) }
                                td {
                                    (code_spans(&warned.summary))
                                    @if let Some(advice) = warned.advice.first() {
                                        br; span.note { "Fix: " (code_spans(advice)) }
                                    }
                                }
                            }
                        }
                    }
                }
                @if report.warnings.others > 0 {
                    p.note { "Others were given " (words::times(report.warnings.others)) " and are not listed." }
                }
            }
        }
    }
}

pub(super) fn upstreams(report: &Report) -> Markup {
    html! {
        section id="upstreams" {
            h2 { "Upstreams" }
            @if report.upstreams.items.is_empty() { p { "None was tried." } } @else {
                table {
                    thead { tr { th { "upstream" } th { "used by" } th.number { "tries ended" } th.number { "failed" } th { "why" } } }
                    tbody {
                        @for upstream in &report.upstreams.items {
                            @let failed: u64 = upstream.failures.iter().map(|(_, count)| count).sum();
                            tr {
                                td { (upstream.name) br; span.note { "namespace " (words::netns(upstream.netns)) } }
                                td.plain { (upstream.proxy) }
                                td.number { (number(upstream.tries)) }
                                td.number { (number(failed)) }
                                td { @for (code, count) in &upstream.failures { (chip(report, code)) " " (number(*count)) " " } }
                            }
                        }
                    }
                }
                @if report.upstreams.others > 0 { p.note { (number(report.upstreams.others)) " more are not listed." } }
            }
            @if !report.listeners.items.is_empty() {
                h3 { "Accept queues of this host that overflowed" }
                table {
                    thead { tr { th { "listener" } th { "held by" } th.number { "overflows" } th.number { "deepest" } th.number { "limit" } } }
                    tbody {
                        @for listener in &report.listeners.items {
                            tr {
                                td { (listener.name) br; span.note { "namespace " (words::netns(listener.netns)) } }
                                td.plain { (listener.owner) }
                                td.number { (number(listener.overflows)) }
                                td.number { (number(listener.high_water.into())) }
                                td.number { (number(listener.limit.into())) }
                            }
                        }
                    }
                }
                @if report.listeners.others > 0 { p.note { (number(report.listeners.others)) " more are not listed." } }
            }
        }
    }
}

pub(super) fn unseen(report: &Report) -> Markup {
    let caveats = words::caveats(report);
    let harmless = words::harmless_tries(report.harmless);
    let expected: u64 = report.failures.expected.values().sum();
    html! {
        section id="unseen" {
            h2 { "What is not in these numbers" }
            ul {
                @if report.is_lossy() { @for caveat in &caveats { li { (caveat) } } }
                @else {
                    li { "Nothing was lost: every record of the kernel programs arrived." }
                    @for caveat in &caveats { li { (caveat) } }
                }
                @if expected > 0 {
                    li { "The answers to " (words::count_of(expected, "failed try", "failed tries")) " could not be read; their statuses are those to be expected." }
                }
                @for (count, what) in &harmless { li { (words::count_of(*count, "more try", "more tries")) " " (what) "." } }
                @if report.counters.application_errors > 0 {
                    li { (words::count_of(report.counters.application_errors, "error", "errors")) " (500, 502, 503 or 504) came from the applications themselves, and are no verdicts." }
                }
            }
        }
    }
}

pub(super) fn host(report: &Report, clock: Clock) -> Markup {
    let about = &report.about;
    html! {
        section id="host" {
            h2 { "Host and settings" }
            dl.host {
                dt { "host" } dd { (about.host) }
                dt { "kernel" } dd { (about.kernel) " " (about.machine) }
                dt { "watched" } dd { (about.watching) }
                dt { "recorded" } dd { (clock.date(report.from)) " to " (clock.date(report.to)) " UTC, " (words::count_of(report.events, "event", "events")) }
                dt { "observer" } dd { (about.version) }
            }
            @if !about.settings.is_empty() {
                h3 { "Settings at the start, of the namespace that observer ran in" }
                table.settings {
                    tbody {
                        @for (name, value) in &about.settings {
                            tr {
                                th scope="row" { (name) }
                                td { (value) @if let Some(remark) = host::remark(name, value) { br; strong { (remark) } } }
                            }
                        }
                    }
                }
            }
            @if !report.namespaces.items.is_empty() {
                h3 { "Network namespaces, as last seen" }
                table {
                    thead {
                        tr {
                            th { "namespace" } th.number { "somaxconn" } th { "ports" } th.number { "tcp_tw_reuse" }
                            th.number { "abort on overflow" } th.number { "ListenOverflows" } th.number { "ListenDrops" }
                        }
                    }
                    tbody {
                        @for namespace in &report.namespaces.items {
                            tr {
                                td { (namespace.netns) @if namespace.concerned { " " span.note { "proxy or upstream" } } }
                                td.number { (words::known(namespace.somaxconn)) }
                                td.plain { (words::range(namespace.port_range)) }
                                td.number { (words::known(namespace.tw_reuse)) }
                                td.number { (words::known(namespace.abort_on_overflow)) }
                                td.number { (words::rise(namespace.listen_overflows)) }
                                td.number { (words::rise(namespace.listen_drops)) }
                            }
                        }
                    }
                }
                @let traps = words::traps(report);
                @if !traps.is_empty() { ul { @for trap in &traps { li { strong { (trap) } } } } }
                @if report.namespaces.others > 0 { p.note { (number(report.namespaces.others)) " more are not listed." } }
            }
        }
    }
}
