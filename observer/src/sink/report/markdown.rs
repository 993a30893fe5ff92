//! The report as Markdown, to paste into a document. Text of a trace is escaped: it can neither format nor break a table.

use std::fmt::Write as _;

use super::{
    Cause, Listed, Report,
    cause::Advised,
    page,
    words::{self, Clock, capital, count_of, number, share},
};

/// The whole document.
pub fn render(report: &Report) -> String {
    let clock = Clock::of(report);
    let sections = [
        head(report, clock),
        course(report, clock),
        causes(report, clock),
        warnings(report, clock),
        upstreams(report),
        unseen(report),
        host(report, clock),
    ];
    let written: Vec<_> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    written.join("\n")
}

/// Text of which some is between backticks, as pages and advice write commands. Only well-formed spans stay spans.
fn prose(text: &str) -> String {
    let pieces: Vec<_> = text.split('`').collect();
    if pieces.len().is_multiple_of(2) {
        return escape(text);
    }
    let mut out = String::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        if index % 2 == 1 {
            // A table's cell ends at a bar even within a span; elsewhere the escape would show, so a look-alike stands in.
            let _ = write!(out, "`{}`", piece.replace('|', "¦"));
        } else {
            out.push_str(&escape(piece));
        }
    }
    out
}

/// Text that is to be read as it is.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' | '$' | '!' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

fn table(out: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(out, "| {} |", heads.join(" | "));
    let _ = writeln!(out, "|{}", " --- |".repeat(heads.len()));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
}

fn head(report: &Report, clock: Clock) -> String {
    let mut out = format!(
        "# {} on {}\n\n{}\n",
        words::headline(report),
        escape(&report.about.host),
        escape(&words::lead(report))
    );
    let caveats = words::caveats(report);
    if !caveats.is_empty() {
        out.push_str("\n> **Not everything was seen.**\n");
        for caveat in caveats {
            let _ = writeln!(out, ">\n> {}", escape(&caveat));
        }
    }
    let (named, others) = words::named(report);
    for cause in named {
        let share = share(cause.count, report.failures.count);
        let _ = writeln!(out, "\n**{share}: {}.** {}.", words::chain(cause), prose(&capital(&cause.summary)));
        if let Some(advice) = cause.advice.items.first() {
            let _ = writeln!(out, "Fix: {}.", prose(&advice.text));
        }
    }
    if others > 0 {
        let _ = writeln!(out, "\nAnd {others} more below.");
    }
    if let Some((time, count)) = report.failures.peak {
        let width = words::width(report.series.width);
        let _ = writeln!(out, "\nPeak: {} in {width} from {} UTC.", number(count), clock.time(time));
    }
    out
}

fn course(report: &Report, clock: Clock) -> String {
    let mut out = "## Course of events\n\n".to_owned();
    let rows = report.moments.items.iter().map(|moment| {
        let cause = moment.cause.map(|cause| format!("{cause}: ")).unwrap_or_default();
        vec![clock.time(moment.time), moment.kind.name().to_owned(), format!("{cause}{}", escape(&moment.text))]
    });
    table(&mut out, &["UTC", "what", ""], rows);
    left_out(&mut out, report.moments.others, "changes of listeners and settings in between");
    out
}

fn left_out(out: &mut String, count: u64, what: &str) {
    if count > 0 {
        let _ = writeln!(out, "\n{} more {what} are not listed.", number(count));
    }
}

fn causes(report: &Report, clock: Clock) -> String {
    if report.causes.is_empty() {
        return String::new();
    }
    let sections: Vec<_> = report.causes.iter().map(|cause| cause_section(report, clock, cause)).collect();
    format!("## Root causes\n\n{}", sections.join("\n"))
}

fn cause_section(report: &Report, clock: Clock, cause: &Cause) -> String {
    let mut out = format!("### {}\n\n", words::chain(cause));
    let _ = writeln!(
        out,
        "{} · {} of all · {} UTC · {}\n\n{}. (At {}.)",
        count_of(cause.count, "failure", "failures"),
        share(cause.count, report.failures.count),
        clock.span(cause.span),
        words::confidence(&cause.confidence),
        prose(&capital(&cause.summary)),
        clock.time(cause.summary_time),
    );
    list(&mut out, "What was missing to settle it", &cause.missing, cause.count);
    list(&mut out, "What to do", &cause.advice, cause.count);
    let codes = || std::iter::once(cause.code).chain(cause.because.iter().map(|(code, _)| *code));
    let checks: Vec<_> = codes().flat_map(page::checks).map(|check| format!("* `{check}`")).collect();
    if !checks.is_empty() {
        let _ = writeln!(out, "\nCheck by hand:\n\n{}", checks.join("\n"));
    }
    out.push_str("\nWhere:\n\n");
    for (upstream, count) in &cause.upstreams.items {
        let _ = writeln!(out, "* {}: {}", escape(upstream), number(*count));
    }
    left_out(&mut out, cause.upstreams.others, "upstreams");
    out.push_str("\nEvidence:\n\n");
    let rows = cause.evidence.iter().map(|line| {
        let value = escape(&words::value(&line.name, &line.value));
        vec![format!("`{}`", line.name), value, words::spread(line).unwrap_or_default()]
    });
    table(&mut out, &["", "this one", "all of them"], rows);
    let _ = writeln!(out, "\nHow it comes about:\n\n* **{}**: {}", cause.code, page::excerpt(cause.code));
    let under = |word, codes: &[(&'static str, u64)]| {
        let lines = codes.iter().map(|(code, count)| {
            format!("* {word} **{code}** ({}): {}\n", share(*count, cause.count), page::excerpt(code))
        });
        lines.collect::<String>()
    };
    out.push_str(&under("because", &cause.because));
    out.push_str(&under("also", &cause.also));
    out
}

fn list(out: &mut String, title: &str, listed: &Listed<Advised>, all: u64) {
    if listed.items.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}:\n");
    for Advised { text, count } in &listed.items {
        let part = if *count < all { format!(" ({} of them)", share(*count, all)) } else { String::new() };
        let _ = writeln!(out, "* {}{part}", prose(text));
    }
}

