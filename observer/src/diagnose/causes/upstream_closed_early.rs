//! The upstream closed before it answered. See `upstream_closed_early.md`.

use observer_common::answer::THREADS_SHARED;

use crate::{
    diagnose::{
        death,
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        trouble::{self, Trouble},
        verdict::{Confidence, Warning},
    },
    event::Head,
    model::{Ending, Model},
    proxy,
    time::Time,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "upstream-closed-early",
    page: include_str!("upstream_closed_early.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::upstream_closed_early,
};

fn judge(case: &Case<'_>) -> Judgement {
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    match case.attempt.ending {
        Ending::ClosedEarly => {}
        // On a connection that had served it is a race; on a new one the upstream hung up as soon as it had accepted.
        Ending::SentOnClosed if !connection.reused() => {}
        _ => return Judgement::No,
    }
    let answered = case.attempt.answer.is_some();
    if connection.bytes_received > 0 && connection.written_since_read.is_none() && !answered {
        return Judgement::NotEnough(
            "the connection had been answered before observer came: what was last on it cannot be told",
        );
    }
    if case.is_tunnel_perhaps() {
        return Judgement::NotEnough("no HTTP answer was seen on the connection: it may have been a tunnel's");
    }
    if connection.bytes_sent == 0 && connection.unacked == 0 && !answered {
        return Judgement::NotEnough(
            "it closed before the proxy had sent anything: a check by connect() looks the same",
        );
    }
    if case.attempt.answer.is_some_and(|answer| answer.head == Head::Long) {
        return Judgement::NotEnough(
            "it sent a long answer and closed: cut off within its head, or refused by the proxy for what is in it",
        );
    }
    // Where threads share requests, how much of the answer had been read when it was let go of is not known; and of one that
    // is no HTTP it never is (TLS, FastCGI).
    let shared = proxy::threading(&case.attempt.proxy.comm) == THREADS_SHARED;
    if connection.heard_since_asked() && case.flow.hurt.is_none() && (shared || connection.answer_status.is_none()) {
        return Judgement::NotEnough(
            "it sent something and closed: an answer cut off, or one that the proxy made an error of or passed on",
        );
    }
    let upstream = case.attempt.upstream;
    let waited = connection.waited(case.attempt.time);
    let partly = connection.heard_since_asked();
    let base = Evidence::default()
        .with("bytes_sent", connection.bytes_sent)
        .with("bytes_received", connection.bytes_received)
        .with("unacknowledged_bytes", connection.unacked)
        .with("requests_before", connection.exchanges)
        .maybe("waited_ms", waited.map(|waited| waited.as_secs_f64() * 1e3));
    let what = if partly {
        format!("{upstream} closed the connection in the middle of its answer")
    } else {
        format!("{upstream} closed the connection{} without an answer", death::after(waited))
    };
    if let Some(death) = death::of(case, base.clone()) {
        return found(Some(death.code), format!("{what}: {}", death.words), death.evidence, death.advice);
    }
    let by = case.flow.hurt.as_ref().map(|hurt| &hurt.process);
    let summary = match by {
        Some(process) => format!("{what}: {}[{}] closed it and lives on", process.comm, process.pid),
        None => what,
    };
    let evidence = base.maybe("closed_by", by.map(|process| format!("{}[{}]", process.comm, process.pid)));
    let look = if by.is_some() {
        "the application closes connections without answering: look into its log at this time (an exception, a limit, a \
         timeout of its own)"
    } else {
        "find what ended it: look in the application's log (an exception, gunicorn: WORKER TIMEOUT), at its workers' exit codes, and \
         in the kernel's log (OOM killer, segfault)"
    };
    let protocol = "if it always fails on the first request, check the protocol: TLS or HTTP/2 expected on that port?";
    found(None, summary, evidence, vec![look.to_owned(), protocol.to_owned()])
}

fn found(because: Option<&'static str>, summary: String, evidence: Evidence, advice: Vec<String>) -> Judgement {
    Judgement::Found(Finding {
        confidence: Confidence::Certain,
        status: Some(502),
        because,
        also: Vec::new(),
        summary,
        evidence,
        advice,
    })
}

/// The same for connections from elsewhere, as this host's own side shows it.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let trouble = Trouble {
        cause: RULE.code,
        tally: |door| &door.hurt,
        what: |door| match door.last_hurt.as_ref().and_then(|hurt| Some((&hurt.process, hurt.death?))) {
            Some((process, death)) => {
                format!("connections closed without an answer; {}[{}] {death}", process.comm, process.pid)
            }
            None => "connections closed without an answer".to_owned(),
        },
        advice: "look into the application's log at this time: an exception, a limit, a worker that died",
    };
    trouble::warnings(model, now, &trouble)
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
