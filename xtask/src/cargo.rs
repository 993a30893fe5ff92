//! The cargo that builds the workspace from within.

use std::env;
use std::process::Command;

use crate::paths;

/// Fixed to the workspace's target folder, see `paths::target`.
pub(crate) fn command(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(paths::workspace()).env("CARGO_TARGET_DIR", paths::target());
    command
}
