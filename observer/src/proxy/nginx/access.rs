//! nginx's access logs: which there are, and in which formats they are written (`ngx_http_log_module`).

use std::path::PathBuf;

use super::config::Directive;
use crate::proxy::access::{Field, Format, Formats, Piece};

/// The format that there is without being defined (`ngx_http_combined_fmt`, src/http/modules/ngx_http_log_module.c).
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// An access log of a configuration.
#[derive(Debug)]
pub struct AccessLog {
    /// As it stands there: absolute, or relative to nginx's prefix.
    pub path: PathBuf,
    /// How its lines may be written, or why they cannot be read.
    pub formats: Result<Formats, &'static str>,
}

/// The format that logs have unless told otherwise.
pub fn combined() -> Formats {
    Formats::any(format(COMBINED))
}

/// The access logs that a configuration names, files alone.
pub fn logs(directives: &[Directive]) -> Vec<AccessLog> {
    let mut formats = Vec::new();
    all(directives, "log_format", &mut formats);
    let mut logs = Vec::new();
    all(directives, "access_log", &mut logs);
    logs.into_iter().filter_map(|log| access_log(log, &formats)).collect()
}

fn all<'a>(directives: &'a [Directive], name: &str, found: &mut Vec<&'a Directive>) {
    for directive in directives {
        if directive.name == name {
            found.push(directive);
        }
        all(directive.inside(), name, found);
    }
}

fn access_log(log: &Directive, formats: &[&Directive]) -> Option<AccessLog> {
    let path = log.arg();
    // A name with variables in it stands for files that come and go.
    if path == "off" || path.starts_with("syslog:") || path.contains('$') {
        return None;
    }
    let options = log.args.get(1..).unwrap_or_default();
    let is_option = |word: &&String| word.contains('=') || *word == "gzip";
    let name = options.first().filter(|word| !is_option(word)).map_or("combined", String::as_str);
    let buffered = options.iter().any(|word| ["buffer=", "gzip", "flush="].iter().any(|it| word.starts_with(it)));
    let defined = formats.iter().find(|format| format.arg() == name);
    let formats = match defined {
        _ if buffered => Err("nginx keeps its lines back (buffer, gzip)"),
        Some(defined) => written(defined).map(|format| Formats::any([format])),
        None if name == "combined" => Ok(combined()),
        None => Err("its format is not defined"),
    };
    Some(AccessLog { path: path.into(), formats })
}

/// Why lines of a format are of no use.
const TELLS_TOO_LITTLE: &str = "its format lacks $status, $remote_addr, or $request";

fn written(defined: &Directive) -> Result<Format, &'static str> {
    let mut strings = defined.args.get(1..).unwrap_or_default();
    if let [escape, behind @ ..] = strings
        && let Some(escape) = escape.strip_prefix("escape=")
    {
        strings = behind;
        // Where a client's own text is written as it came, it can pass for anything.
        if escape == "none" {
            return Err("its format writes what clients send as it comes (escape=none)");
        }
    }
    format(&strings.concat()).ok_or(TELLS_TOO_LITTLE)
}

fn format(text: &str) -> Option<Format> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, behind)) = rest.split_once('$') {
        pieces.push(Piece::Text(before));
        let (name, behind) = match behind.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                behind.split_at(behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len()))
            }
        };
        pieces.push(Piece::Field(field(name)));
        rest = behind;
    }
    pieces.push(Piece::Text(rest));
    Format::of(&pieces)
}

fn field(name: &str) -> Field {
    match name {
        "status" => Field::Status,
        "remote_addr" => Field::Client,
        "remote_port" => Field::Port,
        "request" => Field::Request,
        "request_method" => Field::Method,
        "request_uri" => Field::Target,
        "connection" => Field::Connection,
        "pid" => Field::Pid,
        // Times, sizes and addresses of nginx's own.
        "time_local"
        | "time_iso8601"
        | "msec"
        | "body_bytes_sent"
        | "bytes_sent"
        | "request_length"
        | "request_time"
        | "connection_requests"
        | "request_id"
        | "server_addr"
        | "server_port"
        | "server_protocol"
        | "scheme"
        | "ssl_protocol"
        | "ssl_cipher"
        | "gzip_ratio"
        | "pipe"
        | "upstream_addr"
        | "upstream_status"
        | "upstream_response_time"
        | "upstream_connect_time"
        | "upstream_header_time"
        | "upstream_response_length"
        | "upstream_bytes_sent"
        | "upstream_bytes_received" => Field::Other,
        // What clients and upstreams send, and what the configuration makes of it.
        _ => Field::Sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{access::Answered, nginx::config};

    fn logs_of(text: &str) -> Vec<AccessLog> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        logs(&config::read(std::path::Path::new("/"), &file).unwrap().directives)
    }

    #[test]
    fn each_log_has_its_format() {
        let text = r#"
            log_format main '$remote_addr:$remote_port [$time_local] "$request" '
                            '$status ${body_bytes_sent}b';
            log_format json escape=json '{"c":"$remote_addr","m":"$request_method","u":"$request_uri","s":$status,"n":$connection,"p":$pid}';
            log_format raw escape=none '$remote_addr "$request" $status';
            log_format short '$remote_addr $request_time $status';
            access_log off;
            server {
                access_log /a main; access_log logs/b; access_log /c json if=$loggable; access_log /d combined buffer=32k flush=5s;
                access_log syslog:server=unix:/dev/log main; access_log /sites/$host.log main; access_log /e raw; access_log /f short;
                access_log /g nowhere;
            }"#;
        let logs = logs_of(text);
        let paths: Vec<_> = logs.iter().map(|log| log.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/a", "logs/b", "/c", "/d", "/e", "/f", "/g"]);
        let read = |at: usize, line: &'static str| logs[at].formats.as_ref().unwrap().read(line);
        let client = Some([10, 0, 0, 1].into());
        let cart = Answered { status: 502, client, method: "GET", target: "/cart", ..Answered::default() };
        let main = read(0, "10.0.0.1:40001 [01/Dec/2026:01:02:03 +0000] \"GET /cart?x=1 HTTP/1.1\" 502 157b");
        assert_eq!(main, Some(Answered { port: Some(40_001), ..cart }));
        let plain = "10.0.0.1 - - [01/Dec/2026:01:02:03 +0000] \"GET /cart?x=1 HTTP/1.1\" 502 157 \"-\" \"curl/8\"";
        assert_eq!((read(1, plain), read(1, "something else")), (Some(cart), None));
        let json =
            read(2, "{\"c\":\"10.0.0.1\",\"m\":\"GET\",\"u\":\"/cart?x=\\\"s\\\":200\",\"s\":502,\"n\":45,\"p\":7}");
        assert_eq!(json, Some(Answered { connection: 45, pid: Some(7), ..cart }));
        assert!(logs[3..].iter().all(|log| log.formats.is_err()));
        assert!(logs[3].formats.as_ref().unwrap_err().contains("keeps"));
        assert!(logs[4].formats.as_ref().unwrap_err().contains("escape=none"));
    }
}
