//! `cargo xtask interop`: other tools read what observer writes, and find in it what observer finds.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{build, paths, setup, shell};

/// A recording of a staged incident with several causes.
const RECORDING: &str = "observer/tests/traces/v1-mixed.arrows.zst";
const FORMATS: [&str; 3] = ["parquet", "jsonl", "csv"];

pub(crate) fn run() -> Result<()> {
    setup::interop()?;
    build::run()?;
    check()
}

/// With everything in place.
fn check() -> Result<()> {
    let folder = paths::target().join("interop");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let recording = paths::workspace().join(RECORDING);
    for format in FORMATS {
        let out = folder.join("trace").with_added_extension(format);
        let mut export = Command::new(paths::observer());
        export.arg("export").arg(&recording).args(["--format", format, "--force", "--output"]).arg(out);
        shell::run(&mut export)?;
    }
    say(&recording, &["trace", "info", "--format", "json"], &folder.join("info.json"))?;
    say(&recording, &["watch", "--format", "json", "--from-trace"], &folder.join("watch.jsonl"))?;
    shell::run(Command::new(setup::python()).arg(paths::interop().join("check.py")).arg(recording).arg(folder))
}

/// Keeps what observer prints about the recording.
fn say(recording: &Path, arguments: &[&str], into: &Path) -> Result<()> {
    let file = File::create(into).with_context(|| format!("cannot create {}", into.display()))?;
    let mut command = Command::new(paths::observer());
    command.args(arguments).arg(recording).stdin(Stdio::null()).stdout(file);
    let status = command.status().context("cannot run observer")?;
    if !status.success() {
        bail!("observer {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}
