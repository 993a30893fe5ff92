//! Nobody listened. See `upstream_refused.md`.

use std::time::Duration;

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        trouble::{self, Trouble},
        verdict::{Confidence, Warning},
    },
    model::{Ending, Model},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "upstream-refused",
    page: include_str!("upstream_refused.md"),
    judge,
    watch: Some(watch),
    remedy: remedy::upstream_refused,
};

/// A listener that closed this shortly before was being restarted.
const RESTART_WINDOW: Duration = Duration::from_secs(30);

fn judge(case: &Case<'_>) -> Judgement {
    let Ending::Refused { by_reset } = case.attempt.ending else { return Judgement::No };
    let upstream = case.attempt.upstream;
    let listener = case.listener();
    let closed = listener.and_then(|listener| listener.closed_at).map(|(time, _)| time);
    let gone_for = closed.map(|closed| case.attempt.time.since(closed)).filter(|gone| *gone <= RESTART_WINDOW);
    let no_listener = case.flow.reset.as_ref().is_some_and(|reset| reset.state.is_none() && reset.answers_syn);
    let listens = listener.is_some_and(crate::model::Listener::is_open);
    let evidence = Evidence::default()
        .with("errno", u32::from(crate::model::attempt::ECONNREFUSED))
        .with("refused_by", if by_reset { "RST" } else { "ICMP" })
        .with("no_listener_seen", no_listener)
        .with("listens_now", listens)
        .maybe("listener_gone_ms", gone_for.map(|gone| gone.as_secs_f64() * 1e3));
    // A RST that this host did not send, to a listener that is open on it: a firewall's REJECT leaves no trace of its
    // own (nf_send_reset, net/ipv4/netfilter/nf_reject_ipv4.c).
    let contradicted = by_reset && listens && !no_listener;
    let (summary, advice) = if contradicted {
        (
            format!(
                "{upstream} refused although something listens there: a firewall rejects, or it has just begun to listen"
            ),
            vec![format!("look for a REJECT rule (nft list ruleset) towards {upstream} on this host")],
        )
    } else if !by_reset {
        (
            format!("{upstream} refused by ICMP: a firewall rejects, or the host has no such protocol"),
            vec![format!(
                "look for a REJECT rule towards {upstream} (nft list ruleset) on the way and on the upstream"
            )],
        )
    } else if let Some(gone) = gone_for {
        (
            format!("nobody listens on {upstream}: the listener closed {} before (restart or crash)", Human(gone)),
            vec![
                "see why it went: journalctl -u SERVICE, its exit code, the kernel's log for the OOM killer".to_owned(),
                "restart without a gap: gunicorn reload (HUP), systemd socket activation, or a second server in the \
                 upstream block"
                    .to_owned(),
            ],
        )
    } else {
        (
            format!("nobody listens on {upstream}"),
            vec![
                format!("start the application, or correct the address: ss -ltnp 'sport = :{}'", port(case)),
                "the proxy's upstream address and the application's bind address must agree (127.0.0.1, ::1 and a \
                 container's own address are three)"
                    .to_owned(),
            ],
        )
    };
    Judgement::Found(Finding {
        confidence: if contradicted { Confidence::Likely } else { Confidence::Certain },
        status: Some(502),
        because: gone_for.map(|_| "listener-restarted"),
        also: Vec::new(),
        summary,
        evidence,
        advice,
    })
}

fn port(case: &Case<'_>) -> u16 {
    case.attempt.upstream.endpoint.map_or(0, |endpoint| endpoint.port)
}

/// The same for connections from elsewhere, as this host's own side shows it.
fn watch(model: &Model, now: Time) -> Vec<Warning> {
    let trouble = Trouble {
        cause: RULE.code,
        tally: |door| &door.refused,
        what: |_| "clients refused, nobody listens".to_owned(),
        advice: "start the application, or correct the proxy's upstream address",
    };
    trouble::warnings(model, now, &trouble)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::engine::judge as judge_attempt,
        event::{Body, ConnectionEnded, ListenerChanged, Process},
        testing::{connection, ended_with, endpoint, event, local_namespace, refused_connection},
    };

    #[test]
    fn a_rst_to_the_syn_is_certain() {
        let (model, attempt) = ended_with([], refused_connection());
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Certain, Some(502)));
        assert_eq!(verdict.because, None);
    }

    #[test]
    fn icmp_is_told_from_a_rst() {
        let (model, attempt) = ended_with([], ConnectionEnded { reset_received: false, ..refused_connection() });
        let verdict = judge_attempt(&attempt, &model);
        assert_eq!(verdict.cause, RULE.code);
        assert!(verdict.summary.contains("ICMP"), "{}", verdict.summary);
    }

    #[test]
    fn a_listener_just_closed_is_a_restart() {
        let closed = Body::ListenerChanged(ListenerChanged {
            at: endpoint("0.0.0.0:8000"),
            netns: crate::addr::NetNs(8),
            process: Process::default(),
            opened: false,
            depth: 0,
            limit: 128,
        });
        let (model, attempt) = ended_with([local_namespace(), event(1, closed)], refused_connection());
        assert_eq!(judge_attempt(&attempt, &model).because, Some("listener-restarted"));
    }

    #[test]
    fn a_reset_after_the_handshake_is_something_else() {
        let (model, attempt) = ended_with([], connection());
        assert_ne!(judge_attempt(&attempt, &model).cause, RULE.code);
    }
}
