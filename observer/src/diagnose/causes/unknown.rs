//! What is left when the evidence does not settle it. See `unknown.md`.

use crate::{
    diagnose::{
        evidence::Evidence,
        logged::{self, Message},
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    model::Ending,
    time::Human,
};

/// The registry's line.
pub const RULE: Rule =
    Rule { code: "unknown", page: include_str!("unknown.md"), judge: never, watch: None, remedy: remedy::unknown };

fn never(_: &Case<'_>) -> Judgement {
    Judgement::No
}

/// What was seen, and for each rule that came near what it was missing.
pub(crate) fn finding(case: &Case<'_>, missing: &[(&'static str, &'static str)]) -> Finding {
    let connection = case.attempt.connection.as_ref();
    let (mut what, mut status) = seen(case);
    if let Some(line) = &case.attempt.line {
        what = format!("{what}; its log says: {}", line.said);
        status = logged::known(&line.said).and_then(Message::status_without_try).or(status);
    }
    let missed: Vec<_> = missing.iter().map(|(code, what)| format!("{code}: {what}")).collect();
    let summary = if missed.is_empty() { what } else { format!("{what}; not settled: {}", missed.join("; ")) };
    let errno = match case.attempt.ending {
        Ending::ConnectError(error) => Some(u32::from(error)),
        _ => None,
    };
    let evidence = Evidence::default()
        .maybe("errno", errno)
        .maybe("unix_path", case.attempt.upstream.path.map(|path| path.as_str().to_owned()))
        .maybe("bytes_sent", connection.map(|it| it.bytes_sent))
        .maybe("bytes_received", connection.map(|it| it.bytes_received))
        .maybe("unacknowledged_bytes", connection.map(|it| it.unacked))
        .maybe("syn_retransmits", connection.map(|it| u32::from(it.syn_retransmits)))
        .maybe("data_retransmits", connection.map(|it| u32::from(it.data_retransmits)))
        .with("never_accepted", case.flow.never_accepted())
        .maybe("queue_depth", case.listener().map(|it| it.depth))
        .maybe("queue_limit", case.listener().map(|it| it.limit))
        .maybe("missing", (!missed.is_empty()).then(|| missed.join("; ")));
    Finding {
        confidence: Confidence::Possible,
        status,
        because: None,
        also: Vec::new(),
        summary,
        evidence,
        advice: advice(case),
    }
}

fn advice(case: &Case<'_>) -> Vec<String> {
    if let Some(line) = &case.attempt.line
        && let Some(said) = logged::known(&line.said)
    {
        return vec![format!("the proxy's error log says: {} ({})", line.said, said.remark())];
    }
    let log = "compare with the proxy's error log at this time".to_owned();
    match case.attempt.upstream.endpoint {
        Some(at) if !case.model.is_local(at.ip) => {
            vec![format!("run observer on the host of {at} as well: what is missing shows there; and {log}")]
        }
        _ => vec![log],
    }
}

/// The ending in words, and the status that nginx would have answered with.
fn seen(case: &Case<'_>) -> (String, Option<u16>) {
    let upstream = case.attempt.upstream;
    let connection = case.attempt.connection.as_ref();
    let first_use =
        connection.is_some_and(|it| it.bytes_received == 0 && (it.bytes_sent > 0 || it.unacked > 0)).then_some(502);
    let lasted = |since| Human(case.attempt.time.since(since));
    match case.attempt.ending {
        Ending::ConnectError(error) => (format!("connect() to {upstream} failed with errno {error}"), Some(502)),
        Ending::ConnectTimedOut { by_kernel } => {
            let syns = connection.map_or(0, |it| it.syn_retransmits);
            let after = connection.map(|it| format!(" after {}", lasted(it.started))).unwrap_or_default();
            let status = if by_kernel { 502 } else { 504 };
            (format!("{upstream} did not answer {} SYNs{after}", u32::from(syns) + 1), Some(status))
        }
        Ending::NoAnswer => {
            let waited =
                connection.and_then(|it| it.since_sent).map(|it| format!(" for {}", Human(it))).unwrap_or_default();
            let unacked = connection.is_some_and(|it| it.unacked > 0);
            let unread = connection.is_some_and(|it| it.unread > 0);
            let not_asked = connection.is_some_and(|it| it.bytes_sent == 0 && it.unacked == 0);
            let what = if not_asked {
                "it had not been asked yet"
            } else if unread {
                "one had come, which it had not read"
            } else if unacked {
                "the request was never acknowledged"
            } else if case.flow.never_accepted() {
                "the request waited in the accept queue and was never accepted"
            } else {
                "the request was acknowledged and not answered"
            };
            // The client may have left first; the proxy closes just the same (nginx: 499).
            (format!("no answer from {upstream}{waited}: {what} (or the client left)"), None)
        }
        // Whether anything was asked is not certain here, so neither is what the client got.
        Ending::Reset => (format!("{upstream} reset the connection before it answered"), first_use),
        Ending::ClosedEarly => (format!("{upstream} closed the connection before it answered"), first_use),
        Ending::SentOnClosed => (format!("the proxy wrote on a connection that {upstream} had closed"), None),
        Ending::Rejected => (format!("{upstream} answered, and the proxy made an error of it"), None),
        Ending::NoTry => {
            ("the proxy answered with an error of its own, without a try at any upstream".to_owned(), None)
        }
        Ending::NoPort | Ending::Refused { .. } | Ending::Completed | Ending::Abandoned => {
            (format!("the try at {upstream} failed"), Some(502))
        }
    }
}
