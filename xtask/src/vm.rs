//! `cargo xtask vm`: the kernel tests inside real kernels of several versions, each in a virtual machine.

mod archive;
mod bzimage;
mod cpio;
mod guest;
mod initramfs;
mod kernel;
mod kernel_tests;
mod machine;
mod modules;
mod results;
mod version;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail};

pub(crate) use self::guest::{Args as GuestArgs, run as run_guest};
pub(crate) use self::machine::QEMU;

use self::initramfs::Contents;
use self::kernel::Kernel;
use self::machine::{Machine, Run};
use self::results::Outcome;
use crate::{interrupt, paths, setup};

/// What the guest runs first: this xtask.
const INIT: &str = "/xtask";
/// Where a guest has the tests, and modules to be loaded.
const TESTS: &str = "/kernel-tests";
const MODULES: &str = "/modules";
/// Kernels that must be had: of the Debian releases that observer is for. The archive may drop others any day.
const REQUIRED: [&str; 2] = ["6.1", "6.12"];
/// Tests that cannot pass without something of the kernel: the test, and the module, or the name in the kernel's types.
const NEEDS: [(&str, &str); 5] = [
    ("who_says_that_an_upstream_is_out_of_reach_is_told", "veth"),
    ("syns_that_a_firewall_drops_are_told_from_a_full_queue", "nf_tables"),
    // The helper is there from 5.15 on: without it what a proxy reads cannot be looked at.
    ("answers::the_applications_own_errors_are_counted_apart", "BPF_FUNC_task_pt_regs"),
    ("each_answer_on_a_kept_connection_is_measured", "BPF_FUNC_task_pt_regs"),
    // Likewise.
    ("unix_sockets_that_turn_away_are_told_by_path", "bpf_iter__unix"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series of kernels
    #[arg(short, long, value_delimiter = ',', default_value = "5.10,6.1,6.12,6.18,7.2", value_name = "SERIES")]
    kernels: Vec<String>,
    /// Machines at a time; each takes a CPU and 1.5 GiB
    #[arg(short, long, default_value = "1", value_name = "N")]
    jobs: NonZeroUsize,
    /// Only tests whose names contain one of these
    tests: Vec<String>,
}

/// How many tests, over all kernels. A machine that died, or a required kernel that is not to be had, is one that failed.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::toolchain()?;
    setup::machines()?;
    interrupt::listen()?;
    let contents = Contents::gather(kernel_tests::build()?)?;
    let mut tally = Tally::default();
    let kernels = bring(&args.kernels, &mut tally);
    let tally = Mutex::new(tally);
    let next = AtomicUsize::new(0);
    let worker = || -> Result<()> {
        while let Some(kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = boot(kernel, &contents, &args.tests)?;
            // Held while printing too, so that kernels' lines do not mix.
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            show(kernel, &run, &mut tally);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.get().min(kernels.len())).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let Tally { passed, failed } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("tests failed in a virtual machine; the logs are under {}", paths::machines().display());
    }
    Ok(())
}

/// The kernels that are to be had; of others it is said why not.
fn bring(series: &[String], tally: &mut Tally) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for series in series {
        match kernel::bring(series, &paths::machines()) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) if REQUIRED.contains(&series.as_str()) => {
                println!("{series}: FAILED: {error:#}");
                tally.failed += 1;
            }
            Err(error) => println!("{series}: SKIPPED, nothing was tested on it: {error:#}"),
        }
    }
    kernels
}

/// Runs the tests in a machine with this kernel; each test's line is printed once it has ended.
fn boot(kernel: &Kernel, contents: &Contents, tests: &[String]) -> Result<Run> {
    let series = &kernel.series;
    println!("{series}: {}", kernel.version);
    for (test, need) in skipped(kernel) {
        println!("{series} {test} ... SKIPPED: this kernel has no {need}");
    }
    let machine = Machine::new(paths::machines().join("runs").join(series))?;
    contents.write(kernel, &machine.initramfs())?;
    let skipped = skipped(kernel).flat_map(|(test, _)| ["--skip".to_owned(), test.to_owned()]);
    let arguments: Vec<_> = skipped.chain(tests.iter().cloned()).collect();
    let mut shown = 0;
    machine.run(kernel, &arguments, |report| {
        let ended = report.tests.iter().filter(|(_, outcome)| *outcome != Outcome::Unfinished);
        for (test, outcome) in ended.skip(shown) {
            println!("{series} {test} ... {outcome}");
            shown += 1;
        }
    })
}

/// Tests that this kernel cannot run, and what it lacks for them.
fn skipped(kernel: &Kernel) -> impl Iterator<Item = (&'static str, &'static str)> {
    NEEDS.into_iter().filter(|(_, need)| kernel.missing.iter().any(|missing| missing == need))
}

/// What is to be said at a machine's end.
fn show(kernel: &Kernel, run: &Run, tally: &mut Tally) {
    let series = &kernel.series;
    let count = |wanted: Outcome| run.report.tests.iter().filter(|(_, outcome)| *outcome == wanted).count();
    tally.passed += count(Outcome::Passed);
    tally.failed += count(Outcome::Failed);
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
        // Not libtest's way to say that some failed.
        (None, Some(status)) if status != 0 && count(Outcome::Failed) == 0 => {
            println!("{series}: FAILED: the tests ended with status {status}, see the logs");
            tally.failed += 1;
        }
        _ => {}
    }
}
