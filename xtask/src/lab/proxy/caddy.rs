//! Caddy with reverse_proxy.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{FRONT_PORT, Setup};
use crate::lab::access_log::Line;

/// A connection of its own for each request: what fails on one that was used before, Caddy tries again by itself.
pub(super) fn configuration(setup: &Setup) -> String {
    let folder = setup.folder.display();
    let upstream = setup.upstream;
    let (connect, read) = (setup.timeouts.connect.unwrap_or(60.0), setup.timeouts.read.unwrap_or(60.0));
    format!(
        "# Written by xtask.
{{
  admin off
  auto_https off
  log default {{
    output file {folder}/error.log
  }}
}}
:{FRONT_PORT} {{
  bind 127.0.0.1
  log {{
    output file {folder}/access.log
    format json {{
      time_format unix_milli_float
    }}
  }}
  reverse_proxy {upstream} {{
    transport http {{
      dial_timeout {connect}s
      response_header_timeout {read}s
      keepalive off
    }}
  }}
}}
"
    )
}

#[derive(Deserialize)]
struct Raw {
    /// Milliseconds since the epoch, at the end.
    ts: f64,
    status: u16,
    request: Request,
    resp_headers: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Request {
    remote_ip: String,
    remote_port: String,
    uri: String,
}

/// It names neither upstream nor process, and has one of each.
pub(super) fn parse(text: &str) -> Result<Line> {
    let raw: Raw = serde_json::from_str(text).with_context(|| format!("not a line of Caddy's: {text}"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time of these years")]
    let end = (raw.ts * 1000.0) as u64;
    Ok(Line {
        status: raw.status.to_string(),
        client: format!("{}:{}", raw.request.remote_ip, raw.request.remote_port),
        path: raw.request.uri,
        upstream: None,
        passed_on: raw.resp_headers.contains_key("Answered-By"),
        end,
        pid: None,
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line() {
        let text = r#"{"level":"error","ts":1700000000123.5,"request":{"remote_ip":"127.0.0.1","remote_port":"5000","uri":"/"},"status":502,"resp_headers":{"Server":["Caddy"]}}"#;
        let line = parse(text).expect("a line of Caddy's");
        assert_eq!((line.status.as_str(), line.end, line.pid), ("502", 1_700_000_000_123_500, None));
        assert_eq!((line.client.as_str(), line.passed_on), ("127.0.0.1:5000", false));
    }
}
