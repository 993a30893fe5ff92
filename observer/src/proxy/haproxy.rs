//! `HAProxy`: how the lines of its log are written, and what they say (section 8, "Logging", of its configuration manual).
//! Untrusted, all of it.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use super::{
    access::{Answered, Field, Format, Formats, Piece},
    cut,
    files::Root,
};
use crate::event::MAX_SAID;

/// How its processes are called.
pub const NAME: &str = "haproxy";
/// Where distributions have the syslog daemon write its lines.
pub const LOG: &str = "/var/log/haproxy.log";

/// How lines are written with `option httplog` (section 8.2.3).
const HTTPLOG: &str =
    "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";

/// Files of one configuration.
const MAX_FILES: usize = 64;
/// The formats of the configuration that a process was told to read, and the one that there is without.
pub fn formats(pid: u32) -> Formats {
    let texts = configuration(pid);
    Formats::any(texts.iter().flat_map(|text| own_formats(text)).filter_map(|own| format(&own))).or(httplog())
}

/// The format that its lines have with `option httplog`.
pub fn httplog() -> Formats {
    Formats::any(format(HTTPLOG))
}

/// What a line says about how the request went, escaped.
pub fn said(answered: &Answered<'_>) -> String {
    if answered.ended.is_empty() {
        return String::new();
    }
    let ended = answered.ended;
    let server = Some(answered.server.to_owned()).filter(|server| !server.is_empty());
    let tries =
        Some(answered.retries).filter(|retries| *retries > 0).map(|retries| format!("tried {retries} times more"));
    let more = server.into_iter().chain(tries).collect::<Vec<_>>().join(", ");
    let said = if more.is_empty() { format!("{STATE}{ended}") } else { format!("{STATE}{ended} ({more})") };
    cut(&said, MAX_SAID)
}

/// Whether what was said of a line is that there was no server to be asked.
pub fn had_no_server(said: &str) -> bool {
    said.starts_with(STATE) && said.contains(NO_SERVER)
}

/// What stands in the place of a server's name if there is none.
pub const NO_SERVER: &str = "<NOSRV>";

/// How begins what is said of a line.
pub const STATE: &str = "termination state ";

/// What the files hold that a process was told to read.
fn configuration(pid: u32) -> Vec<String> {
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else { return Vec::new() };
    let Ok(root) = Root::open(Path::new(&format!("/proc/{pid}/root"))) else { return Vec::new() };
    let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    let arguments: Vec<Cow<'_, str>> = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let files = named(&arguments).map(|file| folder.join(file)).flat_map(|file| {
        // A directory stands for the files in it (section 2.1 of the management guide).
        let within = root.matching(&file.join("*.cfg"));
        if within.is_empty() { vec![file] } else { within }
    });
    let read = files.take(MAX_FILES).filter_map(|file| root.read(&file).ok());
    read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

/// The files that `-f` names, and all behind `--`.
fn named<'a>(arguments: &'a [Cow<'a, str>]) -> impl Iterator<Item = PathBuf> + 'a {
    let (mut is_next, mut only) = (false, false);
    arguments.iter().skip(1).filter_map(move |word| {
        let is_file = std::mem::take(&mut is_next) || only;
        match &**word {
            "" => None,
            file if is_file => Some(PathBuf::from(file)),
            "-f" => {
                is_next = true;
                None
            }
            "--" => {
                only = true;
                None
            }
            _ => None,
        }
    })
}

/// The formats that a configuration defines.
fn own_formats(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| {
        let behind = line.trim_start().strip_prefix("log-format")?;
        behind.starts_with([' ', '\t']).then(|| word(behind.trim_start()))
    })
}

/// The first word of a line, its quotes and backslashes seen to (section 2.2).
fn word(text: &str) -> String {
    let (mut word, mut quote) = (String::new(), None);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', Some('"') | None) => word.extend(rest.next()),
            (' ' | '\t' | '#', None) => break,
            (c, _) => word.push(c),
        }
    }
    word
}

fn format(text: &str) -> Option<Format> {
    let (mut pieces, mut rest, mut all_quoted) = (Vec::new(), text, false);
    while let Some((before, behind)) = rest.split_once('%') {
        if let Some(behind) = behind.strip_prefix('%') {
            pieces.extend([Piece::Text(before), Piece::Text("%")]);
            rest = behind;
            continue;
        }
        // `%(name)…` names what follows in other encodings.
        let behind =
            behind.strip_prefix('(').and_then(|named| named.split_once(')')).map_or(behind, |(_, behind)| behind);
        let (flags, behind) = match behind.strip_prefix('{') {
            Some(flags) => flags.split_once('}')?,
            None => ("", behind),
        };
        let quoted = if flags.contains("+Q") { true } else { all_quoted && !flags.contains("-Q") };
        let (name, behind) = match behind.strip_prefix('[') {
            Some(expression) => ("", &expression[matching(expression)?..]),
            None => behind.split_at(behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len())),
        };
        rest = behind;
        match name {
            // Flags for all that follow.
            "o" => {
                pieces.push(Piece::Text(before));
                all_quoted = quoted;
            }
            // What is captured of headers; with nothing captured the space before it is missing as well.
            "hr" | "hs" => pieces.push(Piece::Text(before.strip_suffix(' ').unwrap_or(before))),
            _ => {
                let quote = if quoted { "\"" } else { "" };
                pieces.extend([Piece::Text(before), Piece::Text(quote), Piece::Field(field(name)), Piece::Text(quote)]);
            }
        }
    }
    pieces.push(Piece::Text(rest));
    Format::of(&pieces)
}

