//! The network lost segments, and no queue did. See `packet_loss.md`.

use std::time::Duration;

use super::connect_timeout::{self, Why};
use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    event::ConnectionEnded,
    model::{Ending, Home, attempt::GOODBYE_BYTES, contact},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule =
    Rule { code: "packet-loss", page: include_str!("packet_loss.md"), judge, watch: None, remedy: remedy::packet_loss };

/// A request that was not acknowledged for this long was lost, with its first repetition: that goes out after a fifth of a
/// second or so (`TCP_RTO_MIN`, include/net/tcp.h).
const LOST_AFTER: Duration = Duration::from_millis(900);
/// The first repetition of a request goes out about this long after it, and each further one after twice as long.
const FIRST_AGAIN: Duration = Duration::from_millis(200);

fn judge(case: &Case<'_>) -> Judgement {
    let Some(connection) = &case.attempt.connection else { return Judgement::No };
    match case.attempt.ending {
        Ending::ConnectTimedOut { by_kernel } => syns_lost(case, connection, by_kernel),
        Ending::NoAnswer if case.flow.unserved.as_ref().is_some_and(|it| it.accepted && it.unacked > 0) => {
            answer_lost(case, connection)
        }
        Ending::NoAnswer if came_late(case, connection) => request_late(case, connection),
        Ending::NoAnswer if connection.unacked > 0 && connection.data_retransmits > 0 => data_lost(case, connection),
        _ => Judgement::No,
    }
}

fn syns_lost(case: &Case<'_>, connection: &ConnectionEnded, by_kernel: bool) -> Judgement {
    let let_in = case.model.upstream(&case.attempt.upstream).and_then(|upstream| upstream.contact.handshake);
    if connection.syn_retransmits == 0 || let_in.is_none_or(|time| time < connection.started) {
        return Judgement::No;
    }
    let confidence = match at_home(case, connection.started) {
        Ok(confidence) => confidence,
        Err(missing) => return Judgement::NotEnough(missing),
    };
    let syns = u32::from(connection.syn_retransmits) + 1;
    let summary = format!(
        "{} let others in, and {syns} SYNs of this try were lost in {}; its listener is here and dropped none",
        case.attempt.upstream,
        Human(case.attempt.time.since(connection.started)),
    );
    let status = if by_kernel { 502 } else { 504 };
    found(confidence, status, summary, evidence(case, connection).with("others_let_in", true))
}

/// The upstream is here: its side shows that the answer was sent.
fn answer_lost(case: &Case<'_>, connection: &ConnectionEnded) -> Judgement {
    let unacked = case.flow.unserved.as_ref().map_or(0, |unserved| unserved.unacked);
    let summary = format!(
        "{} sent its answer, and {unacked} bytes of it never arrived{}",
        case.attempt.upstream,
        connection.waited(case.attempt.time).map(|waited| format!(" in {}", Human(waited))).unwrap_or_default(),
    );
    let evidence = evidence(case, connection).with("answer_bytes_unacknowledged", unacked);
    found(Confidence::Likely, 504, summary, evidence)
}

/// The upstream is here, and had the request for less long than its repetitions took to bring it. Of a connection that had
/// served it cannot be told which request was sent again.
pub(super) fn came_late(case: &Case<'_>, connection: &ConnectionEnded) -> bool {
    let Some(had) = case.flow.unserved.as_ref().and_then(|unserved| unserved.waited) else { return false };
    let Some(again) = connection.data_retransmits.checked_sub(1) else { return false };
    let arrived = connection.unacked <= GOODBYE_BYTES && !connection.reused();
    arrived && case.flow.overflows_ack == 0 && had < FIRST_AGAIN * 2_u32.saturating_pow(again.into())
}

fn request_late(case: &Case<'_>, connection: &ConnectionEnded) -> Judgement {
    let confidence = match at_home(case, connection.started) {
        Ok(confidence) => confidence,
        Err(missing) => return Judgement::NotEnough(missing),
    };
    let had = case.flow.unserved.as_ref().and_then(|unserved| unserved.waited).unwrap_or_default();
    let summary = format!(
        "a request to {} was sent again {} times and arrived only {} before the proxy gave up; its listener is here and \
         dropped none",
        case.attempt.upstream,
        connection.data_retransmits,
        Human(had),
    );
    let evidence = evidence(case, connection).with("arrived_ms_before_the_end", had.as_secs_f64() * 1e3);
    found(confidence, 504, summary, evidence)
}

