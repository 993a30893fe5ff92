//! What a proxy's log line can stand for: the kernel tells its causes apart, the line alone seldom does.

mod messages;

use std::{collections::HashMap, sync::LazyLock};

use foldhash::quality::RandomState;
use memchr::memmem;

use messages::MESSAGES;

use crate::{
    model::{
        Ending,
        attempt::{EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, ETIMEDOUT},
    },
    proxy::{haproxy, nginx::errors::Line},
    text::escape,
};

/// A message, and what it can stand for.
#[derive(Debug)]
pub(crate) struct Message {
    /// How it begins: behind that stands what clients and upstreams sent, and files' names.
    begins: Begins,
    /// Texts that it has all of.
    parts: &'static [&'static str],
    /// What it is about.
    about: About,
    /// Codes of causes, the most frequent first; empty if it is no failure of a try.
    causes: &'static [&'static str],
    /// What else to know.
    remark: &'static str,
}

/// How a message begins.
#[derive(Clone, Copy, Debug)]
enum Begins {
    /// So.
    With(&'static str),
    /// With a call that reads or writes.
    WithCall,
    /// With one word (a number, a name), and then so.
    Behind(&'static str),
}

/// What nginx does with an upstream before it has an answer to pass on, as messages end.
const BEFORE_AN_ANSWER: [&str; 2] =
    ["while reading response header from upstream", "while SSL handshaking to upstream"];

/// Calls by which nginx reads and writes (`ngx_unix_recv` and its like, src/os/unix; src/event/ngx_event_openssl.c).
const CALLS: [&str; 10] = [
    "recv() ",
    "readv() ",
    "send() ",
    "writev() ",
    "sendfile() ",
    "sendfilev() ",
    "SSL_read() ",
    "SSL_write() ",
    "SSL_do_handshake() ",
    "SSL_shutdown() ",
];

impl Begins {
    fn fits(self, said: &str) -> bool {
        match self {
            Self::With(text) => said.starts_with(text),
            Self::WithCall => CALLS.iter().any(|call| said.starts_with(call)),
            Self::Behind(text) => said.split_once(' ').is_some_and(|(_, behind)| behind.starts_with(text)),
        }
    }
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
    /// A whole request, however often it was tried.
    Request,
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

    /// Whether it is about a try that failed, or a request that was not tried.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self.about, About::Request | About::Nothing)
    }

    /// Whether a request failed by what it says here, whatever else is seen of it or not: once an answer was begun to be passed on, what is
    /// wrong with it is no 502 any more.
    pub(super) fn tells_by_itself(&self, said: &str) -> bool {
        match self.about {
            About::NoTry(_) => true,
            About::Rejected => BEFORE_AN_ANSWER.iter().any(|doing| said.ends_with(doing)),
            _ => false,
        }
    }

    /// Whether it says that nothing was tried.
    pub(super) fn is_without_try(&self) -> bool {
        matches!(self.about, About::NoTry(_))
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
            About::Answer | About::Request | About::Nothing => Ending::NoAnswer,
        }
    }

