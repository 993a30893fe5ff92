//! What a proxy's log line can stand for: the kernel tells its causes apart, the line alone seldom does.

use std::sync::LazyLock;

use memchr::memmem;

use crate::{
    model::{
        Ending,
        attempt::{EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, ETIMEDOUT},
    },
    proxy::nginx::errors::Line,
    text::escape,
};

/// A message, and what it can stand for.
#[derive(Debug)]
pub(super) struct Message {
    /// Texts that a message has all of.
    parts: &'static [&'static str],
    /// What it is about.
    about: About,
    /// Codes of causes, the most frequent first; empty if it is no failure of a try.
    causes: &'static [&'static str],
    /// What else to know.
    remark: &'static str,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// A connect() that failed with this errno.
    Connect(u16),
    /// A handshake that was waited for in vain.
    Handshake,
    /// An answer that was.
    Answer,
    /// An upstream that closed the connection.
    Closed,
    /// One that was reset, as a read or a write says.
    Broken,
    /// An answer that the proxy would not have.
    Rejected,
    /// A request for which nothing was tried; the client gets this status.
    NoTry(u16),
    /// No request that failed.
    Nothing,
}

impl Message {
    /// Codes of what it can stand for.
    pub(super) fn causes(&self) -> &'static [&'static str] {
        self.causes
    }

    /// What else to know.
    pub(super) fn remark(&self) -> &'static str {
        self.remark
    }

    /// Whether a request, or a try for it, failed.
    pub(super) fn is_failure(&self) -> bool {
        self.about != About::Nothing
    }

    /// Whether a request failed by what it says, whatever else is seen of it or not.
    pub(super) fn tells_by_itself(&self) -> bool {
        matches!(self.about, About::Rejected | About::NoTry(_))
    }

    /// The status that a client got for whom nothing was tried.
    pub(super) fn status_without_try(&self) -> Option<u16> {
        match self.about {
            About::NoTry(status) => Some(status),
            _ => None,
        }
    }

    /// How a try ended that it is about, by the proxy's socket alone, where that shows no failure.
    pub(super) fn ending(&self) -> Ending {
        match self.about {
            About::Handshake => Ending::ConnectTimedOut { by_kernel: false },
            About::Rejected => Ending::Rejected,
            About::NoTry(_) => Ending::NoTry,
            About::Closed => Ending::ClosedEarly,
            About::Broken => Ending::Reset,
            About::Connect(error) => Ending::ConnectError(error),
            About::Answer | About::Nothing => Ending::NoAnswer,
        }
    }

    /// Whether it is what a proxy writes of a try that ended so.
    pub(super) fn fits(&self, ending: Ending) -> bool {
        use Ending as E;
        match (self.about, ending) {
            (About::Connect(ECONNREFUSED), E::Refused { .. })
            | (About::Connect(EADDRNOTAVAIL), E::NoPort)
            | (About::Connect(ETIMEDOUT), E::ConnectTimedOut { by_kernel: true })
            | (About::Connect(ECONNRESET), E::Reset)
            | (About::Handshake, E::ConnectTimedOut { by_kernel: false } | E::Abandoned)
            | (About::Answer, E::NoAnswer | E::Abandoned)
            | (About::Closed, E::ClosedEarly | E::SentOnClosed)
            | (About::Broken, E::Reset | E::SentOnClosed)
            | (About::Rejected, E::Rejected)
            | (About::NoTry(_), E::NoTry) => true,
            (About::Connect(error), E::ConnectError(seen)) => error == seen,
            _ => false,
        }
    }
}

/// What finds the parts of each message: logs may grow by ten thousands of lines a second.
static FINDERS: LazyLock<Vec<Vec<memmem::Finder<'static>>>> =
    LazyLock::new(|| MESSAGES.iter().map(|message| message.parts.iter().map(memmem::Finder::new).collect()).collect());

