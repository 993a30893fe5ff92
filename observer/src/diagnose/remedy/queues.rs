//! Queues that were full: a listener's accept queue, its SYN queue, and that of a unix socket.

use std::time::Duration;

use super::{Check, Context, Remedy, Snippet, proxies, shell, software};
use crate::time::Human;

/// What would not help against a pool that is too small.
pub(super) const LONGER_ONLY_WAITS: &str =
    "A longer queue for workers that cannot keep up: everybody waits longer, and as many fail.";
pub(super) const LONGER_TIMEOUTS: &str =
    "Longer timeouts in the proxy: requests pile up, and workers are kept busy for clients that have left.";
pub(super) const MORE_RETRIES: &str =
    "More retries (proxy_next_upstream_tries, retries): each failed try becomes several on a queue that is full.";
pub(super) const ABORT: &str =
    "tcp_abort_on_overflow=1: a burst that would have cost a repetition becomes an error at once.";

pub(in crate::diagnose) fn accept_queue_overflow(context: &Context<'_>) -> Remedy {
    let queue = match context.queue() {
        (Some(depth), Some(limit)) if depth > limit => format!("held {depth} at a limit of {limit}"),
        (_, Some(limit)) => format!("was at its limit of {limit}"),
        _ => "was full".to_owned(),
    };
    let dropped = match (context.count("syns_dropped"), context.count("acks_dropped")) {
        (Some(syns), Some(acks)) if syns.saturating_add(acks) > 0 => {
            format!(" ({syns} of its SYNs, {acks} of its ACKs were dropped)")
        }
        _ => String::new(),
    };
    let status = match context.verdict.status {
        Some(504) => Some(format!("{}: the proxy's own timer ended while the queue kept silent.", context.client())),
        Some(502) if context.has("abort-on-overflow") => {
            Some(format!("{}: the handshake was answered with a RST.", context.client()))
        }
        Some(_) => Some(format!(
            "{}: a RST for a handshake that had been forgotten, or the kernel's own timer, came before the proxy's \
             timer.",
            context.client()
        )),
        None => None,
    };
    let remedy = Remedy::default()
        .say(format!(
            "Finished handshakes wait for the application in the accept queue of {}{}, which {queue}: a full queue \
             drops a new client's SYN, or the ACK that ends its handshake, without a word to anybody.",
            context.at(),
            context.owner()
        ))
        .maybe_say(status)
        .say(context.sure(
            &format!("what the listener's kernel did with this very connection was seen{dropped}"),
            "the queue overflowed while this try lasted, or the connection behaved as one that a full queue turned \
             away",
        ))
        .maybe_say(drain(context))
        .look(queue_checks(context))
        .look(proxies::log(context, "upstream timed out (110", "sC, sH or SH"));
    let remedy = if context.verdict.because.is_none() {
        remedy.change([software::more_workers(context)]).change(software::longer_queue(context))
    } else {
        remedy
    };
    remedy
        .change([proxies::fail_over(context)])
        .never(LONGER_TIMEOUTS)
        .never(MORE_RETRIES)
        .never(LONGER_ONLY_WAITS)
        .never(ABORT)
}

/// How long the last in the queue waits.
fn drain(context: &Context<'_>) -> Option<String> {
    let (depth, _) = context.queue();
    let (depth, rate) = (depth.filter(|depth| *depth > 0)?, context.can_do()?);
    let seconds = f64::from(depth) / rate;
    let wait = Human(Duration::try_from_secs_f64(seconds).ok()?);
    Some(format!("At {rate:.1} requests a second, the last of {depth} in the queue is served after {wait}."))
}

/// Shows the queue, and what the kernel counted.
pub(super) fn queue_checks(context: &Context<'_>) -> Vec<Check> {
    let there = context.there();
    let full = match context.queue() {
        (_, Some(limit)) => format!("Recv-Q above Send-Q, which is {limit}, while it fails"),
        _ => "Recv-Q above Send-Q while it fails".to_owned(),
    };
    let counters = Check {
        command: context.by_upstream("nstat -az TcpExtListenOverflows TcpExtListenDrops"),
        expect: format!("{there}both rise from one call to the next while it fails"),
    };
    vec![listener(context, &full), counters]
}

/// Shows that connections wait.
pub(super) fn waiting(context: &Context<'_>) -> Check {
    listener(context, "Recv-Q, the connections that wait, stays above 0 while it fails")
}

fn listener(context: &Context<'_>, expect: &str) -> Check {
    let filter = match (context.port(), context.verdict.upstream.path) {
        (None, Some(path)) if shell::is_plain(path.as_str()) => format!("ss -xlp src {}", path.as_str()),
        (None, Some(_)) => "ss -xlp".to_owned(),
        (Some(port), _) => format!("ss -ltnp 'sport = :{port}'"),
        (None, None) => "ss -ltnp".to_owned(),
    };
    Check {
        command: context.by_upstream(&filter),
        expect: format!("{}{expect}; to its right who listens", context.there()),
    }
}

