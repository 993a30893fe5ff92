//! bpf-linker, under the target folder rather than in the user's home.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{debian, say};
use crate::{cargo, paths, shell};

const VERSION: &str = "0.13.0";
/// It reads the bitcode that rustc writes, so it must be built for the LLVM of the compiler that `rust` picks.
pub(super) const LLVM: u32 = 22;

pub(super) fn bring() -> Result<bool> {
    let binary = paths::tools().join("bin/bpf-linker");
    if works(&binary) {
        return Ok(false);
    }
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let llvm = format!("llvm-{LLVM}-dev");
    if !Path::new(&prefix).join("bin/llvm-config").exists()
        || !Path::new("/usr/include/zstd.h").exists()
        || !Path::new("/usr/include/zlib.h").exists()
    {
        debian::install(&[&llvm, "libzstd-dev", "zlib1g-dev"])?;
    }
    say(&format!("building bpf-linker {VERSION} for LLVM {LLVM} (a minute or two)"));
    let mut install = cargo::command("install");
    install
        .args(["bpf-linker", "--quiet", "--locked", "--force", "--version", VERSION])
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")])
        .arg("--root")
        .arg(paths::tools())
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_TARGET_DIR", paths::tools().join("build"));
    shell::run(&mut install).context("bpf-linker links the eBPF programs and could not be built")?;
    // A hundred megabytes that nothing reads again.
    let _ = std::fs::remove_dir_all(paths::tools().join("build"));
    Ok(true)
}

/// Also false when the LLVM library that it was linked with has gone.
fn works(binary: &Path) -> bool {
    shell::output(Command::new(binary).arg("--version")).is_ok_and(|text| text.contains(VERSION))
}
