//! Logs with a line for each request (access logs): a line is taken apart by the format that the proxy was told to write it in.
//! Untrusted: what a client sent is in it, and anybody may have written it.

use std::{borrow::Cow, net::IpAddr};

use memchr::memmem;

use super::without_query;

/// Parts of a format: more than any that one would write.
const MAX_PARTS: usize = 256;

/// What a field of a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The status that the client got.
    Status,
    /// The client's address.
    Client,
    /// Its port.
    Port,
    /// Method, path and version.
    Request,
    /// The method alone.
    Method,
    /// The path, with what is behind `?`.
    Target,
    /// The number that nginx has for the client's connection.
    Connection,
    /// The process.
    Pid,
    /// How `HAProxy`'s session ended.
    Ended,
    /// The server, by its name in `HAProxy`'s configuration.
    Server,
    /// How often `HAProxy` tried again.
    Retries,
    /// Nothing that is of use here.
    Other,
    /// The same, as the client sent it.
    Sent,
}

impl Field {
    /// What a client sends is in it.
    fn is_sent(self) -> bool {
        matches!(self, Self::Request | Self::Method | Self::Target | Self::Sent)
    }
}

/// A piece of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// What stands there as it is.
    Text(&'a str),
    /// What differs from line to line.
    Field(Field),
}

/// A field, and what stands behind it.
type Part = (Field, memmem::Finder<'static>);

/// A format.
#[derive(Clone, Debug)]
pub struct Format {
    begin: String,
    parts: Vec<Part>,
}

/// How the lines of a log may be written.
#[derive(Clone, Debug, Default)]
pub struct Formats(Vec<Format>);

/// Formats that are tried on each line of one log; of more than that the first.
const MAX_FORMATS: usize = 16;
/// Bytes in front of a line that the syslog daemon wrote there: a time, a host, a name with a number.
const MAX_TAG: usize = 160;

impl Formats {
    /// Any of these.
    pub fn any(formats: impl IntoIterator<Item = Format>) -> Self {
        Self(formats.into_iter().take(MAX_FORMATS).collect())
    }

    /// These, or those.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self::any(self.0.into_iter().chain(others.0))
    }

    /// Takes a line apart, whatever the syslog daemon wrote before it.
    pub fn read<'a>(&self, line: &'a str) -> Option<Answered<'a>> {
        let read = |line| self.0.iter().find_map(|format| format.read(line));
        let by_syslog = tagged(line).and_then(|(pid, message)| {
            let answered = read(message)?;
            Some(Answered { pid: answered.pid.or(Some(pid)), ..answered })
        });
        by_syslog.or_else(|| read(line))
    }
}

/// The process and the message of a line of syslog's: `Dec  1 01:02:03 host haproxy[42]: …`.
fn tagged(line: &str) -> Option<(u32, &str)> {
    let head = &line[..line.floor_char_boundary(MAX_TAG)];
    let end = head.find("]: ")?;
    let begin = head[..end].rfind('[')?;
    Some((head[begin + 1..end].parse().ok()?, &line[end + 3..]))
}

/// What a line says of a request. As it stands there: to be escaped before it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered<'a> {
    /// The status that the client got.
    pub status: u16,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// From which port.
    pub port: Option<u16>,
    /// The request's method.
    pub method: &'a str,
    /// Its path without what is behind `?`.
    pub target: &'a str,
    /// See [`crate::event::LogLine::connection`].
    pub connection: u64,
    /// The process, by the number that it has for itself.
    pub pid: Option<u32>,
    /// The state in which `HAProxy`'s session ended, empty if it is not said.
    pub ended: &'a str,
    /// The server that it was with, by its name there.
    pub server: &'a str,
    /// How often it was tried again.
    pub retries: u32,
}

impl Format {
    /// From its pieces; `None` if lines so written do not tell who asked for what and which status that got, or if it cannot be told where
    /// in them a field ends.
    pub(super) fn of(pieces: &[Piece<'_>]) -> Option<Self> {
        let (mut begin, mut parts) = (String::new(), Vec::<(Field, String)>::new());
        for piece in pieces {
            match (piece, parts.last_mut()) {
                (Piece::Text(text), None) => begin.push_str(text),
                (Piece::Text(text), Some((_, behind))) => behind.push_str(text),
                // Two that have nothing between them.
                (Piece::Field(_), Some((_, behind))) if behind.is_empty() => return None,
                (Piece::Field(field), _) => parts.push((*field, String::new())),
            }
        }
        let has = |wanted: Field| parts.iter().any(|(field, _)| *field == wanted);
        if may_be_taken_for_another(&parts) {
            return None;
        }
        let tells = has(Field::Status) && has(Field::Client) && (has(Field::Request) || has(Field::Target));
        if !tells || parts.len() > MAX_PARTS {
            return None;
        }
        let parts = parts.into_iter().map(|(field, behind)| (field, memmem::Finder::new(&behind).into_owned()));
        Some(Self { begin, parts: parts.collect() })
    }

    /// Takes a line apart; `None` if it is not written so.
    pub fn read<'a>(&self, line: &'a str) -> Option<Answered<'a>> {
        let mut rest = line.strip_prefix(self.begin.as_str())?;
        let (mut answered, mut has_status) = (Answered::default(), false);
        for (field, behind) in &self.parts {
            let end = ends(rest, behind)?;
            let value = &rest[..end];
            rest = &rest[end + behind.needle().len()..];
            match field {
                Field::Status => (answered.status, has_status) = (value.parse().ok()?, true),
                Field::Client => answered.client = value.parse().ok(),
                Field::Port => answered.port = value.parse().ok(),
                Field::Request => {
                    let mut words = value.split(' ');
                    (answered.method, answered.target) =
                        (words.next().unwrap_or_default(), without_query(words.next().unwrap_or_default()));
                }
                Field::Method => answered.method = value,
                Field::Target => answered.target = without_query(value),
                Field::Connection => answered.connection = value.parse().unwrap_or_default(),
                Field::Pid => answered.pid = value.parse().ok(),
                Field::Ended => answered.ended = value,
                Field::Server => answered.server = value,
                // `+2` if the last was with another server.
                Field::Retries => answered.retries = value.trim_start_matches('+').parse().unwrap_or_default(),
                Field::Other | Field::Sent => {}
            }
        }
        has_status.then_some(answered)
    }
}

