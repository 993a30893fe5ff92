//! The upstream took the request and did not answer in time. See `upstream_timeout.md`.

use super::packet_loss;
use crate::{
    diagnose::{
        evidence::Evidence,
        queue, remedy,
        rule::{Case, Finding, Judgement, Rule},
        trouble::{self, Trouble},
        verdict::{Confidence, Warning},
    },
    event::ConnectionEnded,
    model::{Ending, Model, attempt::GOODBYE_BYTES},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "upstream-timeout",
    page: include_str!("upstream_timeout.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::upstream_timeout,
};

/// Segments sent again per try from which on a network is lossy.
const LOSSY: f64 = 0.05;

fn judge(case: &Case<'_>) -> Judgement {
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    if case.attempt.ending != Ending::NoAnswer || connection.error != 0 {
        return Judgement::No;
    }
    // All of it must have arrived, but for the goodbye with which a proxy leaves (TLS): a handshake that the upstream never knew is another matter.
    if connection.unacked > GOODBYE_BYTES {
        return Judgement::NotEnough("part of the request was never acknowledged: it may not have arrived");
    }
    if case.is_tunnel_perhaps() {
        return Judgement::NotEnough("no HTTP answer was seen on the connection: it may have been a tunnel's");
    }
    // Its timer for connecting ended in the moment in which the handshake did, or before it got to that.
    if connection.bytes_sent == 0 && connection.unacked == 0 {
        return Judgement::NotEnough(
            "nothing had been asked yet: the handshake came too late, or the proxy itself was held up",
        );
    }
    if connection.unread > 0 {
        return Judgement::NotEnough(
            "an answer had come and lay unread: it came too late, or the proxy itself was held up",
        );
    }
    if packet_loss::came_late(case, connection) {
        return Judgement::NotEnough("the request was sent again and came late: the upstream had little time for it");
    }
    let confidence = if case.attempt.status().is_some() { Confidence::Certain } else { Confidence::Likely };
    if case.flow.never_accepted() {
        return never_accepted(case, connection, confidence);
    }
    let seen = case.flow.unserved.as_ref();
    if seen.is_some_and(|unserved| unserved.unacked > 0) {
        return Judgement::NotEnough("the application had answered, and the answer did not arrive");
    }
    // Silence is as well an answer that got lost, where segments get lost and its sender was not seen.
    let late = case.model.upstream(&case.attempt.upstream).map(|upstream| upstream.window.sum(case.attempt.time, 10));
    if seen.is_none() && late.is_some_and(|sum| f64::from(sum.retransmits) > LOSSY * f64::from(sum.tries)) {
        return Judgement::NotEnough("segments to this upstream get lost: its answer may have been lost too");
    }
    let upstream = case.attempt.upstream;
    let here = case.listener().is_some();
    let where_it_was = if seen.is_some() {
        "the application had accepted it, and was still at it"
    } else if here {
        "the application had not closed it"
    } else {
        "whether the application had accepted it, its own host knows"
    };
    let mut advice = vec![
        "find what the application waits for at this time: a slow query, a lock, another service (its log, py-spy dump, jstack)"
            .to_owned(),
        "let the proxy wait as long as a good request may take, and no longer: `proxy_read_timeout`".to_owned(),
    ];
    if !here {
        advice.push("run observer on the upstream's host: it tells a full pool from a slow request".to_owned());
    }
    Judgement::Found(Finding {
        confidence,
        status: Some(504),
        because: None,
        also: Vec::new(),
        summary: format!("{upstream} took the request and did not answer{}; {where_it_was}", waited(case, connection)),
        evidence: evidence(case, connection),
        advice,
    })
}

fn never_accepted(case: &Case<'_>, connection: &ConnectionEnded, confidence: Confidence) -> Judgement {
    let upstream = case.attempt.upstream;
    let why = case.listener().map(|listener| queue::why(listener, case.server_namespace(), case.model, case.span()));
    let why = why.unwrap_or_default();
    let words = why.words.map(|words| format!(": {words}")).unwrap_or_default();
    let mut codes = why.codes.into_iter().filter(|code| *code != "backlog-small" && *code != "backlog-clamped");
    let mut advice = why.advice;
    if advice.is_empty() {
        advice.push("see why the application does not accept: its workers are busy, or it hangs".to_owned());
    }
    Judgement::Found(Finding {
        confidence,
        status: Some(504),
        because: codes.next(),
        also: codes.collect(),
        summary: format!(
            "the request waited in {upstream}'s accept queue{} and was never accepted{words}",
            waited(case, connection)
        ),
        evidence: evidence(case, connection).and(why.evidence),
        advice,
    })
}

fn waited(case: &Case<'_>, connection: &ConnectionEnded) -> String {
    connection.waited(case.attempt.time).map(|waited| format!(" for {}", Human(waited))).unwrap_or_default()
}

fn evidence(case: &Case<'_>, connection: &ConnectionEnded) -> Evidence {
    let waited = connection.waited(case.attempt.time);
    Evidence::default()
        .maybe("waited_ms", waited.map(|waited| waited.as_secs_f64() * 1e3))
        .with("bytes_sent", connection.bytes_sent)
        .with("unacknowledged_bytes", connection.unacked)
        .with("requests_before", connection.exchanges)
        .with("never_accepted", case.flow.never_accepted())
        .maybe("queue_depth", case.listener().map(|it| it.depth))
        .maybe("queue_limit", case.listener().map(|it| it.limit))
}

/// Clients from elsewhere that wait in vain.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let unanswered = Trouble {
        cause: RULE.code,
        tally: |door| &door.left_unanswered,
        what: |_| "clients left after waiting for an answer".to_owned(),
        advice: "find what the application waits for: a slow query, a lock, another service",
    };
    let unaccepted = Trouble {
        cause: RULE.code,
        tally: |door| &door.left_unaccepted,
        what: |_| "clients left after waiting to be accepted".to_owned(),
        advice: "add workers, or see why the application does not accept",
    };
    [unanswered, unaccepted].iter().flat_map(|trouble| trouble::warnings(model, now, trouble)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, Head, State, Unserved},
        model::Answer,
        testing::{connection, ended_with, event, server_flow},
    };

    /// A 504 that the client got.
    fn answer(left_unread: u32) -> Answer {
        let status = Some(504);
        Answer { status, client: None, head: Head::Unseen, left_unread, upstream_status: None, unix: false }
    }

    #[test]
    fn an_acknowledged_request_without_an_answer_is_likely_and_with_a_504_certain() {
        let (model, mut attempt) = ended_with([], connection());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence, verdict.observed), (RULE.code, Confidence::Likely, false));
        attempt.answered(answer(0));
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.confidence, verdict.status, verdict.observed), (Confidence::Certain, Some(504), true));
    }

    #[test]
    fn one_that_was_never_accepted_says_so() {
        let (model, attempt) = ended_with([event(1_900, unserved(false, 0))], connection());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!(verdict.cause, RULE.code);
        assert!(verdict.summary.contains("never accepted"), "{}", verdict.summary);
    }

    fn unserved(accepted: bool, unacked: u32) -> Body {
        let (flow, new) = (server_flow(), State::CloseWait);
        Body::Unserved(Unserved {
            flow,
            new,
            accepted,
            reset: false,
            bytes_received: 80,
            bytes_sent: unacked.into(),
            unacked,
            waited: None,
        })
    }

    #[test]
    fn one_that_was_asked_nothing_is_not_late() {
        let unasked = ConnectionEnded { bytes_sent: 0, bytes_acked: 0, since_sent: None, ..connection() };
        for before in [vec![], vec![event(1_900, unserved(false, 0))]] {
            let (model, mut attempt) = ended_with(before, unasked.clone());
            assert!(!attempt.ending.failed(), "a check by connect() looks the same");
            attempt.answered(answer(0));
            let verdict = judge_attempt(&attempt, &model);
            assert_eq!((verdict.cause, verdict.status), ("unknown", Some(504)), "{}", verdict.summary);
            assert!(verdict.summary.contains("nothing had been asked"), "{}", verdict.summary);
        }
    }

    #[test]
    fn an_answer_that_was_sent_and_did_not_arrive_is_not_this() {
        let (model, attempt) = ended_with([event(1_900, unserved(true, 150))], connection());
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
        let (model, attempt) = ended_with([event(1_900, unserved(true, 0))], connection());
        assert!(judge_attempt(&attempt, &model).summary.contains("still at it"));
    }

    /// nginx's timer ran out while the answer was on its way: the answer lies unread, and the connection is closed with a RST,
    /// or the upstream's FIN has come with it.
    #[test]
    fn an_answer_that_the_proxy_did_not_get_to_is_not_settled() {
        for new in [State::Close, State::FinWait1, State::CloseWait] {
            let late = ConnectionEnded {
                new,
                bytes_received: 86,
                unread: 86,
                written_since_read: Some(80),
                since_received: Some(std::time::Duration::ZERO),
                ..connection()
            };
            let (model, mut attempt) = ended_with([], late);
            assert!(!attempt.ending.failed(), "an answer came, as far as its socket shows");
            attempt.answered(answer(86));
            let verdict = judge_attempt(&attempt, &model);
            assert_eq!((verdict.cause, verdict.status), ("unknown", Some(504)), "{new:?}: {}", verdict.summary);
            assert!(verdict.summary.contains("lay unread"), "{}", verdict.summary);
        }
    }

    #[test]
    fn one_that_did_not_arrive_is_not_this() {
        let (model, attempt) = ended_with([], ConnectionEnded { unacked: 60, bytes_acked: 20, ..connection() });
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
        let (model, attempt) = ended_with([], ConnectionEnded { error: 110, new: State::Close, ..connection() });
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
    }
}
