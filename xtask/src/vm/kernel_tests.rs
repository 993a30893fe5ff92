//! The kernel tests as a program, the very one that `cargo xtask test` runs on this machine, and observer as it is built with it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cargo;

const TEST: &str = "kernel";
const OBSERVER: &str = "observer";

/// Paths of programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Built {
    pub(super) tests: PathBuf,
    pub(super) observer: PathBuf,
}

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

/// cargo builds a package's programs for its tests.
pub(super) fn build() -> Result<Built> {
    let mut command = cargo::command("test");
    command.args(cargo::EVERYTHING);
    command.args(["--test", TEST, "--no-run", "--message-format=json-render-diagnostics"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
    let (mut tests, mut observer) = (None, None);
    for line in BufReader::new(child.stdout.take().context("no stdout of cargo test")?).lines() {
        let line = line.context("cannot read what cargo says")?;
        tests = executable(TEST, &line).or(tests);
        observer = executable(OBSERVER, &line).or(observer);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() {
        bail!("the kernel tests cannot be built: {status}");
    }
    let tests = tests.context("cargo built no kernel tests")?;
    Ok(Built { tests, observer: observer.context("cargo built no observer with the tests")? })
}

fn executable(name: &str, line: &str) -> Option<PathBuf> {
    let message: Message = serde_json::from_str(line).ok()?;
    message.executable.filter(|_| message.target.is_some_and(|target| target.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_told_from_what_else_cargo_builds() {
        let line = |name: &str| format!(r#"{{"target":{{"name":"{name}"}},"executable":"/t/{name}-1"}}"#);
        assert_eq!(executable(TEST, &line("kernel")), Some("/t/kernel-1".into()));
        assert_eq!(executable(TEST, &line("observer")), None);
        assert_eq!(executable(TEST, r#"{"reason":"build-finished","success":true}"#), None);
    }
}
