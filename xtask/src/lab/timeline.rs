//! What happens when, from the first request to the last answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::scenario::{Event, Load, Probe, Scenario};
use super::stage::Stage;
use crate::{shell, wait};

/// No scenario lasts longer.
const LIMIT: Duration = Duration::from_mins(3);

/// What the load's clients saw.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Clients {
    pub(super) status: BTreeMap<String, usize>,
}

/// Plays the scenario to its end; `meanwhile` is called again and again.
pub(super) fn play(
    stage: &mut Stage,
    scenario: &Scenario,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<Clients> {
    let mut player = Player {
        stage,
        scenario,
        started: Instant::now(),
        loads: scenario.load.iter().collect(),
        probes: scenario.probe.iter().collect(),
        events: scenario.event.iter().collect(),
        running: Vec::new(),
        ended: 0,
        clients: Clients::default(),
    };
    wait::until("the load to end", LIMIT, || {
        meanwhile()?;
        Ok(player.step()?.then_some(()))
    })?;
    Ok(player.clients)
}

struct Player<'a> {
    stage: &'a mut Stage,
    scenario: &'a Scenario,
    started: Instant,
    /// What is still to come.
    loads: Vec<&'a Load>,
    probes: Vec<&'a Probe>,
    events: Vec<&'a Event>,
    running: Vec<Phase>,
    ended: usize,
    clients: Clients,
}

impl Player<'_> {
    /// Starts whatever is due; true at the end. What happens to a program comes before the load of the same moment.
    fn step(&mut self) -> Result<bool> {
        self.reap()?;
        let (now, ended, idle) = (self.started.elapsed().as_secs_f64(), self.ended, self.running.is_empty());
        let due =
            |event: &&Event| event.at.is_some_and(|at| at <= now) || event.after.is_some_and(|after| after <= ended);
        for event in self.events.extract_if(.., |event| due(event)) {
            self.stage.act(event, &self.scenario.backend)?;
        }
        for probe in self.probes.extract_if(.., |probe| probe.at <= now) {
            self.stage.start_probe(probe)?;
        }
        if self.loads.first().is_some_and(|load| load.at.map_or(idle, |at| at <= now)) {
            let load = self.loads.remove(0);
            let number = self.scenario.load.len() - self.loads.len();
            let report = self.stage.folder().join(format!("load-{number}.json"));
            self.running.push(Phase { child: self.stage.start_load(load, &report)?, report, over: false });
        }
        Ok(self.running.is_empty() && self.loads.is_empty() && self.events.is_empty())
    }

    fn reap(&mut self) -> Result<()> {
        for phase in &mut self.running {
            phase.over = phase.child.try_wait().context("cannot wait for the load")?.is_some();
        }
        for mut phase in self.running.extract_if(.., |phase| phase.over) {
            self.ended += 1;
            phase.count(&mut self.clients)?;
        }
        Ok(())
    }
}

struct Phase {
    child: Child,
    report: PathBuf,
    over: bool,
}

impl Phase {
    fn count(&mut self, clients: &mut Clients) -> Result<()> {
        let status = self.child.wait().context("cannot wait for the load")?;
        if !status.success() {
            bail!("the load failed: {status}");
        }
        let report = self.report.display();
        let text = fs::read_to_string(&self.report).with_context(|| format!("cannot read {report}"))?;
        let seen: Clients = serde_json::from_str(&text).with_context(|| format!("in {report}"))?;
        for (status, count) in seen.status {
            *clients.status.entry(status).or_default() += count;
        }
        Ok(())
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        shell::end(&mut self.child);
    }
}
