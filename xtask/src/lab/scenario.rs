//! The form of a scenario definition, `xtask/lab/*.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::paths;

/// Codes that a definition may expect.
const CAUSES: &[&str] =
    &["accept-queue-overflow", "port-exhaustion", "upstream-closed-early", "upstream-refused", "upstream-reset"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) description: String,
    /// None: nothing fails, and nothing may be reported.
    pub(super) cause: Option<String>,
    #[serde(default = "both")]
    pub(super) topologies: Vec<Topology>,
    /// Fewer failures than this and the staging itself did not work.
    #[serde(default)]
    pub(super) min_failed: usize,
    /// Fewer answers than this and failures were not mixed with successes as meant.
    #[serde(default)]
    pub(super) min_served: usize,
    /// Whether observer's count of listen overflows must equal the kernel's.
    #[serde(default)]
    pub(super) count_overflows: bool,
    pub(super) expect_warning: Option<String>,
    #[serde(default)]
    pub(super) forbid_warnings: Vec<String>,
    #[serde(default)]
    pub(super) sysctl: Sysctls,
    pub(super) backend: Backend,
    #[serde(default)]
    pub(super) nginx: Nginx,
    pub(super) load: Vec<Load>,
}

fn both() -> Vec<Topology> {
    vec![Topology::Local, Topology::Remote]
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topology {
    /// Everything in one namespace, the upstream on 127.0.0.1.
    Local,
    /// Proxy and client in one namespace, the upstream in another.
    Remote,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Remote => "remote",
        })
    }
}

/// Settings of the namespaces, never of the host. In the local topology both sides share one namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sysctls {
    pub(crate) proxy: BTreeMap<String, String>,
    pub(crate) upstream: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Backend {
    /// Nobody listens.
    None,
    /// The lab's own, which misbehaves as the path asks (`lab_backend`).
    Raw {},
    /// gunicorn with sync workers and `xtask/lab/app.py`.
    Gunicorn(Gunicorn),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Gunicorn {
    pub(crate) workers: usize,
    /// What the application asks for; None is gunicorn's own default.
    pub(crate) backlog: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nginx {
    pub(crate) workers: usize,
    /// Idle upstream connections kept; None leaves the directive out.
    pub(crate) keepalive: Option<usize>,
    /// Directives of the location that proxies.
    pub(crate) location: Vec<String>,
}

impl Default for Nginx {
    fn default() -> Self {
        Self { workers: 1, keepalive: None, location: Vec::new() }
    }
}

/// One phase of the load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// Seconds after the first phase began; None: when all earlier phases have ended.
    pub(crate) at: Option<f64>,
    /// Asked for in turn.
    pub(crate) paths: Vec<String>,
    pub(crate) requests: usize,
    /// Closed loop: so many clients, each with one request at a time.
    pub(crate) concurrency: Option<usize>,
    /// Open loop: so many requests a second, whatever becomes of them.
    pub(crate) rate: Option<f64>,
    /// Whether the clients keep their connections to nginx.
    #[serde(default)]
    pub(crate) keepalive: bool,
}

/// All definitions, by name.
pub(super) fn load() -> Result<Vec<Scenario>> {
    let folder = paths::lab_definitions();
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry.context("cannot read the scenario folder")?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let scenario: Scenario = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
            check(&scenario).with_context(|| format!("in {}", path.display()))?;
            scenarios.push(scenario);
        }
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scenarios)
}

fn check(scenario: &Scenario) -> Result<()> {
    match &scenario.cause {
        Some(cause) if !CAUSES.contains(&cause.as_str()) => bail!("unknown cause {cause}"),
        Some(_) if scenario.min_failed == 0 => bail!("a cause needs min_failed"),
        None if scenario.min_failed > 0 => bail!("min_failed needs a cause"),
        _ => {}
    }
    for load in &scenario.load {
        if load.concurrency.is_some() == load.rate.is_some() {
            bail!("a load needs either concurrency or rate");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_parses_and_names_a_known_cause() {
        let scenarios = load().expect("every definition parses");
        for cause in CAUSES {
            assert!(
                scenarios.iter().any(|scenario| scenario.cause.as_deref() == Some(cause)),
                "no scenario for {cause}"
            );
        }
        assert!(scenarios.iter().any(|scenario| scenario.cause.is_none()), "no healthy scenario");
    }

    #[test]
    fn names_are_the_file_names() {
        for scenario in load().expect("every definition parses") {
            let path = paths::lab_definitions().join(format!("{}.toml", scenario.name));
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }
}
