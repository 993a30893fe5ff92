//! The guest's first process: makes a small system of the initramfs, does what was planned, says how it ended, switches off.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;

use super::plan::Plan;
use super::results::EXIT;
use super::{MODULES, PROGRAMS, TESTS};
use crate::lab::Topology;
use crate::privilege;

/// The second serial port: nothing but the tests and the lab writes there.
const REPORT: &str = "/dev/ttyS1";
/// What is mounted, and where: as a Debian system has it. Nothing at /tmp: what the archive brought there would be hidden, all that the
/// lab needs where the checkout lies under /tmp.
const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("tmpfs", "/run"),
];
/// Of all programs. glibc's allocator (mallopt(3)) asks the kernel for each page of a thread's heap, ten thousand times while the
/// kernel's types are read; where that is emulated it costs seconds.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("RUST_BACKTRACE", "0"),
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_TOP_PAD_", "16777216"),
    // Tests may do to this machine what they would to no other.
    ("OBSERVER_OWN_MACHINE", "1"),
];
/// Tests side by side. They wait for the kernel's timers more than they work; with more of them those that do work, the
/// machine being slow, would keep others from their deadlines.
const TESTS_AT_A_TIME: usize = 4;
/// The status that stands for a guest that could not be set up.
const UNREADY: i32 = 125;

/// Does not return: the first process must not end.
pub(crate) fn run() -> Result<()> {
    if std::process::id() != 1 {
        bail!("this is for the first process of a virtual machine: `cargo xtask vm` runs it there");
    }
    let status = carry_out().unwrap_or_else(|error| {
        eprintln!("vm-guest: {error:#}");
        UNREADY
    });
    if let Err(error) = tell(status) {
        eprintln!("vm-guest: {error:#}");
    }
    reboot(RebootMode::RB_POWER_OFF).context("cannot switch off")?;
    Ok(())
}

/// The first status that there is to complain of, the tests' or the lab's.
fn carry_out() -> Result<i32> {
    for (kind, at) in MOUNTS {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} at {at}"))?;
    }
    load_modules()?;
    let plan = Plan::read()?;
    let ended = [tests(&plan)?, lab(Topology::Local, &plan)?, lab(Topology::Remote, &plan)?];
    Ok(ended.into_iter().find(|status| *status != 0).unwrap_or_default())
}

fn tests(plan: &Plan) -> Result<i32> {
    let mut command = in_turn();
    command.arg(TESTS).arg(format!("--test-threads={TESTS_AT_A_TIME}")).args(&plan.tests);
    for test in &plan.skipped {
        command.args(["--skip", test]);
    }
    status(&mut command).context("cannot run the tests")
}

fn lab(topology: Topology, plan: &Plan) -> Result<i32> {
    let scenarios: Vec<_> = plan.scenarios.iter().filter(|(at, _)| *at == topology).map(|(_, name)| name).collect();
    if scenarios.is_empty() {
        return Ok(0);
    }
    let mut command = in_long_turns();
    command.arg(std::env::current_exe().context("cannot find our own executable")?);
    privilege::prepared(&mut command).args(["lab", "run", "--json", "--proxy", "nginx"]);
    status(command.args(["--topology", &topology.to_string()]).args(scenarios)).context("cannot run the lab")
}

/// What this runs, with all that it starts, waits for its turn (`SCHED_BATCH`, sched(7)). Calls take longer here than a turn does, and
/// from 7.0 on a thread that wakes can take the processor from another one within a program on a tracepoint, which then does not run
/// for what the former does: ever so rare where calls take microseconds.
fn in_turn() -> Command {
    as_scheduled(["--batch", "0"])
}

/// The same with turns of a tenth of a second, which nothing but the kernel's own threads interrupts (`SCHED_RR`): the clock, too, can end
/// a turn within a program. Only for what waits more than it works; of the tests some would keep others from their turns.
fn in_long_turns() -> Command {
    as_scheduled(["--rr", "1"])
}

fn as_scheduled(policy: [&str; 2]) -> Command {
    let mut command = Command::new("chrt");
    command.args(policy);
    command
}

/// Runs it to its end. What it and the programs that it starts have to say on stderr goes to the console: the report has results
/// alone.
fn status(command: &mut Command) -> Result<i32> {
    command.envs(ENVIRONMENT).env("PATH", PROGRAMS).stdin(Stdio::null()).stdout(report()?);
    Ok(command.status()?.code().unwrap_or(UNREADY))
}

/// All in the folder, in the order of their names.
fn load_modules() -> Result<()> {
    let folder = fs::read_dir(MODULES).context("cannot read the modules' folder")?;
    let mut files = folder.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    for path in files {
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        finit_module(file, &CString::default(), ModuleInitFlags::empty())
            .with_context(|| format!("cannot load {}", path.display()))?;
    }
    Ok(())
}

fn report() -> Result<File> {
    OpenOptions::new().write(true).open(REPORT).with_context(|| format!("cannot open {REPORT}"))
}

/// Written out before the power goes.
fn tell(status: i32) -> Result<()> {
    let mut port = report()?;
    writeln!(port, "\n{EXIT}{status}")?;
    tcdrain(&port).context("cannot wait for the serial port")
}
