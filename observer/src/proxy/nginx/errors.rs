//! Lines of nginx's error log (`ngx_log_error_core`, src/core/ngx_log.c; `ngx_http_log_error`, src/http/ngx_http_request.c).
//! Untrusted: what a client or an upstream sent is in them, and anybody may have written them.

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
    /// Where it was being passed to, likewise.
    pub upstream: Option<&'a str>,
}

/// How messages begin that have something of an upstream's in them (`ngx_http_proxy_process_header` and its like), and what is behind it.
const SENT: &str = "upstream sent ";
/// See [`SENT`].
const BEHIND_SENT: &str = "\" while ";
/// What follows what happened, in this order; the quoted ones in quotes.
const FIELDS: [&str; 6] = [", client: ", ", server: ", ", request: ", ", subrequest: ", ", upstream: ", ", host: "];

impl<'a> Line<'a> {
    /// Takes a line apart, whole or from its message on.
    pub fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let line = &line[..line.floor_char_boundary(MAX_LINE)];
        let message = message(line);
        // What a client sent stands behind the fields that nginx writes first, what an upstream sent before them, in quotes.
        let sent = if message.starts_with(SENT) { message.find(BEHIND_SENT).unwrap_or_default() } else { 0 };
        let first = FIELDS.iter().filter_map(|name| message[sent..].find(name)).min();
        let (said, fields) = message.split_at(first.map_or(message.len(), |at| sent + at));
        let request = field(fields, ", request: ").map(unquoted);
        let mut words = request.unwrap_or_default().split(' ').filter(|word| !word.is_empty());
        let method = words.next();
        Self {
            said,
            client: field(fields, ", client: "),
            method,
            path: words.next().map(without_query),
            upstream: field(fields, ", upstream: ").map(unquoted).map(without_query),
        }
    }
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

/// The value behind a name, up to the next name.
fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = fields.split_once(name)?;
    let end = FIELDS.iter().filter_map(|next| behind.find(next)).min().unwrap_or(behind.len());
    Some(&behind[..end])
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn without_query(text: &str) -> &str {
    text.split_once('?').map_or(text, |(path, _)| path)
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
