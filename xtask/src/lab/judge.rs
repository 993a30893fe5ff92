//! Which verdict belongs to which failed request, and whether it is right. Pure: logs in, counts out.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::access_log::Line;

/// How far a verdict's time may be from the end of the request. Far more than the clocks differ, far less than what
/// separates phases of a load.
const WINDOW: u64 = 2_000_000;

/// What the comparison needs of a verdict.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub(super) cause: String,
    /// Microseconds since the epoch.
    pub(super) time: u64,
    pub(super) pid: u32,
    pub(super) upstream: String,
    /// As observer printed it.
    pub(super) text: String,
}

#[derive(Deserialize)]
struct Raw {
    cause: String,
    time: String,
    proxy: Proxy,
    upstream: String,
}

#[derive(Deserialize)]
struct Proxy {
    pid: u32,
}

impl Verdict {
    pub(super) fn parse(value: &Value) -> Result<Self> {
        let raw = Raw::deserialize(value).with_context(|| format!("not a verdict of the documented form: {value}"))?;
        let time = humantime::parse_rfc3339(&raw.time).with_context(|| format!("not a time: {}", raw.time))?;
        let time = time.duration_since(std::time::UNIX_EPOCH).context("a time before 1970")?;
        Ok(Self {
            cause: raw.cause,
            time: u64::try_from(time.as_micros()).context("a time too far off")?,
            pid: raw.proxy.pid,
            upstream: raw.upstream,
            text: value.to_string(),
        })
    }
}

/// Every failed line is right, unknown, wrong or missing; a verdict without a line is surplus.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) right: usize,
    pub(super) unknown: usize,
    pub(super) wrong: usize,
    pub(super) missing: usize,
    pub(super) surplus: usize,
    /// What is not right, with the log line and the verdict that disagree.
    pub(super) remarks: Vec<String>,
}

/// The nearest pairs find each other first, so that one verdict too many or too few does not shift all that follow.
pub(super) fn judge(failed: &[&Line], verdicts: &[Verdict], expected: Option<&str>) -> Judgement {
    let mut pairs = Vec::new();
    for (l, line) in failed.iter().enumerate() {
        for (v, verdict) in verdicts.iter().enumerate() {
            let distance = line.end.abs_diff(verdict.time);
            if line.pid == verdict.pid && line.upstream == verdict.upstream && distance <= WINDOW {
                pairs.push((distance, l, v));
            }
        }
    }
    pairs.sort_unstable();
    let mut verdict_of = vec![None; failed.len()];
    let mut taken = vec![false; verdicts.len()];
    for (_, l, v) in pairs {
        if verdict_of[l].is_none() && !taken[v] {
            verdict_of[l] = Some(&verdicts[v]);
            taken[v] = true;
        }
    }

    let mut judgement = Judgement::default();
    for (line, verdict) in failed.iter().zip(verdict_of) {
        judgement.line(line, verdict, expected);
    }
    for (verdict, _) in verdicts.iter().zip(taken).filter(|(_, taken)| !taken) {
        judgement.surplus += 1;
        judgement.remarks.push(format!("surplus: {}", verdict.text));
    }
    judgement
}

impl Judgement {
    fn line(&mut self, line: &Line, verdict: Option<&Verdict>, expected: Option<&str>) {
        let kind = match verdict {
            Some(verdict) if Some(verdict.cause.as_str()) == expected => {
                self.right += 1;
                return;
            }
            Some(verdict) if verdict.cause == "unknown" => {
                self.unknown += 1;
                "unknown"
            }
            Some(_) => {
                self.wrong += 1;
                "wrong"
            }
            None => {
                self.missing += 1;
                "missing"
            }
        };
        let answer = verdict.map_or("", |verdict| verdict.text.as_str());
        self.remarks.push(format!("{kind}: {} {answer}", line.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(end: u64, pid: u32) -> Line {
        Line { status: "502".into(), upstream: "127.0.0.1:9000".into(), end, pid, text: "a line".into() }
    }

    fn verdict(cause: &str, time: u64, pid: u32) -> Verdict {
        Verdict { cause: cause.into(), time, pid, upstream: "127.0.0.1:9000".into(), text: "a verdict".into() }
    }

    fn counts(lines: &[Line], verdicts: &[Verdict]) -> [usize; 5] {
        let found = judge(&lines.iter().collect::<Vec<_>>(), verdicts, Some("upstream-reset"));
        [found.right, found.unknown, found.wrong, found.missing, found.surplus]
    }

    #[test]
    fn each_kind_is_counted() {
        let lines = [line(1_000_000, 1), line(1_100_000, 1), line(1_200_000, 1), line(9_000_000, 1)];
        let verdicts = [
            verdict("upstream-reset", 1_000_100, 1),
            verdict("unknown", 1_100_100, 1),
            verdict("upstream-refused", 1_200_100, 1),
            verdict("upstream-reset", 20_000_000, 1),
        ];
        assert_eq!(counts(&lines, &verdicts), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn the_nearest_verdict_is_taken_whatever_the_order() {
        let lines = [line(1_000_000, 1), line(1_500_000, 1)];
        let verdicts = [verdict("upstream-reset", 1_499_000, 1), verdict("unknown", 1_001_000, 1)];
        assert_eq!(counts(&lines, &verdicts), [1, 1, 0, 0, 0]);
    }

    #[test]
    fn a_verdict_serves_one_line_only() {
        let lines = [line(1_000_000, 1), line(1_000_000, 1)];
        assert_eq!(counts(&lines, &[verdict("upstream-reset", 1_000_000, 1)]), [1, 0, 0, 1, 0]);
    }

    #[test]
    fn another_worker_or_upstream_does_not_match() {
        let mut elsewhere = verdict("upstream-reset", 1_000_000, 1);
        elsewhere.upstream = "10.77.0.2:9000".into();
        let verdicts = [verdict("upstream-reset", 1_000_000, 2), elsewhere];
        assert_eq!(counts(&[line(1_000_000, 1)], &verdicts), [0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_healthy_scenario_has_nothing_right() {
        let found = judge(&[], &[verdict("unknown", 1, 1)], None);
        assert_eq!((found.surplus, found.remarks.len()), (1, 1));
    }

    #[test]
    fn reads_the_documented_form() {
        let value = serde_json::json!({
            "type": "verdict", "time": "2026-01-02T03:04:05.000006Z", "cause": "unknown",
            "proxy": {"comm": "nginx", "pid": 7}, "upstream": "127.0.0.1:9000"
        });
        let verdict = Verdict::parse(&value).expect("the documented form");
        assert_eq!((verdict.time % 1_000_000, verdict.pid), (6, 7));
        assert!(Verdict::parse(&serde_json::json!({"type": "verdict"})).is_err());
    }
}
