//! `cargo xtask test`: everything there is to check, in order of how soon it can fail.

use std::io::{BufRead, BufReader, IsTerminal, stdout};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{build, cargo, interop, interrupt, lab, privilege, setup, shell, vm};

/// Stops at the first step that fails. The runners' closing lines come once more at the end, where they are looked for.
pub(crate) fn run() -> Result<()> {
    heading("setup");
    setup::run()?;
    setup::machines()?;

    heading("format");
    shell::run(cargo::command("fmt").args(["--all", "--check"]))?;

    heading("lints");
    shell::run(colour(&mut cargo::command("clippy")).args(cargo::EVERYTHING).args([
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;

    heading("tests, with real eBPF");
    let results = tests()?;

    heading("lab");
    build::run()?;
    let tally = staged()?;
    let cured = cured()?;

    heading("other kernels");
    let kernels = vm::run_required()?;

    heading("other tools");
    interop::run()?;

    heading("passed");
    for result in results {
        println!("{result}");
    }
    println!("{tally}");
    println!("cured: {cured}");
    for kernel in kernels {
        println!("{kernel}");
    }
    Ok(())
}

fn heading(step: &str) {
    println!("\n== {step} ==");
}

/// Our own stdout decides: cargo may be writing to a pipe of ours.
fn colour(command: &mut Command) -> &mut Command {
    let when = if stdout().is_terminal() { "always" } else { "never" };
    command.env("CARGO_TERM_COLOR", when)
}

/// Runs the unit and integration tests, output passed through; returns the closing lines.
fn tests() -> Result<Vec<String>> {
    let mut command = cargo::command("test");
    colour(&mut command).args(cargo::EVERYTHING);
    if !privilege::is_root() {
        // cargo stays with the user; only the test programs, which load eBPF, run as root.
        command.args(["--config", "target.'cfg(unix)'.runner = ['sudo', '--']"]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut results = Vec::new();
    for line in BufReader::new(child.stdout.take().context("no stdout of cargo test")?).lines() {
        let line = line.context("cannot read what cargo test says")?;
        println!("{line}");
        if line.starts_with("test result:") {
            results.push(line);
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() {
        bail!("tests failed: {status}");
    }
    Ok(results)
}

/// Those that observer's advice ends; returns the closing line.
fn cured() -> Result<String> {
    if privilege::is_root() {
        let tally = lab::cure_all()?;
        if tally.failed > 0 {
            bail!("{tally} by what observer advises");
        }
        return Ok(tally.to_string());
    }
    interrupt::listen()?;
    shell::run(&mut privilege::ourselves(["lab", "cure"].map(Into::into))?)?;
    Ok("all".to_owned())
}

/// Every scenario that is not slow; returns the closing line.
fn staged() -> Result<String> {
    if privilege::is_root() {
        let tally = lab::run_quick()?;
        if tally.failed > 0 {
            bail!("{tally} in the lab");
        }
        return Ok(tally.to_string());
    }
    interrupt::listen()?;
    shell::run(&mut privilege::ourselves(["lab", "run", "--quick"].map(Into::into))?)?;
    Ok("lab passed".to_owned())
}
