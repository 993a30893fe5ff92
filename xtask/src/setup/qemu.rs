//! QEMU, and what unpacks kernels, for `cargo xtask vm`.

use anyhow::Result;

use super::debian;
use crate::{paths, vm};

/// The machine itself and its firmware, no screens and no sound.
const PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
/// What Debian packs kernels and modules with: program and package.
const UNPACKERS: [(&str, &str); 3] = [("lz4", "lz4"), ("xz", "xz-utils"), ("zstd", "zstd")];

/// True when something had to be done.
pub(super) fn bring() -> Result<bool> {
    let missing = UNPACKERS.iter().filter(|(program, _)| paths::program(program).is_none());
    let unpackers: Vec<_> = missing.map(|&(_, package)| package).collect();
    if !unpackers.is_empty() {
        debian::install(&unpackers)?;
    }
    let there = paths::program(vm::QEMU).is_some();
    if !there {
        debian::install_keeping(&PACKAGES, &paths::machines().join("backports"))?;
    }
    Ok(!there || !unpackers.is_empty())
}