fn warnings(report: &Report, clock: Clock) -> String {
    if report.warnings.items.is_empty() {
        return String::new();
    }
    let mut out = "## Warnings\n\n".to_owned();
    let rows = report.warnings.items.iter().map(|warned| {
        let fix = warned.advice.first().map(|advice| format!(" Fix: {}.", prose(advice))).unwrap_or_default();
        vec![clock.span(warned.span), warned.cause.to_owned(), format!("{}.{fix}", prose(&warned.summary))]
    });
    table(&mut out, &["UTC", "leads to", "as said last"], rows);
    if report.warnings.others > 0 {
        let _ = writeln!(out, "\nOthers were given {} and are not listed.", words::times(report.warnings.others));
    }
    out
}

fn upstreams(report: &Report) -> String {
    let mut out = "## Upstreams\n\n".to_owned();
    if report.upstreams.items.is_empty() {
        out.push_str("None was tried.\n");
        return out;
    }
    let rows = report.upstreams.items.iter().map(|upstream| {
        let failed: u64 = upstream.failures.iter().map(|(_, count)| count).sum();
        let why: Vec<_> = upstream.failures.iter().map(|(code, count)| format!("{code} {}", number(*count))).collect();
        let proxy = escape(&upstream.proxy);
        vec![escape(&upstream.name), proxy, number(upstream.tries), number(failed), why.join(", ")]
    });
    table(&mut out, &["upstream", "used by", "tries ended", "failed", "why"], rows);
    left_out(&mut out, report.upstreams.others, "upstreams");
    if !report.listeners.items.is_empty() {
        out.push_str("\nAccept queues of this host that overflowed:\n\n");
        let rows = report.listeners.items.iter().map(|listener| {
            let counts = [listener.overflows, listener.high_water.into(), listener.limit.into()].map(number);
            [vec![listener.name.clone(), escape(&listener.owner)], counts.to_vec()].concat()
        });
        table(&mut out, &["listener", "held by", "overflows", "deepest", "limit"], rows);
        left_out(&mut out, report.listeners.others, "listeners");
    }
    out
}

fn unseen(report: &Report) -> String {
    let mut lines = Vec::new();
    if !report.is_lossy() {
        lines.push("Nothing was lost: every record of the kernel programs arrived.".to_owned());
    }
    lines.extend(words::caveats(report));
    let harmless = words::harmless_tries(report.harmless);
    lines.extend(
        harmless.into_iter().map(|(count, what)| format!("{} {what}.", count_of(count, "more try", "more tries"))),
    );
    let bullets: Vec<_> = lines.iter().map(|line| format!("* {}", escape(line))).collect();
    format!("## What is not in these numbers\n\n{}\n", bullets.join("\n"))
}

fn host(report: &Report, clock: Clock) -> String {
    let about = &report.about;
    let mut out = "## Host and settings\n\n".to_owned();
    let _ = writeln!(
        out,
        "{}, kernel {} {}; watched {}, {} to {} UTC, with observer {}.\n",
        escape(&about.host),
        escape(&about.kernel),
        escape(&about.machine),
        escape(&about.watching),
        clock.date(report.from),
        clock.date(report.to),
        escape(&about.version),
    );
    table(
        &mut out,
        &["setting", "value"],
        about.settings.iter().map(|(name, value)| vec![escape(name), escape(value)]),
    );
    if !report.namespaces.items.is_empty() {
        out.push('\n');
        let rows = report.namespaces.items.iter().map(|each| {
            vec![
                each.netns.to_string(),
                words::known(each.somaxconn),
                words::range(each.port_range),
                words::known(each.tw_reuse),
                words::known(each.abort_on_overflow),
                words::rise(each.listen_overflows),
                words::rise(each.listen_drops),
            ]
        });
        let heads = [
            "network namespace",
            "somaxconn",
            "ports",
            "tcp\\_tw\\_reuse",
            "abort on overflow",
            "ListenOverflows",
            "ListenDrops",
        ];
        table(&mut out, &heads, rows);
        for trap in words::traps(report) {
            let _ = writeln!(out, "\n**{}**", escape(&trap));
        }
        left_out(&mut out, report.namespaces.others, "namespaces");
    }
    out
}
