//! Every request opens a connection of its own. No failure yet: a warning. See `keepalive_off.md`.

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Judgement, Rule},
        verdict::Warning,
    },
    model::{Model, Namespace},
    time::Time,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "keepalive-off",
    page: include_str!("keepalive_off.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::keepalive_off,
};

/// Seconds looked at.
const SECONDS: u32 = 5;
/// Fewer connections than this in that time are no burden, and too few to tell.
const ENOUGH: u32 = 50;
/// Share of connections that carried one request and were closed at once.
const ONE_SHOT_SHARE: f64 = 0.95;

/// It fails no try by itself; port exhaustion names it as what lies under it.
fn judge(_: &Case<'_>) -> Judgement {
    Judgement::No
}

fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (key, upstream) in model.upstreams() {
        let sum = upstream.window.sum(now, u64::from(SECONDS));
        let answered = sum.tries.saturating_sub(sum.failed);
        if answered < ENOUGH || f64::from(sum.one_shot) < ONE_SHOT_SHARE * f64::from(answered) {
            continue;
        }
        // Since the first of them, if that is less.
        let seconds = upstream.window.last(now, u64::from(SECONDS));
        let quiet = seconds.iter().take_while(|second| second.tries == 0).count();
        let span = SECONDS.saturating_sub(u32::try_from(quiet).unwrap_or(SECONDS)).max(1);
        let rate = f64::from(answered) / f64::from(span);
        let ports = model.namespace(key.netns).and_then(Namespace::ports);
        let time_wait = upstream.time_wait_estimate();
        let of_ports = ports.map(|ports| format!(" of {ports} ports")).unwrap_or_default();
        warnings.push(Warning {
            time: now,
            cause: RULE.code,
            subject: key.to_string(),
            netns: key.netns,
            summary: format!(
                "{} connections to {key} in {span} s, {} of them for a single request ({rate:.0}/s): keepalive is not \
                 in effect; TIME_WAIT {time_wait}{of_ports}",
                answered, sum.one_shot
            ),
            evidence: Evidence::default()
                .with("connections", answered)
                .with("single_request", sum.one_shot)
                .with("connections_per_second", rate)
                .with("time_wait_to_upstream", time_wait)
                .maybe("ports", ports),
            advice: vec![
                "keep upstream connections: in nginx `keepalive 64;` in the upstream block, and `proxy_http_version 1.1;` \
                 with `proxy_set_header Connection \"\";` (without these two, keepalive is silently ignored up to 1.29.6)"
                    .to_owned(),
                "have the upstream keep connections too: gunicorn's sync workers never do (use gthread or an \
                 asynchronous class)"
                    .to_owned(),
            ],
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        event::{Body, ConnectionEnded},
        testing::{connection, event},
    };

    fn after(connections: u64, ended: &ConnectionEnded) -> Vec<Warning> {
        let mut model = Model::default();
        for n in 0..connections {
            model.apply(&event(n * 10, Body::ConnectionEnded(Box::new(ended.clone()))));
        }
        model.apply(&event(connections * 10 + 1000, Body::Tick));
        watch(&model, model.now())
    }

    fn one_shot() -> ConnectionEnded {
        ConnectionEnded { bytes_received: 150, since_received: Some(Duration::from_millis(4)), ..connection() }
    }

    #[test]
    fn a_connection_per_request_warns() {
        let warnings = after(100, &one_shot());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].summary.contains("100 connections"), "{}", warnings[0].summary);
    }

    #[test]
    fn kept_connections_and_a_handful_do_not() {
        assert_eq!(after(100, &ConnectionEnded { data_segments_out: 40, ..one_shot() }), vec![]);
        assert_eq!(after(100, &ConnectionEnded { since_received: Some(Duration::from_mins(1)), ..one_shot() }), vec![]);
        assert_eq!(after(20, &one_shot()), vec![]);
    }
}
