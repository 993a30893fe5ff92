//! No ephemeral port was left for this destination. See `port_exhaustion.md`.

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::{Confidence, Warning},
    },
    model::{Ending, Model, Namespace, Upstream},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "port-exhaustion",
    page: include_str!("port_exhaustion.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::port_exhaustion,
};

/// Ports in the range unless somebody changed it: 32768 to 60999 (`inet_init_net`, net/ipv4/af_inet.c).
const DEFAULT_PORTS: u32 = 28_232;
/// Share of the ports in TIME_WAIT from which on it is those that exhaust them, not live connections.
const TIME_WAIT_SHARE: f64 = 0.5;
/// Share of the ports in TIME_WAIT at which to warn.
const WARN_SHARE: f64 = 0.8;

fn judge(case: &Case<'_>) -> Judgement {
    if case.attempt.ending != Ending::NoPort {
        return Judgement::No;
    }
    let model = case.model;
    let upstream = model.upstream(&case.attempt.upstream);
    let namespace = model.namespace(case.attempt.upstream.netns);
    let ports = namespace.and_then(Namespace::ports);
    let in_time_wait =
        upstream.map(Upstream::time_wait_estimate).map(|count| ports.map_or(count, |all| count.min(all)));
    let share = in_time_wait.zip(ports).map(|(count, all)| f64::from(count) / f64::from(all.max(1)));
    let by_time_wait = share.is_some_and(|share| share >= TIME_WAIT_SHARE);
    let rate = upstream.map(|upstream| per_second(upstream.window.sum(case.attempt.time, 10).tries, 10));
    let sample = namespace.map(|namespace| &namespace.sample);
    let evidence = Evidence::default()
        .with("errno", u32::from(crate::model::attempt::EADDRNOTAVAIL))
        .maybe("ports", ports)
        .maybe("port_range", sample.and_then(|it| it.port_range).map(|(low, high)| format!("{low}-{high}")))
        .maybe("time_wait_to_upstream", in_time_wait)
        .maybe("time_wait_share", share)
        .maybe("connections_per_second", rate.filter(|rate| *rate > 0.0))
        .maybe("tw_reuse", sample.and_then(|it| it.tw_reuse));
    let all = ports.map_or_else(|| "all".to_owned(), |all| format!("all {all}"));
    let holders = match (by_time_wait, share) {
        (true, Some(share)) => format!("{:.0} % of them in TIME_WAIT", (share * 100.0).floor()),
        _ => "held by live connections".to_owned(),
    };
    Judgement::Found(Finding {
        confidence: Confidence::Certain,
        status: Some(502),
        because: by_time_wait.then_some("keepalive-off"),
        also: Vec::new(),
        summary: format!("no ephemeral port left for {}: {all} ports in use, {holders}", case.attempt.upstream),
        evidence,
        advice: advice(by_time_wait, ports),
    })
}

fn advice(by_time_wait: bool, ports: Option<u32>) -> Vec<String> {
    let mut advice = Vec::new();
    let narrow = ports.filter(|ports| *ports < DEFAULT_PORTS);
    if let Some(ports) = narrow {
        advice.push(format!(
            "the range has only {ports} ports, the default has 28,232: sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\" \
             where the proxy runs"
        ));
    }
    if by_time_wait {
        advice.push(
            "keep upstream connections: in nginx `keepalive 64;` in the upstream block, with `proxy_http_version 1.1;` \
             and `proxy_set_header Connection \"\";`"
                .to_owned(),
        );
    } else {
        advice.push(
            "spread the load over more destinations (several upstream addresses or ports), or shorten what holds the \
             ports: live connections do"
                .to_owned(),
        );
    }
    if narrow.is_none() {
        advice.push(
            "widen the range as a stopgap: sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\" (mind fixed ports: \
             net.ipv4.ip_local_reserved_ports)"
                .to_owned(),
        );
    }
    if by_time_wait {
        advice.push(
            "reuse ports as a stopgap, for remote upstreams: sysctl -w net.ipv4.tcp_tw_reuse=1 (the default 2 is \
             loopback only)"
                .to_owned(),
        );
    }
    advice
}

