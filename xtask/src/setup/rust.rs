//! The compiler for the eBPF crate: rustup's nightly, which compiles `core` itself, or else Debian's rustc-web, which
//! brings a compiled one for the BPF target. The choice is written down for observer's build script.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::linker::LLVM;
use super::{debian, say};
use crate::{paths, shell};

const NIGHTLY: &str = "nightly";
/// The name under which rustup knows Debian's.
const DEBIAN: &str = "observer-ebpf";
/// rustup's server may be out of reach, and then must not hold up what works without it.
const PATIENCE: Duration = Duration::from_mins(3);

pub(super) fn bring() -> Result<bool> {
    let record = paths::tools().join("ebpf-toolchain");
    let chosen = fs::read_to_string(&record).unwrap_or_default();
    if usable(chosen.trim()) {
        return Ok(false);
    }
    if paths::program("rustup").is_none() {
        bail!("rustup is needed to choose the compiler of the eBPF programs: install it and try again");
    }
    let name = if nightly() {
        NIGHTLY
    } else {
        debian_rustc()?;
        DEBIAN
    };
    fs::create_dir_all(paths::tools()).context("cannot create target/tools")?;
    fs::write(&record, name).with_context(|| format!("cannot write {}", record.display()))?;
    say(&format!("the eBPF programs will be compiled with the toolchain `{name}`"));
    Ok(true)
}

fn usable(name: &str) -> bool {
    match name {
        NIGHTLY => llvm_of(NIGHTLY) == Some(LLVM) && has_source(),
        DEBIAN => llvm_of(DEBIAN) == Some(LLVM) && Path::new("/usr/lib/rustlib/bpfel-unknown-none").is_dir(),
        _ => false,
    }
}

fn nightly() -> bool {
    if usable(NIGHTLY) {
        return true;
    }
    let mut rustup = Command::new("rustup");
    if llvm_of(NIGHTLY).is_some() {
        say("adding rust-src to the nightly toolchain");
        rustup.args(["component", "add", "rust-src", "--toolchain", NIGHTLY]);
    } else {
        say("installing the nightly toolchain with rust-src");
        rustup.args(["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"]);
    }
    if let Err(error) = shell::output_within(&mut rustup, PATIENCE) {
        say(&format!("not possible: {error:#}"));
        return false;
    }
    if let Some(version) = llvm_of(NIGHTLY).filter(|&version| version != LLVM) {
        say(&format!("not usable: nightly has LLVM {version}, bpf-linker {LLVM}"));
    }
    usable(NIGHTLY)
}

fn debian_rustc() -> Result<()> {
    debian::install(&["rustc-web", "libstd-rust-web-dev-bpf"])?;
    say(&format!("linking Debian's rustc as the toolchain `{DEBIAN}`"));
    shell::output(Command::new("rustup").args(["toolchain", "link", DEBIAN, "/usr"]))?;
    if !usable(DEBIAN) {
        bail!(
            "no compiler for the eBPF programs: needs either `rustup component add rust-src --toolchain nightly` with a \
             nightly on LLVM {LLVM}, or Debian's rustc-web and libstd-rust-web-dev-bpf"
        );
    }
    Ok(())
}

/// None when rustup has no such toolchain.
fn llvm_of(toolchain: &str) -> Option<u32> {
    let text = rustc(toolchain, &["-vV"])?;
    let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn has_source() -> bool {
    rustc(NIGHTLY, &["--print", "sysroot"])
        .is_some_and(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library/core").is_dir())
}

fn rustc(toolchain: &str, arguments: &[&str]) -> Option<String> {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", toolchain, "rustc"]).args(arguments);
    shell::output(rustup.env("RUSTUP_AUTO_INSTALL", "0")).ok()
}
