//! The SYNs were never answered, and no full queue explains it. See `connect_timeout.md`.

use std::time::Duration;

use super::accept_queue_overflow::owner;
use crate::{
    addr::{Endpoint, NetNs},
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    event::ConnectionEnded,
    model::{Ending, Home, attempt::SYN_OVERDUE, contact::HANDSHAKE_EVERY},
    time::{Human, Time},
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "connect-timeout",
    page: include_str!("connect_timeout.md"),
    judge,
    watch: None,
    remedy: remedy::connect_timeout,
};

/// SYNs that must have stayed unanswered: of fewer, all may have been lost by chance.
const ENOUGH_SYNS: u32 = 3;
/// Connections that were cut off this long before still speak for a path that is gone: a proxy waits a minute for an answer
/// (`proxy_read_timeout`), and others may have been the first to give up.
const CUT_OFF_MEMORY: Duration = Duration::from_mins(1);
/// The sample that shows what listeners had dropped must be younger than the first SYN by what that may take to arrive.
const ARRIVAL: Duration = Duration::from_millis(10);

fn judge(case: &Case<'_>) -> Judgement {
    let Ending::ConnectTimedOut { by_kernel } = case.attempt.ending else { return Judgement::No };
    let (Some(connection), Some(to)) = (&case.attempt.connection, case.attempt.upstream.endpoint) else {
        return Judgement::No;
    };
    if case.flow.turned_away() {
        return Judgement::No;
    }
    let why = if never_left(case, connection) {
        // What keeps SYNs from leaving keeps them all. The timer may only have been late, on a host that was held up.
        if let_in_since(case, connection.started) {
            Err("others were let in meanwhile, so that SYNs do leave this host")
        } else {
            Ok(Why::NeverLeft)
        }
    } else {
        match case.model.home_of(&case.attempt.upstream, case.flow.server_netns) {
            Home::Here(_) if let_in(case, connection.started) => {
                Err("others were let in meanwhile: loss, or a rule that drops only some")
            }
            Home::Here(netns) => here(case, netns, connection.started),
            Home::Several => Err("several network namespaces of this host have the upstream's address"),
            Home::Elsewhere => elsewhere(case, to, connection),
        }
    };
    match why {
        Ok(why) => found(case, connection, why, if by_kernel { 502 } else { 504 }),
        Err(missing) => Judgement::NotEnough(missing),
    }
}

/// What rules out a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The SYNs are kept from leaving.
    NeverLeft,
    /// Where the address is at home, no listener dropped anything.
    NotDropped,
    /// The same by the programs alone: its count has not been read since.
    NotSeenDropped,
    /// Nothing was ever heard of the address.
    NeverHeard,
    /// Connections that had worked are cut off as well.
    CutOff(Time),
}

fn never_left(case: &Case<'_>, connection: &ConnectionEnded) -> bool {
    connection.syn_retransmits == 0 && case.attempt.time.since(connection.started) >= SYN_OVERDUE
}

/// The upstream completed the handshakes of others since, or may have.
fn let_in(case: &Case<'_>, started: Time) -> bool {
    let_in_since(case, started - HANDSHAKE_EVERY)
}

fn let_in_since(case: &Case<'_>, since: Time) -> bool {
    let upstream = case.model.upstream(&case.attempt.upstream);
    upstream.and_then(|upstream| upstream.contact.handshake).is_some_and(|last| last >= since)
}

