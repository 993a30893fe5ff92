//! The form of a scenario definition, `xtask/lab/*.toml`.

mod course;
mod expect;
mod network;
mod programs;

use std::fs;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

pub(crate) use self::course::Load;
pub(super) use self::course::{Action, Event, Probe};
pub(super) use self::expect::Expect;
pub(super) use self::network::{Filter, Side};
pub(crate) use self::network::{Sysctls, Topology};
pub(super) use self::programs::Timeouts;
pub(crate) use self::programs::{Backend, BackendKind, Nginx};
use super::proxy::Kind;
use crate::paths;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) description: String,
    /// Takes more than half a minute: `cargo xtask test` leaves it out.
    #[serde(default)]
    pub(super) slow: bool,
    #[serde(default = "both")]
    pub(super) topologies: Vec<Topology>,
    /// nginx plays in every topology, the others in the remote one.
    #[serde(default = "nginx_alone")]
    pub(super) proxies: Vec<Kind>,
    pub(super) expect: Expect,
    #[serde(default)]
    pub(super) sysctl: Sysctls,
    /// Packet filter of the namespaces.
    #[serde(default)]
    pub(super) firewall: Vec<Filter>,
    /// Arguments of `ip route` in the proxy's namespace, where `{upstream}` is the upstream's address.
    #[serde(default)]
    pub(super) routes: Vec<String>,
    pub(super) backend: Backend,
    /// Further servers of the upstream, on ports where nobody listens. nginx tries them, HAProxy only checks their health.
    #[serde(default)]
    pub(super) dead_peers: u16,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    #[serde(default)]
    pub(super) nginx: Nginx,
    pub(super) load: Vec<Load>,
    /// Connections that are nobody's requests.
    #[serde(default)]
    pub(super) probe: Vec<Probe>,
    #[serde(default)]
    pub(super) event: Vec<Event>,
    /// What ends it, of the first topology with nginx.
    pub(super) cure: Option<Cure>,
}

/// What observer advises, done by hand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cure {
    /// A piece of the advice.
    pub(super) advised: String,
    /// Whole parts of the scenario that take the place of what is there.
    pub(super) backend: Option<Backend>,
    pub(super) nginx: Option<Nginx>,
    pub(super) sysctl: Option<Sysctls>,
    /// So many times as many requests, for what goes well may be over sooner than what failed.
    #[serde(default = "once")]
    pub(super) times: usize,
}

fn once() -> usize {
    1
}

fn both() -> Vec<Topology> {
    vec![Topology::Local, Topology::Remote]
}

fn nginx_alone() -> Vec<Kind> {
    vec![Kind::Nginx]
}

impl Scenario {
    pub(super) fn trials(&self) -> Vec<(Kind, Topology)> {
        let pairs =
            self.proxies.iter().flat_map(|&proxy| self.topologies.iter().map(move |&topology| (proxy, topology)));
        pairs.filter(|&(proxy, topology)| proxy == Kind::Nginx || topology == Topology::Remote).collect()
    }
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
    scenario.expect.check()?;
    for load in &scenario.load {
        if load.concurrency.is_some() == load.rate.is_some() {
            bail!("a load needs either concurrency or rate");
        }
    }
    for event in &scenario.event {
        if event.at.is_some() == event.after.is_some() {
            bail!("an event needs either at or after");
        }
        if event.action == Action::Restart && event.to == Side::Proxy {
            bail!("only the upstream can be restarted");
        }
    }
    if scenario.backend.unix && scenario.topologies != [Topology::Local] {
        bail!("a unix socket is local");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_definition_and_some_have_none() {
        let scenarios = load().expect("every definition parses");
        for cause in expect::CAUSES {
            let staged = |Scenario { expect, .. }: &Scenario| {
                [&expect.cause, &expect.by_log].into_iter().flatten().any(|expected| expected == cause)
            };
            assert!(scenarios.iter().any(staged), "no scenario for {cause}");
        }
        assert!(scenarios.iter().any(|scenario| scenario.expect.cause.is_none()), "no healthy scenario");
    }

    #[test]
    fn names_are_the_file_names() {
        for scenario in load().expect("every definition parses") {
            let path = paths::lab_definitions().join(format!("{}.toml", scenario.name));
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }
}
