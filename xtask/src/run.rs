//! `cargo xtask run -- ARGS`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Result, anyhow};

use crate::{build, paths, privilege};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed on to observer
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Replaces this process, so that observer gets the terminal and its signals directly.
pub(crate) fn run(args: &Args) -> Result<()> {
    build::run()?;
    let error = privilege::command(paths::observer()).args(&args.arguments).exec();
    Err(anyhow!(error).context("cannot start observer"))
}
