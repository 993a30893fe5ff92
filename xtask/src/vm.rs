//! `cargo xtask vm`: the kernel tests and a core of the lab inside real kernels of several versions, each in a virtual machine.

mod archive;
mod bzimage;
mod cpio;
mod guest;
mod initramfs;
mod kernel;
mod kernel_tests;
mod machine;
mod modules;
mod plan;
mod results;
mod version;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail};

pub(crate) use self::guest::run as run_guest;
pub(crate) use self::machine::QEMU;

use self::initramfs::Contents;
use self::kernel::Kernel;
use self::machine::{Machine, Run};
use self::plan::Plan;
use self::results::Outcome;
use crate::lab::{Tally, Topology};
use crate::{interrupt, paths, setup};

/// What the guest runs first: this xtask.
const INIT: &str = "/xtask";
/// Where a guest has the tests, its programs, and modules to be loaded.
const TESTS: &str = "/kernel-tests";
const PROGRAMS: &str = "/usr/bin";
const MODULES: &str = "/modules";
/// Kernels that must be had: of the Debian releases that observer is for. The archive may drop others any day.
const REQUIRED: [&str; 2] = ["6.1", "6.12"];
/// Tests that cannot pass without something of the kernel: the last part of the test's name, and the module, or the name in the
/// kernel's types.
const NEEDS: [(&str, &str); 5] = [
    ("who_says_that_an_upstream_is_out_of_reach_is_told", "veth"),
    ("syns_that_a_firewall_drops_are_told_from_a_full_queue", "nf_tables"),
    // The helper is there from 5.15 on: without it what a proxy reads cannot be looked at.
    ("the_applications_own_errors_are_counted_apart", "BPF_FUNC_task_pt_regs"),
    ("each_answer_on_a_kept_connection_is_measured", "BPF_FUNC_task_pt_regs"),
    // Likewise.
    ("unix_sockets_that_turn_away_are_told_by_path", "bpf_iter__unix"),
];
/// Scenarios of the lab that are staged in each kernel: the main causes as the kernel shows them, with neither an interpreter,
/// which a guest is too slow for, nor more waiting than need be. Local where that will do, for a single observer.
const CORE: [(&str, Topology); 8] = [
    ("accept-overflow-stall", Topology::Local),
    ("connect-timeout", Topology::Local),
    ("healthy-keepalive", Topology::Local),
    // On loopback the kernel takes ports back sooner than a guest can use them up.
    ("port-exhaustion", Topology::Remote),
    ("upstream-closed-early", Topology::Local),
    ("upstream-refused", Topology::Local),
    ("upstream-reset", Topology::Local),
    ("upstream-timeout", Topology::Local),
];

/// Those of the core that `cargo xtask test` stages, too: each another way for a try to end.
const OF_ALL_TESTS: [&str; 4] =
    ["accept-overflow-stall", "upstream-closed-early", "upstream-reset", "upstream-timeout"];

/// What is run in each machine.
struct Wanted<'a> {
    /// Only tests and scenarios whose names contain one of these; all if empty.
    names: &'a [String],
    /// Of the core.
    scenarios: Vec<(&'static str, Topology)>,
}

impl<'a> Wanted<'a> {
    /// What is left of the core by `keep` and by `names`.
    fn new(names: &'a [String], keep: impl Fn(&str) -> bool) -> Self {
        let asked_for = |scenario: &str| names.is_empty() || names.iter().any(|name| scenario.contains(name.as_str()));
        let scenarios = CORE.into_iter().filter(|(scenario, _)| keep(scenario) && asked_for(scenario)).collect();
        Self { names, scenarios }
    }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series of kernels
    #[arg(short, long, value_delimiter = ',', default_value = "5.10,6.1,6.12,6.18,7.2", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Machines at a time; each takes a CPU and 1.5 GiB
    #[arg(short, long, default_value = "1", value_name = "N")]
    jobs: NonZeroUsize,
    /// Only tests and scenarios whose names contain one of these
    names: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tallies = test(&args.kernels, args.jobs, &Wanted::new(&args.names, |_| true))?;
    for (series, tally) in &tallies {
        println!("{series}: {tally}");
    }
    let sum = |count: fn(&Tally) -> usize| tallies.iter().map(|(_, tally)| count(tally)).sum();
    let all = Tally { passed: sum(|tally| tally.passed), failed: sum(|tally| tally.failed) };
    println!("{all}");
    judge(all)
}

