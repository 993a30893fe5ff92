//! A unix socket's queue was full. See `unix_backlog_full.md`.

use super::accept_queue_overflow::{NEARLY_FULL, SHORT_QUEUE, owner};
use crate::{
    diagnose::{
        evidence::Evidence,
        queue, remedy,
        rule::{Case, Judgement, Rule},
        unix::{Failed, found},
        verdict::Warning,
    },
    event::Destination,
    model::Model,
    time::Time,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "unix-backlog-full",
    page: include_str!("unix_backlog_full.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::unix_backlog_full,
};

/// `EAGAIN`: unix_stream_connect (net/unix/af_unix.c) found more waiting than the limit, and the caller would not wait.
const EAGAIN: u16 = 11;

fn judge(case: &Case<'_>) -> Judgement {
    let Some(failed) = Failed::with(case, &[EAGAIN]) else { return Judgement::No };
    let limit = failed.listener.map(|(_, listener)| listener.limit);
    let namespace = failed.listener.and_then(|(netns, _)| case.model.namespace(netns));
    let somaxconn = namespace.and_then(|namespace| namespace.sample.somaxconn);
    let clamped = is_clamped(limit, somaxconn);
    let holds = match failed.listener {
        // The queue was full at that moment, whatever the sample of up to a second before says.
        Some((_, listener)) => format!(", limit {}{}", listener.limit, owner(listener)),
        None => String::new(),
    };
    let cut = if clamped { ", cut to net.core.somaxconn" } else { "" };
    found(
        clamped.then_some("backlog-clamped"),
        format!("queue of {} full{holds}{cut}: connect() turned away at once (errno {EAGAIN})", failed.path),
        failed.evidence().maybe("somaxconn", somaxconn),
        advice(clamped, limit),
    )
}

fn is_clamped(limit: Option<u32>, somaxconn: Option<u32>) -> bool {
    somaxconn.is_some_and(|max| limit == Some(max) && max < queue::DEFAULT_SOMAXCONN)
}

/// A queue shorter than this is no queue for a burst: the smallest default of an application server is more (gunicorn 2048, php-fpm
/// 511, uWSGI 100).
const SHORT: u32 = 64;

fn advice(clamped: bool, limit: Option<u32>) -> Vec<String> {
    let mut advice = vec![
        "add workers (gunicorn --workers N, php-fpm pm.max_children) or make requests faster: the application accepts too \
         slowly, and a longer queue helps against bursts only"
            .to_owned(),
    ];
    if clamped {
        advice.push(
            "raise net.core.somaxconn (sysctl -w net.core.somaxconn=4096), then restart the upstream: a listener takes \
             its limit at listen()"
                .to_owned(),
        );
    } else {
        advice.push(
            "raise the application's backlog against bursts (gunicorn --backlog, php-fpm listen.backlog), up to \
             net.core.somaxconn"
                .to_owned(),
        );
    }
    if limit.is_some_and(|limit| limit < SHORT) {
        advice.swap(0, 1);
    }
    advice.push(
        "a unix socket turns clients away at once where TCP would have them try again for seconds: over 127.0.0.1 a burst \
         waits"
            .to_owned(),
    );
    advice
}

/// Queues that are full or nearly so, whether or not a proxy's try has failed yet.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for ((netns, path), listener) in model.unix_listeners() {
        let (depth, limit) = (listener.depth, listener.limit);
        let filling = limit > SHORT_QUEUE && f64::from(depth) >= NEARLY_FULL * f64::from(limit);
        let current = now.since(listener.seen) <= crate::model::UNIX_SEEN_WITHIN;
        if !filling || !current || !Destination::Unix(path.as_str().to_owned()).is_upstream() {
            continue;
        }
        let full = if depth > limit { "full" } else { "nearly full" };
        let somaxconn = model.namespace(*netns).and_then(|namespace| namespace.sample.somaxconn);
        warnings.push(Warning {
            time: now,
            cause: RULE.code,
            subject: path.to_string(),
            netns: *netns,
            summary: format!("queue of {path} is {full} ({depth}/{limit}){}", owner(listener)),
            evidence: Evidence::default()
                .with("queue_depth", depth)
                .with("queue_limit", limit)
                .maybe("somaxconn", somaxconn),
            advice: advice(is_clamped(Some(limit), somaxconn), Some(limit)),
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::NetNs,
        diagnose::{
            Confidence,
            unix::testing::{PATH, failed, listening},
        },
        event::{Body, NamespaceSample},
        testing::event,
    };

    #[test]
    fn eagain_is_a_full_queue_with_or_without_the_listener() {
        let verdict = failed([], PATH, 11);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(502)));
        assert_eq!(verdict.upstream.to_string(), "unix:/run/app.sock");
        let verdict = failed([listening(1_500, 128, 128)], PATH, 11);
        assert!(verdict.summary.contains("limit 128 (gunicorn[12], 9 processes)"), "{}", verdict.summary);
        assert_eq!((verdict.because, verdict.evidence.get("queue_depth")), (None, Some(&128_u32.into())));
    }

    #[test]
    fn a_limit_that_was_cut_is_told() {
        let namespace = NamespaceSample { netns: NetNs(8), somaxconn: Some(128), ..NamespaceSample::default() };
        let sampled = event(1_400, Body::NamespaceSample(Box::new(namespace)));
        let verdict = failed([sampled, listening(1_500, 129, 128)], PATH, 11);
        assert_eq!(verdict.because, Some("backlog-clamped"));
    }

    #[test]
    fn a_listener_of_another_path_or_time_is_not_named() {
        for verdict in [
            failed([listening(1_500, 1, 128)], "/run/other.sock", 11),
            failed([listening(0, 1, 128), event(3_500, Body::Tick)], PATH, 11),
        ] {
            assert_eq!((verdict.cause, verdict.evidence.get("queue_limit")), (RULE.code, None));
        }
    }

    #[test]
    fn other_errors_are_not_this() {
        for error in [1, 2, 13, 111] {
            assert_ne!(failed([], PATH, error).cause, RULE.code);
        }
    }

    #[test]
    fn a_queue_that_fills_is_warned_of() {
        for (depth, limit, warned) in [(103, 128, true), (102, 128, false), (6, 5, false)] {
            let mut model = Model::default();
            model.apply(&listening(1_000, depth, limit));
            assert_eq!(watch(&model, model.now()).len(), usize::from(warned), "{depth}/{limit}");
            model.apply(&event(9_000, Body::Tick));
            assert_eq!(watch(&model, model.now()), vec![], "it is no longer there");
        }
    }
}
