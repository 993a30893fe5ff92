//! QEMU, for `cargo xtask vm`.

use anyhow::Result;

use super::debian;
use crate::{paths, vm};

/// The machine itself and its firmware, no screens and no sound.
const PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

/// True when something had to be done.
pub(super) fn bring() -> Result<bool> {
    if paths::program(vm::QEMU).is_some() {
        return Ok(false);
    }
    debian::install_keeping(&PACKAGES)?;
    Ok(true)
}
