//! Lines of nginx's error log (`ngx_log_error_core`, src/core/ngx_log.c; `ngx_http_log_error`, src/http/ngx_http_request.c).
//! Untrusted: what a client or an upstream sent is in them, and anybody may have written them.

use std::{borrow::Cow, net::SocketAddr, sync::LazyLock};

use memchr::{memchr_iter, memmem};

use crate::{
    addr::{Endpoint, UnixPath},
    event::{MAX_METHOD, MAX_SAID, MAX_TARGET, Request},
    proxy::{cut, without_query},
    text::escape,
};

/// What is read of a line. It ends where nginx cuts it (`NGX_MAX_ERROR_STR`, 2048 bytes, src/core/ngx_log.h).
const MAX_LINE: usize = 2048;

/// A line, taken apart. All parts are as they stand there: to be escaped before they are shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line<'a> {
    /// What happened, and while doing what.
    pub said: &'a str,
    /// Who asked.
    pub client: Option<&'a str>,
    /// The request's method.
    pub method: Option<&'a str>,
    /// The request's path, without what is behind `?`.
    pub path: Option<&'a str>,
    /// Where it was being passed to, likewise; `None` too where it cannot be told from what a client sent.
    pub upstream: Option<&'a str>,
}

/// How messages begin that have something of an upstream's in them (`ngx_http_proxy_process_header` and its like), and what is behind it.
const SENT: &str = "upstream sent ";
/// See [`SENT`].
const BEHIND_SENT: &str = "\" while ";
/// What follows what happened, in this order; the quoted ones in quotes.
const FIELDS: [&str; 6] = [", client: ", ", server: ", ", request: ", ", subrequest: ", ", upstream: ", ", host: "];

/// Those of them that are read, as indices.
#[derive(Clone, Copy)]
enum Field {
    Client = 0,
    Request = 2,
    Upstream = 4,
}

impl<'a> Line<'a> {
    /// Takes a line apart, whole or from its message on.
    pub fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let line = &line[..line.floor_char_boundary(MAX_LINE)];
        Self::of(message(line))
    }

    /// Takes apart what comes behind the time, the level, the process and the connection's number.
    fn of(message: &'a str) -> Self {
        // What a client sent stands behind the fields that nginx writes first, what an upstream sent before them, in quotes.
        let sent = if message.starts_with(SENT) { message.find(BEHIND_SENT).unwrap_or_default() } else { 0 };
        let fields = Fields::of(message, sent);
        let request = fields.first(Field::Request).map(unquoted);
        let mut words = request.unwrap_or_default().split(' ').filter(|word| !word.is_empty());
        let method = words.next();
        Self {
            said: &message[..fields.begin],
            client: fields.first(Field::Client),
            method,
            path: words.next().map(without_query),
            upstream: fields.only(Field::Upstream).map(unquoted).map(without_query),
        }
    }
}

/// The fields of a message.
struct Fields<'a> {
    message: &'a str,
    /// Where the first begins.
    begin: usize,
    /// Where each is whose value was asked for first, and where that value ends; and whether there is another of its name.
    found: [Option<(usize, usize, bool)>; FIELDS.len()],
}

impl<'a> Fields<'a> {
    /// Those that begin at `from` or behind it.
    fn of(message: &'a str, from: usize) -> Self {
        let mut fields = Self { message, begin: message.len(), found: [None; FIELDS.len()] };
        let mut last: Option<usize> = None;
        for comma in memchr_iter(b',', &message.as_bytes()[from..]).map(|at| from + at) {
            let Some(which) = FIELDS.iter().position(|name| message[comma..].starts_with(name)) else { continue };
            fields.begin = fields.begin.min(comma);
            if let Some((_, end, _)) = last.and_then(|last| fields.found[last].as_mut()) {
                *end = (*end).min(comma);
            }
            match &mut fields.found[which] {
                Some((_, _, several)) => *several = true,
                first => *first = Some((comma + FIELDS[which].len(), message.len(), false)),
            }
            last = Some(which);
        }
        fields
    }

    fn first(&self, field: Field) -> Option<&'a str> {
        self.found[field as usize].map(|(begin, end, _)| &self.message[begin..end])
    }

    /// A field that comes behind what a client sent, unless it comes twice: the client may have sent the first, or the last.
    fn only(&self, field: Field) -> Option<&'a str> {
        self.first(field).filter(|_| self.found[field as usize].is_some_and(|(_, _, several)| !several))
    }
}

/// A failure that nginx wrote of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The process, by the number that it has for itself.
    pub pid: u32,
    /// See [`crate::event::LogLine::connection`].
    pub connection: u64,
    /// See [`crate::event::LogLine::said`].
    pub said: String,
    /// The upstream's address.
    pub at: Option<Endpoint>,
    /// The upstream's unix socket.
    pub path: Option<UnixPath>,
    /// The request that failed.
    pub request: Request,
}

