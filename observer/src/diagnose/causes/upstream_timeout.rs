//! The upstream took the request and did not answer in time. See `upstream_timeout.md`.

use crate::{
    diagnose::{
        evidence::Evidence,
        queue,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    event::ConnectionEnded,
    model::Ending,
    time::Human,
};

/// The registry's line.
pub const RULE: Rule = Rule { code: "upstream-timeout", page: include_str!("upstream_timeout.md"), judge, watch: None };

fn judge(case: &Case<'_>) -> Judgement {
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    if case.attempt.ending != Ending::NoAnswer || connection.error != 0 {
        return Judgement::No;
    }
    // Something of it must have arrived: a handshake that the upstream never knew is another matter.
    if connection.unacked > 0 {
        return Judgement::NotEnough("part of the request was never acknowledged: it may not have arrived");
    }
    if case.is_tunnel_perhaps() {
        return Judgement::NotEnough("no HTTP answer was seen on the connection: it may have been a tunnel's");
    }
    let confidence = if case.attempt.status().is_some() { Confidence::Certain } else { Confidence::Likely };
    if case.flow.unaccepted.is_some() {
        return never_accepted(case, connection, confidence);
    }
    let upstream = case.attempt.upstream;
    let here = case.listener().is_some();
    let where_it_was = if here {
        "the application had accepted it"
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
    let why =
        case.listener().map(|listener| queue::why(listener, case.server_namespace(), case.model, case.attempt.time));
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
        .with("never_accepted", case.flow.unaccepted.is_some())
        .maybe("queue_depth", case.listener().map(|it| it.depth))
        .maybe("queue_limit", case.listener().map(|it| it.limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, State, Unaccepted},
        model::Answer,
        testing::{connection, ended_with, event, server_flow},
    };

    #[test]
    fn an_acknowledged_request_without_an_answer_is_likely_and_with_a_504_certain() {
        let (model, mut attempt) = ended_with([], connection());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence, verdict.observed), (RULE.code, Confidence::Likely, false));
        attempt.answered(Answer { status: Some(504), client: None });
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.confidence, verdict.status, verdict.observed), (Confidence::Certain, Some(504), true));
    }

    #[test]
    fn one_that_was_never_accepted_says_so() {
        let unaccepted = Body::Unaccepted(Unaccepted { flow: server_flow(), new: State::CloseWait });
        let (model, attempt) = ended_with([event(1_900, unaccepted)], connection());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!(verdict.cause, RULE.code);
        assert!(verdict.summary.contains("never accepted"), "{}", verdict.summary);
    }

    #[test]
    fn one_that_did_not_arrive_is_not_this() {
        let (model, attempt) = ended_with([], ConnectionEnded { unacked: 10, bytes_acked: 70, ..connection() });
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
        let (model, attempt) = ended_with([], ConnectionEnded { error: 110, new: State::Close, ..connection() });
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
    }
}
