//! One scenario with one proxy in one topology: stage, observe, load, compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::judge;
use super::outcome::{Outcome, Overflows, Seen};
use super::proxy::Kind;
use super::scenario::{Scenario, Topology};
use super::stage::Stage;
use super::timeline;
use super::watch::Watch;
use crate::{interrupt, paths, wait};

/// How long a verdict may come after its request. Waited for in full only when one is missing.
const SETTLE: Duration = Duration::from_secs(5);

/// Only an interrupt is an error: what goes wrong in one trial says nothing of the next.
pub(super) fn run(scenario: &Scenario, proxy: Kind, topology: Topology) -> Result<Outcome> {
    let started = Instant::now();
    let observed = observe(scenario, proxy, topology);
    interrupt::check()?;
    let mut outcome = observed.unwrap_or_else(|error| Outcome::broken(scenario, proxy, topology, &error));
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

fn observe(scenario: &Scenario, proxy: Kind, topology: Topology) -> Result<Outcome> {
    let folder = paths::lab_runs().join(format!("{}.{proxy}.{topology}", scenario.name));
    let mut stage = Stage::new(folder, topology, &scenario.sysctl)?;
    stage.start_backend(&scenario.backend)?;
    stage.start_proxy(proxy, &scenario.nginx, &scenario.timeouts)?;
    stage.restrict(&scenario.firewall, &scenario.routes)?;
    let before = stage.upstream().counters()?;
    let netns = [stage.proxy().inode()?, stage.upstream().inode()?];

    let mut watch = Watch::start(stage.folder())?;
    let clients = timeline::play(&mut stage, scenario, || watch.pump())?;
    stage.note_proxy_pids()?;
    let failed = stage.access_log()?.failed().len();
    wait::at_most(SETTLE, || {
        watch.pump()?;
        Ok(watch.verdicts.iter().filter(|verdict| stage.proxy_pids.contains(&verdict.pid)).count() >= failed)
    })?;
    let counters = rise(&before, stage.upstream().counters()?);
    watch.stop()?;
    let log = stage.access_log()?;
    watch.verdicts.retain(|verdict| stage.proxy_pids.contains(&verdict.pid));
    watch.warnings.retain(|warning| netns.contains(&warning.netns));
    let port = stage.address().port().unwrap_or_default();
    drop(stage);

    let summary = watch.summary.take().context("observer printed no summary")?;
    let judgement = judge::judge(&log.failed(), &watch.verdicts, &scenario.expect);
    let kernel = counters.get("ListenOverflows").copied().unwrap_or_default();
    let overflows = Overflows { kernel, observer: summary.overflows(port) };
    Outcome::new(
        scenario,
        proxy,
        topology,
        Seen { counters, log, clients, judgement, overflows, warnings: std::mem::take(&mut watch.warnings) },
    )
}

fn rise(before: &BTreeMap<String, u64>, mut after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    for (name, count) in &mut after {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    after
}