/// How the time is written (`ngx_time_update`, src/core/ngx_times.c), with a digit for each 0.
const TIME: &[u8; 19] = b"0000/00/00 00:00:00";
/// Levels of what fails, as they stand behind the time (`err_levels`, src/core/ngx_log.c).
const LEVELS: [&str; 4] = [" [error] ", " [crit] ", " [alert] ", " [emerg] "];
/// What is in a line about a request that failed for an upstream, or for want of one; most other lines have none of them.
static ABOUT: LazyLock<[memmem::Finder<'static>; 3]> =
    LazyLock::new(|| ["upstream", "worker_connections", "resolve"].map(memmem::Finder::new));

/// What a line of an error log tells of a failure that has to do with an upstream, if it does.
pub fn failure(line: &[u8]) -> Option<Failure> {
    let (time, behind) = line.split_at_checked(TIME.len())?;
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if !time.iter().zip(TIME).all(fits) {
        return None;
    }
    let behind = LEVELS.iter().find_map(|level| behind.strip_prefix(level.as_bytes()))?;
    if !ABOUT.iter().any(|what| what.find(behind).is_some()) {
        return None;
    }
    let behind = &behind[..behind.len().min(MAX_LINE)];
    let text = str::from_utf8(behind).map_or_else(|_| String::from_utf8_lossy(behind), Cow::Borrowed);
    let (process, message) = text.split_once(": ")?;
    let pid = process.split_once('#')?.0.parse().ok()?;
    let numbered = message.strip_prefix('*').and_then(|numbered| numbered.split_once(' '));
    let message = numbered.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    let connection = message.and_then(|(number, _)| number.parse().ok()).unwrap_or_default();
    let line = Line::of(message.map_or(&text[process.len() + 2..], |(_, message)| message));
    let (at, path) = line.upstream.map(address).unwrap_or_default();
    let text = |text: Option<&str>, most: usize| cut(text.unwrap_or_default(), most);
    Some(Failure {
        pid,
        connection,
        said: cut(line.said, MAX_SAID),
        at,
        path,
        request: Request {
            method: text(line.method, MAX_METHOD),
            target: text(line.path, MAX_TARGET),
            client: line.client.and_then(|client| client.parse().ok()),
        },
    })
}

/// The address or the unix socket in an upstream as it is written: `http://127.0.0.1:9000/path`, `fastcgi://unix:/run/a.sock:`,
/// `10.0.0.1:5432`. Neither for one that has a name (`no live upstreams`).
fn address(upstream: &str) -> (Option<Endpoint>, Option<UnixPath>) {
    let peer = upstream.split_once("://").map_or(upstream, |(_, peer)| peer);
    if let Some(path) = peer.strip_prefix("unix:") {
        let path = path.split_once(':').map_or(path, |(path, _)| path);
        return (None, Some(UnixPath::new(&escape(path.as_bytes()))));
    }
    let peer = peer.split_once('/').map_or(peer, |(peer, _)| peer);
    let address = peer.parse::<SocketAddr>().ok();
    (address.map(|at| Endpoint { ip: at.ip().to_canonical(), port: at.port() }), None)
}

/// Without the time, the level, the process and the connection's number, as far as they are there.
fn message(line: &str) -> &str {
    let Some((_, behind)) = line.split_once("] ").filter(|(before, _)| before.contains(" [")) else { return line };
    let Some((process, behind)) = behind.split_once(": ") else { return line };
    if !process.bytes().all(|byte| byte.is_ascii_digit() || byte == b'#') {
        return line;
    }
    match behind.split_once(' ') {
        Some((number, behind))
            if number.strip_prefix('*').is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit())) =>
        {
            behind
        }
        _ => behind,
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "2026/11/30 19:05:00 [error] 123#124: *45 connect() failed (111: Connection refused) while connecting to \
                         upstream, client: 10.0.0.1, server: shop, request: \"GET /cart?token=x HTTP/1.1\", upstream: \
                         \"http://127.0.0.1:9000/cart?token=x\", host: \"shop\"";

    #[test]
    fn a_line_says_who_asked_for_what_and_where_it_went() {
        let expected = Line {
            said: "connect() failed (111: Connection refused) while connecting to upstream",
            client: Some("10.0.0.1"),
            method: Some("GET"),
            path: Some("/cart"),
            upstream: Some("http://127.0.0.1:9000/cart"),
        };
        assert_eq!(Line::parse(WHOLE), expected);
        let (_, message) = WHOLE.split_once("*45 ").unwrap();
        assert_eq!(Line::parse(message), expected, "from its message on");
        let before = "2026/11/30 19:05:00 [alert] 9#9: 64 worker_connections are not enough";
        assert_eq!(Line::parse(before).said, "64 worker_connections are not enough");
    }

    #[test]
    fn what_an_upstream_sent_is_no_field() {
        let line = "upstream sent invalid header: \"x, client: 6.6.6.6, upstream: \"http://evil/\"\" while reading response header from \
                    upstream, client: 10.0.0.1, server: , request: \"GET / HTTP/1.1\", upstream: \"http://10.0.0.2:80/\"";
        let parsed = Line::parse(line);
        assert_eq!((parsed.client, parsed.upstream), (Some("10.0.0.1"), Some("http://10.0.0.2:80/")));
    }

    #[test]
    fn what_a_client_asked_for_is_no_other_client() {
        let line = "upstream timed out (110: Connection timed out) while connecting to upstream, client: 10.0.0.1, server: , request: \
                    \"GET /, client: 6.6.6.6, upstream: x HTTP/1.1\", upstream: \"http://10.0.0.2:80/\"";
        let parsed = Line::parse(line);
        assert_eq!((parsed.client, parsed.said.contains("6.6.6.6")), (Some("10.0.0.1"), false));
        assert_eq!(parsed.upstream, None, "one of the two is the client's");
    }

    #[test]
    fn a_failure_says_whose_it_is() {
        let found = failure(WHOLE.as_bytes()).unwrap();
        let expected = Failure {
            pid: 123,
            connection: 45,
            said: "connect() failed (111: Connection refused) while connecting to upstream".to_owned(),
            at: Some(Endpoint { ip: [127, 0, 0, 1].into(), port: 9000 }),
            path: None,
            request: Request {
                method: "GET".to_owned(),
                target: "/cart".to_owned(),
                client: Some([10, 0, 0, 1].into()),
            },
        };
        assert_eq!(found, expected);
        let line = |level: &str, rest: &str| format!("2026/11/30 19:05:00 [{level}] 9#9: *1 {rest}");
        let unix = line(
            "crit",
            "connect() to unix:/run/a.sock failed (2: No such file or directory) while connecting to upstream, \
                                 client: ::1, server: , request: \"GET / HTTP/1.1\", upstream: \"fastcgi://unix:/run/a.sock:\"",
        );
        let unix = failure(unix.as_bytes()).unwrap();
        assert_eq!((unix.at, unix.path), (None, Some(UnixPath::new("/run/a.sock"))));
        let named = line(
            "error",
            "no live upstreams while connecting to upstream, client: 10.0.0.1, server: , request: \"GET / \
                                   HTTP/1.1\", upstream: \"http://backend/\"",
        );
        let named = failure(named.as_bytes()).unwrap();
        assert_eq!(
            (named.at, named.path, named.said.as_str()),
            (None, None, "no live upstreams while connecting to upstream")
        );
        let v6 = line(
            "error",
            "connect() failed (111: Connection refused) while connecting to upstream, upstream: \"http://[::1]:80/\"",
        );
        assert_eq!(failure(v6.as_bytes()).unwrap().at.unwrap().to_string(), "[::1]:80");
    }

    #[test]
    fn what_is_no_failure_of_an_upstream_is_none() {
        let line = |level: &str, rest: &str| format!("2026/11/30 19:05:00 [{level}] 9#9: *1 {rest}");
        for other in [
            line("warn", "an upstream response is buffered to a temporary file /x while reading upstream"),
            line("info", "client prematurely closed connection, so upstream connection is closed too"),
            line("error", "open() \"/srv/favicon.ico\" failed (2: No such file or directory), client: 10.0.0.1"),
            "10.0.0.1 - - [30/Nov/2026:19:05:00 +0000] \"GET /upstream HTTP/1.1\" 502 157".to_owned(),
            "2026/11/30 19:05:00 [error] x#9: upstream".to_owned(),
            "2026/11/30 19:05:00 [error] 1".to_owned(),
            String::new(),
        ] {
            assert_eq!(failure(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn whatever_is_in_a_line_is_harmless_and_bounded() {
        let mut line = b"2026/11/30 19:05:00 [error] 9#9: *1 upstream sent invalid header: \"\x1b[2J\xff\" while x, client: \x1b, request: \"".to_vec();
        line.extend(b"\x07".repeat(100));
        line.push(b' ');
        line.extend("é\u{202e}".repeat(2_000).bytes());
        let Failure { said, request: Request { method, target, client }, .. } = failure(&line).unwrap();
        assert!(said.contains("\\u{1b}[2J") && client.is_none(), "{said}");
        assert!(method.len() <= MAX_METHOD && target.len() <= MAX_TARGET, "{method} {target}");
        assert!(![said, method, target].concat().contains(|c: char| c.is_control() || c == '\u{202e}'));
    }

    #[test]
    fn no_line_is_too_strange() {
        let long = "é".repeat(5000);
        for line in [
            "",
            "]",
            " [x] ",
            "[error] : *",
            "a [b] 1#1: ",
            ", client: ",
            ", request: \"",
            ", upstream: \"",
            &long,
            "\u{1b}[2J",
        ] {
            let _ = Line::parse(line);
        }
        assert!(Line::parse(&long).said.len() <= MAX_LINE);
    }
}