/// The message that a proxy's words are, if it is known.
pub(super) fn known(said: &str) -> Option<&'static Message> {
    let fits = |parts: &&Vec<memmem::Finder<'_>>| parts.iter().all(|part| part.find(said.as_bytes()).is_some());
    FINDERS.iter().zip(MESSAGES).find(|(parts, _)| fits(parts)).map(|(_, message)| message)
}

/// What a proxy said without what is not its own words: addresses, and what an upstream sent.
pub fn without_names(said: &str) -> String {
    known(said).map(|message| message.parts.join("…")).unwrap_or_default()
}

/// The first that fits counts.
const MESSAGES: &[Message] = &[
    Message {
        parts: &["worker_connections are not enough"],
        about: About::NoTry(500),
        causes: &["proxy-limits"],
        remark: "a worker has as many connections as it may, clients' and upstreams' together",
    },
    Message {
        parts: &["(24: Too many open files)"],
        about: About::NoTry(500),
        causes: &["proxy-limits"],
        remark: "the proxy's own limit: the upstream was not asked",
    },
    Message {
        parts: &["no live upstreams"],
        about: About::NoTry(502),
        causes: &["no-live-upstreams"],
        remark: "no server was asked: each had been left out after failures, which stand before this in the log and are what to look at",
    },
    Message {
        parts: &["upstream server temporarily disabled"],
        about: About::Nothing,
        causes: &[],
        remark: "a server is left out after failures (max_fails, fail_timeout); when all are, requests get 502 without a try",
    },
    Message {
        parts: &["(99: Cannot assign requested address)"],
        about: About::Connect(EADDRNOTAVAIL),
        causes: &["port-exhaustion"],
        remark: "no ephemeral port was free for this address and port",
    },
    Message {
        parts: &["connect() to unix:", "(111: "],
        about: About::Connect(ECONNREFUSED),
        causes: &["unix-refused"],
        remark: "nobody listens on the socket: its file is what a process that has ended left behind",
    },
    Message {
        parts: &["connect() to unix:", "(2: "],
        about: About::Connect(2),
        causes: &["unix-missing"],
        remark: "there is no such file",
    },
    Message {
        parts: &["connect() to unix:", "(13: "],
        about: About::Connect(13),
        causes: &["unix-permission"],
        remark: "the proxy's user may not write to the socket, or not come to it",
    },
    Message {
        parts: &["connect() to unix:", "(11: "],
        about: About::Connect(11),
        causes: &["unix-backlog-full"],
        remark: "the socket's backlog is full: its process accepts too slowly",
    },
    Message {
        parts: &["connect() ", "(111: "],
        about: About::Connect(ECONNREFUSED),
        causes: &["upstream-refused"],
        remark: "nobody listened at that moment, or a firewall rejects; this is not what exhausted ports look like (that is 99)",
    },
    Message {
        parts: &["connect() ", "(104: "],
        about: About::Connect(ECONNRESET),
        causes: &["accept-queue-overflow", "upstream-reset"],
        remark: "reset right after the handshake: a full accept queue with tcp_abort_on_overflow does that",
    },
    Message {
        parts: &["connect() ", "(110: "],
        about: About::Connect(ETIMEDOUT),
        causes: &["connect-timeout", "accept-queue-overflow", "syn-queue-overflow", "packet-loss"],
        remark: "the kernel gave up sending SYNs",
    },
    Message {
        parts: &["connect() ", "(113: "],
        about: About::Connect(113),
        causes: &["upstream-unreachable"],
        remark: "a router or this host knows no way there",
    },
    Message {
        parts: &["connect() ", "(101: "],
        about: About::Connect(101),
        causes: &["upstream-unreachable"],
        remark: "this host has no route there",
    },
    Message {
        parts: &["connect() ", "(13: "],
        about: About::Connect(13),
        causes: &["upstream-unreachable"],
        remark: "a firewall prohibits it, or SELinux (httpd_can_network_connect)",
    },
    Message {
        parts: &["upstream timed out", "while connecting to upstream"],
        about: About::Handshake,
        causes: &["accept-queue-overflow", "connect-timeout", "syn-queue-overflow", "packet-loss"],
        remark: "no SYN was answered within proxy_connect_timeout; a full accept queue and a firewall that drops look alike from here",
    },
    Message {
        parts: &["upstream timed out", "while SSL handshaking to upstream"],
        about: About::Answer,
        causes: &["upstream-timeout", "accept-queue-overflow", "packet-loss"],
        remark: "the kernel took the connection; whether a process did is what the upstream's accept queue tells",
    },
    Message {
        parts: &["upstream timed out"],
        about: About::Answer,
        causes: &["upstream-timeout", "accept-queue-overflow", "packet-loss"],
        remark: "accepted and slow, or never accepted: the same line. The upstream's accept queue, and whether the request was acknowledged, tell",
    },
    Message {
        parts: &["upstream prematurely closed connection"],
        about: About::Closed,
        causes: &["upstream-closed-early", "keepalive-race"],
        remark: "a FIN before an answer: the worker died or gave up, or an idle connection was being closed as the request went out",
    },
    Message {
        parts: &["failed (104: "],
        about: About::Broken,
        causes: &["upstream-reset", "keepalive-race", "accept-queue-overflow"],
        remark: "who sent the RST, and in what state, is known to the upstream's kernel alone",
    },
    Message {
        parts: &["failed (32: Broken pipe)"],
        about: About::Broken,
        causes: &["upstream-reset", "keepalive-race", "upstream-closed-early"],
        remark: "the upstream had closed before the whole request was sent",
    },
    Message {
        parts: &["upstream sent too big header"],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "the answer's head is larger than proxy_buffer_size (often cookies)",
    },
    Message {
        parts: &["upstream sent no valid HTTP/1.0 header"],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "what came is no HTTP: TLS on that port, perhaps, or another protocol",
    },
    Message {
        parts: &["upstream sent "],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "the proxy could not make sense of the answer",
    },
    Message {
        parts: &["SSL_do_handshake() failed", "upstream"],
        about: About::Rejected,
        causes: &["bad-response"],
        remark: "no TLS on that port, or none that both know: the rest of the line says which",
    },
    Message {
        parts: &["could not be resolved"],
        about: About::NoTry(502),
        causes: &[],
        remark: "no server was asked: the resolver gave no address for its name",
    },
    Message {
        parts: &["client prematurely closed connection"],
        about: About::Nothing,
        causes: &[],
        remark: "the client left before the answer (status 499); the upstream may be too slow for it",
    },
];

