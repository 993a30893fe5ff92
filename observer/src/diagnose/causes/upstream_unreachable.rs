//! The upstream cannot be reached, and somebody said so. See `upstream_unreachable.md`.

use std::{net::IpAddr, time::Duration};

use crate::{
    diagnose::{
        evidence::Evidence,
        remedy,
        rule::{Case, Finding, Judgement, Rule},
        verdict::Confidence,
    },
    model::Ending,
    time::Human,
};

/// The registry's line.
pub const RULE: Rule = Rule {
    code: "upstream-unreachable",
    page: include_str!("upstream_unreachable.md"),
    judge,
    watch: None,
    remedy: remedy::upstream_unreachable,
};

/// A neighbour is asked three times, a second apart (`mcast_solicit`, `retrans_time_ms`; neigh_timer_handler,
/// net/core/neighbour.c) before what waited for it is thrown away and its sender told (arp_error_report,
/// net/ipv4/arp.c). An error that comes this late, and not much later, is that one.
const NEIGHBOUR_ASKED: std::ops::Range<Duration> = Duration::from_millis(2_500)..Duration::from_millis(4_500);

/// Who said that it cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// This host's routes, at once.
    Route,
    /// This host's rules, at once.
    Policy,
    /// Somebody on the way, by ICMP.
    Icmp,
    /// Nobody: the next hop, ours or the last router's, does not answer.
    Neighbour,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Policy => "policy",
            Self::Icmp => "icmp",
            Self::Neighbour => "neighbour",
        }
    }
}

fn judge(case: &Case<'_>) -> Judgement {
    let (Ending::ConnectError(error), Some(to)) = (case.attempt.ending, case.attempt.upstream.endpoint) else {
        return Judgement::No;
    };
    let connection = case.attempt.connection.as_ref();
    let took = connection.map(|it| case.attempt.time.since(it.started));
    let found = match took {
        None => at_once(error, to.ip),
        Some(took) => by_network(error, took),
    };
    let Some((by, what)) = found else { return Judgement::No };
    let evidence = Evidence::default()
        .with("errno", u32::from(error))
        .with("refused_by", by.name())
        .maybe("syn_retransmits", connection.map(|it| u32::from(it.syn_retransmits)))
        .maybe("took_ms", took.map(|took| took.as_secs_f64() * 1e3));
    let after = took.map(|took| format!(" after {}", Human(took))).unwrap_or_default();
    Judgement::Found(Finding {
        confidence: if error == EINVAL { Confidence::Likely } else { Confidence::Certain },
        status: Some(502),
        because: None,
        also: Vec::new(),
        summary: format!("{} cannot be reached: {what} (errno {error}{after})", case.attempt.upstream),
        evidence,
        advice: advice(by, to.ip),
    })
}

const EPERM: u16 = 1;
const EACCES: u16 = 13;
const EINVAL: u16 = 22;
const ENONET: u16 = 64;
const ENOPROTOOPT: u16 = 92;
const ENETUNREACH: u16 = 101;
const EHOSTDOWN: u16 = 112;
const EHOSTUNREACH: u16 = 113;

