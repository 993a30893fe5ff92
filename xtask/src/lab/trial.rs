//! One scenario with one proxy in one topology: stage, observe, load, compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::access_log::{AccessLog, Line};
use super::judge;
use super::observers::{Observers, Pair};
use super::outcome::{Outcome, Overflows, Seen};
use super::proxy::Kind;
use super::scenario::{Expect, Scenario, Topology};
use super::sides::Sides;
use super::stage::Stage;
use super::timeline;
use super::verdict::Verdict;
use crate::{interrupt, paths, wait};

/// How long a verdict may come after its request. Waited for in full only when one is missing.
const SETTLE: Duration = Duration::from_secs(5);

/// Only an interrupt is an error: what goes wrong in one trial says nothing of the next.
pub(super) fn run(scenario: &Scenario, proxy: Kind, topology: Topology, logs: bool) -> Result<Outcome> {
    let started = Instant::now();
    let observed = observe(scenario, proxy, topology, logs);
    interrupt::check()?;
    let mut outcome = observed.unwrap_or_else(|error| Outcome::broken(scenario, proxy, topology, &error));
    outcome.elapsed = started.elapsed();
    Ok(outcome)
}

fn observe(scenario: &Scenario, proxy: Kind, topology: Topology, logs: bool) -> Result<Outcome> {
    let folder = paths::lab_runs().join(format!("{}.{proxy}.{topology}", scenario.name));
    let mut stage = Stage::new(folder, topology, &scenario.sysctl)?;
    stage.start_backend(&scenario.backend)?;
    stage.start_proxy(proxy, &scenario.nginx, &scenario.timeouts, scenario.dead_peers)?;
    stage.restrict(&scenario.firewall, &scenario.routes)?;
    let before = stage.upstream().counters()?;
    let netns = [stage.proxy().inode()?, stage.upstream().inode()?];

    let mut observers = Observers::start(&stage, topology, logs.then_some(proxy))?;
    let clients = timeline::play(&mut stage, scenario, || observers.pump())?;
    stage.note_proxy_pids()?;
    let pids = stage.proxy_pids.clone();
    let ours = |verdict: &Verdict| pids.contains(&verdict.pid);
    let expect = &scenario.expect;
    let follows_log = logs && proxy.has_log();
    let failed = failed_by(&stage.access_log()?, expect, follows_log).len();
    wait::at_most(SETTLE, || {
        observers.pump()?;
        Ok(observers.have_said(failed, ours))
    })?;
    let counters = rise(&before, stage.upstream().counters()?);
    observers.stop(ours, |warning| warning.netns.is_some_and(|inode| netns.contains(&inode)))?;
    let later = rise(&before, stage.upstream().counters()?);
    // A proxy writes its log in its own time.
    let asked = clients.status.values().sum::<usize>();
    wait::at_most(SETTLE, || Ok(stage.access_log()?.lines.len() >= asked))?;
    let log = stage.access_log()?;
    let port = stage.address().port().unwrap_or_default();
    let replayed = observers.replayed()?;
    drop(stage);

    let Observers { host, sides } = &mut observers;
    let summary = host.summary.take().context("observer printed no summary")?;
    let overflows = |counters: &BTreeMap<_, _>| counters.get("ListenOverflows").copied().unwrap_or_default();
    let sides = sides.as_ref().map(|Pair { proxy, upstream }| {
        Sides::new(&log.failed(), &proxy.verdicts, &upstream.verdicts, &upstream.warnings, expect)
    });
    let seen = Seen {
        judgement: judge::judge(&failed_by(&log, expect, follows_log), &host.verdicts, expect, follows_log),
        overflows: Overflows {
            kernel: overflows(&counters),
            later: overflows(&later),
            observer: summary.overflows(port),
        },
        warnings: std::mem::take(&mut host.warnings),
        counters,
        log,
        clients,
        sides,
        replayed,
        follows_log,
        lost: summary.lost,
    };
    Outcome::new(scenario, proxy, topology, seen)
}

/// What is to have a verdict.
fn failed_by<'a>(log: &'a AccessLog, expect: &Expect, follows_log: bool) -> Vec<&'a Line> {
    let own = expect.by_log.iter().filter(|_| follows_log).flat_map(|_| log.own_errors());
    log.failed().into_iter().chain(own).collect()
}

fn rise(before: &BTreeMap<String, u64>, mut after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    for (name, count) in &mut after {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    after
}
