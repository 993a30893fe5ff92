//! The upstream reset the connection before it answered. See `upstream_reset.md`.

use crate::{
    diagnose::{
        death,
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        trouble::{self, Trouble},
        verdict::{Confidence, Warning},
    },
    event::{ResetSent, State},
    model::{Ending, Model},
    time::Time,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "upstream-reset",
    page: include_str!("upstream_reset.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::upstream_reset,
};

fn judge(case: &Case<'_>) -> Judgement {
    if case.attempt.ending != Ending::Reset {
        return Judgement::No;
    }
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    if connection.bytes_received > 0 && connection.written_since_read.is_none() && case.attempt.answer.is_none() {
        return Judgement::NotEnough(
            "the connection had been answered before observer came: what was last on it cannot be told",
        );
    }
    if case.is_tunnel_perhaps() {
        return Judgement::NotEnough("no HTTP answer was seen on the connection: it may have been a tunnel's");
    }
    let base = Evidence::default()
        .with("bytes_sent", connection.bytes_sent)
        .with("bytes_received", connection.bytes_received)
        .with("unacknowledged_bytes", connection.unacked)
        .with("requests_before", connection.exchanges)
        .maybe("waited_ms", connection.waited(case.attempt.time).map(|waited| waited.as_secs_f64() * 1e3));
    let upstream = case.attempt.upstream;
    let early = if connection.heard_since_asked() { ", having begun to answer" } else { "" };
    let Some(reset) = &case.flow.reset else {
        // Something of the request was acknowledged, so the connection was made, queued or accepted.
        if connection.bytes_acked > 0 && (connection.unacked == 0 || !early.is_empty() || !connection.reused()) {
            let advice = vec![
                "run observer on the upstream's host: the sending kernel knows why (unread data, SO_LINGER 0, a \
                 listener closed, a firewall)"
                    .to_owned(),
                "look into the application's log at this time".to_owned(),
            ];
            let summary = format!("{upstream} reset the connection after it had taken the request{early}");
            return found(Confidence::Likely, None, summary, base, advice);
        }
        return Judgement::NotEnough(
            "the reset's sender is not on this host: a full accept queue with tcp_abort_on_overflow, a listener \
             closed with connections queued, and the application itself look alike from here",
        );
    };
    let evidence = base
        .maybe("reset_reason", reset.reason.clone())
        .with("accepted", reset.owned)
        .with("unread_bytes", reset.unread)
        .maybe("sender_comm", reset.process.as_ref().map(|process| process.comm))
        .maybe("sender_pid", reset.process.as_ref().map(|process| process.pid));
    let (because, what, advice) = kind(reset);
    // A listener that was there all along knew every handshake that came to it whole.
    if reset.state == Some(State::Listen) && !restarted(case) {
        return Judgement::NotEnough(
            "its listener did not know the connection, and was not restarted: part of the handshake was lost on the way",
        );
    }
    let summary = format!("{upstream} reset the connection{early}: {what}");
    if reset.owned
        && let Some(death) = death::of(case, evidence.clone())
    {
        return found(
            Confidence::Certain,
            Some(death.code),
            format!("{summary}; {}", death.words),
            death.evidence,
            death.advice,
        );
    }
    found(Confidence::Certain, because, summary, evidence, advice)
}

/// The listener was opened or closed while the try lasted, or nothing is known of it.
fn restarted(case: &Case<'_>) -> bool {
    let (began, _) = case.span();
    case.listener().is_none_or(|listener| {
        let closed = listener.closed_at.map(|(when, _)| when);
        [listener.opened_at, closed].into_iter().flatten().any(|when| when >= began)
    })
}

fn found(
    confidence: Confidence,
    because: Option<&'static str>,
    summary: String,
    evidence: Evidence,
    advice: Vec<String>,
) -> Judgement {
    Judgement::Found(Finding { confidence, status: Some(502), because, also: Vec::new(), summary, evidence, advice })
}

/// What kind of reset it was, by the sending socket (`enum sk_rst_reason`, include/net/rstreason.h; __tcp_close and
/// tcp_disconnect, net/ipv4/tcp.c; inet_csk_listen_stop, net/ipv4/inet_connection_sock.c).
fn kind(reset: &ResetSent) -> (Option<&'static str>, String, Vec<String>) {
    let by = reset.process.as_ref().map(|process| format!(" by {}[{}]", process.comm, process.pid)).unwrap_or_default();
    let reason = reset.reason.as_deref().unwrap_or("no reason given");
    match (reset.state, reset.owned) {
        (Some(State::Listen), _) => (
            Some("listener-restarted"),
            "its listener did not know the connection (restarted under it, or it waited too long)".to_owned(),
            vec!["restart without a gap (gunicorn HUP, socket activation), or drain the proxy first".to_owned()],
        ),
        (Some(State::Close), false) => (
            Some("listener-restarted"),
            format!("the listener was closed{by} with the connection still in its accept queue"),
            vec![
                "the application stopped or was killed while connections waited: see its log and exit code".to_owned(),
                "restart without closing the listener (gunicorn HUP, socket activation)".to_owned(),
            ],
        ),
        (Some(State::Close), true) if reset.unread > 0 || reason == "TCP_ABORT_ON_CLOSE" => (
            None,
            format!("closed{by} with {} bytes of the request unread", reset.unread),
            vec![
                "the application answers or gives up without reading the request: read the body (or limit it in the \
                 proxy, client_max_body_size), or look for a crash in its log"
                    .to_owned(),
            ],
        ),
        (Some(State::Close), true) => (
            None,
            format!("closed{by} hard, with SO_LINGER 0 ({reason})"),
            vec!["the application aborts the connection on purpose: look for the reason in its log".to_owned()],
        ),
        (None, _) => (
            None,
            format!("its host no longer knew the connection ({reason})"),
            vec!["the connection was gone at the upstream (process killed, host restarted): see its log".to_owned()],
        ),
        (Some(_), _) => (
            None,
            format!("its kernel reset it ({reason})"),
            vec!["look into the upstream's log at this time".to_owned()],
        ),
    }
}

/// Connections from elsewhere that this host's applications reset.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let by_application = Trouble {
        cause: RULE.code,
        tally: |door| &door.reset,
        what: |door| match door.last_reset.as_ref().map(kind) {
            Some((_, what, _)) => format!("connections reset before an answer, the last one {what}"),
            None => "connections reset before an answer".to_owned(),
        },
        advice: "look into the application's log at this time; the page (observer explain upstream-reset) tells the kinds",
    };
    let with_listener = Trouble {
        cause: RULE.code,
        tally: |door| &door.reset_queued,
        what: |_| "connections reset in the accept queue, as their listener was closed".to_owned(),
        advice: "restart without closing the listener (gunicorn HUP, socket activation)",
    };
    [by_application, with_listener].iter().flat_map(|trouble| trouble::warnings(model, now, trouble)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, ConnectionEnded},
        testing::{connection, ended_with, event, reset_sent},
    };

    fn reset() -> ConnectionEnded {
        ConnectionEnded { new: State::Close, error: 104, reset_received: true, ..connection() }
    }

    fn with_sender(sent: ResetSent) -> crate::diagnose::Verdict {
        let (model, attempt) = ended_with([event(9, Body::ResetSent(sent))], reset());
        judge_attempt(&attempt, &model)
    }

    #[test]
    fn the_sending_socket_tells_the_kind() {
        let unread =
            with_sender(ResetSent { owned: true, unread: 56, ..reset_sent(Some(State::Close), "TCP_ABORT_ON_CLOSE") });
        assert!(unread.summary.contains("56 bytes of the request unread"), "{}", unread.summary);
        let linger = with_sender(ResetSent { owned: true, ..reset_sent(Some(State::Close), "TCP_STATE") });
        assert!(linger.summary.contains("SO_LINGER 0"), "{}", linger.summary);
        let queued = with_sender(reset_sent(Some(State::Close), "TCP_STATE"));
        assert_eq!(queued.because, Some("listener-restarted"));
        for verdict in [unread, linger, queued] {
            assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Certain));
        }
    }

    #[test]
    fn what_answers_the_segments_still_under_way_says_nothing() {
        let unread = ResetSent {
            owned: true,
            unread: 56,
            process: Some(crate::event::Process { pid: 9, comm: "app".into() }),
            ..reset_sent(Some(State::Close), "TCP_ABORT_ON_CLOSE")
        };
        let straggler = reset_sent(Some(State::Listen), "TCP_FLAGS");
        let (model, attempt) =
            ended_with([event(9, Body::ResetSent(unread)), event(10, Body::ResetSent(straggler))], reset());
        let verdict = judge_attempt(&attempt, &model);
        assert!(verdict.summary.contains("56 bytes of the request unread"), "{}", verdict.summary);
    }

    #[test]
    fn without_the_sender_it_depends_on_what_was_acknowledged() {
        let (model, attempt) = ended_with([], reset());
        assert_eq!(judge_attempt(&attempt, &model).confidence, Confidence::Likely);
        let (model, attempt) = ended_with([], ConnectionEnded { bytes_acked: 0, unacked: 80, ..reset() });
        assert_eq!(judge_attempt(&attempt, &model).cause, "unknown");
    }
}