/// Whether what a client sends can pass for a field behind it: it has no bound there that a client cannot write, which is a quote.
fn may_be_taken_for_another(parts: &[(Field, String)]) -> bool {
    let mut open = false;
    for (field, behind) in parts {
        // What is of no use here may be whatever it likes.
        if open && !matches!(field, Field::Other | Field::Sent) {
            return true;
        }
        open = (open || field.is_sent()) && !behind.contains('"');
    }
    false
}

/// A client's text as it was sent: nginx writes what is not plain as `\xHH`, or as JSON does.
pub fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        let hex = |from: usize| {
            let digits = str::from_utf8(behind.get(from..from + 2)?).ok()?;
            u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        };
        let (byte, length) = match (byte, behind.first()) {
            (b'\\', Some(b'x')) => hex(1).map_or((b'\\', 0), |byte| (byte, 3)),
            (b'\\', Some(b'u')) if behind[1..].starts_with(b"00") => hex(3).map_or((b'\\', 0), |byte| (byte, 5)),
            (b'\\', Some(plain @ (b'"' | b'\\' | b'/'))) => (*plain, 1),
            _ => (*byte, 0),
        };
        bytes.push(byte);
        rest = &behind[length..];
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// Where a field ends: before what stands behind it, unless a backslash says that this is the client's own.
fn ends(rest: &str, behind: &memmem::Finder<'_>) -> Option<usize> {
    if behind.needle().is_empty() {
        return Some(rest.len());
    }
    let backslashes = |end: usize| rest.as_bytes()[..end].iter().rev().take_while(|byte| **byte == b'\\').count();
    let quoted = behind.needle().starts_with(b"\"");
    behind.find_iter(rest.as_bytes()).find(|end| !quoted || backslashes(*end).is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_that_tells_too_little_is_none() {
        use super::Field as F;
        use Piece::{Field, Text};
        let parts = [Field(F::Client), Text(" "), Field(F::Request), Text("\" "), Field(F::Status)];
        assert!(Format::of(&parts).is_some());
        assert!(Format::of(&parts[..3]).is_none(), "no status");
        assert!(Format::of(&parts[2..]).is_none(), "no client");
        let unquoted = [Field(F::Client), Text(" "), Field(F::Request), Text(" "), Field(F::Status)];
        assert!(Format::of(&unquoted).is_none(), "a client could send a status");
        let sent = [Field(F::Sent), Text(" "), Field(F::Other), Text(" ")];
        assert!(Format::of(&[&sent[..], &parts].concat()).is_none());
        let bounded = [Field(F::Sent), Text(" "), Field(F::Other), Text("\" ")];
        assert!(Format::of(&[&bounded[..], &parts].concat()).is_some());
        assert!(Format::of(&[Field(F::Client), Field(F::Request), Text(" "), Field(F::Status)]).is_none(), "no bounds");
        assert!(Format::of(&[]).is_none());
    }

    #[test]
    fn what_was_escaped_is_as_it_was_sent() {
        for (text, sent) in [
            ("/caf\\xC3\\xA9", "/café"),
            ("/\\x22\\x5C", "/\"\\"),
            ("/a\\\"b\\u001f", "/a\"b\u{1f}"),
            ("/plain", "/plain"),
            ("/\\x", "/\\x"),
            ("/\\xG0\\u12\\", "/\\xG0\\u12\\"),
            ("/\\xFF", "/\u{fffd}"),
        ] {
            assert_eq!(unescaped(text), sent, "{text}");
        }
    }

    #[test]
    fn what_a_client_sent_ends_where_its_quotes_do() {
        use super::Field as F;
        use Piece::{Field, Text};
        let pieces = [
            Field(F::Client),
            Text(" \""),
            Field(F::Request),
            Text("\" "),
            Field(F::Status),
            Text(" "),
            Field(F::Other),
        ];
        let format = Format::of(&pieces).unwrap();
        let read = format.read("10.0.0.1 \"GET /a\\\" 200 x?q HTTP/1.1\" 502 17").unwrap();
        assert_eq!((read.status, read.target, read.client), (502, "/a\\\"", Some([10, 0, 0, 1].into())));
        for other in ["", "10.0.0.1 \"GET / HTTP/1.1\" - 17", "10.0.0.1 \"GET /", "10.0.0.1 \"GET / HTTP/1.1\" 99999 1"]
        {
            assert_eq!(format.read(other), None, "{other}");
        }
        assert_eq!(format.read("unix: \"\" 400 0").unwrap(), Answered { status: 400, ..Answered::default() });
    }
}