/// Ports that are running out.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (key, upstream) in model.upstreams() {
        let Some(ports) = model.namespace(key.netns).and_then(Namespace::ports) else { continue };
        let used = upstream.time_wait;
        let share = f64::from(used) / f64::from(ports.max(1));
        let soon = upstream.ports_gone_in(ports);
        if share < WARN_SHARE && soon.is_none() {
            continue;
        }
        let forecast = soon.map(|left| format!(", gone in {} at this rate", Human(left))).unwrap_or_default();
        warnings.push(Warning {
            time: now,
            cause: RULE.code,
            subject: key.to_string(),
            netns: key.netns,
            summary: format!(
                "{used} of {ports} ephemeral ports for {key} are in TIME_WAIT ({:.0} %){forecast}",
                share * 100.0
            ),
            evidence: Evidence::default()
                .with("ports", ports)
                .with("time_wait_to_upstream", used)
                .with("growth_per_second", upstream.time_wait_growth)
                .maybe("seconds_left", upstream.seconds_left(ports)),
            advice: advice(true, Some(ports)),
        });
    }
    warnings
}

fn per_second(count: u32, seconds: u32) -> f64 {
    f64::from(count) / f64::from(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, ConnectFailed, Destination, Flow, NamespaceSample, Process},
        model::Attempt,
        testing::{NETNS, client_flow, endpoint, event},
    };

    fn sample(time_wait: u32) -> Body {
        Body::NamespaceSample(Box::new(NamespaceSample {
            netns: NETNS,
            time_wait,
            time_wait_by_destination: vec![(endpoint("10.0.0.2:8000"), time_wait)],
            port_range: Some((40_000, 40_099)),
            ..NamespaceSample::default()
        }))
    }

    fn failed(error: u16, local_port: u16) -> Body {
        failed_having(true, error, local_port)
    }

    fn failed_having(began: bool, error: u16, local_port: u16) -> Body {
        let flow = client_flow();
        let local = crate::addr::Endpoint { port: local_port, ..flow.local };
        let to = Destination::Tcp(Flow { local, ..flow });
        Body::ConnectFailed(Box::new(ConnectFailed {
            proxy: Process { pid: 42, comm: "nginx".into() },
            to,
            error,
            began,
            answers_visible: false,
        }))
    }

    fn judged(bodies: impl IntoIterator<Item = Body>) -> (Model, Attempt) {
        let mut model = Model::default();
        let mut last = None;
        for (ms, body) in (0..).zip(bodies) {
            last = model.apply(&event(ms * 1000, body)).or(last);
        }
        (model, last.unwrap())
    }

    #[test]
    fn time_wait_and_live_connections_are_told_apart() {
        let (model, attempt) = judged([failed(99, 0), sample(96), failed(99, 0)]);
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.because), (RULE.code, Some("keepalive-off")));
        assert!(verdict.summary.contains("all 100 ports in use, 96 % of them in TIME_WAIT"), "{}", verdict.summary);

        let (model, attempt) = judged([failed(99, 0), sample(3), failed(99, 0)]);
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.because), (RULE.code, None));
    }

    #[test]
    fn a_port_of_its_own_that_is_taken_is_no_exhaustion() {
        let (model, attempt) = judged([failed(99, 5000)]);
        assert_eq!(judge_attempt(&attempt, &model).cause, "unknown");
    }

    #[test]
    fn an_address_that_cannot_be_had_is_no_exhaustion() {
        let (model, attempt) = judged([failed_having(false, 99, 0)]);
        assert_eq!(judge_attempt(&attempt, &model).cause, "unknown");
    }

    #[test]
    fn other_errors_of_connect_are_not_this() {
        let (model, attempt) = judged([failed(101, 0)]);
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
    }

    #[test]
    fn it_warns_before_the_ports_are_gone() {
        let (model, _) = judged([failed(101, 0), sample(10), sample(20)]);
        assert_eq!(watch(&model, model.now()), vec![], "a fifth in use, 8 s left at this rate, but too early to tell");
        let (model, _) = judged([failed(101, 0), sample(20), sample(40)]);
        let warnings = watch(&model, model.now());
        assert!(
            warnings[0].summary.contains("40 of 100") && warnings[0].summary.contains("gone in 3.0 s"),
            "{warnings:?}"
        );
    }
}
