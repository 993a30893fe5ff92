//! What the proxy or its host ran out of, connections it need not open, and what could not be told.

use super::{Context, Remedy, Snippet, proxies, software, under};
use crate::time::Human;

/// How long a port stays in TIME_WAIT (`TCP_TIMEWAIT_LEN`, include/net/tcp.h).
const TIME_WAIT_SECONDS: u32 = 60;
/// tcp_tw_recycle went in 4.12 (commit 4396e46187ca, "tcp: remove tcp_tw_recycle").
const RECYCLE: &str = "tcp_tw_recycle: it broke clients behind NAT, and no longer exists since Linux 4.12.";

pub(in crate::diagnose) fn port_exhaustion(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let ports = context.ports();
    let by_time_wait = context.has("keepalive-off");
    let all = ports.map_or_else(|| "all of the range".to_owned(), |ports| format!("all {ports} of the range"));
    let share = match (context.time_wait(), ports) {
        (Some(waiting), Some(ports)) if by_time_wait => format!("; {waiting} of the {ports} are in TIME_WAIT"),
        _ if by_time_wait => "; most of them are in TIME_WAIT".to_owned(),
        (Some(_), Some(_)) => "; live connections hold most of them".to_owned(),
        _ => String::new(),
    };
    let ceiling = match (ports, context.connections_per_second()) {
        (Some(ports), rate) if by_time_wait => Some(format!(
            "Whoever closes first keeps its port for {TIME_WAIT_SECONDS} s, so {ports} ports bear {} new connections \
             a second to one destination{}.",
            ports / TIME_WAIT_SECONDS,
            rate.map(|rate| format!("; {rate:.0} were opened")).unwrap_or_default()
        )),
        _ => None,
    };
    let status = context.verdict.status.map(|_| {
        format!(
            "{}: connect() failed with EADDRNOTAVAIL (errno 99) before a port was chosen, and nothing was sent.",
            context.client()
        )
    });
    let filter = under::destination(context);
    let range = context.text("port_range").map(|range| format!(" ({range} when it failed)")).unwrap_or_default();
    let held = match context.time_wait() {
        Some(waiting) if by_time_wait => format!("about {waiting} while it fails"),
        _ => "few, if live connections hold the ports".to_owned(),
    };
    let remedy = Remedy::default()
        .say(format!("Each connection to {at} needs a local port of its own, and {all} were taken{share}."))
        .maybe_say(ceiling)
        .maybe_say(status)
        .say(context.sure("connect() itself returned that errno", "other causes give the same"))
        .check(context.by_proxy(&format!("ss -Htan state time-wait {filter} | wc -l")), held)
        .check(context.by_proxy(&format!("ss -Htan state established {filter} | wc -l")), "the rest of the ports")
        .check(
            context.by_proxy("sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse"),
            format!("the range{range}"),
        )
        .look(proxies::log(context, "failed (99: Cannot assign requested address) while connecting to upstream", "RC"));
    let range = Snippet::new(
        "as a stopgap: more ports",
        "sh",
        &[
            "# 64,512 ports instead; mind fixed ports above 1023: list those of services that start later",
            &context.by_proxy("sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\""),
            "# sysctl -w net.ipv4.ip_local_reserved_ports=PORTS   # PORTS: as 8000,9000-9010",
        ],
    );
    let reuse = Snippet::new(
        "as a stopgap, for remote upstreams: use ports again",
        "sh",
        &[
            "# 2, the default, does so for loopback only; 1 needs timestamps on both sides",
            &context.by_proxy("sysctl -w net.ipv4.tcp_tw_reuse=1"),
        ],
    );
    let remedy = if by_time_wait { remedy } else { remedy.change([proxies::more_destinations(context)]) };
    let remedy = remedy.change([range]);
    let remedy = if by_time_wait { remedy.change([reuse, proxies::more_destinations(context)]) } else { remedy };
    remedy
        .never(RECYCLE)
        .never("tcp_fin_timeout: it is about FIN_WAIT_2, and shortens no TIME_WAIT.")
        .never("More retries: each needs a port as well.")
}

pub(in crate::diagnose) fn keepalive_off(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let counts = match (context.count("connections"), context.count("single_request")) {
        (Some(all), Some(single)) => {
            format!("{single} of {all} connections to {at} carried a single request and were closed")
        }
        _ => format!("Connections to {at} carry a single request and are closed"),
    };
    let forecast = context
        .facts
        .ports_gone_in
        .filter(|_| context.verdict.cause == "keepalive-off")
        .map(|left| format!("At this rate the ephemeral ports towards it are gone in {}.", Human(left)));
    let waiting = match (context.time_wait(), context.ports()) {
        (Some(waiting), Some(ports)) => Some(format!("{waiting} of {ports} ports towards it are in TIME_WAIT.")),
        _ => None,
    };
    Remedy::default()
        .say(format!(
            "{counts}: each costs a handshake, a place in the accept queue and, if the proxy closes first, a port for \
             {TIME_WAIT_SECONDS} s."
        ))
        .say("Nothing fails by that alone; ports that run out and queues that fill come of it.")
        .maybe_say(waiting)
        .maybe_say(forecast)
        .check(
            context.by_proxy(&format!("ss -Htan state time-wait {} | wc -l", under::destination(context))),
            "many, and more from minute to minute; with connections kept only a few",
        )
        .change([proxies::keepalive(context), software::keep_longer(context, proxies::OUTLAST_SECONDS)])
        .never(RECYCLE)
        .never(
            "keepalive without proxy_http_version 1.1 and an empty Connection header: up to nginx 1.29.6 it does \
             nothing.",
        )
        .never(
            "More kept connections than a synchronous application has workers: idle ones hold workers where each \
             serves one connection.",
        )
}

