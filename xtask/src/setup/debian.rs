//! Debian's packages.

use std::process::{Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result, bail};

use super::say;
use crate::{paths, privilege, shell};

static UPDATED: Once = Once::new();

/// Installs what is missing; the package lists are refreshed once per run of ours, and only when needed.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    install_with(&[], packages)
}

/// As `install`, where nothing that is there may go: a newer part of the same software may be installed already, from
/// backports, and then the rest must come from there too.
pub(super) fn install_keeping(packages: &[&str]) -> Result<()> {
    install_with(&["--no-remove"], packages).with_context(|| {
        format!(
            "cannot install {list}, or not without removing something else. Where a newer part comes from Debian's backports, \
             enable them and take all from there: apt-get install -t $(lsb_release -cs)-backports {list}",
            list = packages.join(" ")
        )
    })
}

fn install_with(options: &[&str], packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if paths::program("apt-get").is_none() {
        bail!(
            "needed, in Debian's package names: {list}. This system has no apt-get: install their equivalents and try again"
        );
    }
    let mut updated = Ok(());
    UPDATED.call_once(|| {
        say("refreshing the package lists (apt-get update)");
        updated = shell::run(apt_get().args(["-qq", "update"]));
    });
    updated?;
    say(&format!("installing Debian packages: {list}"));
    shell::run(apt_get().args(["-qq", "-y", "--no-install-recommends", "install"]).args(options).args(packages))
}

fn apt_get() -> Command {
    let mut command = privilege::command("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}
