//! Connections that did not come about, or whose segments got lost.

use super::{Check, Context, Remedy, Snippet, proxies, software, under};

/// Hides what is wrong and makes each client wait for it.
const LONGER_CONNECT: &str = "A longer connect timeout in the proxy: each client waits longer for the same error.";

fn address(context: &Context<'_>) -> String {
    context.ip().map_or_else(|| "ADDRESS".to_owned(), |ip| ip.to_string())
}

fn port(context: &Context<'_>) -> String {
    context.port().map_or_else(|| "PORT".to_owned(), |port| port.to_string())
}

/// Rules of this host that could have a part in it.
fn rules(context: &Context<'_>, what: &str) -> Check {
    let expect = format!(
        "a {what} rule that matches TCP to {} port {} (iptables-save, where those are used)",
        address(context),
        port(context)
    );
    Check { command: context.by_proxy("nft list ruleset"), expect }
}

fn conntrack() -> Check {
    Check {
        command: "journalctl -k -g 'nf_conntrack.*table full' -n 5".to_owned(),
        expect: "no line, unless the connection tracking table is what drops new connections".to_owned(),
    }
}

/// Raises the limit of the connection tracking table, should it be full.
fn larger_conntrack(context: &Context<'_>) -> Snippet {
    Snippet::new(
        "only if the connection tracking table is full",
        "sh",
        &[
            &context.by_proxy("sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"),
            "# for all namespaces together, on the host itself; MOST: above the count of the worst hour; not measured here",
            "sysctl -w net.netfilter.nf_conntrack_max=MOST",
        ],
    )
}

pub(in crate::diagnose) fn connect_timeout(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let after = context.time("waited_ms").map(|after| format!(" within {after}")).unwrap_or_default();
    let syns = match context.count("syns_sent") {
        Some(1) => "One SYN was".to_owned(),
        Some(syns) => format!("{syns} SYNs were"),
        None => "SYNs were".to_owned(),
    };
    let status = match context.verdict.status {
        Some(504) => Some(format!("{}: the proxy's timer for connecting ended first.", context.client())),
        Some(_) => Some(format!("{}: the kernel gave up before the proxy did.", context.client())),
        None => None,
    };
    let why = if context.flag("never_heard") {
        "nothing was ever heard of that address on any port; a queue that was full all the time would look the same"
    } else if context.flag("listens_here") {
        "it listens on this host, and no listener there dropped anything meanwhile, as every full queue would"
    } else if context.number("cut_off_ms").is_some() {
        "connections to it that had worked fell silent too, which no queue does"
    } else {
        "no full queue explains it"
    };
    let port = port(context);
    Remedy::default()
        .say(format!(
            "{syns} sent to {at}, and none was answered{after}: neither by the host, nor by a RST or ICMP from \
             anybody on the way."
        ))
        .maybe_say(status)
        .say(context.sure(why, why))
        .check(
            format!(
                "timeout 20 {}",
                context
                    .by_upstream(&format!("tcpdump -c 5 -ni any 'tcp port {port} and tcp[tcpflags] & tcp-syn != 0'"))
            ),
            format!(
                "{}SYNs without an answer mean a rule or the way back; no SYN, that they are dropped before",
                context.there()
            ),
        )
        .look([rules(context, "drop"), conntrack()])
        .check(context.by_proxy(&format!("ip route get {}", address(context))), "the way that is meant")
        .change([proxies::fail_over(context), larger_conntrack(context)])
        .never(LONGER_CONNECT)
        .never("More retries on the same server: each waits for the same silence.")
}

pub(in crate::diagnose) fn packet_loss(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let again = match (context.count("data_retransmits"), context.count("syn_retransmits")) {
        (Some(data), _) if data > 0 => format!("Data to {at} was sent again {data} times"),
        (_, Some(syns)) if syns > 0 => format!("SYNs to {at} were sent again {syns} times"),
        _ => format!("Segments between the proxy and {at} were lost"),
    };
    let after = context.time("waited_ms").map(|after| format!(" within {after}")).unwrap_or_default();
    let status = context.verdict.status.map(|_| {
        format!("{}: repetitions take longer each time, and did not get through before the timer.", context.client())
    });
    let why = if context.flag("worked") {
        "this very connection had worked before, and a queue has no part in one that is through it"
    } else {
        "no listener at the upstream's address dropped anything meanwhile"
    };
    let minute = match (context.count("retransmits_in_a_minute"), context.count("tries_in_a_minute")) {
        (Some(again), Some(tries)) if again > 0 => {
            Some(format!("In the last minute {again} segments were sent again in {tries} tries at this upstream."))
        }
        _ => None,
    };
    Remedy::default()
        .say(format!("{again}{after}: something between the two loses segments."))
        .maybe_say(status)
        .say(context.sure(why, why))
        .maybe_say(minute)
        .check(
            context.by_proxy("nstat -az TcpRetransSegs TcpExtTCPTimeouts"),
            "both rise while it fails; run it on the upstream's host as well",
        )
        .check(
            context.by_proxy(&format!("ss -tino {}", under::destination(context))),
            "retrans: and backoff: on connections to it",
        )
        .check(context.by_proxy("ip -s link"), "errors or dropped that rise; on both hosts")
        .check(context.by_proxy("tc -s qdisc"), "dropped that rises: a queue of this host overflows")
        .look([rules(context, "limit or drop"), conntrack()])
        .change([proxies::probe_idle(context), larger_conntrack(context)])
        .never("Shorter timeouts with more retries: more packets on a way that loses them.")
}

