//! The guest's first process: makes a small system of the initramfs, runs the tests, says how they ended, switches off.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::tcdrain;

use super::results::EXIT;
use super::{MODULES, TESTS};

/// The second serial port: nothing but the tests writes there.
const REPORT: &str = "/dev/ttyS1";
/// What is mounted, and where: as a Debian system has it.
const MOUNTS: [(&str, &str); 7] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
];
/// The status that stands for a guest that could not be set up.
const UNREADY: i32 = 125;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to the tests
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Does not return: the first process must not end.
pub(crate) fn run(args: &Args) -> Result<()> {
    if std::process::id() != 1 {
        bail!("this is for the first process of a virtual machine: `cargo xtask vm` runs it there");
    }
    let status = tests(args).unwrap_or_else(|error| {
        eprintln!("vm-guest: {error:#}");
        UNREADY
    });
    if let Err(error) = tell(status) {
        eprintln!("vm-guest: {error:#}");
    }
    reboot(RebootMode::RB_POWER_OFF).context("cannot switch off")?;
    Ok(())
}

fn tests(args: &Args) -> Result<i32> {
    for (kind, at) in MOUNTS {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} at {at}"))?;
    }
    load_modules()?;
    // What programs that the tests start have to say goes to the console: the report is libtest's alone.
    let status = Command::new(TESTS)
        .arg("--test-threads=1")
        .args(&args.arguments)
        .env("PATH", "/usr/bin")
        .env("RUST_BACKTRACE", "0")
        // Tests may do to this machine what they would to no other.
        .env("OBSERVER_OWN_MACHINE", "1")
        .stdin(Stdio::null())
        .stdout(report()?)
        .status()
        .context("cannot run the tests")?;
    Ok(status.code().unwrap_or(UNREADY))
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
