//! The upstream closed before it answered. See `upstream_closed_early.md`.

use crate::{
    diagnose::{
        evidence::Evidence,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    model::Ending,
    time::Human,
};

/// The registry's line.
pub const RULE: Rule =
    Rule { code: "upstream-closed-early", page: include_str!("upstream_closed_early.md"), judge, watch: None };

fn judge(case: &Case<'_>) -> Judgement {
    if case.attempt.ending != Ending::ClosedEarly {
        return Judgement::No;
    }
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    if connection.bytes_received > 0 {
        return Judgement::NotEnough(
            "the connection had been answered before: a request on a kept-alive connection, or the end of a tunnel \
             whose last bytes were the proxy's",
        );
    }
    if connection.bytes_sent == 0 && connection.unacked == 0 {
        return Judgement::NotEnough(
            "it closed before the proxy had sent anything: a check by connect() looks the same",
        );
    }
    let waited = connection.since_sent;
    let evidence = Evidence::default()
        .with("bytes_sent", connection.bytes_sent)
        .with("bytes_received", connection.bytes_received)
        .with("unacknowledged_bytes", connection.unacked)
        .maybe("waited_ms", waited.map(|waited| waited.as_secs_f64() * 1e3));
    let after = waited.map(|waited| format!(" {} after the request", Human(waited))).unwrap_or_default();
    Judgement::Found(Finding {
        confidence: Confidence::Certain,
        status: Some(502),
        because: None,
        also: Vec::new(),
        summary: format!("{} closed the connection{after} without an answer", case.attempt.upstream),
        evidence,
        advice: vec![
            "a worker died, was killed or timed out: look for it in the application's log (gunicorn: WORKER TIMEOUT), \
             its exit code, and the kernel's log (OOM killer, segfault)"
                .to_owned(),
            "if it always fails on the first request, check the protocol: TLS or HTTP/2 expected on that port?"
                .to_owned(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{ConnectionEnded, State},
        testing::{at, connection, ended_with},
    };

    fn closed() -> ConnectionEnded {
        ConnectionEnded { new: State::CloseWait, closed_by_proxy: false, ..connection() }
    }

    #[test]
    fn a_fin_without_an_answer_is_certain() {
        let (model, attempt) = ended_with([], closed());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(502)));
    }

    #[test]
    fn what_had_been_answered_before_or_never_asked_is_not_settled() {
        let answered = ConnectionEnded { bytes_received: 900, sent_last: true, ..closed() };
        let never_asked = ConnectionEnded { bytes_sent: 0, established: Some(at(1_900)), ..closed() };
        for ended in [answered, never_asked] {
            let (model, attempt) = ended_with([], ended);
            let verdict = judge_attempt(&attempt, &model);
            assert_eq!((verdict.cause, verdict.status), ("unknown", None), "{}", verdict.summary);
            assert!(verdict.summary.contains("not settled"), "{}", verdict.summary);
        }
    }
}
