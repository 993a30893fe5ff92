//! Whether what observer advises helps: a failure is staged and recorded, what it advises is done by hand (as the definition has it),
//! the same is staged again, and `observer compare` has to find that it helped.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::outcome::Outcome;
use super::proxy::Kind;
use super::scenario::{Expect, Scenario, Topology};
use super::{report::Tally, scenario, trial};
use crate::{interrupt, paths};

/// What the second run is called, behind the first one's name.
const CURED: &str = "-cured";

/// All that have a cure, or those of these names.
pub(super) fn run_all(names: &[String]) -> Result<Tally> {
    interrupt::listen()?;
    super::sweep()?;
    let chosen = |scenario: &Scenario| scenario.cure.is_some() && (names.is_empty() || names.contains(&scenario.name));
    // Each is staged twice, differently.
    let (ill, cured) = (scenario::load()?, scenario::load()?);
    let mut tally = Tally { passed: 0, failed: 0 };
    for (ill, cured) in ill.into_iter().zip(cured).filter(|(ill, _)| chosen(ill)) {
        let name = ill.name.clone();
        match cure(&ill, cured) {
            Ok(said) => {
                tally.passed += 1;
                println!("cured {name:<28} {said}");
            }
            Err(error) => {
                interrupt::check()?;
                tally.failed += 1;
                println!("FAIL  {name:<28} {error:#}");
            }
        }
    }
    if tally.passed + tally.failed == 0 {
        bail!("none of these has a cure; `grep -l cure xtask/lab/*.toml` names those that have");
    }
    Ok(tally)
}

/// What the comparison says.
fn cure(ill: &Scenario, mut healed: Scenario) -> Result<String> {
    let topology = ill.topologies.first().copied().unwrap_or(Topology::Local);
    let cure = healed.cure.take().context("it has no cure")?;
    healed.name.push_str(CURED);
    healed.backend = cure.backend.unwrap_or(healed.backend);
    healed.nginx = cure.nginx.unwrap_or(healed.nginx);
    healed.sysctl = cure.sysctl.unwrap_or(healed.sysctl);
    for load in &mut healed.load {
        load.requests *= cure.times;
    }
    let asked = healed.load.iter().map(|load| load.requests).sum();
    healed.expect = Expect { min_served: asked, ..Expect::default() };

    passed("as it was", &trial::run(ill, Kind::Nginx, topology, true)?)?;
    let before = recording(&ill.name, topology);
    let advised = observer(&["advise"], &[&before])?;
    if !advised.contains(&cure.advised) {
        bail!("observer does not advise {:?}, but:\n{advised}", cure.advised);
    }
    passed("cured", &trial::run(&healed, Kind::Nginx, topology, true)?)?;
    let compared = observer(&["compare", "--format", "json"], &[&before, &recording(&healed.name, topology)])?;
    let compared: Value = serde_json::from_str(&compared).context("observer compare printed no JSON")?;
    let conclusion = compared["conclusion"].as_str().context("a comparison without a conclusion")?;
    if !conclusion.starts_with("It helped: ") {
        bail!("{conclusion} {compared}");
    }
    Ok(format!("{} failures before; {conclusion}", compared["before"]["failed"]))
}

fn passed(what: &str, outcome: &Outcome) -> Result<()> {
    if !outcome.pass {
        bail!("{what}: {}", outcome.problems.join("; "));
    }
    Ok(())
}

fn recording(name: &str, topology: Topology) -> PathBuf {
    paths::lab_runs().join(format!("{name}.{}.{topology}", Kind::Nginx)).join("observer.arrows.zst")
}

/// What it prints. Some of its exit statuses say what it found.
fn observer(arguments: &[&str], files: &[&PathBuf]) -> Result<String> {
    let told = Command::new(paths::observer()).args(arguments).args(files).output().context("cannot run observer")?;
    if told.stdout.is_empty() {
        bail!("observer {}: {}", arguments.join(" "), String::from_utf8_lossy(&told.stderr));
    }
    String::from_utf8(told.stdout).context("observer printed no text")
}
