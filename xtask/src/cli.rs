//! The command line, and nothing else: parsing never does anything.

use clap::{Parser, Subcommand};

use crate::{bench, bench_sockets, demo, lab, lab_backend, lab_load, lab_probe, run, vm};

/// The project's own commands.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_version_flag = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Bring the eBPF toolchain and the lab's programs; a second run does nothing
    Setup,
    /// Build observer (release profile, target/release/observer)
    Build,
    /// Build observer and run it with the arguments given
    Run(run::Args),
    /// Stage an incident behind nginx and watch observer explain it
    Demo(demo::Args),
    /// Stage failures with known causes and compare observer's verdicts with the proxy's access log
    Lab(lab::Args),
    /// Read a recording and its exports with pyarrow, polars and DuckDB, and compare with what observer says
    Interop,
    /// Everything: setup, formatting, lints, tests with real eBPF, lab, other kernels, other tools
    Test,
    /// Measure what observing costs, and how fast observer is
    Bench(bench::Args),
    /// Run the kernel tests and a core of the lab inside other kernels, in virtual machines
    Vm(vm::Args),
    /// Bare connections, for `bench`
    #[command(hide = true)]
    BenchSockets(bench_sockets::Args),
    /// The lab's raw HTTP backend
    #[command(hide = true)]
    LabBackend(lab_backend::Args),
    /// The lab's load generator
    #[command(hide = true)]
    LabLoad(lab_load::Args),
    /// The lab's bare connections
    #[command(hide = true)]
    LabProbe(lab_probe::Args),
    /// The first process of a virtual machine
    #[command(hide = true)]
    VmGuest,
}