/// The kernel tests and some of the core on the kernels that must be had, for `cargo xtask test`; returns the closing lines.
pub(crate) fn run_required() -> Result<Vec<String>> {
    // Each is busy with one CPU.
    let jobs = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let wanted = Wanted::new(&[], |scenario| OF_ALL_TESTS.contains(&scenario));
    let tallies = test(&REQUIRED.map(str::to_owned), jobs, &wanted)?;
    tallies.iter().try_for_each(|(_, tally)| judge(*tally))?;
    Ok(tallies.iter().map(|(series, tally)| format!("{series}: {tally}")).collect())
}

fn judge(tally: Tally) -> Result<()> {
    if tally.failed > 0 {
        bail!("{tally} in virtual machines; the logs are under {}", paths::machines().join("runs").display());
    }
    Ok(())
}

/// What came of each kernel that must be had or could be, in the order asked for. A machine that died, or a required kernel that is
/// not to be had, is one that failed.
fn test(series: &[String], jobs: NonZeroUsize, wanted: &Wanted) -> Result<Vec<(String, Tally)>> {
    setup::toolchain()?;
    setup::lab()?;
    setup::machines()?;
    interrupt::listen()?;
    let contents = Contents::gather(&kernel_tests::build()?)?;
    let (kernels, tallies) = bring(series);
    let tallies = Mutex::new(tallies);
    let next = AtomicUsize::new(0);
    let worker = || -> Result<()> {
        while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = boot(kernel, &contents, wanted)?;
            // Held while printing too, so that kernels' lines do not mix.
            let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
            tallies.push((kernel.series.clone(), show(kernel, &run)));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.get().min(kernels.len())).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let mut tallies = tallies.into_inner().unwrap_or_else(PoisonError::into_inner);
    tallies.sort_by_key(|(done, _)| series.iter().position(|asked| asked == done));
    Ok(tallies)
}

/// The kernels that are to be had; of others it is said why not, and those that must be had have failed.
fn bring(series: &[String]) -> (Vec<Kernel>, Vec<(String, Tally)>) {
    let (mut kernels, mut tallies) = (Vec::new(), Vec::new());
    for series in series {
        match kernel::bring(series, &paths::machines()) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) if REQUIRED.contains(&series.as_str()) => {
                println!("{series}: FAILED: {error:#}");
                tallies.push((series.clone(), Tally { passed: 0, failed: 1 }));
            }
            Err(error) => println!("{series}: SKIPPED, nothing was tested on it: {error:#}"),
        }
    }
    (kernels, tallies)
}

/// Runs it all in a machine with this kernel; each line is printed once its test or trial has ended.
fn boot(kernel: &Kernel, contents: &Contents, wanted: &Wanted) -> Result<Run> {
    let series = &kernel.series;
    println!("{series}: {}", kernel.version);
    let lacking = || NEEDS.into_iter().filter(|(_, need)| kernel.missing.iter().any(|missing| missing == need));
    for (test, need) in lacking() {
        println!("{series} {test} ... SKIPPED: this kernel has no {need}");
    }
    let plan = Plan {
        tests: wanted.names.to_vec(),
        skipped: lacking().map(|(test, _)| test.to_owned()).collect(),
        scenarios: wanted.scenarios.iter().map(|(scenario, topology)| (*topology, (*scenario).to_owned())).collect(),
    };
    let machine = Machine::new(paths::machines().join("runs").join(series))?;
    contents.write(kernel, &plan, &machine.initramfs())?;
    let mut shown = 0;
    machine.run(kernel, |report| {
        let ended = report.tests.iter().filter(|(_, outcome)| *outcome != Outcome::Unfinished);
        for (test, outcome) in ended.skip(shown) {
            println!("{series} {test} ... {outcome}");
            shown += 1;
        }
    })
}

/// What is to be said at a machine's end.
fn show(kernel: &Kernel, run: &Run) -> Tally {
    let series = &kernel.series;
    let count = |wanted: Outcome| run.report.tests.iter().filter(|(_, outcome)| *outcome == wanted).count();
    let mut tally = Tally { passed: count(Outcome::Passed), failed: count(Outcome::Failed) };
    if !run.report.failures.is_empty() {
        println!("{series}: what failed said:\n{}", run.report.failures.trim());
    }
    for (test, _) in run.report.tests.iter().filter(|(_, outcome)| *outcome == Outcome::Unfinished) {
        println!("{series} {test} ... {}", Outcome::Unfinished);
    }
    match (&run.died, run.report.exit) {
        (Some(died), _) => {
            println!("{series}: FAILED: {died}");
            tally.failed += 1;
        }
        // Not the tests' or the lab's way to say that some failed.
        (None, Some(status)) if status != 0 && tally.failed == 0 => {
            println!("{series}: FAILED: the guest ended with status {status}, see the logs");
            tally.failed += 1;
        }
        _ => {}
    }
    tally
}