pub(in crate::diagnose) fn upstream_refused(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let by_icmp = context.text("refused_by") == Some("ICMP");
    let answer = if by_icmp { "by ICMP" } else { "with a RST" };
    let listens = context.flag("listens_now");
    let what = if by_icmp || listens {
        "A firewall's REJECT answers so in the host's name."
    } else {
        "So answers a kernel on which nobody listens at that address and port: not started, crashed, being restarted, \
         or bound elsewhere."
    };
    let port = port(context);
    let expect = if listens {
        "the listener that is open: then it is a rule that refuses, or it had just begun to listen"
    } else {
        "no line: nobody listens on that port (or it came back since); a line with another address: bound elsewhere"
    };
    let status = context
        .verdict
        .status
        .map(|_| format!("{}: the answer comes at once, no timer has a part in it.", context.client()));
    let firewall = by_icmp || listens;
    let remedy = Remedy::default()
        .say(format!("The SYN to {at} was answered {answer} (errno 111)."))
        .say(what)
        .maybe_say(status)
        .say(context.sure(
            "the socket's own error says so",
            "the listener on this host is open, so that somebody else must have refused, or it opened just then",
        ))
        .check(context.by_upstream(&format!("ss -ltnp 'sport = :{port}'")), format!("{}{expect}", context.there()))
        .look(proxies::log(context, "connect() failed (111: Connection refused) while connecting to upstream", "SC"));
    let remedy = if firewall {
        remedy.look([rules(context, "reject")])
    } else {
        remedy
            .check(
                format!("journalctl -u {} -n 50", context.unit()),
                format!("{}how the application ended, and when", context.there()),
            )
            .change([software::brought_back()])
    };
    remedy
        .change([proxies::fail_over(context)])
        .never("More retries on the same server: it refuses just as fast, and the log fills.")
        .never("A larger backlog: a full queue never refuses.")
}

pub(in crate::diagnose) fn upstream_unreachable(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let ip = address(context);
    let errno = context.count("errno").map(|errno| format!(" (errno {errno})")).unwrap_or_default();
    let by = context.text("refused_by").unwrap_or_default();
    let who = match by {
        "route" => "this host's own routes said so at once, and nothing was sent",
        "policy" => {
            "a rule of this host said so at once, and nothing was sent: a route of type prohibit, a security module, \
             a control group's program"
        }
        "icmp" => "somebody on the way said so by ICMP after the SYN had been sent",
        "neighbour" => {
            "the next hop was asked three times for its link-layer address, a second apart, and did not say it"
        }
        _ => "somebody said so",
    };
    let status =
        context.verdict.status.map(|_| format!("{}: connect() failed, and no request was sent.", context.client()));
    let remedy = Remedy::default()
        .say(format!("{at} cannot be reached{errno}: {who}."))
        .maybe_say(status)
        .say(context.sure("the errno is the kernel's own", "bad arguments give the same errno"))
        .check(
            context.by_proxy(&format!("ip route get {ip}")),
            match by {
                "route" => "an error, or a route of type unreachable or blackhole",
                "policy" => "a route of type prohibit; if it is a good route, a security module or a program refuses",
                _ => "the way that is meant, and over which device",
            },
        );
    let route = Snippet::new(
        "add the route that is missing",
        "sh",
        &[
            "# GATEWAY, DEVICE: as the network is built; not known here",
            &context.by_proxy(&format!("ip route add {ip} via GATEWAY dev DEVICE")),
        ],
    );
    let selinux = Snippet::new(
        "if SELinux forbids it",
        "sh",
        &["# only if ausearch shows a denial for the proxy", "setsebool -P httpd_can_network_connect 1"],
    );
    let remedy = match by {
        "route" => remedy.change([route]),
        "policy" => {
            remedy.check("ausearch -m avc -ts recent", "a denial for the proxy, if it is SELinux").change([selinux])
        }
        "icmp" => remedy
            .check(
                format!("timeout 20 {}", context.by_proxy("tcpdump -c 5 -ni any 'icmp or icmp6'")),
                "who answers, and with which code",
            )
            .look([rules(context, "reject")]),
        _ => remedy.check(
            context.by_proxy(&format!("ip neigh show {ip}")),
            "FAILED or INCOMPLETE, if it is on this host's own network",
        ),
    };
    remedy
        .change([proxies::fail_over(context)])
        .never(LONGER_CONNECT)
        .never("More retries on the same server: there is no way to it at all.")
}