/// Where an expression ends, behind its bracket.
fn matching(expression: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, c) in expression.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

fn field(name: &str) -> Field {
    match name {
        "ST" => Field::Status,
        "ci" => Field::Client,
        "cp" => Field::Port,
        "r" => Field::Request,
        "HM" => Field::Method,
        "HU" | "HP" => Field::Target,
        "pid" => Field::Pid,
        "ts" | "tsc" => Field::Ended,
        "s" => Field::Server,
        "rc" => Field::Retries,
        // Expressions, and more of what clients send. Captured cookies end at a space.
        "" | "HPO" | "HQ" | "HV" | "hrl" | "hsl" => Field::Sent,
        _ => Field::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "10.0.0.1:40001 [01/Dec/2026:01:02:03.123] front~ app/s1 0/0/3004/-1/3004 503 217 - - SC-- 1/1/0/0/3 0/0 \"GET /cart?x=1 HTTP/1.1\"";

    fn cart() -> Answered<'static> {
        Answered {
            status: 503,
            client: Some([10, 0, 0, 1].into()),
            port: Some(40_001),
            method: "GET",
            target: "/cart",
            ended: "SC--",
            server: "s1",
            retries: 3,
            ..Answered::default()
        }
    }

    #[test]
    fn a_line_says_how_the_request_went() {
        let formats = httplog();
        assert_eq!(formats.read(LINE), Some(cart()));
        assert_eq!(said(&cart()), "termination state SC-- (s1, tried 3 times more)");
        let by_syslog = format!("Dec  1 01:02:03 host haproxy[42]: {LINE}");
        assert_eq!(formats.read(&by_syslog), Some(Answered { pid: Some(42), ..cart() }));
        let captured = LINE.replace(" \"GET", " {shop.example|curl} {} \"GET");
        assert_eq!(formats.read(&captured), Some(cart()), "headers may have been captured");
        for other in [
            "",
            "Proxy front started.",
            "10.0.0.1:40001 [x] front app/s1 0/0/0",
            "haproxy[42]: ",
            "]: ",
            "[99999999999]: ",
        ] {
            assert_eq!(formats.read(other), None, "{other}");
        }
    }

    #[test]
    fn formats_of_its_own_are_read_as_it_reads_them() {
        let text = "frontend a\n  log-format \"%ci:%cp [%tr] %ST %ts %[capture.req.hdr(0),lower,field(1,[)]] %{+Q}r\" # all\n\
                    \tlog-format %{+Q}o\\ %ci\\ %ST\\ %{-Q}HM\\ %HU\\ 100%%\n  log-format-sd %{+E}o\nlog-format 'broken %ST'\n";
        let own: Vec<_> = own_formats(text).collect();
        assert_eq!(own.len(), 3);
        assert_eq!(own[1], "%{+Q}o %ci %ST %{-Q}HM %HU 100%%");
        let read = |at: usize, line: &'static str| format(&own[at]).and_then(|format| format.read(line));
        let expected = Answered { ended: "SC", server: "", retries: 0, ..cart() };
        assert_eq!(read(0, "10.0.0.1:40001 [x] 503 SC shop \"GET /cart?x=1 HTTP/1.1\""), Some(expected));
        let expected = Answered { ended: "", port: None, ..expected };
        assert_eq!(read(1, " \"10.0.0.1\" \"503\" GET \"/cart?x=1\" 100%"), Some(expected));
        assert!(format(&own[2]).is_none());
    }

    #[test]
    fn its_configuration_is_found_by_its_arguments() {
        let arguments = |text: &'static str| text.split(' ').map(Cow::Borrowed).collect::<Vec<_>>();
        let files = |text| named(&arguments(text)).collect::<Vec<_>>();
        assert_eq!(files("haproxy -W -f /etc/a.cfg -p /run/a -f b.cfg"), [Path::new("/etc/a.cfg"), Path::new("b.cfg")]);
        assert_eq!(files("haproxy -W -- a b"), [Path::new("a"), Path::new("b")]);
        assert!(files("haproxy -f").is_empty());
    }

    #[test]
    fn what_is_said_is_harmless_and_bounded() {
        let (ended, server) = ("\x1b[2J".repeat(200), "\u{202e}".repeat(200));
        let said = said(&Answered { ended: &ended, server: &server, ..Answered::default() });
        assert!(said.len() <= MAX_SAID && !said.contains(|c: char| c.is_control() || c == '\u{202e}'), "{said}");
        assert_eq!(super::said(&Answered::default()), "");
    }
}
