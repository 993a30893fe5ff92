//! The form of a scenario definition, `xtask/lab/*.toml`.

mod expect;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub(super) use self::expect::Expect;
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

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Proxy,
    Upstream,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) side: Side,
    pub(super) hook: Hook,
    /// A rule of nft's, where `{port}` is the upstream's.
    pub(super) rule: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Hook {
    Input,
    Output,
}

impl Hook {
    /// nft's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    pub(crate) kind: BackendKind,
    /// On a unix socket instead of a port.
    #[serde(default)]
    pub(crate) unix: bool,
    /// What the application asks for; None is the program's own default.
    pub(crate) backlog: Option<u32>,
    /// Seconds after which the lab's own closes an idle connection.
    pub(crate) idle: Option<f64>,
    /// gunicorn's.
    #[serde(default)]
    pub(crate) workers: usize,
    /// Seconds that gunicorn's master gives a worker before it kills it.
    pub(crate) timeout: Option<u32>,
    /// gunicorn with a certificate of its own making.
    #[serde(default)]
    pub(crate) tls: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    /// Nobody listens.
    #[default]
    None,
    /// The lab's own, which misbehaves as the path asks (`lab_backend`).
    Raw,
    /// gunicorn with sync workers and `xtask/lab/app.py`.
    Gunicorn,
}

/// The proxy's patience, in seconds. None: 60.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Timeouts {
    pub(super) connect: Option<f64>,
    /// From the last byte of the request to the first of the answer.
    pub(super) read: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nginx {
    pub(crate) workers: usize,
    /// Whom the workers run as.
    pub(crate) user: String,
    pub(crate) worker_connections: usize,
    /// Open files of a worker.
    pub(crate) files: usize,
    /// Idle upstream connections kept; None leaves the directive out.
    pub(crate) keepalive: Option<usize>,
    /// Of `proxy_pass`.
    pub(crate) scheme: String,
    /// Directives of the location that proxies.
    pub(crate) location: Vec<String>,
    /// Off, since a second try would blur which failure the answer tells of.
    pub(crate) next_upstream: String,
    /// Parameters of the `server` directive.
    pub(crate) server: String,
    /// Whether the backend is among the servers.
    pub(crate) alive: bool,
}

impl Default for Nginx {
    fn default() -> Self {
        Self {
            workers: 1,
            user: "root".to_owned(),
            worker_connections: 16384,
            files: 20_000,
            keepalive: None,
            scheme: "http".to_owned(),
            location: Vec::new(),
            next_upstream: "off".to_owned(),
            server: String::new(),
            alive: true,
        }
    }
}

/// One phase of the load.
#[derive(Debug, Default, Deserialize)]
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
    /// Whether the clients keep their connections to the proxy.
    #[serde(default)]
    pub(crate) keepalive: bool,
    /// Seconds between a client's requests, in the closed loop.
    pub(crate) pause: Option<f64>,
    /// Bytes sent with each request, which is a POST then.
    pub(crate) body: Option<usize>,
    /// Seconds after which the clients leave without their answer.
    pub(crate) patience: Option<f64>,
}

/// Bare connections to the upstream's address, from the proxy's namespace: no request is ever sent on them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Probe {
    /// Seconds after the first phase of the load began.
    pub(super) at: f64,
    pub(super) connections: u16,
    /// The first of as many ports; None: all to the upstream's own.
    pub(super) ports_from: Option<u16>,
    /// Source port of the first of them; the others follow. None: as the kernel likes.
    pub(super) source_port: Option<u16>,
}

/// Something that happens to a program while the load runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// Seconds after the first phase of the load began.
    pub(super) at: Option<f64>,
    /// Instead: once so many phases of the load have ended, and before the next begins.
    pub(super) after: Option<usize>,
    pub(super) to: Side,
    pub(super) action: Action,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// SIGSTOP to all its processes.
    Freeze,
    /// SIGCONT to all its processes.
    Thaw,
    /// SIGKILL to all its processes.
    Kill,
    /// SIGTERM to its first process.
    Terminate,
    /// SIGHUP to its first process.
    Reload,
    /// SIGTERM to its first process, and when it is gone a new one is started. The upstream's only.
    Restart,
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
            let staged = |scenario: &Scenario| scenario.expect.cause.as_deref() == Some(cause);
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
