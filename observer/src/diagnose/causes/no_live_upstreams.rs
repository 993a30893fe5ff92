//! The proxy had given up all its upstreams. See `no_live_upstreams.md`.

use std::time::Duration;

use observer_common::answer::THREADS_SHARED;

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    model::Ending,
    proxy,
    time::Human,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "no-live-upstreams",
    page: include_str!("no_live_upstreams.md"),
    judge,
    watch: None,
    remedy: remedy::no_live_upstreams,
};

/// How long nginx leaves a server alone that has failed (`fail_timeout`, by default).
const FAIL_TIMEOUT: Duration = Duration::from_secs(10);

/// A proxy answers for a try that failed within this time.
const AT_ONCE: Duration = Duration::from_millis(5);

fn judge(case: &Case<'_>) -> Judgement {
    if case.attempt.ending != Ending::NoTry {
        return Judgement::No;
    }
    if case.logged(RULE.code).is_some() {
        return Judgement::Found(by_log(case));
    }
    // What nginx answers then.
    if case.attempt.status() != Some(502) {
        return Judgement::No;
    }
    if case.attempt.answer.is_some_and(|answer| answer.unix) {
        return Judgement::NotEnough(
            "this process has upstreams behind unix sockets as well, on which what they answer cannot be followed",
        );
    }
    let proxy = &case.attempt.proxy;
    if proxy::threading(&proxy.comm) == THREADS_SHARED {
        return Judgement::NotEnough(
            "its threads share requests, so that an answer cannot always be told from its try",
        );
    }
    let Some(failed) = case.model.failures(proxy.pid) else {
        return Judgement::NotEnough(
            "no try of this process was seen to fail before: a resolver, a limit or the configuration may be why, and only \
             the proxy's error log tells",
        );
    };
    let ago = case.attempt.time.since(failed.last);
    if ago < AT_ONCE {
        return Judgement::NotEnough(
            "a try of this process failed at that very moment, and may be the one that was answered for",
        );
    }
    if ago > FAIL_TIMEOUT || failed.since_success == 0 {
        return Judgement::NotEnough(
            "tries of this process failed too long ago, or others have gone well since: only the proxy's error log tells",
        );
    }
    Judgement::Found(Finding {
        // A static answer of the proxy's configuration looks the same.
        confidence: Confidence::Possible,
        status: Some(502),
        because: None,
        also: Vec::new(),
        summary: format!(
            "{}[{}] answered without trying any upstream: it had marked all of them as failed, most likely, the last ({}) {} before",
            proxy.comm,
            proxy.pid,
            failed.upstream,
            Human(ago)
        ),
        evidence: Evidence::default()
            .with("last_failure_ms", ago.as_secs_f64() * 1e3)
            .with("failures_since_success", failed.since_success)
            .with("failed_upstream", failed.upstream.to_string()),
        advice: advice(),
    })
}

/// The proxy wrote that it had nobody to ask.
fn by_log(case: &Case<'_>) -> Finding {
    let proxy = &case.attempt.proxy;
    let failed = case.model.failures(proxy.pid);
    let ago = failed.map(|failed| case.attempt.time.since(failed.last));
    let last = failed.zip(ago).map(|(failed, ago)| format!(", the last ({}) {} before", failed.upstream, Human(ago)));
    Finding {
        confidence: case.sure_by_log(),
        status: Some(502),
        because: None,
        also: Vec::new(),
        summary: format!(
            "{}[{}] answered without trying any upstream: it had marked all of them as failed{}",
            proxy.comm,
            proxy.pid,
            last.unwrap_or_default()
        ),
        evidence: Evidence::default()
            .maybe("last_failure_ms", ago.map(|ago| ago.as_secs_f64() * 1e3))
            .maybe("failures_since_success", failed.map(|failed| failed.since_success))
            .maybe("failed_upstream", failed.map(|failed| failed.upstream.to_string())),
        advice: advice(),
    }
}

fn advice() -> Vec<String> {
    vec![
        "mend what made the upstreams fail: the causes told for themselves say what".to_owned(),
        "with few servers, do not let one hiccup take them out: `max_fails=0` or a shorter `fail_timeout` in the upstream block"
            .to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, ConnectionEnded},
        model::Model,
        testing::{answered_without_try, connection, event, refused_connection},
    };

    fn after(events: impl IntoIterator<Item = (u64, ConnectionEnded)>, ms: u64) -> crate::diagnose::Verdict {
        let mut model = Model::default();
        for (ms, ended) in events {
            model.apply(&event(ms, Body::ConnectionEnded(Box::new(ended))));
        }
        judge_attempt(&answered_without_try(ms), &model)
    }

    #[test]
    fn failures_just_before_make_it_possible() {
        let verdict = after([(100, refused_connection())], 3_000);
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Possible));
    }

    #[test]
    fn without_them_or_with_success_since_it_is_unknown() {
        assert_eq!(after([], 3_000).cause, "unknown");
        assert_eq!(after([(100, refused_connection())], 30_000).cause, "unknown");
        let well = ConnectionEnded { bytes_received: 150, ..connection() };
        assert_eq!(after([(100, refused_connection()), (200, well)], 3_000).cause, "unknown");
    }
}
