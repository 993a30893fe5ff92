//! One scenario in one topology: stage, observe, load, compare.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::access_log::AccessLog;
use super::judge;
use super::report::{Outcome, Overflows};
use super::scenario::{Load, Scenario, Topology};
use super::stage::Stage;
use super::watch::Watch;
use crate::{interrupt, paths, shell, wait};

/// How long a verdict may come after its request. Waited for in full only when one is missing.
const SETTLE: Duration = Duration::from_secs(5);
/// No phase lasts longer.
const LOAD: Duration = Duration::from_mins(1);

/// Only an interrupt is an error: what goes wrong in one trial says nothing of the next.
pub(super) fn run(scenario: &Scenario, topology: Topology) -> Result<Outcome> {
    let started = Instant::now();
    let observed = observe(scenario, topology);
    interrupt::check()?;
    let mut outcome = observed.unwrap_or_else(|error| Outcome::broken(scenario, topology, &error));
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

fn observe(scenario: &Scenario, topology: Topology) -> Result<Outcome> {
    let folder = paths::lab_runs().join(format!("{}.{topology}", scenario.name));
    let mut stage = Stage::new(folder, topology, &scenario.sysctl)?;
    stage.start_backend(&scenario.backend)?;
    stage.start_nginx(&scenario.nginx)?;
    let overflows_before = stage.upstream().listen_overflows()?;
    let pids = stage.proxy_pids()?;
    let upstream = stage.upstream_socket();

    let mut watch = Watch::start(stage.folder())?;
    let clients = load(&stage, &scenario.load)?;
    let log = stage.access_log();
    wait::at_most(SETTLE, || {
        watch.pump()?;
        let ours = watch.verdicts.iter().filter(|verdict| pids.contains(&verdict.pid)).count();
        Ok(ours >= AccessLog::read(&log)?.failed().len())
    })?;
    let kernel = stage.upstream().listen_overflows()? - overflows_before;
    watch.stop()?;
    let log = AccessLog::read(&log)?;
    drop(stage);

    watch.verdicts.retain(|verdict| pids.contains(&verdict.pid));
    watch.warnings.retain(|warning| warning.subject == upstream.to_string());
    let summary = watch.summary.take().context("observer printed no summary")?;
    let failed = log.failed();
    Ok(Outcome::new(
        scenario,
        topology,
        &log,
        &clients,
        judge::judge(&failed, &watch.verdicts, scenario.cause.as_deref()),
        Overflows { kernel, observer: summary.overflows(upstream.port()) },
        watch.warnings.drain(..).map(|warning| warning.cause).collect(),
    ))
}

/// What the load's clients saw.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Clients {
    pub(super) status: BTreeMap<String, usize>,
}

/// Runs all phases to their end.
fn load(stage: &Stage, phases: &[Load]) -> Result<Clients> {
    let started = Instant::now();
    let mut running: Vec<Phase> = Vec::new();
    let mut clients = Clients::default();
    for (number, phase) in phases.iter().enumerate() {
        match phase.at {
            Some(at) => {
                let start = started + Duration::from_secs_f64(at);
                wait::at_most(start.saturating_duration_since(Instant::now()), || Ok(false))?;
            }
            None => finish(&mut running, &mut clients)?,
        }
        let report = stage.folder().join(format!("load-{}.json", number + 1));
        running.push(Phase { child: stage.start_load(phase, &report)?, report });
    }
    finish(&mut running, &mut clients)?;
    Ok(clients)
}

struct Phase {
    child: Child,
    report: PathBuf,
}

impl Drop for Phase {
    fn drop(&mut self) {
        shell::end(&mut self.child);
    }
}

fn finish(running: &mut Vec<Phase>, clients: &mut Clients) -> Result<()> {
    for mut phase in running.drain(..) {
        let status =
            wait::until("the load to end", LOAD, || phase.child.try_wait().context("cannot wait for the load"))?;
        if !status.success() {
            bail!("the load failed: {status}");
        }
        let text =
            fs::read_to_string(&phase.report).with_context(|| format!("cannot read {}", phase.report.display()))?;
        let seen: Clients = serde_json::from_str(&text).with_context(|| format!("in {}", phase.report.display()))?;
        for (status, count) in seen.status {
            *clients.status.entry(status).or_default() += count;
        }
    }
    Ok(())
}
