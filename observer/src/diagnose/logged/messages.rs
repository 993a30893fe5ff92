//! The messages that are known: as nginx words them, and how sessions of `HAProxy`'s end.

use super::{About, Begins, Message};
use crate::{
    model::attempt::{EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, ETIMEDOUT},
    proxy::haproxy,
};

/// How a session of `HAProxy`'s ended: side and phase (section 8.5, "Session state at disconnection", of its configuration manual).
const fn session(ended: &'static str, causes: &'static [&'static str], remark: &'static str) -> Message {
    Message { begins: Begins::With(ended), parts: &[], about: About::Request, causes, remark }
}

/// The first that fits counts.
pub(super) const MESSAGES: &[Message] = &[
    Message {
        parts: &[haproxy::NO_SERVER],
        ..session(
            "termination state SC",
            &["no-live-upstreams"],
            "no server was asked: all failed their checks, which is what to look at",
        )
    },
    session(
        "termination state SC",
        &[
            "upstream-refused",
            "upstream-unreachable",
            "accept-queue-overflow",
            "port-exhaustion",
            "unix-refused",
            "unix-missing",
            "unix-permission",
            "unix-backlog-full",
        ],
        "the connection was refused, or could not be made at once",
    ),
    session(
        "termination state sC",
        &["accept-queue-overflow", "connect-timeout", "syn-queue-overflow", "packet-loss"],
        "no SYN was answered within `timeout connect`; a full accept queue and a firewall that drops look alike from here",
    ),
    session(
        "termination state SH",
        &["upstream-reset", "upstream-closed-early", "keepalive-race", "accept-queue-overflow"],
        "the server ended the connection, by FIN or RST, before it had answered",
    ),
    session(
        "termination state sH",
        &["upstream-timeout", "accept-queue-overflow", "packet-loss"],
        "no answer within `timeout server`: accepted and slow, or never accepted",
    ),
    session(
        "termination state PH",
        &["bad-response"],
        "the proxy could not make sense of the answer, or a rule of its own denied it",
    ),
    session(
        "termination state RC",
        &["port-exhaustion", "proxy-limits"],
        "something of the proxy's own host has run out: ports, sockets, memory",
    ),
    session(
        "termination state sQ",
        &[],
        "it waited in the proxy's own queue (`maxconn`) until `timeout queue`: the servers are too slow for what comes",
    ),
    session("termination state C", &[], "the client left"),
    session("termination state c", &[], "the client said nothing for as long as the proxy waits"),
    Message {
        begins: Begins::Behind("worker_connections are not enough"),
        parts: &["while connecting to upstream"],
        about: About::NoTry(500),
        causes: &["proxy-limits"],
        remark: "a worker has as many connections as it may, clients' and upstreams' together",
    },
    Message {
        begins: Begins::With("socket() failed (24: "),
        parts: &[],
        about: About::NoTry(500),
        causes: &["proxy-limits"],
        remark: "the proxy's own limit: the upstream was not asked",
    },
    Message {
        begins: Begins::With("no live upstreams"),
        parts: &[],
        about: About::NoTry(502),
        causes: &["no-live-upstreams"],
        remark: "no server was asked: each had been left out after failures, which stand before this in the log and are what to look at",
    },
    Message {
        begins: Begins::With("upstream server temporarily disabled"),
        parts: &[],
        about: About::Nothing,
        causes: &[],
        remark: "a server is left out after failures (max_fails, fail_timeout); when all are, requests get 502 without a try",
    },
    Message {
        begins: Begins::With("connect() "),
        parts: &["(99: "],
        about: About::Connect(EADDRNOTAVAIL),
        causes: &["port-exhaustion"],
        remark: "no ephemeral port was free for this address and port",
    },
    Message {
        begins: Begins::With("connect() to unix:"),
        parts: &["(111: "],
        about: About::Connect(ECONNREFUSED),
        causes: &["unix-refused"],
        remark: "nobody listens on the socket: its file is what a process that has ended left behind",
    },
    Message {
        begins: Begins::With("connect() to unix:"),
        parts: &["(2: "],
        about: About::Connect(2),
        causes: &["unix-missing"],
        remark: "there is no such file",
    },
    Message {
        begins: Begins::With("connect() to unix:"),
        parts: &["(13: "],
        about: About::Connect(13),
        causes: &["unix-permission"],
        remark: "the proxy's user may not write to the socket, or not come to it",
    },
    Message {
        begins: Begins::With("connect() to unix:"),
        parts: &["(11: "],
        about: About::Connect(11),
        causes: &["unix-backlog-full"],
        remark: "the socket's backlog is full: its process accepts too slowly",
    },
    Message {
        begins: Begins::With("connect() "),
        parts: &["(111: "],
        about: About::Connect(ECONNREFUSED),
        causes: &["upstream-refused"],
        remark: "nobody listened at that moment, or a firewall rejects; this is not what exhausted ports look like (that is 99)",
    },
    Message {
        begins: Begins::With("connect() "),
        parts: &["(104: "],
        about: About::Connect(ECONNRESET),
        causes: &["accept-queue-overflow", "upstream-reset"],
        remark: "reset right after the handshake: a full accept queue with tcp_abort_on_overflow does that",
    },
    Message {
        begins: Begins::With("connect() "),
        parts: &["(110: "],
        about: About::Connect(ETIMEDOUT),
        causes: &["connect-timeout", "accept-queue-overflow", "syn-queue-overflow", "packet-loss"],
        remark: "the kernel gave up sending SYNs",
    },
    Message {
        begins: Begins::With("connect() "),
        parts: &["(113: "],
        about: About::Connect(113),
        causes: &["upstream-unreachable"],
        remark: "a router or this host knows no way there",
    },
    Message {
        begins: Begins::With("connect() "),
        parts: &["(101: "],
        about: About::Connect(101),
        causes: &["upstream-unreachable"],
        remark: "this host has no route there",
    },
    Message {
        begins: Begins::With("connect() "),
        parts: &["(13: "],
        about: About::Connect(13),
        causes: &["upstream-unreachable"],
        remark: "a firewall prohibits it, or SELinux (httpd_can_network_connect)",
    },
    Message {
        begins: Begins::With("upstream timed out"),
        parts: &["while connecting to upstream"],
        about: About::Handshake,
        causes: &["accept-queue-overflow", "connect-timeout", "syn-queue-overflow", "packet-loss"],
        remark: "no SYN was answered within proxy_connect_timeout; a full accept queue and a firewall that drops look alike from here",
    },
    Message {
        begins: Begins::With("upstream timed out"),
        parts: &["while SSL handshaking to upstream"],
        about: About::Answer,
        causes: &["upstream-timeout", "accept-queue-overflow", "packet-loss"],
        remark: "the kernel took the connection; whether a process did is what the upstream's accept queue tells",
    },
    Message {
        begins: Begins::With("upstream timed out"),
        parts: &[],
        about: About::Answer,
        causes: &["upstream-timeout", "accept-queue-overflow", "packet-loss"],
        remark: "accepted and slow, or never accepted: the same line. The upstream's accept queue, and whether the request was acknowledged, tell",
    },
    Message {
        begins: Begins::With("upstream prematurely closed connection"),
        parts: &[],
        about: About::Closed,
        causes: &["upstream-closed-early", "keepalive-race"],
        remark: "a FIN before an answer: the worker died or gave up, or an idle connection was being closed as the request went out",
    },
    Message {
        begins: Begins::WithCall,
        parts: &["failed (104: "],
        about: About::Broken,
        causes: &["upstream-reset", "keepalive-race", "accept-queue-overflow"],
        remark: "who sent the RST, and in what state, is known to the upstream's kernel alone",
    },
    Message {
        begins: Begins::WithCall,
        parts: &["failed (32: Broken pipe)"],
        about: About::Broken,
        causes: &["upstream-reset", "keepalive-race", "upstream-closed-early"],
        remark: "the upstream had closed before the whole request was sent",
    },
    Message {
        begins: Begins::With("upstream sent too big header"),
        parts: &[],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "the answer's head is larger than proxy_buffer_size (often cookies)",
    },
    Message {
        begins: Begins::With("upstream sent no valid HTTP/1.0 header"),
        parts: &[],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "what came is no HTTP: TLS on that port, perhaps, or another protocol",
    },
    Message {
        begins: Begins::With("upstream sent "),
        parts: &[],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "the proxy could not make sense of the answer",
    },
    Message {
        begins: Begins::With("SSL_do_handshake() failed"),
        parts: &["upstream"],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "no TLS on that port, or none that both know: the rest of the line says which",
    },
    Message {
        begins: Begins::Behind("could not be resolved"),
        parts: &[],
        about: About::NoTry(502),
        causes: &[],
        remark: "no server was asked: the resolver gave no address for its name",
    },
    Message {
        begins: Begins::With("client prematurely closed connection"),
        parts: &[],
        about: About::Nothing,
        causes: &[],
        remark: "the client left before the answer (status 499); the upstream may be too slow for it",
    },
];
