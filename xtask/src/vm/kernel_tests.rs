//! The kernel tests as a program that needs nothing of the guest: linked statically.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cargo, paths, shell};

/// Named, so that the flags below do not reach build scripts and procedural macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: (&str, &str) = ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
const TEST: &str = "kernel";
/// Crates that read the kernel's type information and prepare the programs, each time that a test attaches: without
/// optimisation that alone takes ten seconds in an emulated machine.
const OPTIMISED: [&str; 4] = ["aya", "aya-obj", "btf", "object"];

/// What cargo says of each thing that it has built (`--message-format=json`), as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds the tests and gives the path of a copy without debugging information, which would fill the guest's memory.
pub(super) fn build() -> Result<PathBuf> {
    let mut command = cargo::command("test");
    command
        .args(["--package", "observer", "--test", TEST, "--no-run", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .env(FLAGS.0, FLAGS.1);
    for name in OPTIMISED {
        command.arg("--config").arg(format!("profile.dev.package.{name}.opt-level=3"));
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let mut built = None;
    for line in BufReader::new(child.stdout.take().context("no stdout of cargo test")?).lines() {
        built = executable(&line.context("cannot read what cargo says")?).or(built);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() {
        bail!("the kernel tests cannot be built: {status}");
    }
    strip(&built.context("cargo built no kernel tests")?)
}

fn executable(line: &str) -> Option<PathBuf> {
    let message: Message = serde_json::from_str(line).ok()?;
    message.executable.filter(|_| message.target.is_some_and(|target| target.name == TEST))
}

fn strip(program: &PathBuf) -> Result<PathBuf> {
    let stripped = paths::machines().join("kernel-tests");
    std::fs::create_dir_all(paths::machines()).context("cannot create target/vm")?;
    shell::output(Command::new("strip").arg("--strip-debug").arg("-o").arg(&stripped).arg(program))
        .context("the tests cannot be made small (strip is in binutils)")?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_told_from_what_else_cargo_builds() {
        let line = |name: &str| format!(r#"{{"target":{{"name":"{name}"}},"executable":"/t/{name}-1"}}"#);
        assert_eq!(executable(&line("kernel")), Some("/t/kernel-1".into()));
        assert_eq!(executable(&line("observer")), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