fn data_lost(case: &Case<'_>, connection: &ConnectionEnded) -> Judgement {
    let waited = connection.waited(case.attempt.time);
    if waited.is_none_or(|waited| waited < LOST_AFTER) {
        return Judgement::No;
    }
    let worked = contact::cut_off(connection);
    let confidence = if worked {
        Confidence::Likely
    } else if connection.bytes_acked > 0 || connection.bytes_received > 0 {
        return Judgement::NotEnough("what was not acknowledged may have waited for the application to read on");
    } else if case.flow.synacks_again > 0 {
        // Its handshake was complete, and the listener knew it.
        return Judgement::No;
    } else {
        match at_home(case, connection.started) {
            Ok(confidence) => confidence,
            Err(missing) => return Judgement::NotEnough(missing),
        }
    };
    let why_not_queue =
        if worked { "the connection had worked before" } else { "its listener is here and dropped none" };
    let after = waited.map(|waited| format!(" in {}", Human(waited))).unwrap_or_default();
    let summary = format!(
        "a request to {} was sent again {} times{after} and never acknowledged; {why_not_queue}",
        case.attempt.upstream, connection.data_retransmits,
    );
    let status = if connection.error == 0 { 504 } else { 502 };
    found(confidence, status, summary, evidence(case, connection).with("worked", worked))
}

