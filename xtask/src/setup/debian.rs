//! Debian's packages.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result, bail};

use super::say;
use crate::mirrors::Mirrors;
use crate::{paths, privilege, shell};

static UPDATED: Once = Once::new();

/// Installs what is missing; the package lists are refreshed once per run of ours, and only when needed.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    install_with(&[], packages)
}

/// As `install`, where nothing that is there may go: a newer part of the same software may be installed already, from Debian's
/// backports, and then the rest must come from there too. They are asked through lists of their own in `lists`, a folder: the
/// machine's sources stay as they are.
pub(super) fn install_keeping(packages: &[&str], lists: &Path) -> Result<()> {
    let Err(error) = install_with(&["--no-remove"], packages) else {
        return Ok(());
    };
    say(&format!("not possible: {error:#}"));
    let manually = || {
        format!(
            "cannot install {0} without removing something else. Install them by hand, all from where the newer part came from, \
             such as Debian's backports: apt-get install -t RELEASE-backports {0}",
            packages.join(" ")
        )
    };
    from_backports(packages, lists).with_context(manually)
}

fn from_backports(packages: &[&str], lists: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).context("no Debian release")?;
    let (backports, mirrors) = (format!("{name}-backports"), Mirrors::own());
    let sources = lists.join("sources");
    for folder in [&sources, &lists.join("lists/partial")] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let suites = [mirrors.main(&format!("{name} {backports}")), mirrors.security(&format!("{name}-security"))];
    fs::write(sources.join("backports.sources"), suites.join("\n")).context("cannot write apt's sources")?;
    let apt_get = || {
        let mut command = apt_get();
        command.args(["-qq", "-o", "Dir::Etc::sourcelist=/dev/null"]);
        command.arg("-o").arg(format!("Dir::Etc::sourceparts={}", sources.display()));
        command.arg("-o").arg(format!("Dir::State::lists={}", lists.join("lists").display()));
        // The one that downloads must get into a folder of ours.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    };
    say(&format!("trying {backports}"));
    shell::run(apt_get().arg("update"))?;
    let options = ["-y", "--no-install-recommends", "--no-remove", "--target-release", &backports, "install"];
    shell::run(apt_get().args(options).args(packages))
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