/// What a log line can stand for, in lines; `None` if it is none that is known.
pub fn explain(line: &str) -> Option<String> {
    let line = Line::parse(line);
    let message = known(line.said)?;
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        text.push_str(format!("{name:<10} {value}").trim_end());
        text.push('\n');
    };
    row("nginx says", &escape(line.said.as_bytes()));
    if let (Some(method), Some(path)) = (line.method, line.path) {
        row("request", &escape(format!("{method} {path}").as_bytes()));
    }
    if let Some(client) = line.client {
        row("client", &escape(client.as_bytes()));
    }
    if let Some(upstream) = line.upstream {
        row("upstream", &escape(upstream.as_bytes()));
    }
    row("", "");
    row("means", message.remark);
    match message.causes {
        [] => {}
        [cause] => row("cause", cause),
        causes => {
            row("may be", &causes.join(", "));
            row("", "the line alone does not tell which: `observer watch` does, by the kernel");
        }
    }
    for cause in message.causes {
        row("", &format!("observer explain {cause}"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::registry;

    /// As they stand in the logs of staged failures.
    const SEEN: &[(&str, &[&str])] = &[
        ("connect() failed (111: Connection refused) while connecting to upstream", &["upstream-refused"]),
        (
            "connect() to 10.77.0.2:8001 failed (99: Cannot assign requested address) while connecting to upstream",
            &["port-exhaustion"],
        ),
        (
            "connect() to unix:/run/a.sock failed (111: Connection refused) while connecting to upstream",
            &["unix-refused"],
        ),
        (
            "connect() to unix:/run/a.sock failed (2: No such file or directory) while connecting to upstream",
            &["unix-missing"],
        ),
        (
            "connect() to unix:/run/a.sock failed (13: Permission denied) while connecting to upstream",
            &["unix-permission"],
        ),
        (
            "connect() to unix:/run/a.sock failed (11: Resource temporarily unavailable) while connecting to upstream",
            &["unix-backlog-full"],
        ),
        ("connect() failed (113: No route to host) while connecting to upstream", &["upstream-unreachable"]),
        (
            "connect() to 1.2.3.4:80 failed (101: Network is unreachable) while connecting to upstream",
            &["upstream-unreachable"],
        ),
        (
            "connect() failed (110: Connection timed out) while connecting to upstream",
            &["connect-timeout", "accept-queue-overflow", "syn-queue-overflow", "packet-loss"],
        ),
        (
            "connect() failed (104: Connection reset by peer) while connecting to upstream",
            &["accept-queue-overflow", "upstream-reset"],
        ),
        (
            "upstream timed out (110: Connection timed out) while connecting to upstream",
            &["accept-queue-overflow", "connect-timeout", "syn-queue-overflow", "packet-loss"],
        ),
        (
            "upstream timed out (110: Connection timed out) while reading response header from upstream",
            &["upstream-timeout", "accept-queue-overflow", "packet-loss"],
        ),
        (
            "recv() failed (104: Connection reset by peer) while reading response header from upstream",
            &["upstream-reset", "keepalive-race", "accept-queue-overflow"],
        ),
        (
            "writev() failed (104: Connection reset by peer) while sending request to upstream",
            &["upstream-reset", "keepalive-race", "accept-queue-overflow"],
        ),
        (
            "upstream prematurely closed connection while reading response header from upstream",
            &["upstream-closed-early", "keepalive-race"],
        ),
        ("upstream sent too big header while reading response header from upstream", &["bad-response"]),
        ("upstream sent no valid HTTP/1.0 header while reading response header from upstream", &["bad-response"]),
        (
            "upstream sent invalid header: \"bad\\x00...\" while reading response header from upstream",
            &["bad-response"],
        ),
        (
            "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream",
            &["bad-response"],
        ),
        ("no live upstreams while connecting to upstream", &["no-live-upstreams"]),
        ("64 worker_connections are not enough while connecting to upstream", &["proxy-limits"]),
        ("socket() failed (24: Too many open files) while connecting to upstream", &["proxy-limits"]),
        ("upstream server temporarily disabled while connecting to upstream", &[]),
    ];

    #[test]
    fn each_message_stands_for_its_causes() {
        for (said, causes) in SEEN {
            let text =
                explain(&format!("2026/11/30 19:05:00 [error] 1#1: *5 {said}, client: 10.0.0.1, server: x")).unwrap();
            let told: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix("observer explain ")).collect();
            assert_eq!(told, *causes, "{said}");
        }
    }

    #[test]
    fn only_causes_that_there_are_are_named() {
        for message in MESSAGES {
            for cause in message.causes {
                assert!(registry::find(cause).is_some(), "{cause}");
            }
        }
    }

    #[test]
    fn a_hostile_line_is_shown_harmless() {
        let text = explain("upstream sent invalid header: \"\x1b[2J\u{9b}\" while reading, client: \x07").unwrap();
        assert!(!text.contains(['\x1b', '\u{9b}', '\x07']), "{text:?}");
        assert_eq!(explain("nothing that is known"), None);
        assert_eq!(explain(""), None);
    }
}
