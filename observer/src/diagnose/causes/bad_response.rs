//! The upstream answered, and the proxy would not have it. See `bad_response.md`.

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    model::{Ending, UpstreamKey},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "bad-response",
    page: include_str!("bad_response.md"),
    judge,
    watch: None,
    remedy: remedy::bad_response,
};

/// A header of this many bytes fills nginx's `proxy_buffer_size` where that is a page, its default.
const BUFFER: u64 = 4096;

/// What to do about each kind.
const TOO_BIG: &str =
    "raise `proxy_buffer_size` (and `proxy_buffers`), or find what makes the header so big: cookies, tokens";
const INVALID: &str = "mend what the application sends there: a control character in a header's value is an injection more often than a mistake";
const PROTOCOL: &str = "check that both speak the same protocol on that port: TLS against plain text (http:// or https:// in proxy_pass), \
                        HTTP/2, FastCGI";

/// What the proxy wrote of it.
fn by_log(case: &Case<'_>) -> Option<Judgement> {
    let said = case.logged(RULE.code).filter(|_| case.attempt.ending == Ending::Rejected)?;
    let advice = match said {
        _ if said.contains("too big header") => TOO_BIG,
        _ if said.contains("invalid header") => INVALID,
        _ => PROTOCOL,
    };
    let connection = case.attempt.connection.as_ref();
    // A log may name none.
    let known = case.attempt.upstream != UpstreamKey::NONE;
    let who = if known { case.attempt.upstream.to_string() } else { "an upstream".to_owned() };
    Some(Judgement::Found(Finding {
        confidence: case.sure_by_log(),
        status: Some(502),
        because: None,
        also: Vec::new(),
        summary: format!("{who} answered, and {} would not have it: {said}", case.attempt.proxy.comm),
        evidence: Evidence::default()
            .maybe("bytes_received", connection.map(|it| it.bytes_received))
            .maybe("unread_bytes", connection.map(|it| it.unread))
            .maybe("upstream_status", connection.and_then(|it| it.answer_status).map(u32::from)),
        advice: vec![advice.to_owned()],
    }))
}

fn judge(case: &Case<'_>) -> Judgement {
    if let Some(told) = by_log(case) {
        return told;
    }
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    if case.attempt.ending != Ending::Rejected {
        return Judgement::No;
    }
    let upstream = case.attempt.upstream;
    let received = connection.bytes_received;
    let (what, advice) = match connection.answer_status {
        Some(status) if received >= BUFFER => (
            format!(
                "an HTTP {status} of at least {received} bytes, and the proxy gave it up: a header too big for its buffer, most likely"
            ),
            TOO_BIG,
        ),
        // What servers answer to the first bytes of a TLS handshake.
        Some(400) => (
            "an HTTP 400 that the proxy gave up at once: it speaks TLS to a port without it, most likely".to_owned(),
            "if the proxy is told https:// for this upstream, make it http://, or have the upstream speak TLS there (its error log \
             says \"wrong version number\" then); else it has \"upstream sent invalid header\"",
        ),
        Some(status) => (
            format!("an HTTP {status} that the proxy gave up at once: an invalid header, most likely"),
            "see the proxy's error log for the header (\"upstream sent invalid header\"), and mend the application",
        ),
        None => (
            format!("{received} bytes that were no HTTP answer the proxy could read"),
            "check that both speak the same protocol on that port: TLS against plain text, HTTP/2, FastCGI; the proxy's error \
             log says which it expected",
        ),
    };
    Judgement::Found(Finding {
        // What the proxy disliked, only its log tells.
        confidence: Confidence::Likely,
        status: Some(502),
        because: None,
        also: Vec::new(),
        summary: format!("{upstream} sent {what}"),
        evidence: Evidence::default()
            .with("bytes_received", received)
            .with("unread_bytes", connection.unread)
            .maybe("upstream_status", connection.answer_status.map(u32::from)),
        advice: vec![advice.to_owned()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{ConnectionEnded, Head},
        model::Answer,
        testing::{connection, ended_with},
    };

    fn answered(status: u16, ended: ConnectionEnded) -> crate::diagnose::Verdict {
        let (model, mut attempt) = ended_with([], ended);
        attempt.answered(Answer {
            status: Some(status),
            client: None,
            head: Head::Unseen,
            left_unread: 0,
            upstream_status: None,
            unix: false,
        });
        judge_attempt(&attempt, &model)
    }

    fn heard() -> ConnectionEnded {
        ConnectionEnded {
            bytes_received: 90,
            written_since_read: Some(0),
            exchanges: 1,
            answer_status: Some(200),
            ..connection()
        }
    }

    #[test]
    fn an_answer_that_became_a_502_was_rejected() {
        let verdict = answered(502, heard());
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Likely));
        assert!(verdict.summary.contains("invalid header"), "{}", verdict.summary);
        let plain = answered(502, ConnectionEnded { answer_status: Some(400), ..heard() });
        assert!(plain.summary.contains("TLS to a port without it"), "{}", plain.summary);
        let big = answered(502, ConnectionEnded { bytes_received: 9_000, ..heard() });
        assert!(big.summary.contains("too big"), "{}", big.summary);
        let tls = answered(502, ConnectionEnded { answer_status: None, ..heard() });
        assert!(tls.summary.contains("no HTTP"), "{}", tls.summary);
    }

    #[test]
    fn one_that_stopped_half_way_timed_out() {
        assert_ne!(answered(504, heard()).cause, RULE.code);
    }

    #[test]
    fn without_the_proxys_answer_nothing_failed() {
        let (_, attempt) = ended_with([], heard());
        assert!(!attempt.ending.failed());
    }
}
