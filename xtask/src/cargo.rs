//! The cargo that builds the workspace from within.

use std::env;
use std::process::Command;

use crate::paths;

/// What is compiled, and how: the same wherever all is, so that it is compiled once. observer-ebpf compiles for the BPF target
/// only; observer's build script does that.
pub(crate) const EVERYTHING: [&str; 4] = ["--release", "--workspace", "--exclude", "observer-ebpf"];

/// Fixed to the workspace's target folder, see `paths::target`.
pub(crate) fn command(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(paths::workspace()).env("CARGO_TARGET_DIR", paths::target());
    command
}
