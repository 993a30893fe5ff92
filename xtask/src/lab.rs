//! `cargo xtask lab`: failures with known causes, staged with real programs in network namespaces of their own, observed
//! from outside, and compared with what the proxy says it answered.

mod access_log;
mod address;
mod backend;
mod clock;
mod cure;
mod folder;
mod judge;
mod link;
mod netns;
mod observers;
mod outcome;
mod proxy;
mod report;
mod results;
mod scenario;
mod sides;
mod stage;
mod timeline;
mod trial;
mod verdict;
mod watch;

use std::path::PathBuf;

use anyhow::{Result, bail};

pub(crate) use self::folder::RunFolder;
pub(crate) use self::netns::{Netns, sweep};
pub(crate) use self::report::Tally;
pub(crate) use self::scenario::{Backend, BackendKind, Load, Nginx, Sysctls, Topology};
pub(crate) use self::stage::Stage;
pub(crate) use self::watch::Watch;

use self::report::Reporter;
use self::scenario::Scenario;
use crate::{build, interrupt, privilege, setup, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Name and describe the scenarios
    List,
    /// Stage scenarios and compare; exit 1 when one misses its bar
    Run {
        /// Scenarios by name
        #[arg(required_unless_present_any = ["all", "quick"], conflicts_with_all = ["all", "quick"])]
        names: Vec<String>,
        /// Every scenario
        #[arg(long, conflicts_with = "quick")]
        all: bool,
        /// Every scenario but the slow ones, as `cargo xtask test` does
        #[arg(long)]
        quick: bool,
        /// Only with this proxy
        #[arg(long)]
        proxy: Option<proxy::Kind>,
        /// Only in this topology
        #[arg(long)]
        topology: Option<Topology>,
        /// Follow no log of the proxy's: by the kernel's evidence alone
        #[arg(long)]
        no_logs: bool,
        /// One JSON object per scenario and topology and line on stdout
        #[arg(long)]
        json: bool,
    },
    /// Stage failures, do what observer advises, stage them again, and have it compare: they must have ended
    Cure {
        /// Scenarios that have a cure, by name; all if none is given
        names: Vec<String>,
    },
    /// Say in what two runs differ (`target/lab/results/`)
    Compare { before: PathBuf, after: PathBuf },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let scenarios = scenario::load()?;
    match &args.action {
        Action::List => {
            report::list(&scenarios);
            Ok(())
        }
        Action::Compare { before, after } => {
            println!("{}", results::compare(&results::read(before)?, &results::read(after)?));
            Ok(())
        }
        Action::Cure { names } => {
            prepare()?;
            if !privilege::is_root() {
                return shell::run(&mut privilege::ourselves(std::env::args_os().skip(1))?);
            }
            let tally = cure::run_all(names)?;
            println!("{tally}");
            if tally.failed > 0 {
                bail!("{} of {} were not cured", tally.failed, tally.failed + tally.passed);
            }
            Ok(())
        }
        Action::Run { names, json, quick, proxy, topology, no_logs, all: _ } => {
            let mut chosen = choose(scenarios, names)?;
            chosen.retain(|scenario| !(*quick && scenario.slow));
            prepare()?;
            if !privilege::is_root() {
                return shell::run(&mut privilege::ourselves(std::env::args_os().skip(1))?);
            }
            let tally = stage_all(&chosen, (*proxy, *topology), !no_logs, *json)?;
            if tally.failed > 0 {
                bail!("{} of {} missed the bar", tally.failed, tally.failed + tally.passed);
            }
            Ok(())
        }
    }
}

/// What a stage needs: the programs and a built observer. The copy of us that sudo runs finds it done.
pub(crate) fn prepare() -> Result<()> {
    if privilege::is_prepared() {
        return Ok(());
    }
    setup::lab()?;
    build::run()
}

/// All that observer's advice is to end, for `cargo xtask test`.
pub(crate) fn cure_all() -> Result<Tally> {
    cure::run_all(&[])
}

/// Every scenario that is not slow, for `cargo xtask test`.
pub(crate) fn run_quick() -> Result<Tally> {
    let scenarios: Vec<_> = scenario::load()?.into_iter().filter(|scenario| !scenario.slow).collect();
    stage_all(&scenarios, (None, None), true, false)
}

/// Only with this proxy and in this topology, where one is given.
fn stage_all(
    scenarios: &[Scenario],
    only: (Option<proxy::Kind>, Option<Topology>),
    logs: bool,
    json: bool,
) -> Result<Tally> {
    interrupt::listen()?;
    sweep()?;
    let mut reporter = Reporter::new(json);
    for scenario in scenarios {
        for (proxy, topology) in scenario.trials() {
            if only.0.is_some_and(|only| only != proxy) || only.1.is_some_and(|only| only != topology) {
                continue;
            }
            reporter.outcome(trial::run(scenario, proxy, topology, logs)?)?;
        }
    }
    let (tally, outcomes) = reporter.close()?;
    let kept = results::keep(outcomes)?;
    eprintln!("lab: kept in {}", kept.display());
    Ok(tally)
}

fn choose(scenarios: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(scenarios);
    }
    for name in names {
        if !scenarios.iter().any(|scenario| scenario.name == *name) {
            bail!("no scenario is called {name}; `cargo xtask lab list` names them");
        }
    }
    Ok(scenarios.into_iter().filter(|scenario| names.contains(&scenario.name)).collect())
}
