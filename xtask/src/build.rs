//! `cargo xtask build`.

use anyhow::Result;

use crate::{cargo, setup, shell};

/// One profile for the lab, the demo and the tests, so that dependencies are compiled once.
pub(crate) fn run() -> Result<()> {
    setup::toolchain()?;
    shell::run(cargo::command("build").args(["--release", "--package", "observer"]))
}
