//! What to change, ordered by what it would cure, from what was seen: each with the text to copy, how to see that it helped, and what
//! would not.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::report::words::count_of;
use crate::{
    diagnose::{
        Incident, Standing,
        remedy::{Facts, Remedy, remedy},
    },
    snapshot::{ConfiguredRow, Snapshot, UpstreamRow},
};

/// Incidents advised on; of more, those with the most failures.
const MAX_ADVISED: usize = 10;

/// An incident, and what to do about it.
struct Advised<'a> {
    incident: &'a Incident,
    remedy: Remedy,
}

/// The incidents, the most failures first, and how many are left out.
fn advised(shown: &Snapshot) -> (Vec<Advised<'_>>, usize) {
    let mut incidents: Vec<_> = shown.incidents.iter().collect();
    incidents.sort_by_key(|incident| std::cmp::Reverse(incident.count));
    let others = incidents.len().saturating_sub(MAX_ADVISED);
    let of = |incident: &'_ Incident| {
        let row = shown.upstreams.iter().find(|row| row.key == incident.upstream);
        remedy(&incident.latest, &row.map_or_else(Facts::default, UpstreamRow::facts))
    };
    let first = incidents.into_iter().take(MAX_ADVISED);
    (first.map(|incident| Advised { incident, remedy: of(incident) }).collect(), others)
}

/// Lines for people.
pub fn to_text(shown: &Snapshot) -> String {
    let (advised, others) = advised(shown);
    let mut text = String::new();
    if advised.is_empty() {
        text.push_str(match confirmed(shown).next() {
            None => "Nothing failed while it was watched: there is nothing to change.\n",
            Some(_) => "Nothing failed while it was watched.\n",
        });
    }
    for (number, Advised { incident, remedy }) in (1..).zip(&advised) {
        let latest = &incident.latest;
        let because = latest.because.map(|because| format!(", because {because}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{number}. {}{because} at {}: {}\n   {}",
            incident.cause,
            incident.upstream,
            count_of(incident.count, "failure", "failures"),
            latest.summary
        );
        list(&mut text, "do", latest.advice.iter().map(String::as_str));
        for snippet in &remedy.snippets {
            let _ = writeln!(text, "\n   {} ({})", snippet.title, snippet.language);
            for line in snippet.text.lines() {
                let _ = writeln!(text, "     │ {line}");
            }
        }
        text.push_str("\n   did it help?\n");
        let _ = writeln!(text, "     $ {HELPED}");
        for check in &remedy.checks {
            let _ = writeln!(text, "     $ {}\n       now: {}", check.command, check.expect);
        }
        list(&mut text, "what would not help, or make it worse", remedy.worse.iter().map(String::as_str));
        text.push('\n');
    }
    if others > 0 {
        let _ = writeln!(text, "And {others} more, with fewer failures.");
    }
    for (warning, _) in &shown.warnings {
        let _ = writeln!(text, "before it fails: {}: {}", warning.cause, warning.summary);
        list(&mut text, "do", warning.advice.iter().map(String::as_str));
    }
    for row in confirmed(shown) {
        let ConfiguredRow { master, finding, held, upstreams: _ } = row;
        let _ = writeln!(
            text,
            "\nin the configuration of {}[{}]: {}, {}",
            master.comm,
            master.pid,
            finding.code,
            row.place()
        );
        // Without its names a recording has no sentence.
        for line in [&finding.what, &held.to_string()].into_iter().filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "   {line}");
        }
        for line in &finding.fix {
            let _ = writeln!(text, "     │ {line}");
        }
    }
    if shown.counters.lost.total() > 0 {
        text.push_str("Some of what happened was lost: counts are lower bounds.\n");
    }
    text
}

/// What is wrong with the configuration, as what was measured shows.
fn confirmed(shown: &Snapshot) -> impl Iterator<Item = &ConfiguredRow> {
    shown.configured.iter().filter(|row| row.held.standing == Standing::Confirmed)
}

/// How to see whether a change helped.
const HELPED: &str = "observer record -o after.arrows.zst --duration 1m && observer compare BEFORE after.arrows.zst";

fn list<'a>(text: &mut String, title: &str, lines: impl Iterator<Item = &'a str>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(text, "\n   {title}");
    }
    for line in lines {
        let _ = writeln!(text, "     - {line}");
    }
}

/// One object for machines.
pub fn to_json(shown: &Snapshot) -> Value {
    let (advised, others) = advised(shown);
    let advised = advised.iter().map(|Advised { incident, remedy }| {
        let Remedy { explanation, checks, snippets, worse } = remedy;
        json!({
            "cause": incident.cause,
            "because": incident.latest.because,
            "upstream": incident.upstream.to_string(),
            "failures": incident.count,
            "summary": incident.latest.summary,
            "advice": incident.latest.advice,
            "explanation": explanation,
            "changes": snippets.iter().map(|it| json!({ "title": it.title, "language": it.language, "text": it.text })).collect::<Vec<_>>(),
            "checks": checks.iter().map(|it| json!({ "command": it.command, "expect": it.expect })).collect::<Vec<_>>(),
            "worse": worse,
        })
    });
    let warnings = shown.warnings.iter().map(|(warning, _)| {
        json!({ "cause": warning.cause, "subject": warning.subject, "summary": warning.summary, "advice": warning.advice })
    });
    let configuration = confirmed(shown).map(|row| {
        let ConfiguredRow { master, finding, held, upstreams } = row;
        json!({
            "code": finding.code,
            "file": finding.file,
            "line": finding.line,
            "proxy": { "comm": master.comm, "pid": master.pid },
            "upstreams": upstreams.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "what": finding.what,
            "seen": held.seen,
            "fix": finding.fix,
        })
    });
    json!({
        "incidents": advised.collect::<Vec<_>>(),
        "left_out": others,
        "warnings": warnings.collect::<Vec<_>>(),
        "configuration": configuration.collect::<Vec<_>>(),
        "lossy": shown.counters.lost.total() > 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixture;

    #[test]
    fn each_incident_has_something_to_copy_and_a_way_to_check() {
        let text = to_text(&fixture::three());
        for wanted in ["1. ", "2. ", "3. ", "did it help?", "observer compare", "what would not help", "│ "] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let value = to_json(&fixture::three());
        let incidents = value["incidents"].as_array().unwrap();
        let failures: Vec<_> = incidents.iter().map(|it| it["failures"].as_u64().unwrap()).collect();
        assert!(failures.len() == 3 && failures.is_sorted_by(|a, b| a >= b), "{failures:?}");
        assert!(incidents.iter().all(|it| !it["changes"].as_array().unwrap().is_empty()), "{value}");
    }

    #[test]
    fn what_is_confirmed_of_the_configuration_is_told_with_the_change() {
        let shown = fixture::configured();
        let text = to_text(&shown);
        for wanted in [
            "in the configuration of nginx[41]: keepalive-not-in-effect, /etc/nginx/conf.d/app.conf:12",
            "confirmed: ",
            "│ proxy_http_version 1.1;",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(!text.contains("connect-timeout-long"), "nothing was measured of it: {text}");
        let value = to_json(&shown);
        let told = value["configuration"].as_array().unwrap();
        assert_eq!((told.len(), &told[0]["upstreams"][0]), (1, &json!("10.0.0.2:8000")));
    }

    #[test]
    fn where_nothing_fails_there_is_nothing_to_change() {
        assert!(to_text(&fixture::idle()).starts_with("Nothing failed"));
    }
}
