//! The request went out on a kept connection that the upstream was closing. See `keepalive_race.md`.

use std::time::Duration;

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        trouble::{self, Trouble},
        verdict::{Confidence, Warning},
    },
    event::ConnectionEnded,
    model::{Ending, Model, door::AFTER_CLOSE},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "keepalive-race",
    page: include_str!("keepalive_race.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::keepalive_race,
};

/// A connection that lay idle this long was closed by a timer; sooner, by a limit of requests or a restart.
const IDLE: Duration = Duration::from_millis(900);

fn judge(case: &Case<'_>) -> Judgement {
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    if !connection.reused() {
        return Judgement::No;
    }
    // A worker that died with the request on its way is another matter.
    if case.flow.hurt.as_ref().is_some_and(|hurt| hurt.death.is_some()) {
        return Judgement::No;
    }
    let unheard = connection.unacked > 0 && connection.unread == 0;
    let (confidence, how) = match case.attempt.ending {
        Ending::SentOnClosed => (Confidence::Certain, "had been closed by it before the request was sent"),
        // A FIN acknowledges what has come before it (tcp_send_fin, net/ipv4/tcp_output.c); this one did not know the request.
        Ending::ClosedEarly if unheard => (Confidence::Certain, "was being closed by it when the request was sent"),
        Ending::Reset if unheard => match &case.flow.reset {
            Some(reset) if reset.reason.as_deref().is_some_and(|reason| AFTER_CLOSE.contains(&reason)) => {
                (Confidence::Certain, "had been closed by it, and the request was answered with a RST")
            }
            Some(reset) if reset.state.is_none() && idle(case, connection) >= IDLE => {
                (Confidence::Likely, "was not known to it any more, and the request was answered with a RST")
            }
            Some(_) => return Judgement::No,
            None if connection.data_retransmits == 0 && idle(case, connection) >= IDLE => {
                (Confidence::Likely, "had lain idle, and the request was answered with a RST at once")
            }
            None => {
                return Judgement::NotEnough(
                    "the reset's sender is not on this host: only it knows whether the connection was closed before the request came",
                );
            }
        },
        _ => return Judgement::No,
    };
    // Bytes that the upstream never takes may also be the end of a tunnel.
    if case.is_tunnel_perhaps() {
        return Judgement::NotEnough("no HTTP answer was seen on the connection: it may have been a tunnel's");
    }
    let idle = idle(case, connection);
    let upstream = case.attempt.upstream;
    let closes_after = case.model.upstream(&upstream).and_then(|upstream| upstream.idle_close);
    let by_timer = idle >= IDLE;
    let timer =
        closes_after.map(|after| format!(", which closes idle connections after {}", Human(after))).unwrap_or_default();
    Judgement::Found(Finding {
        confidence,
        status: Some(502),
        because: by_timer.then_some("idle-timeout-mismatch"),
        also: Vec::new(),
        summary: format!("a kept connection to {upstream}, idle for {}, {how}{timer}", Human(idle)),
        evidence: Evidence::default()
            .with("idle_ms", idle.as_secs_f64() * 1e3)
            .maybe("upstream_closes_after_ms", closes_after.map(|after| after.as_secs_f64() * 1e3))
            .with("requests_before", connection.exchanges)
            .with("unacknowledged_bytes", connection.unacked)
            .maybe("reset_reason", case.flow.reset.as_ref().and_then(|reset| reset.reason.clone())),
        advice: vec![
            "let the upstream keep idle connections longer than the proxy does: its keep-alive timeout above nginx's upstream \
             `keepalive_timeout` (60 s by default), or lower that"
                .to_owned(),
            "let safe requests be tried again: `proxy_next_upstream error timeout;` with a second server; POST only with \
             `non_idempotent`"
                .to_owned(),
        ],
    })
}

fn idle(case: &Case<'_>, connection: &ConnectionEnded) -> Duration {
    connection.idle_before(case.attempt.time).unwrap_or_default()
}

/// The same for connections from elsewhere, as this host's own side shows it.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let trouble = Trouble {
        cause: RULE.code,
        tally: |door| &door.after_close,
        what: |_| "requests on connections that the application had closed".to_owned(),
        advice: "keep idle connections longer than the proxy does: the application's keep-alive timeout above nginx's upstream `keepalive_timeout`",
    };
    trouble::warnings(model, now, &trouble)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, Death, Hurt, Process, ResetSent, State},
        testing::{at, connection, ended_with, event, reset_sent, server_flow},
    };

    /// A second request on a connection idle since 500 ms, with nothing of it acknowledged.
    fn kept() -> ConnectionEnded {
        ConnectionEnded {
            new: State::CloseWait,
            closed_by_proxy: false,
            bytes_received: 150,
            exchanges: 1,
            written_since_read: Some(80),
            unacked: 80,
            last_read: Some(at(500)),
            since_sent: Some(Duration::from_millis(1)),
            answer_status: Some(200),
            ..connection()
        }
    }

    #[test]
    fn a_fin_that_does_not_know_the_request_is_certain() {
        let (model, attempt) = ended_with([], kept());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Certain));
        assert_eq!(verdict.because, Some("idle-timeout-mismatch"));
        assert!(verdict.summary.contains("idle for 1.5 s"), "{}", verdict.summary);
    }

    #[test]
    fn a_fin_that_acknowledges_it_is_an_upstream_that_closed_early() {
        let (model, attempt) = ended_with([], ConnectionEnded { unacked: 0, ..kept() });
        assert_eq!(judge_attempt(&attempt, &model).cause, "upstream-closed-early");
    }

    #[test]
    fn a_first_request_is_no_race() {
        let first = ConnectionEnded { exchanges: 0, bytes_received: 0, last_read: None, answer_status: None, ..kept() };
        let (model, attempt) = ended_with([], first);
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
    }

    #[test]
    fn a_worker_that_died_is_to_blame_itself() {
        let hurt = Hurt {
            flow: server_flow(),
            process: Process { pid: 9, comm: "gunicorn".into() },
            death: Some(Death::Signal(9)),
            bytes_received: 160,
            bytes_sent: 150,
        };
        let (model, attempt) = ended_with([event(1_999, Body::Hurt(Box::new(hurt)))], kept());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.because), ("upstream-closed-early", Some("worker-killed")));
    }

    #[test]
    fn a_rst_is_told_by_its_sender() {
        let reset = || ConnectionEnded { new: State::Close, error: 104, reset_received: true, ..kept() };
        let sent = |reason: &str| Body::ResetSent(reset_sent(Some(State::Other(6)), reason));
        let (model, attempt) = ended_with([event(1_999, sent("TCP_TIMEWAIT_SOCKET"))], reset());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Certain));
        let (model, attempt) = ended_with([], reset());
        assert_eq!(judge_attempt(&attempt, &model).confidence, Confidence::Likely);
        let hard = Body::ResetSent(ResetSent { owned: true, ..reset_sent(Some(State::Close), "TCP_STATE") });
        let (model, attempt) = ended_with([event(1_999, hard)], reset());
        assert_eq!(judge_attempt(&attempt, &model).cause, "upstream-reset");
    }

    #[test]
    fn what_may_have_been_a_tunnel_is_not_judged() {
        let (model, attempt) = ended_with([], ConnectionEnded { answer_status: None, ..kept() });
        assert_eq!(judge_attempt(&attempt, &model).cause, "unknown");
    }
}
