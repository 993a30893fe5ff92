//! The proxy's account of what it answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::proxy::Kind;

/// A line, as the proxies' configurations have it written where they can: all values are text.
#[derive(Clone, Debug, Deserialize)]
struct Raw {
    status: String,
    client: String,
    path: String,
    upstream_addr: String,
    answered_by: String,
    msec: String,
    pid: String,
}

/// What a proxy answers for a failing of its own.
pub(super) const OWN_ERROR: &str = "500";

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) status: String,
    /// Address and port.
    pub(crate) client: String,
    /// What was asked for.
    pub(crate) path: String,
    /// The last one tried. None: the proxy answered without any try, or the log does not say.
    pub(crate) upstream: Option<String>,
    /// Whether the application made this answer; what it says itself is no failure to reach it.
    pub(crate) passed_on: bool,
    /// End of the request, microseconds since the epoch, exact to the millisecond.
    pub(crate) end: u64,
    /// The process that answered. None: the log does not say.
    pub(crate) pid: Option<u32>,
    /// As it stands in the log.
    pub(crate) text: String,
}

#[derive(Debug)]
pub(crate) struct AccessLog {
    pub(crate) lines: Vec<Line>,
    proxy: Kind,
}

impl AccessLog {
    pub(crate) fn read(proxy: Kind, path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(proxy, &text).with_context(|| format!("in {}", path.display()))
    }

    /// Leaves out a last line that the proxy is still writing.
    fn parse(proxy: Kind, text: &str) -> Result<Self> {
        let complete = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let lines = complete.filter_map(|line| proxy.parse(line.trim_end()).transpose()).collect::<Result<_>>()?;
        Ok(Self { lines, proxy })
    }

    pub(crate) fn failed(&self) -> Vec<&Line> {
        let failures = self.proxy.failures();
        self.lines.iter().filter(|line| !line.passed_on && failures.contains(&line.status.as_str())).collect()
    }

    /// The proxy's own answers with 500.
    pub(super) fn own_errors(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| !line.passed_on && line.status == OWN_ERROR)
    }

    pub(crate) fn by_status(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in &self.lines {
            *counts.entry(line.status.clone()).or_default() += 1;
        }
        counts
    }
}

impl Line {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let raw: Raw = serde_json::from_str(text).with_context(|| format!("not a line of ours: {text}"))?;
        Ok(Self {
            end: microseconds(&raw.msec).with_context(|| format!("not a time: {}", raw.msec))?,
            pid: Some(raw.pid.parse().with_context(|| format!("not a pid: {}", raw.pid))?),
            upstream: raw.upstream_addr.rsplit(", ").next().filter(|name| name.contains(':')).map(str::to_owned),
            client: raw.client,
            path: raw.path,
            passed_on: !matches!(raw.answered_by.as_str(), "" | "-"),
            status: raw.status,
            text: text.to_owned(),
        })
    }
}

/// "1700000000.123", without a detour over floating point.
fn microseconds(text: &str) -> Option<u64> {
    let (seconds, milliseconds) = text.split_once('.')?;
    let milliseconds: u64 = milliseconds.parse().ok().filter(|_| milliseconds.len() == 3)?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + milliseconds * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"status":"502","client":"127.0.0.1:5000","path":"/\"a","upstream_addr":"10.77.0.2:9000","upstream_status":"502","answered_by":"","msec":"1700000000.123","pid":"42","request_time":"0.001"}"#;

    #[test]
    fn reads_a_line() {
        let log = AccessLog::parse(Kind::Nginx, &format!("{LINE}\n")).expect("lines of ours");
        assert_eq!(log.failed().len(), 1);
        let line = &log.lines[0];
        assert_eq!(
            (line.end, line.pid, line.upstream.as_deref()),
            (1_700_000_000_123_000, Some(42), Some("10.77.0.2:9000"))
        );
    }

    #[test]
    fn takes_the_last_upstream_tried() {
        let text = LINE.replace("10.77.0.2:9000", "127.0.0.1:1, 127.0.0.1:2");
        assert_eq!(Line::parse(&text).expect("a line of ours").upstream.as_deref(), Some("127.0.0.1:2"));
    }

    #[test]
    fn a_group_is_no_upstream() {
        let text = LINE.replace("10.77.0.2:9000", "app");
        assert_eq!(Line::parse(&text).expect("a line of ours").upstream, None);
    }

    #[test]
    fn what_the_application_answered_is_no_failure() {
        let text = LINE.replace(r#""answered_by":"""#, r#""answered_by":"application""#);
        let log = AccessLog::parse(Kind::Nginx, &format!("{text}\n")).expect("lines of ours");
        assert!(log.failed().is_empty());
    }

    #[test]
    fn what_counts_as_failed_is_the_proxys_custom() {
        let text = format!("{}\n", LINE.replace(r#""502""#, r#""503""#));
        assert!(AccessLog::parse(Kind::Nginx, &text).expect("lines of ours").failed().is_empty());
        assert_eq!(AccessLog::parse(Kind::Apache, &text).expect("lines of ours").failed().len(), 1);
    }

    #[test]
    fn leaves_an_unfinished_line_for_later() {
        let log = AccessLog::parse(Kind::Nginx, &format!("{LINE}\n{}", &LINE[..40])).expect("lines of ours");
        assert_eq!(log.lines.len(), 1);
    }

    #[test]
    fn refuses_a_foreign_line() {
        assert!(AccessLog::parse(Kind::Nginx, "127.0.0.1 - - GET /\n").is_err());
    }

    #[test]
    fn counts_by_status() {
        let served = LINE.replace("502", "200");
        let log = AccessLog::parse(Kind::Nginx, &format!("{LINE}\n{served}\n{served}\n")).expect("lines of ours");
        assert_eq!(log.by_status(), BTreeMap::from([("200".to_owned(), 2), ("502".to_owned(), 1)]));
    }
}