/// What connect() itself returns: the route's own answer by its type (`fib_props`, net/ipv4/fib_semantics.c;
/// ip6_rt_type_to_error, net/ipv6/route.c), or a rule's.
fn at_once(error: u16, to: IpAddr) -> Option<(By, &'static str)> {
    match error {
        ENETUNREACH => Some((By::Route, "no route of this network namespace leads there")),
        EHOSTUNREACH => Some((By::Route, "its route is of type unreachable")),
        EACCES => Some((By::Policy, "its route is of type prohibit, or a security module forbids the connection")),
        EPERM => Some((By::Policy, "a rule of this host forbids the connection (a cgroup's program)")),
        // Without an interface a link-local address is a bad argument (tcp_v6_connect, net/ipv6/tcp_ipv6.c).
        EINVAL if !is_link_local(to) => Some((By::Route, "its route is of type blackhole")),
        _ => None,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// What ICMP makes of a connection (`icmp_err_convert`, net/ipv4/icmp.c; `tab_unreach`, net/ipv6/icmp.c).
fn by_network(error: u16, took: Duration) -> Option<(By, &'static str)> {
    match error {
        EHOSTUNREACH if NEIGHBOUR_ASKED.contains(&took) => {
            Some((By::Neighbour, "the next hop, here or at the last router, does not say its link-layer address"))
        }
        EHOSTUNREACH => Some((By::Icmp, "ICMP says that the host is unreachable or the way forbidden")),
        ENETUNREACH => Some((By::Icmp, "ICMP says that a router knows no way")),
        EACCES => Some((By::Icmp, "ICMP says that a firewall or a router's policy forbids it")),
        ENONET | EHOSTDOWN => Some((By::Icmp, "ICMP says that the host is not there")),
        ENOPROTOOPT => Some((By::Icmp, "ICMP says that the host takes no TCP")),
        _ => None,
    }
}

fn advice(by: By, to: IpAddr) -> Vec<String> {
    let route = format!("look at the route that is taken, in the proxy's network namespace: ip route get {to}");
    match by {
        By::Route => vec![route, "correct the address, or add the route that is missing: ip route add …".to_owned()],
        By::Policy => vec![
            route,
            "if the route is no prohibit: look for a security module's refusal (ausearch -m avc; SELinux: setsebool -P \
             httpd_can_network_connect 1) or a container's network policy"
                .to_owned(),
        ],
        By::Icmp => vec![
            format!("look for a REJECT rule towards {to} on the way and on the upstream: nft list ruleset"),
            route,
            format!("see who answers: tcpdump -ni any 'icmp or icmp6', traceroute {to}"),
        ],
        By::Neighbour => vec![
            format!("is the host up, and is {to} its address? ip neigh show {to}"),
            "fail over fast meanwhile: proxy_connect_timeout 1s, with a second upstream server".to_owned(),
            route,
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::Endpoint,
        diagnose::{Verdict, engine::judge as judge_attempt},
        event::{Body, ConnectFailed, ConnectionEnded, Destination, Flow, Process},
        model::Model,
        testing::{at, client_flow, ended_with, event, refused_connection},
    };

    fn refused_at_once(error: u16, to: &str) -> Verdict {
        let remote = Endpoint { ip: to.parse().unwrap(), port: 8000 };
        let failed = ConnectFailed {
            proxy: Process { pid: 42, comm: "nginx".into() },
            to: Destination::Tcp(Flow { remote, ..client_flow() }),
            error,
            began: false,
            answers_visible: false,
        };
        let mut model = Model::default();
        let attempt = model.apply(&event(5, Body::ConnectFailed(Box::new(failed)))).unwrap();
        judge_attempt(&attempt, &model)
    }

    /// Told at 2000 ms.
    fn refused_by_network(error: u16, started: u64) -> Verdict {
        let ended = ConnectionEnded { error, reset_received: false, started: at(started), ..refused_connection() };
        let (model, attempt) = ended_with([], ended);
        judge_attempt(&attempt, &model)
    }

    #[test]
    fn what_connect_itself_refuses_is_told_by_its_errno() {
        for (error, by, confidence) in [
            (101, "route", Confidence::Certain),
            (113, "route", Confidence::Certain),
            (13, "policy", Confidence::Certain),
            (1, "policy", Confidence::Certain),
            (22, "route", Confidence::Likely),
        ] {
            let verdict = refused_at_once(error, "192.0.2.1");
            assert_eq!((verdict.cause, verdict.confidence, verdict.status), (RULE.code, confidence, Some(502)));
            assert_eq!(verdict.evidence.get("refused_by"), Some(&by.into()), "{error}");
            assert!(verdict.summary.contains(&format!("errno {error}")), "{}", verdict.summary);
        }
    }

    #[test]
    fn errors_that_are_no_matter_of_reach_are_not_this() {
        for (error, to) in [(99, "192.0.2.1"), (97, "192.0.2.1"), (22, "fe80::1")] {
            assert_eq!(refused_at_once(error, to).cause, "unknown", "{error} {to}");
        }
    }

    #[test]
    fn the_network_is_told_from_a_neighbour_by_the_time_it_takes() {
        let by = |error, started| {
            let verdict = refused_by_network(error, started);
            assert_eq!((verdict.cause, verdict.confidence), (RULE.code, Confidence::Certain), "{}", verdict.summary);
            verdict.evidence.get("refused_by").map(ToString::to_string)
        };
        assert_eq!(by(113, 1_990).as_deref(), Some("icmp"));
        assert_eq!(by(101, 1_000).as_deref(), Some("icmp"));
        assert_eq!(by(13, 1_000).as_deref(), Some("icmp"));
    }

    #[test]
    fn a_neighbour_is_waited_for() {
        assert_eq!(by_network(EHOSTUNREACH, Duration::from_millis(3_070)).map(|found| found.0), Some(By::Neighbour));
        assert_eq!(by_network(EHOSTUNREACH, Duration::from_secs(130)).map(|found| found.0), Some(By::Icmp));
    }

    #[test]
    fn a_refusal_by_icmp_stays_a_refusal() {
        assert_eq!(refused_by_network(111, 1_000).cause, "upstream-refused");
    }
}