/// That no queue where the upstream is at home had these segments, and how sure that is.
fn at_home(case: &Case<'_>, started: Time) -> Result<Confidence, &'static str> {
    if case.flow.turned_away() {
        return Err("a full queue turned part of it away");
    }
    match case.model.home_of(&case.attempt.upstream, case.flow.server_netns) {
        Home::Elsewhere => Err("a full queue at the upstream looks the same, which only its own host can tell"),
        Home::Several => Err("several network namespaces of this host have the upstream's address"),
        Home::Here(netns) => match connect_timeout::here(case, netns, started)? {
            Why::NotDropped => Ok(Confidence::Likely),
            _ => Ok(Confidence::Possible),
        },
    }
}

fn evidence(case: &Case<'_>, connection: &ConnectionEnded) -> Evidence {
    let now = case.attempt.time;
    let minute = case.model.upstream(&case.attempt.upstream).map(|upstream| upstream.window.sum(now, 60));
    Evidence::default()
        .with("bytes_acknowledged", connection.bytes_acked)
        .with("unacknowledged_bytes", connection.unacked)
        .with("syn_retransmits", u32::from(connection.syn_retransmits))
        .with("data_retransmits", u32::from(connection.data_retransmits))
        .maybe("waited_ms", connection.waited(now).map(|waited| waited.as_secs_f64() * 1e3))
        .maybe("retransmits_in_a_minute", minute.map(|minute| minute.retransmits))
        .maybe("tries_in_a_minute", minute.map(|minute| minute.tries))
}

fn found(confidence: Confidence, status: u16, summary: String, evidence: Evidence) -> Judgement {
    Judgement::Found(Finding {
        confidence,
        status: Some(status),
        because: None,
        also: Vec::new(),
        summary,
        evidence,
        advice: vec![
            "see who drops: ip -s link and tc -s qdisc on both hosts, nft list ruleset for rules with a limit, dmesg | grep \
             conntrack"
                .to_owned(),
            "capture on both sides and compare: what the one sends and the other does not get was lost in between".to_owned(),
            "if only connections that lay idle die, something in between forgets them: proxy_socket_keepalive on; or a \
             shorter keepalive_timeout in the upstream block"
                .to_owned(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::{Verdict, engine::judge as judge_attempt},
        event::{Body, Event, Handshake, ListenOverflow, NamespaceSample, OverflowPath, State, Unserved},
        testing::{client_flow, connection, ended_with, event, refused_connection, server_flow},
    };

    fn drops(ms: u64, count: u64) -> Event {
        let sample = NamespaceSample {
            netns: server_flow().netns,
            addresses: vec![server_flow().local.ip],
            listen_drops: Some(count),
            ..NamespaceSample::default()
        };
        event(ms, Body::NamespaceSample(Box::new(sample)))
    }

    fn handshake(ms: u64) -> Event {
        event(ms, Body::Handshake(Handshake { flow: client_flow(), syn_retransmits: 0 }))
    }

    fn silent() -> ConnectionEnded {
        ConnectionEnded {
            error: 0,
            closed_by_proxy: true,
            reset_received: false,
            syn_retransmits: 1,
            ..refused_connection()
        }
    }

    /// Given up with its request unacknowledged, on a connection that had acknowledged so many bytes.
    fn deaf(bytes_acked: u64, data_retransmits: u16) -> ConnectionEnded {
        ConnectionEnded { bytes_acked, unacked: 80, data_retransmits, ..connection() }
    }

    fn judged(before: impl IntoIterator<Item = Event>, ended: ConnectionEnded) -> Verdict {
        let (model, attempt) = ended_with(before, ended);
        judge_attempt(&attempt, &model)
    }

    #[test]
    fn a_connection_that_had_worked_and_went_deaf_is_likely() {
        let verdict = judged([], deaf(400, 5));
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Likely, Some(504)));
        for (acked, retransmits) in [(400, 1), (0, 5)] {
            assert_eq!(judged([], deaf(acked, retransmits)).cause, "unknown", "{acked} {retransmits}");
        }
    }

    #[test]
    fn a_new_one_needs_queues_that_dropped_nothing() {
        let verdict = judged([drops(0, 7), drops(1_000, 7)], deaf(0, 3));
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Likely), "{}", verdict.summary);
        assert_eq!(judged([drops(0, 7), drops(1_000, 9)], deaf(0, 3)).cause, "unknown");
        assert_eq!(judged([drops(0, 7)], deaf(0, 3)).cause, "unknown");
    }

    #[test]
    fn a_handshake_turned_away_is_the_queues_doing() {
        let overflow = ListenOverflow { flow: server_flow(), path: OverflowPath::Ack, depth: 129, limit: 128 };
        let overflow = event(5, Body::ListenOverflow(overflow));
        let verdict = judged([drops(0, 7), overflow, drops(1_000, 7)], deaf(0, 3));
        assert_eq!(verdict.cause, "accept-queue-overflow");
    }

    #[test]
    fn syns_lost_while_others_are_let_in_are_no_wall() {
        let verdict = judged([drops(0, 7), handshake(900), drops(1_000, 7)], silent());
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Likely, Some(504)));
        let verdict = judged([drops(0, 7), drops(1_000, 7)], silent());
        assert_eq!(verdict.cause, "connect-timeout");
        let verdict = judged([handshake(900)], silent());
        assert_eq!(verdict.cause, "unknown", "elsewhere it may be a queue");
    }

    /// The upstream's side of a connection that the proxy gave up, so long after the request had come.
    fn unserved(accepted: bool, had_ms: u64) -> Event {
        let it = Unserved {
            flow: server_flow(),
            new: State::CloseWait,
            accepted,
            reset: false,
            bytes_received: 80,
            bytes_sent: 0,
            unacked: 0,
            waited: Some(Duration::from_millis(had_ms)),
        };
        event(1_999, Body::Unserved(it))
    }

    #[test]
    fn a_request_that_took_its_time_to_arrive_left_the_upstream_none() {
        let judged =
            |accepted, had_ms, ended| judged([drops(0, 7), drops(1_000, 7), unserved(accepted, had_ms)], ended).cause;
        let again = |data_retransmits| ConnectionEnded { data_retransmits, ..connection() };
        // Repeated after 0.2, 0.4, 0.8 and 1.6 s.
        for accepted in [true, false] {
            assert_eq!(judged(accepted, 400, again(4)), RULE.code, "{accepted}");
            assert_eq!(judged(accepted, 1_600, again(2)), "upstream-timeout", "{accepted}: it had nearly all the time");
            assert_eq!(judged(accepted, 400, again(0)), "upstream-timeout", "{accepted}: nothing was lost");
        }
        let used = ConnectionEnded { exchanges: 3, written_since_read: Some(80), ..again(4) };
        assert_ne!(judged(true, 400, used), RULE.code, "another request may have been the one that was lost");
    }

    #[test]
    fn a_request_that_a_full_queue_kept_late_was_not_lost() {
        let overflow = ListenOverflow { flow: server_flow(), path: OverflowPath::Ack, depth: 129, limit: 128 };
        let late = ConnectionEnded { data_retransmits: 4, ..connection() };
        let events = [drops(0, 7), event(5, Body::ListenOverflow(overflow)), drops(1_000, 8), unserved(false, 400)];
        assert_eq!(judged(events, late).cause, "upstream-timeout");
    }

    #[test]
    fn an_answer_that_was_acknowledged_is_not_lost() {
        assert_ne!(judged([drops(0, 7), drops(1_000, 7)], connection()).cause, RULE.code);
    }
}
