//! Root where it is needed, and only there: building stays with the user, so that the target folder does too.

use std::env;
use std::ffi::{OsStr, OsString};
use std::process::Command;

use anyhow::{Context, Result};

/// Set for copies of ourselves, sudo's and a guest's: what needs no root has been done before.
const PREPARED: &str = "OBSERVER_XTASK_PREPARED";

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub(crate) fn is_prepared() -> bool {
    env::var_os(PREPARED).is_some()
}

/// The program as root: directly, or by way of sudo.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    command
}

/// Tells a copy of ourselves that what it needs has been done.
pub(crate) fn prepared(command: &mut Command) -> &mut Command {
    command.env(PREPARED, "1")
}

/// This xtask once more, as root, with these arguments.
pub(crate) fn ourselves(arguments: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let own = env::current_exe().context("cannot find our own executable")?;
    let mut command = Command::new("sudo");
    command.arg("--").arg("env").arg(format!("{PREPARED}=1")).arg(own).args(arguments);
    Ok(command)
}
