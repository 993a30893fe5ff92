//! The listener's accept queue was full. See `accept_queue_overflow.md`.

use std::time::Duration;

use crate::{
    diagnose::{
        evidence::Evidence,
        queue, remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::{Confidence, Warning},
    },
    event::{ResetSent, State},
    model::{Ending, Listener, Model},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "accept-queue-overflow",
    page: include_str!("accept_queue_overflow.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::accept_queue_overflow,
};

/// Share of the limit at which a queue is worth a warning.
pub(super) const NEARLY_FULL: f64 = 0.8;
/// What a warning looks back at.
const RECENT: Duration = Duration::from_secs(5);
/// A queue this short is full at every small burst and drains as fast; its depth alone is no warning.
pub(super) const SHORT_QUEUE: u32 = 8;
fn judge(case: &Case<'_>) -> Judgement {
    let flow = case.flow;
    let overflowed = flow.overflows();
    let connection = case.attempt.connection.as_ref();
    let never_taken = connection.is_some_and(|it| it.bytes_acked == 0 && it.bytes_received == 0 && it.unacked > 0);
    match case.attempt.ending {
        Ending::ConnectTimedOut { by_kernel } => {
            let status = Some(if by_kernel { 502 } else { 504 });
            if overflowed > 0 {
                return found(case, Confidence::Certain, status, "its SYNs were dropped");
            }
            by_neighbours(case, status, "its SYNs were never answered while the queue was full")
        }
        // Nothing was ever acknowledged: the listener never made a connection of the handshake. An acknowledged byte
        // would mean that one was made, queued or accepted, and then it was not the overflow.
        Ending::NoAnswer if never_taken => {
            if flow.overflows_ack > 0 || flow.synacks_again > 0 {
                return found(case, Confidence::Certain, Some(504), "the ACK that ends the handshake was dropped");
            }
            by_neighbours(case, Some(504), "its request was never acknowledged while the queue was full")
        }
        Ending::Reset if overflowed > 0 => match &flow.reset {
            Some(reset) if refused_for_want_of_room(reset) => found(
                case,
                Confidence::Certain,
                Some(502),
                "the handshake was answered with a RST (tcp_abort_on_overflow)",
            ),
            Some(reset) if reset.state == Some(State::Listen) => {
                found(case, Confidence::Certain, Some(502), "the forgotten handshake was reset when data came again")
            }
            // A connection was made after all, and reset by its owner.
            Some(_) => Judgement::No,
            None => found(case, Confidence::Likely, Some(502), "the handshake was turned away and then reset"),
        },
        // From the proxy's side alone: an upstream that knows a handshake answers its data; one that turned it away keeps
        // silent until it has forgotten it, and then resets.
        Ending::Reset if forgotten(case) => found(
            case,
            Confidence::Likely,
            Some(502),
            "the handshake was answered, its data never, and a RST came when the upstream had forgotten it (its own host \
             would settle it)",
        ),
        _ => Judgement::No,
    }
}

/// Data sent again and again on a new connection, nothing of it ever acknowledged, then a RST, whose sender is elsewhere.
fn forgotten(case: &Case<'_>) -> bool {
    let Some(connection) = &case.attempt.connection else { return false };
    let unheard = connection.bytes_acked == 0 && connection.bytes_received == 0 && connection.unacked > 0;
    unheard && connection.data_retransmits >= REPEATED && case.flow.reset.is_none() && case.listener().is_none()
}

/// Repetitions of data that take longer than a SYN-ACK's timer, after which a lost ACK would have been mended (by the
/// timers of net/ipv4: 0.2, 0.4, 0.8, 1.6 s).
const REPEATED: u16 = 4;

/// A RST from a listener whose queue was full at that moment, to a segment of a handshake it knew.
fn refused_for_want_of_room(reset: &ResetSent) -> bool {
    reset.state == Some(State::Listen) && !reset.no_handshake && reset.depth > reset.limit
}

/// Nothing was seen of this very connection on the server's side (an address may be translated on the way), but the
/// listener overflowed while it was under way.
fn by_neighbours(case: &Case<'_>, status: Option<u16>, what: &str) -> Judgement {
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    // A connection that was answered before, or is older than observer, says nothing about the queue of today.
    let fresh = connection.bytes_received == 0 && connection.started != Time::default();
    if !fresh || connection.syn_retransmits == 0 && connection.data_retransmits == 0 {
        return Judgement::No;
    }
    let Some(listener) = case.listener() else {
        return Judgement::NotEnough("the upstream's accept queue is not on this host");
    };
    match listener.last_overflow {
        Some(last) if last >= connection.started => found(case, Confidence::Likely, status, what),
        _ => Judgement::NotEnough("the upstream's listener is here and did not overflow: loss or a firewall between"),
    }
}

fn found(case: &Case<'_>, confidence: Confidence, status: Option<u16>, what: &str) -> Judgement {
    let (flow, listener) = (case.flow, case.listener());
    let seen = flow.overflows() > 0;
    let (depth, limit) =
        if seen { (flow.depth, flow.limit) } else { listener.map_or((0, 0), |it| (it.depth, it.limit)) };
    let settings = case.server_namespace();
    let somaxconn = settings.and_then(|settings| settings.somaxconn);
    let clamped = queue::clamped(limit, settings);
    let aborts = settings.and_then(|settings| settings.abort_on_overflow).is_some_and(|value| value != 0);
    let why = listener.map(|listener| queue::why(listener, settings, case.model, case.span())).unwrap_or_default();
    let mut codes = why.codes;
    if clamped && !codes.contains(&"backlog-clamped") {
        codes.push("backlog-clamped");
    }
    if aborts && case.attempt.ending == Ending::Reset {
        codes.push("abort-on-overflow");
    }
    let mut codes = codes.into_iter();
    let owner = listener.map(owner).unwrap_or_default();
    let evidence = Evidence::default()
        .with("queue_depth", depth)
        .with("queue_limit", limit)
        .maybe("somaxconn", somaxconn)
        .with("limit_is_somaxconn", somaxconn == Some(limit))
        .with("syns_dropped", flow.overflows_syn)
        .with("acks_dropped", flow.overflows_ack)
        .maybe("listener_comm", listener.and_then(|it| it.process.as_ref()).map(|process| process.comm))
        .maybe("listener_pid", listener.and_then(|it| it.process.as_ref()).map(|process| process.pid))
        .maybe("listener_processes", listener.map(|it| it.holders).filter(|holders| *holders > 0))
        .maybe("listener_overflows", listener.map(|it| it.overflows))
        .with("abort_on_overflow", aborts)
        .and(why.evidence);
    let limit_note = if clamped { format!(", cut to net.core.somaxconn {limit}") } else { String::new() };
    let words = why.words.map(|words| format!("; {words}")).unwrap_or_default();
    let full = if limit > 0 { format!(" full ({depth}/{limit}{limit_note})") } else { " full".to_owned() };
    let mut advice = why.advice;
    if advice.is_empty() {
        advice = general_advice();
    }
    advice.push("fail over fast meanwhile: proxy_connect_timeout 3s; with a second upstream server".to_owned());
    Judgement::Found(Finding {
        confidence,
        status,
        because: codes.next(),
        also: codes.collect(),
        summary: format!("accept queue of {}{full}: {what}{owner}{words}", case.attempt.upstream),
        advice,
        evidence,
    })
}

/// ` (gunicorn[12], 9 processes)`
pub(super) fn owner(listener: &Listener) -> String {
    match (&listener.process, listener.holders) {
        (None, _) => String::new(),
        (Some(process), 0 | 1) => format!(" ({}[{}])", process.comm, process.pid),
        (Some(process), holders) => format!(" ({}[{}], {holders} processes)", process.comm, process.pid),
    }
}

fn general_advice() -> Vec<String> {
    vec![
        "add workers (gunicorn --workers N, or an asynchronous worker class) or make requests faster: the application \
         accepts too slowly, and a longer queue helps against bursts only"
            .to_owned(),
        "raise the application's backlog against bursts (gunicorn --backlog, listen … backlog=), up to \
         net.core.somaxconn"
            .to_owned(),
    ]
}

/// Queues that overflow, or nearly do, whether or not a proxy's try has failed yet.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for ((netns, at), listener) in model.listeners().filter(|(_, listener)| listener.is_open()) {
        let overflowing = listener.last_overflow.filter(|last| now.since(*last).as_secs() < 5);
        let nearly =
            listener.limit > SHORT_QUEUE && f64::from(listener.depth) >= NEARLY_FULL * f64::from(listener.limit);
        if overflowing.is_none() && !nearly {
            continue;
        }
        let (depth, limit) = (listener.depth, listener.limit);
        let owner = owner(listener);
        let settings = model.namespace(*netns).map(|namespace| &namespace.sample);
        let why = queue::why(listener, settings, model, (now - RECENT, now));
        let words = why.words.map(|words| format!("; {words}")).unwrap_or_default();
        let summary = match overflowing {
            Some(last) => format!(
                "accept queue of {at} overflows ({depth}/{limit}): {} turned away so far, the last {} ago{owner}{words}",
                listener.overflows,
                Human(now.since(last))
            ),
            None => format!("accept queue of {at} is nearly full ({depth}/{limit}){owner}{words}"),
        };
        warnings.push(Warning {
            time: now,
            cause: RULE.code,
            subject: at.to_string(),
            netns: *netns,
            summary,
            evidence: Evidence::default()
                .with("queue_depth", depth)
                .with("queue_limit", limit)
                .with("overflows", listener.overflows)
                .with("clients_turned_away", listener.turned_away)
                .maybe("somaxconn", settings.and_then(|settings| settings.somaxconn))
                .maybe("because", why.codes.first().copied())
                .and(why.evidence),
            advice: if why.advice.is_empty() { general_advice() } else { why.advice },
        });
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, ConnectionEnded, Handshake, ListenOverflow, OverflowPath},
        testing::{connection, ended_with, event, refused_connection, reset_sent, server_flow},
    };

    fn overflow(path: OverflowPath) -> Body {
        Body::ListenOverflow(ListenOverflow { flow: server_flow(), path, depth: 129, limit: 128 })
    }

    fn timed_out_connecting() -> ConnectionEnded {
        ConnectionEnded {
            error: 0,
            closed_by_proxy: true,
            reset_received: false,
            syn_retransmits: 2,
            ..refused_connection()
        }
    }

    #[test]
    fn dropped_syns_are_certain_with_the_servers_side() {
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Syn))], timed_out_connecting());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(504)));
        assert!(verdict.summary.contains("129/128"), "{}", verdict.summary);
    }

    #[test]
    fn a_proxy_that_gives_up_before_the_first_repetition_was_turned_away_too() {
        let at_once = ConnectionEnded { syn_retransmits: 0, ..timed_out_connecting() };
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Syn))], at_once.clone());
        assert_eq!(judge_attempt(&attempt, &model).cause, RULE.code);
        let at_once = ConnectionEnded { started: crate::testing::at(1_000), ..at_once };
        let (_, attempt) = ended_with([], at_once);
        assert!(!attempt.ending.failed(), "without any sign it changed its mind");
    }

    #[test]
    fn dropped_syns_without_it_are_unknown_and_say_what_is_missing() {
        let handshake = Handshake { flow: crate::testing::client_flow(), syn_retransmits: 1 };
        let (model, attempt) = ended_with([event(1_500, Body::Handshake(handshake))], timed_out_connecting());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!(verdict.cause, "unknown");
        assert!(verdict.summary.contains("not on this host"), "{}", verdict.summary);
    }

    #[test]
    fn an_acknowledged_request_was_not_turned_away() {
        let acked = ConnectionEnded { unacked: 0, ..connection() };
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Syn))], acked);
        assert_eq!(judge_attempt(&attempt, &model).cause, "upstream-timeout");
        let unacked = ConnectionEnded { bytes_acked: 0, unacked: 80, data_retransmits: 4, ..connection() };
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Ack))], unacked);
        assert_eq!(judge_attempt(&attempt, &model).cause, RULE.code);
    }

    #[test]
    fn unsent_data_behind_acknowledged_data_was_not_turned_away() {
        let stalled = ConnectionEnded { bytes_acked: 2_800_000, unacked: 500_000, data_retransmits: 1, ..connection() };
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Ack))], stalled);
        assert_eq!(judge_attempt(&attempt, &model).cause, "unknown");
    }

    #[test]
    fn evidence_of_an_earlier_connection_on_the_same_port_does_not_count() {
        let later = ConnectionEnded { started: crate::testing::at(1_000), ..timed_out_connecting() };
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Syn))], later);
        assert_eq!(judge_attempt(&attempt, &model).cause, "unknown");
    }

    #[test]
    fn an_aborted_handshake_is_a_502() {
        let reset =
            ConnectionEnded { new: State::Close, error: 104, reset_received: true, unacked: 80, ..connection() };
        let abort =
            Body::ResetSent(ResetSent { depth: 129, limit: 128, ..reset_sent(Some(State::Listen), "INVALID_SYN") });
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Ack)), event(5, abort)], reset);
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(502)));
    }

    #[test]
    fn a_reset_of_an_accepted_connection_is_not_the_queues_fault() {
        let reset = ConnectionEnded { new: State::Close, error: 104, reset_received: true, ..connection() };
        let linger = Body::ResetSent(ResetSent { owned: true, ..reset_sent(Some(State::Close), "TCP_STATE") });
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Syn)), event(9, linger)], reset);
        assert_eq!(judge_attempt(&attempt, &model).cause, "upstream-reset");
    }

    #[test]
    fn a_retracted_overflow_is_none() {
        let unacked = ConnectionEnded { bytes_acked: 0, unacked: 80, data_retransmits: 4, ..connection() };
        let retraction = Body::ResetSent(ResetSent { retracts_overflow: true, ..no_handshake() });
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Ack)), event(5, retraction)], unacked);
        assert_eq!(judge_attempt(&attempt, &model).cause, "unknown");
    }

    /// A listener with a full queue answers an ACK for which it knows no handshake.
    fn no_handshake() -> ResetSent {
        ResetSent { no_handshake: true, depth: 9, limit: 8, ..reset_sent(Some(State::Listen), "TCP_FLAGS") }
    }

    #[test]
    fn an_overflow_that_is_not_retracted_stays_one() {
        let unacked = ConnectionEnded { bytes_acked: 0, unacked: 80, data_retransmits: 4, ..connection() };
        let late = Body::ResetSent(no_handshake());
        let (model, attempt) = ended_with([event(5, overflow(OverflowPath::Ack)), event(5, late)], unacked);
        assert_eq!(judge_attempt(&attempt, &model).cause, RULE.code);
    }

    #[test]
    fn a_reset_for_want_of_a_handshake_is_none_for_want_of_room() {
        let reset = ConnectionEnded { new: State::Close, error: 104, reset_received: true, ..connection() };
        let (model, attempt) = ended_with([event(9, Body::ResetSent(no_handshake()))], reset);
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
    }

    #[test]
    fn an_overflowing_queue_warns_before_anything_fails() {
        let (model, _) = ended_with([event(5, overflow(OverflowPath::Syn))], connection());
        let warnings = watch(&model, model.now());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].summary.contains("overflows (129/128)"), "{}", warnings[0].summary);
    }
}