    /// Whether it is what a proxy writes of a try that ended so.
    pub(super) fn fits(&self, ending: Ending, status: Option<u16>) -> bool {
        use Ending as E;
        match (self.about, ending) {
            (About::NoTry(told), E::NoTry) => status == Some(told),
            (About::Connect(ECONNREFUSED), E::Refused { .. })
            | (About::Connect(EADDRNOTAVAIL), E::NoPort)
            | (About::Connect(ETIMEDOUT), E::ConnectTimedOut { by_kernel: true })
            | (About::Connect(ECONNRESET), E::Reset)
            | (About::Handshake, E::ConnectTimedOut { by_kernel: false } | E::Abandoned)
            | (About::Answer, E::NoAnswer | E::Abandoned)
            | (About::Closed, E::ClosedEarly | E::SentOnClosed)
            | (About::Broken, E::Reset | E::SentOnClosed)
            | (About::Rejected, E::Rejected) => true,
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
    let has = |parts: &Vec<memmem::Finder<'_>>| parts.iter().all(|part| part.find(said.as_bytes()).is_some());
    let fits = |(parts, message): &(&Vec<memmem::Finder<'_>>, &Message)| message.begins.fits(said) && has(parts);
    FINDERS.iter().zip(MESSAGES).find(fits).map(|(_, message)| message)
}

/// Messages by the words that they were found in: logs repeat themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(HashMap<String, Option<&'static Message>, RandomState>);

/// Different words of lines of which it is remembered what they say. Full, all are forgotten.
const MAX_WORDS: usize = 256;

impl Words {
    pub(super) fn known(&mut self, said: &str) -> Option<&'static Message> {
        if let Some(message) = self.0.get(said) {
            return *message;
        }
        if self.0.len() >= MAX_WORDS {
            self.0.clear();
        }
        let message = known(said);
        self.0.insert(said.to_owned(), message);
        message
    }

    /// Whether these are words about a request, or a try for it, that failed.
    pub(crate) fn tell_of_a_failure(&mut self, said: &str) -> bool {
        self.known(said).is_some_and(Message::is_failure)
    }
}

/// What a proxy said without what is not its own words: addresses, and what an upstream sent.
pub fn without_names(said: &str) -> String {
    let begin = |message: &Message| match message.begins {
        Begins::With(text) => text.to_owned(),
        // What a call is called is none of anybody's names.
        Begins::WithCall => {
            CALLS.iter().find(|call| said.starts_with(**call)).map_or(String::new(), |call| (*call).to_owned())
        }
        Begins::Behind(text) => format!("… {text}"),
    };
    let doing = BEFORE_AN_ANSWER.iter().find(|doing| said.ends_with(**doing));
    let words = |message: &Message| {
        let begin = begin(message);
        let parts = message.parts.iter().filter(|part| !doing.is_some_and(|doing| doing.contains(**part)));
        std::iter::once(&*begin).chain(parts.copied()).chain(doing.copied()).collect::<Vec<_>>().join("…")
    };
    known(said).map(words).unwrap_or_default()
}

/// What a log line can stand for, in lines; `None` if it is none that is known.
pub fn explain(line: &str) -> Option<String> {
    let parsed = Line::parse(line);
    if let Some(message) = known(parsed.said) {
        let Line { said, client, method, path, upstream } = parsed;
        return Some(explained("nginx", said, message, [method, path, client, upstream]));
    }
    let formats = haproxy::httplog();
    let answered = formats.read(line.trim())?;
    let said = haproxy::said(&answered);
    let client = answered.client.map(|client| client.to_string());
    let fields = [Some(answered.method), Some(answered.target), client.as_deref(), None];
    Some(explained("HAProxy", &said, known(&said)?, fields))
}

fn explained(
    proxy: &str,
    said: &str,
    message: &Message,
    [method, path, client, upstream]: [Option<&str>; 4],
) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        text.push_str(format!("{name:<12} {value}").trim_end());
        text.push('\n');
    };
    row(&format!("{proxy} says"), &escape(said.as_bytes()));
    if let (Some(method), Some(path)) = (method, path) {
        row("request", &escape(format!("{method} {path}").as_bytes()));
    }
    if let Some(client) = client {
        row("client", &escape(client.as_bytes()));
    }
    if let Some(upstream) = upstream {
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
    text
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
    fn how_a_session_of_haproxys_ended_stands_for_its_causes() {
        let line = |state: &str, server: &str| {
            format!(
                "haproxy[42]: 10.0.0.1:40001 [01/Dec/2026:01:02:03.123] front app/{server} 0/0/1/-1/1 503 217 - - {state} \
                 1/1/0/0/3 0/0 \"GET /cart?token=x HTTP/1.1\""
            )
        };
        let text = explain(&line("sH--", "s1")).unwrap();
        assert!(
            text.contains("termination state sH-- (s1, tried 3 times more)") && text.contains("GET /cart\n"),
            "{text}"
        );
        assert!(text.contains("observer explain upstream-timeout") && !text.contains("token"), "{text}");
        assert!(explain(&line("SC--", "<NOSRV>")).unwrap().contains("cause        no-live-upstreams"));
        assert!(explain(&line("SCNI", "s1")).unwrap().contains("upstream-refused"));
        assert!(explain(&line("CD--", "s1")).unwrap().contains("the client left"));
        assert_eq!(explain(&line("----", "s1")), None);
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
    fn what_somebody_sent_is_no_message() {
        for said in [
            "open() \"/srv/no live upstreams while connecting to upstream\" failed (2: No such file or directory)",
            "open() \"/srv/64 worker_connections are not enough while connecting to upstream\" failed (2: No such file or directory)",
            "FastCGI sent in stderr: \"no live upstreams while connecting to upstream\" while reading response header from upstream",
            "access forbidden by rule: connect() failed (111: Connection refused) while connecting to upstream",
        ] {
            assert!(known(said).is_none(), "{said}");
        }
        let sent = "upstream sent invalid header: \"no live upstreams\" while reading response header from upstream";
        assert_eq!(known(sent).unwrap().causes(), ["bad-response"]);
        let full = "64 worker_connections are not enough while accepting new connection on 0.0.0.0:80";
        assert!(known(full).is_none(), "nobody was answered");
        let chunk = "upstream sent invalid chunked response while reading upstream";
        assert!(!known(chunk).unwrap().tells_by_itself(chunk), "its head had been passed on");
    }

    #[test]
    fn a_hostile_line_is_shown_harmless() {
        let text = explain("upstream sent invalid header: \"\x1b[2J\u{9b}\" while reading, client: \x07").unwrap();
        assert!(!text.contains(['\x1b', '\u{9b}', '\x07']), "{text:?}");
        assert_eq!(explain("nothing that is known"), None);
        assert_eq!(explain(""), None);
    }
}
