//! `cargo xtask setup`, which every other command calls for what it needs.

mod debian;
mod linker;
mod programs;
mod python;
mod qemu;
mod rust;

use anyhow::Result;

pub(crate) use self::python::python;

pub(crate) fn run() -> Result<()> {
    let toolchain = toolchain()?;
    let lab = lab()?;
    let interop = interop()?;
    if toolchain || lab || interop {
        eprintln!("setup: done");
    } else {
        eprintln!("setup: nothing to do");
    }
    Ok(())
}

/// What building observer takes. True when something had to be done.
pub(crate) fn toolchain() -> Result<bool> {
    let linker = linker::bring()?;
    let rust = rust::bring()?;
    Ok(linker || rust)
}

/// What staging takes. True when something had to be done.
pub(crate) fn lab() -> Result<bool> {
    programs::bring()
}

/// What `cargo xtask vm` boots kernels with; not part of `setup`, which is for what everyone needs. True when something had
/// to be done.
pub(crate) fn machines() -> Result<bool> {
    qemu::bring()
}

/// Tools that `cargo xtask bench` measures beside observer, by Debian's package; what cannot be had is left out.
pub(crate) fn others(packages: &[&str]) {
    for package in packages {
        if let Err(error) = debian::install(&[package]) {
            say(&format!("without {package}: {error:#}"));
        }
    }
}

/// What other tools need to read recordings. True when something had to be done.
pub(crate) fn interop() -> Result<bool> {
    python::bring()
}

/// One line per step, on stderr: stdout belongs to whoever called us.
fn say(step: &str) {
    eprintln!("setup: {step}");
}