pub(in crate::diagnose) fn proxy_limits(context: &Context<'_>) -> Remedy {
    let used = match (context.number("open_files"), context.number("open_files_limit")) {
        (Some(used), Some(limit)) => format!("{used:.0} of {limit:.0} open files"),
        _ => "nearly all of its open files".to_owned(),
    };
    let pid = context.verdict.proxy.pid;
    let who = if pid == 0 { "The proxy".to_owned() } else { format!("{}[{pid}]", context.verdict.proxy.comm) };
    let remedy = Remedy::default()
        .say(format!("{who} had {used} in use and answered without trying any upstream."))
        .say(format!(
            "{}: a request takes two descriptors, one for each side, and there was none left for the second.",
            context.client()
        ))
        .say(context.sure("the limit was seen to be reached", "only the proxy's log names the limit"));
    let remedy = if pid == 0 {
        remedy.check(
            "grep 'open files' /proc/$(pgrep -o nginx)/limits",
            "the limit that holds (nginx: of its first process)",
        )
    } else {
        remedy
            .check(format!("grep 'open files' /proc/{pid}/limits"), "the limit that holds, in the column Soft Limit")
            .check(format!("ls /proc/{pid}/fd | wc -l"), "as many, or nearly, while it fails")
    };
    remedy
        .look(proxies::log(context, "Too many open files\" or \"worker_connections are not enough", ""))
        .change(proxies::limits(context))
        .never(
            "A higher limit alone where connections pile up because an upstream is slow: it only takes longer to be \
             reached.",
        )
}

pub(in crate::diagnose) fn no_live_upstreams(context: &Context<'_>) -> Remedy {
    let last = context.text("failed_upstream").map(|at| format!(", the last at {at}")).unwrap_or_default();
    let failures = match context.count("failures_since_success") {
        Some(count) => format!("{count} tries of its failed in a row{last}"),
        None => format!("tries of its had failed{last}"),
    };
    let nginx = context.proxy() == proxies::Proxy::Nginx;
    let rule = nginx.then(|| {
        "nginx leaves a server alone for fail_timeout (10 s by default) after max_fails (1 by default) failures; the \
         cause is that of the failures before."
            .to_owned()
    });
    Remedy::default()
        .say(format!(
            "The proxy answered without trying anybody: {failures}, and it had marked all servers as down, most likely."
        ))
        .maybe_say(rule)
        .say(format!("{}: there was nobody to try.", context.client()))
        .say(context.sure("its log has it", "a static answer of the configuration looks the same"))
        .look(proxies::log(context, "no live upstreams while connecting to upstream", "SC"))
        .change([proxies::patience(context)])
        .never(
            "Marking servers down for longer, or at the first failure, where there are few: one hiccup becomes an \
             outage.",
        )
        .never("Counting the timeouts of one slow path as failures of the server: it marks down servers that are well.")
}

pub(in crate::diagnose) fn unknown(context: &Context<'_>) -> Remedy {
    let missing = context.text("missing").map(|missing| format!("What was missing: {missing}."));
    let errno = context.count("errno").map(|errno| format!("connect() failed with errno {errno}."));
    let never = context
        .flag("never_accepted")
        .then(|| "The upstream's kernel had taken the connection, and the application never accepted it.".to_owned());
    let elsewhere = (!context.here())
        .then_some("The upstream is not on this host, and only its own kernel saw the other half.".to_owned());
    let remedy = Remedy::default()
        .say(format!("The try at {} failed, and what was seen does not settle why.", context.at()))
        .maybe_say(errno)
        .maybe_say(never)
        .maybe_say(missing)
        .maybe_say(elsewhere)
        .no_setting("the cause is to be found first")
        .look(proxies::log(context, "its own word for what happened", "other than --"))
        .check("observer doctor", "which hooks this kernel does not offer");
    let remedy = match context.verdict.upstream.endpoint {
        Some(_) => remedy.check(
            context.by_proxy(&format!("ss -tnoi {}", under::destination(context))),
            "connections to it with retrans:, or in SYN-SENT: something is not answered",
        ),
        None => remedy,
    };
    remedy.never("Changing settings by guess: longer timeouts and more retries hide what could still be seen.")
}
