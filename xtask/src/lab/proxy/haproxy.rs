//! HAProxy: its configuration, and its log, which is sent in datagrams.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{FRONT, Setup, syslog};
use crate::lab::access_log::Line;

/// One try for each request, and a connection of its own for each.
pub(super) fn configuration(setup: &Setup) -> String {
    let upstream = setup.upstream;
    let log = syslog::socket();
    let log = log.display();
    let mut checked = String::new();
    for (number, address) in setup.dead.iter().enumerate() {
        let _ = write!(checked, "\n  server dead{number} {address} weight 0 check inter 100ms");
    }
    let milliseconds = |seconds: Option<f64>| (seconds.unwrap_or(60.0) * 1000.0).round();
    let (connect, read) = (milliseconds(setup.timeouts.connect), milliseconds(setup.timeouts.read));
    format!(
        r#"# Written by xtask.
global
  log {log} len 8192 format raw local0 info
  maxconn 5000
defaults
  mode http
  log global
  retries 0
  option httpclose
  timeout client 150s
  timeout connect {connect}ms
  timeout server {read}ms
frontend front
  bind {FRONT} backlog 4096
  capture response header answered-by len 16
  log-format '{{"status":"%ST","client":"%ci:%cp","path":"%HU","upstream_addr":"%si:%sp","answered_by":"%[capture.res.hdr(0)]","msec":"%Ts.%ms","took":"%Tt","pid":"%pid","ended":"%ts"}}'
  default_backend app
backend app
  server app {upstream}{checked}
"#
    )
}

#[derive(Deserialize)]
struct Took {
    took: String,
}

/// It writes when it accepted the connection, and how long everything took from there.
pub(super) fn parse(text: &str) -> Result<Option<Line>> {
    if !text.starts_with('{') {
        return Ok(None);
    }
    let mut line = Line::parse(text)?;
    let Took { took } = serde_json::from_str(text).with_context(|| format!("not a line of ours: {text}"))?;
    line.end += took.parse::<u64>().with_context(|| format!("not a duration: {took}"))? * 1000;
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_beginning_and_how_long_it_took() {
        let text = r#"{"status":"503","client":"127.0.0.1:5000","path":"/","upstream_addr":"10.77.0.2:9000","answered_by":"-","msec":"1700000000.123","took":"7","pid":"42","ended":"SC"}"#;
        let line = parse(text).expect("a line of ours").expect("a request");
        assert_eq!((line.end, line.passed_on), (1_700_000_000_130_000, false));
        assert!(parse("Proxy front started.").expect("not a request").is_none());
    }
}
