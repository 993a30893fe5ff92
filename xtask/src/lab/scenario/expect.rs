//! What a scenario must come to: by the proxy's log, or else the staging failed; by observer, or else observer did.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::Deserialize;

/// Codes that a definition may expect of a verdict.
pub(super) const CAUSES: &[&str] = &[
    "accept-queue-overflow",
    "bad-response",
    "connect-timeout",
    "keepalive-race",
    "no-live-upstreams",
    "packet-loss",
    "port-exhaustion",
    "proxy-limits",
    "syn-queue-overflow",
    "unix-backlog-full",
    "unix-missing",
    "unix-permission",
    "unix-refused",
    "upstream-closed-early",
    "upstream-refused",
    "upstream-reset",
    "upstream-timeout",
    "upstream-unreachable",
];

/// Codes that a definition may expect under a verdict.
const UNDERLYING: &[&str] = &[
    "abort-on-overflow",
    "accept-stall",
    "backlog-clamped",
    "backlog-small",
    "idle-timeout-mismatch",
    "keepalive-off",
    "listener-restarted",
    "worker-killed",
    "worker-pool-undersized",
    "worker-timeout",
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::lab) struct Expect {
    /// None: nothing fails that observer could have a word on, and nothing may be reported.
    pub(in crate::lab) cause: Option<String>,
    /// Cause by the path asked for, where one load fails in several ways; `cause` is that of the others.
    pub(in crate::lab) paths: BTreeMap<String, String>,
    /// Other causes of some of the failures, just as right: one event may end requests in two ways.
    pub(in crate::lab) also: Vec<String>,
    /// Answers that are no miss though they do not name the cause, where only the proxy's log could tell.
    pub(in crate::lab) accept: Vec<String>,
    /// Cause of answers with 500, which is told where the proxy's log is followed; without it they are none of observer's concern.
    pub(in crate::lab) by_log: Option<String>,
    /// Cause of those failures for which the proxy did try an upstream, where `cause` is of its own making.
    pub(in crate::lab) tried: Option<String>,
    /// What must lie under the cause by the verdicts.
    pub(in crate::lab) because: Vec<String>,
    /// Of the verdicts, so large a share must say so: the first of an incident may come before it can be measured.
    #[serde(default = "all")]
    pub(in crate::lab) because_share: f64,
    /// Fewer failures than this and the staging itself did not work.
    pub(in crate::lab) min_failed: usize,
    /// Fewer answers than this and failures were not mixed with successes as meant.
    pub(in crate::lab) min_served: usize,
    /// Further statuses, at least so many of each.
    pub(in crate::lab) min_status: BTreeMap<String, usize>,
    /// The only statuses that failures may have with nginx; others have their own.
    pub(in crate::lab) fails_with: Vec<String>,
    /// Counters of the upstream's namespace (`TcpExt`), and by how much each must rise at least.
    pub(in crate::lab) min_counters: BTreeMap<String, u64>,
    /// Whether observer's count of listen overflows must be the kernel's, but for the few that an accept() meets.
    pub(in crate::lab) count_overflows: bool,
    pub(in crate::lab) warning: Option<Warning>,
    pub(in crate::lab) forbid_warnings: Vec<String>,
    /// As `accept`, where only the proxy's side is seen. None: unknown will do. Given, the cause cannot be known there for
    /// certain, and nothing may be claimed so.
    pub(in crate::lab) proxy_side: Option<Vec<String>>,
    /// What must be warned of where only the upstream's side is seen.
    pub(in crate::lab) upstream_side: Option<String>,
    /// What may be warned of there as well, being true; nothing else may.
    pub(in crate::lab) upstream_also: Vec<String>,
}

fn all() -> f64 {
    1.0
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::lab) struct Warning {
    pub(in crate::lab) cause: String,
    /// Seconds, at least, by which it must come before the first failure; None: whenever.
    pub(in crate::lab) ahead: Option<f64>,
}

impl Expect {
    /// What may be expected where only the proxy's side is seen.
    pub(in crate::lab) fn seen_from_the_proxy(&self) -> Self {
        let mut expect = Self { because: Vec::new(), ..self.clone() };
        expect.accept.extend(self.proxy_side.clone().unwrap_or_else(|| vec!["unknown".to_owned()]));
        expect
    }

    pub(super) fn check(&self) -> Result<()> {
        let named =
            self.cause.iter().chain(self.paths.values()).chain(&self.also).chain(&self.tried).chain(&self.by_log);
        for cause in named {
            if !CAUSES.contains(&cause.as_str()) {
                bail!("unknown cause {cause}");
            }
        }
        if let Some(code) = self.because.iter().find(|code| !UNDERLYING.contains(&code.as_str())) {
            bail!("unknown underlying cause {code}");
        }
        match self.cause {
            Some(_) if self.min_failed == 0 => bail!("a cause needs min_failed"),
            None if self.min_failed > 0 => bail!("min_failed needs a cause"),
            _ => Ok(()),
        }
    }
}