pub(in crate::diagnose) fn syn_queue_overflow(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let (depth, (_, limit)) = (context.count("syn_queue_depth"), context.queue());
    let filled = match (depth, limit) {
        (Some(depth), Some(limit)) => format!("{depth} handshakes were under way at a limit of {limit}"),
        _ => "its limit was reached".to_owned(),
    };
    let status = context
        .verdict
        .status
        .map(|_| format!("{}: its SYNs were dropped until somebody's timer ended.", context.client()));
    let port = context.port().map_or_else(|| "PORT".to_owned(), |port| port.to_string());
    let there = context.there();
    let cookies = context.by_upstream("sysctl -w net.ipv4.tcp_syncookies=1");
    let (backlog, why) = match context.backlog() {
        Some(backlog) => (backlog.to_string(), "at least twice the limit of now"),
        None => ("BACKLOG".to_owned(), "BACKLOG: twice the limit of now, which is not known here"),
    };
    let longer = context.by_upstream(&format!("sysctl -w net.ipv4.tcp_max_syn_backlog={backlog}"));
    Remedy::default()
        .say(format!(
            "Handshakes that are half done wait in the SYN queue of {at}: {filled}, and tcp_syncookies is 0, so \
             further SYNs were dropped."
        ))
        .maybe_say(status)
        .say(
            "They pile up where their last ACK never comes: a flood from addresses that are not there, or a way back \
             that does not work.",
        )
        .say(context.sure("a SYN of this connection met the full queue", "others' SYNs were dropped meanwhile"))
        .check(
            context.by_upstream(&format!("ss -Htn state syn-recv 'sport = :{port}' | wc -l")),
            format!("{there}about as many as the queue's limit"),
        )
        .check(
            context.by_upstream("nstat -az TcpExtTCPReqQFullDrop TcpExtListenDrops TcpExtListenOverflows"),
            format!("{there}the first two rise, ListenOverflows does not"),
        )
        .check(context.by_upstream("sysctl net.ipv4.tcp_syncookies"), format!("{there}0"))
        .change([
            Snippet::new(
                "SYN cookies: no SYN is dropped for a full SYN queue",
                "sh",
                &[
                    "# where the upstream runs",
                    &cookies,
                    "# to keep it: echo 'net.ipv4.tcp_syncookies = 1' > /etc/sysctl.d/60-syncookies.conf",
                ],
            ),
            Snippet::new(
                "a longer SYN queue",
                "sh",
                &[
                    "# where the upstream runs; the application's backlog and net.core.somaxconn must be as long",
                    &format!("# {why}"),
                    &longer,
                ],
            ),
        ])
        .change(software::longer_queue(context))
        .never("tcp_syncookies=0 as a hardening measure: that is what drops real clients here.")
        .never("More retries: each is one more SYN.")
}

pub(in crate::diagnose) fn unix_backlog_full(context: &Context<'_>) -> Remedy {
    let at = context.at();
    let limit = match context.queue() {
        (_, Some(limit)) => format!(" ({})", limit.saturating_add(1)),
        _ => String::new(),
    };
    let status = context.verdict.status.map(|_| {
        format!("{}: there is no timer to wait for, and no second try at a full unix socket.", context.client())
    });
    let remedy = Remedy::default()
        .say(format!(
            "As many connections waited at {at} as its listener lets wait{limit}{}, and connect() failed at once with \
             EAGAIN (errno 11).",
            context.owner()
        ))
        .maybe_say(status)
        .say(context.sure(
            "the kernel gives this errno to connect() at a unix socket for nothing else",
            "other causes give the same",
        ))
        .maybe_say(drain(context))
        .look([listener(context, "Recv-Q at or above Send-Q while it fails")])
        .look(proxies::log(
            context,
            "failed (11: Resource temporarily unavailable) while connecting to upstream",
            "RC or SC",
        ))
        .change([software::more_workers(context)]);
    let remedy = if context.has("backlog-clamped") { remedy } else { remedy.change(software::longer_queue(context)) };
    remedy
        .change([Snippet::new(
            "over TCP a burst waits instead",
            "text",
            &[
                "# the application on 127.0.0.1:PORT instead of the unix socket, and the proxy's server with it: a \
                 SYN that finds",
                "# the queue full is sent again after a second, where a unix socket fails at once",
            ],
        )])
        .never(LONGER_ONLY_WAITS)
        .never(MORE_RETRIES)
}