/// Every way in which a listener drops a SYN counts in ListenDrops (tcp_conn_request, net/ipv4/tcp_input.c), whatever
/// observer sees of it.
pub(super) fn here(case: &Case<'_>, netns: NetNs, started: Time) -> Result<Why, &'static str> {
    let turned_away = case.listener().and_then(|listener| listener.last_overflow.max(listener.syn_queue.last_drop));
    if turned_away.is_some_and(|last| last >= started) {
        return Err("its listener turned others away meanwhile");
    }
    let Some(namespace) = case.model.namespace(netns) else {
        return Err("the network namespace of its address was never sampled");
    };
    if namespace.sample.listen_drops.is_none() || namespace.sampled_at < started + ARRIVAL {
        let seen = case.model.counters().sees_syn_drops;
        return seen.then_some(Why::NotSeenDropped).ok_or("what listeners dropped meanwhile was not sampled");
    }
    if namespace.drops_rose.is_some_and(|rose| rose >= started) {
        return Err("listeners of that network namespace dropped something meanwhile");
    }
    Ok(Why::NotDropped)
}

/// Of a remote queue nothing can be seen but what came from its host.
fn elsewhere(case: &Case<'_>, to: Endpoint, connection: &ConnectionEnded) -> Result<Why, &'static str> {
    let host = case.model.contact_with(to.ip);
    let since = |time: Option<Time>, from: Time| time.is_some_and(|time| time >= from);
    if let_in(case, connection.started) {
        return Err("others were let in meanwhile: a queue that is full at times, or loss; only its host can tell");
    }
    if since(host.heard, connection.started - HANDSHAKE_EVERY) {
        return Err("its host answered others meanwhile: its queue is full, or a firewall guards the port");
    }
    if host.unanswered_syns < ENOUGH_SYNS {
        return Err("too few SYNs were sent to tell silence from loss");
    }
    if host.heard.is_none() && case.model.may_have_forgotten() {
        return Err("records were lost: it cannot be said that nothing was ever heard of it");
    }
    match (host.heard, host.cut_off) {
        (None, _) => Ok(Why::NeverHeard),
        (Some(heard), Some(cut_off)) if cut_off > heard && cut_off + CUT_OFF_MEMORY >= case.attempt.time => {
            Ok(Why::CutOff(cut_off))
        }
        _ => Err("it answered before: its queue may be full, which only its host can tell"),
    }
}

fn found(case: &Case<'_>, connection: &ConnectionEnded, why: Why, status: u16) -> Judgement {
    let upstream = case.attempt.upstream;
    let now = case.attempt.time;
    let took = now.since(connection.started);
    let syns = u32::from(connection.syn_retransmits) + 1;
    let listener = case.listener().filter(|listener| listener.is_open());
    let evidence = Evidence::default()
        .with("syns_sent", syns)
        .with("syn_retransmits", u32::from(connection.syn_retransmits))
        .with("waited_ms", took.as_secs_f64() * 1e3)
        .with("listens_here", listener.is_some())
        .with("never_heard", why == Why::NeverHeard)
        .maybe("queue_depth", listener.map(|it| it.depth))
        .maybe("queue_limit", listener.map(|it| it.limit))
        .maybe(
            "cut_off_ms",
            match why {
                Why::CutOff(at) => Some(now.since(at).as_secs_f64() * 1e3),
                _ => None,
            },
        );
    let what = match (why, listener) {
        (Why::NeverLeft, _) => "they do not leave this host".to_owned(),
        (Why::NotDropped | Why::NotSeenDropped, Some(listener)) => {
            format!("its listener is here and dropped none: lost on the way{}", owner(listener))
        }
        (Why::NotDropped | Why::NotSeenDropped, None) => {
            "the address is this host's, and no RST came: dropped by a firewall".to_owned()
        }
        (Why::NeverHeard, _) => {
            "nothing was ever heard of that address (a queue that is full all the time looks the same)".to_owned()
        }
        (Why::CutOff(_), _) => "connections that had worked fell silent too".to_owned(),
    };
    Judgement::Found(Finding {
        confidence: match why {
            // An application that hangs, its queue full since before observer came, is as silent; and some drops only
            // ListenDrops counts.
            Why::NeverHeard | Why::NotSeenDropped => Confidence::Possible,
            // A rule that translates the address may lead elsewhere.
            Why::NeverLeft | Why::NotDropped | Why::CutOff(_) => Confidence::Likely,
        },
        status: Some(status),
        because: None,
        also: Vec::new(),
        summary: format!("{upstream} did not answer {syns} SYNs in {}: {what}", Human(took)),
        evidence,
        advice: advice(upstream.endpoint, why),
    })
}

fn advice(to: Option<Endpoint>, why: Why) -> Vec<String> {
    let (ip, port) = to.map(|to| (to.ip.to_string(), to.port)).unwrap_or_default();
    let drop_rules =
        |place: &str| format!("look for a rule that drops TCP to {ip} port {port} {place}: nft list ruleset");
    let capture =
        format!("see whether the SYNs arrive: tcpdump -ni any 'tcp port {port} and tcp[tcpflags] & tcp-syn != 0'");
    let fast = "fail over fast meanwhile: proxy_connect_timeout 3s; with a second upstream server".to_owned();
    match why {
        Why::NeverLeft => vec![
            drop_rules("on the way out of this host"),
            "see whether the connection tracking table is full: dmesg | grep conntrack".to_owned(),
            fast,
        ],
        Why::NotDropped | Why::NotSeenDropped => {
            vec![drop_rules("on this host, in the namespaces of both proxy and upstream"), capture, fast]
        }
        Why::NeverHeard | Why::CutOff(_) => vec![
            format!("is {ip} the right address, and the host up? ping {ip}, traceroute -T -p {port} {ip}"),
            drop_rules("there or on the way (security groups and network policies drop in silence too)"),
            format!("on the upstream's host, {capture}, and run observer there: a full queue would look the same"),
            fast,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        diagnose::{Verdict, engine::judge as judge_attempt},
        event::{Body, Counters, Event, Handshake, ListenerSample, Lost, NamespaceSample},
        testing::{at, client_flow, connection, ended_with, endpoint, event, refused_connection, server_flow},
    };

    fn silent() -> ConnectionEnded {
        ConnectionEnded {
            error: 0,
            closed_by_proxy: true,
            reset_received: false,
            syn_retransmits: 2,
            ..refused_connection()
        }
    }

    fn drops(ms: u64, count: u64) -> Event {
        let sample = NamespaceSample {
            netns: server_flow().netns,
            addresses: vec![server_flow().local.ip],
            listen_drops: Some(count),
            ..NamespaceSample::default()
        };
        event(ms, Body::NamespaceSample(Box::new(sample)))
    }

    fn listening() -> Event {
        let sample = ListenerSample {
            at: endpoint("10.0.0.2:8000"),
            netns: server_flow().netns,
            depth: 3,
            limit: 128,
            process: None,
            holders: 0,
            stopped: 0,
            runnable: 0,
            accepted_open: 0,
            arrivals: None,
        };
        event(0, Body::ListenerSample(Box::new(sample)))
    }

    fn handshake(ms: u64, syn_retransmits: u16) -> Event {
        event(ms, Body::Handshake(Handshake { flow: client_flow(), syn_retransmits }))
    }

    fn judged(before: impl IntoIterator<Item = Event>, ended: ConnectionEnded) -> Verdict {
        let (model, attempt) = ended_with(before, ended);
        judge_attempt(&attempt, &model)
    }

    #[test]
    fn a_listener_here_that_dropped_nothing_leaves_the_way() {
        let verdict = judged([drops(0, 7), listening(), drops(1_000, 7)], silent());
        assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, Confidence::Likely, Some(504)));
        assert!(verdict.summary.contains("dropped none"), "{}", verdict.summary);
    }

    #[test]
    fn of_namespaces_with_that_address_the_one_that_listens_counts() {
        let twin = |ms| {
            let mut event = drops(ms, 3);
            if let Body::NamespaceSample(sample) = &mut event.body {
                sample.netns = NetNs(99);
            }
            event
        };
        let verdict = judged([drops(0, 7), twin(0), listening(), drops(1_000, 7), twin(1_000)], silent());
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Likely));
        let verdict = judged([drops(0, 7), twin(0), drops(1_000, 7), twin(1_000)], silent());
        assert_eq!(verdict.cause, "unknown", "neither listens, as far as is known");
    }

    #[test]
    fn whatever_a_listener_dropped_meanwhile_leaves_it_open() {
        for before in [
            vec![drops(0, 7), listening(), drops(1_000, 8)],
            vec![drops(0, 7), listening()],
            vec![listening(), event(1_000, Body::Tick)],
        ] {
            let verdict = judged(before, silent());
            assert_eq!(verdict.cause, "unknown", "{}", verdict.summary);
        }
    }

    #[test]
    fn where_drops_are_seen_none_seen_counts_for_less_than_none_counted() {
        let counters = event(100, Body::Counters(Box::new(Counters { sees_syn_drops: true, ..Counters::default() })));
        let verdict = judged([drops(0, 7), listening(), counters], silent());
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Possible));
    }

    #[test]
    fn an_address_that_was_never_heard_of_is_possibly_not_there() {
        let verdict = judged([], silent());
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Possible));
        let by_kernel = ConnectionEnded { error: 110, closed_by_proxy: false, syn_retransmits: 6, ..silent() };
        assert_eq!(judged([], by_kernel).status, Some(502));
        let once = ConnectionEnded { syn_retransmits: 1, ..silent() };
        assert_eq!(judged([], once).cause, "unknown", "two SYNs may be lost by chance");
    }

    #[test]
    fn with_records_lost_never_is_not_said() {
        let lost = Lost { undecoded: 1, ..Lost::default() };
        let counters = event(100, Body::Counters(Box::new(Counters { lost, ..Counters::default() })));
        assert_eq!(judged([counters], silent()).cause, "unknown");
    }

    #[test]
    fn one_that_let_others_in_may_have_a_full_queue() {
        for (ms, syn_retransmits) in [(1_500, 0), (1_500, 1)] {
            let verdict = judged([handshake(ms, syn_retransmits)], silent());
            assert_eq!(verdict.cause, "unknown");
            assert!(verdict.summary.contains("others were let in"), "{}", verdict.summary);
        }
    }

    #[test]
    fn one_that_worked_before_may_have_a_full_queue() {
        let later = ConnectionEnded { started: at(1_900), ..silent() };
        let verdict = judged([handshake(100, 0)], later);
        assert_eq!(verdict.cause, "unknown");
        assert!(verdict.summary.contains("it answered before"), "{}", verdict.summary);
    }

    #[test]
    fn its_other_ports_count() {
        let other = crate::event::Flow { remote: endpoint("10.0.0.2:22"), ..client_flow() };
        let ssh = event(1_500, Body::Handshake(Handshake { flow: other, syn_retransmits: 0 }));
        let verdict = judged([ssh], silent());
        assert_eq!(verdict.cause, "unknown");
        assert!(verdict.summary.contains("its host answered others"), "{}", verdict.summary);
    }

    #[test]
    fn connections_that_fell_silent_speak_for_the_network() {
        let deaf = ConnectionEnded { unacked: 80, data_retransmits: 5, ..connection() };
        let mut model = crate::model::Model::default();
        for (ms, ended) in [(30_000, deaf), (40_000, ConnectionEnded { started: at(35_000), ..silent() })] {
            let attempt = model.apply(&event(ms, Body::ConnectionEnded(Box::new(ended)))).unwrap();
            if ms == 40_000 {
                let verdict = judge_attempt(&attempt, &model);
                assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Likely));
                assert!(verdict.summary.contains("fell silent too"), "{}", verdict.summary);
            }
        }
    }

    #[test]
    fn syns_that_never_left_are_told() {
        let verdict = judged([], ConnectionEnded { syn_retransmits: 0, ..silent() });
        assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Likely));
        assert!(verdict.summary.contains("do not leave this host"), "{}", verdict.summary);
        let verdict = judged([handshake(900, 0)], ConnectionEnded { syn_retransmits: 0, ..silent() });
        assert_eq!(verdict.cause, "unknown", "others do: {}", verdict.summary);
    }
}
