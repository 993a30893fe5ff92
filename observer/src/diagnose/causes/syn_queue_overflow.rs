//! The listener's SYN queue was full, and cookies off. See `syn_queue_overflow.md`.

use super::accept_queue_overflow::owner;
use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::{Confidence, Warning},
    },
    model::{Ending, Listener, Model},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "syn-queue-overflow",
    page: include_str!("syn_queue_overflow.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::syn_queue_overflow,
};

fn judge(case: &Case<'_>) -> Judgement {
    let Ending::ConnectTimedOut { by_kernel } = case.attempt.ending else { return Judgement::No };
    let (Some(connection), Some(listener)) = (&case.attempt.connection, case.listener()) else {
        return Judgement::No;
    };
    let own = case.flow.syn_queue_drops;
    // One of its SYNs got past the SYN queue, and it is the accept queue that kept it out.
    if case.flow.overflows() > own {
        return Judgement::No;
    }
    let meanwhile = listener.syn_queue.last_drop.is_some_and(|last| last >= connection.started);
    let confidence = match (own > 0, meanwhile) {
        (true, _) => Confidence::Certain,
        // Both queues drop at times: which of them had these SYNs cannot be told.
        (false, true) if listener.last_overflow.is_none_or(|last| last < connection.started) => Confidence::Likely,
        _ => return Judgement::No,
    };
    let what = if own > 0 { "its SYNs were dropped" } else { "its SYNs were never answered meanwhile" };
    Judgement::Found(Finding {
        confidence,
        status: Some(if by_kernel { 502 } else { 504 }),
        because: None,
        also: Vec::new(),
        summary: format!(
            "SYN queue of {} full ({}/{}) and tcp_syncookies 0: {what}{}",
            case.attempt.upstream,
            listener.syn_queue.depth,
            listener.limit,
            owner(listener)
        ),
        evidence: evidence(listener)
            .with("syns_dropped", own)
            .with("syn_retransmits", u32::from(connection.syn_retransmits))
            .with("waited_ms", case.attempt.time.since(connection.started).as_secs_f64() * 1e3),
        advice: advice(),
    })
}

fn evidence(listener: &Listener) -> Evidence {
    Evidence::default()
        .with("syn_queue_depth", listener.syn_queue.depth)
        .with("queue_limit", listener.limit)
        .with("syn_queue_drops", listener.syn_queue.drops)
        .maybe("listener_comm", listener.process.as_ref().map(|process| process.comm))
        .maybe("listener_pid", listener.process.as_ref().map(|process| process.pid))
}

fn advice() -> Vec<String> {
    vec![
        "sysctl -w net.ipv4.tcp_syncookies=1 where the upstream runs: no SYN is dropped for a full SYN queue then"
            .to_owned(),
        "raise the queue: the application's backlog, net.core.somaxconn and net.ipv4.tcp_max_syn_backlog".to_owned(),
        "see whose handshakes never finish: ss -Htn state syn-recv; only proxies should reach the upstream's port"
            .to_owned(),
    ]
}

/// SYN queues that drop, whether or not a proxy's try has failed yet.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for ((netns, at), listener) in model.listeners().filter(|(_, listener)| listener.is_open()) {
        let Some(last) = listener.syn_queue.last_drop.filter(|last| now.since(*last).as_secs() < 5) else { continue };
        warnings.push(Warning {
            time: now,
            cause: RULE.code,
            subject: at.to_string(),
            netns: *netns,
            summary: format!(
                "SYN queue of {at} is full ({}/{}) and tcp_syncookies 0: {} SYNs dropped so far, the last {} ago{}",
                listener.syn_queue.depth,
                listener.limit,
                listener.syn_queue.drops,
                Human(now.since(last)),
                owner(listener)
            ),
            evidence: evidence(listener),
            advice: advice(),
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::{Verdict, engine::judge as judge_attempt},
        event::{Body, ConnectionEnded, Event, Flow, ListenOverflow, OverflowPath},
        testing::{ended_with, endpoint, event, local_namespace, refused_connection, server_flow},
    };

    fn dropped(ms: u64, path: OverflowPath, client: &str) -> Event {
        let flow = Flow { remote: endpoint(client), ..server_flow() };
        event(ms, Body::ListenOverflow(ListenOverflow { flow, path, depth: 9, limit: 8 }))
    }

    const OWN: &str = "10.0.0.1:40000";
    const OTHER: &str = "10.9.9.9:1234";

    fn judged(before: impl IntoIterator<Item = Event>) -> Verdict {
        let silent = ConnectionEnded {
            error: 0,
            closed_by_proxy: true,
            reset_received: false,
            syn_retransmits: 2,
            ..refused_connection()
        };
        let (model, attempt) = ended_with(before, silent);
        judge_attempt(&attempt, &model)
    }

    #[test]
    fn its_own_syns_dropped_are_certain() {
        let verdict = judged([local_namespace(), dropped(5, OverflowPath::SynQueue, OWN)]);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(504)));
        assert!(verdict.summary.contains("full (9/8)"), "{}", verdict.summary);
    }

    #[test]
    fn those_of_others_are_likely_unless_the_accept_queue_dropped_too() {
        let verdict = judged([local_namespace(), dropped(5, OverflowPath::SynQueue, OTHER)]);
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Likely));
        let both = [dropped(5, OverflowPath::SynQueue, OTHER), dropped(6, OverflowPath::Syn, OTHER)];
        assert_ne!(judged([local_namespace()].into_iter().chain(both)).cause, RULE.code);
    }

    #[test]
    fn what_the_accept_queue_dropped_is_not_this() {
        assert_eq!(judged([dropped(5, OverflowPath::Syn, OWN)]).cause, "accept-queue-overflow");
    }

    #[test]
    fn drops_before_the_try_say_nothing_of_it() {
        let verdict = judged([local_namespace(), dropped(0, OverflowPath::SynQueue, OTHER), event(1, Body::Tick)]);
        assert_eq!(verdict.cause, RULE.code, "at the very time it began");
        let early = Event { time: Time(1), ..dropped(0, OverflowPath::SynQueue, OTHER) };
        assert_ne!(judged([early, local_namespace()]).cause, RULE.code);
    }

    #[test]
    fn a_syn_queue_that_drops_is_warned_of() {
        let mut model = Model::default();
        model.apply(&dropped(5, OverflowPath::SynQueue, OTHER));
        let warnings = watch(&model, model.now());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].summary.contains("1 SYNs dropped"), "{}", warnings[0].summary);
        model.apply(&event(9_000, Body::Tick));
        assert_eq!(watch(&model, model.now()), vec![]);
    }
}
