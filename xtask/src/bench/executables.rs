//! observer's own benchmarks, built as the user and run as root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{cargo, interrupt, paths, shell};

#[derive(Clone, Copy)]
pub(super) enum Bench {
    Programs,
    Trace,
}

impl Bench {
    const ALL: [Self; 2] = [Self::Programs, Self::Trace];

    fn name(self) -> &'static str {
        match self {
            Self::Programs => "programs",
            Self::Trace => "trace",
        }
    }

    /// A link: cargo has names of its own for them.
    fn path(self) -> PathBuf {
        folder().join(self.name())
    }

    /// Runs it with these arguments, and gives what it printed before its last line, and that.
    pub(super) fn run(self, arguments: &[&str]) -> Result<(String, Value)> {
        let output = shell::output(Command::new(self.path()).args(arguments));
        interrupt::check()?;
        let output = output?;
        let (text, last) = output.trim_end().rsplit_once('\n').context("it printed too little")?;
        let value = serde_json::from_str(last).with_context(|| format!("not JSON: {last}"))?;
        Ok((text.to_owned(), value))
    }
}

fn folder() -> PathBuf {
    paths::target().join("bench")
}

pub(super) fn build() -> Result<()> {
    let mut cargo = cargo::command("bench");
    cargo.args(["--no-run", "--quiet", "--package", "observer", "--message-format", "json"]);
    for bench in Bench::ALL {
        cargo.args(["--bench", bench.name()]);
    }
    let messages = shell::output(&mut cargo)?;
    fs::create_dir_all(folder()).context("cannot create target/bench")?;
    for bench in Bench::ALL {
        let built = messages.lines().find_map(|line| executable(line, bench.name()));
        let built = built.with_context(|| format!("cargo did not say where it built {}", bench.name()))?;
        let _ = fs::remove_file(bench.path());
        symlink(Path::new(&built), bench.path()).context("cannot link what cargo built")?;
    }
    Ok(())
}

/// From one of cargo's messages.
fn executable(line: &str, bench: &str) -> Option<String> {
    let message: Value = serde_json::from_str(line).ok()?;
    let ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == bench;
    ours.then(|| message["executable"].as_str().map(str::to_owned))?
}
