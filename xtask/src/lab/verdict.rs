//! A verdict as observer prints it, reduced to what the comparison needs.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::clock;

#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) cause: String,
    /// What lies under the cause, the foremost first.
    pub(super) because: Vec<String>,
    pub(super) confidence: String,
    /// Microseconds since the epoch.
    pub(super) time: u64,
    /// When its line reached us, in the same measure.
    pub(super) arrived: u64,
    pub(super) pid: u32,
    /// None: it was not seen who got the answer.
    pub(super) client: Option<String>,
    /// None: the proxy answered without trying any.
    pub(super) upstream: Option<String>,
    /// What the proxy's log says of it. None: it is not followed, or says nothing.
    pub(super) log: Option<Logged>,
    /// The status that the proxy was seen to answer, not one that was only to be expected.
    pub(super) observed_status: Option<u16>,
    /// As observer printed it.
    pub(super) text: String,
}

/// The line of the proxy's log of errors that observer holds to be about it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Logged {
    pub(super) path: String,
    pub(super) client: Option<String>,
    /// It can stand for the cause that was found.
    pub(super) agrees: bool,
}

#[derive(Deserialize)]
struct Raw {
    cause: String,
    because: Option<String>,
    #[serde(default)]
    also: Vec<String>,
    confidence: String,
    time: String,
    proxy: Proxy,
    client: Option<String>,
    #[serde(default)]
    log: Option<Logged>,
    upstream: Option<String>,
    status: Option<u16>,
    status_source: Option<String>,
}

#[derive(Deserialize)]
struct Proxy {
    pid: u32,
}

impl Verdict {
    pub(super) fn parse(value: &Value, arrived: u64) -> Result<Self> {
        let raw = Raw::deserialize(value).with_context(|| format!("not a verdict of the documented form: {value}"))?;
        Ok(Self {
            cause: raw.cause,
            because: raw.because.into_iter().chain(raw.also).collect(),
            confidence: raw.confidence,
            time: clock::parse(&raw.time)?,
            arrived,
            pid: raw.proxy.pid,
            client: raw.client,
            log: raw.log,
            upstream: raw.upstream,
            observed_status: raw.status.filter(|_| raw.status_source.as_deref() == Some("observed")),
            text: value.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_documented_form() {
        let mut value = json!({
            "type": "verdict", "time": "2026-01-02T03:04:05.000006Z", "cause": "unknown", "confidence": "possible",
            "status": 502, "proxy": {"comm": "nginx", "pid": 7}, "upstream": "127.0.0.1:9000", "because": null
        });
        let verdict = Verdict::parse(&value, 9).expect("the documented form");
        assert_eq!((verdict.time % 1_000_000, verdict.pid, verdict.arrived), (6, 7, 9));
        assert_eq!(verdict.observed_status, None);
        value["status_source"] = "observed".into();
        assert_eq!(Verdict::parse(&value, 9).expect("the documented form").observed_status, Some(502));
        assert!(Verdict::parse(&json!({"type": "verdict"}), 9).is_err());
    }
}
