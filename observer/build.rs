//! Builds the kernel programs with the toolchain that `cargo xtask setup` chose.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().context("observer lies in a workspace")?;
    let tools = workspace.join("target/tools");
    let choice = tools.join("ebpf-toolchain");
    println!("cargo:rerun-if-changed={}", choice.display());
    println!("cargo:rerun-if-changed=../observer-common/src");

    let Ok(toolchain) = std::fs::read_to_string(&choice) else {
        bail!(
            "the eBPF toolchain is not set up: run `cargo xtask setup` (it installs bpf-linker and a Rust that can \
             build for the bpfel-unknown-none target)"
        );
    };
    let toolchain = toolchain.trim();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(tools.join("bin")).chain(env::split_paths(&path)))?;
    // SAFETY: the build script has one thread.
    unsafe {
        env::set_var("PATH", path);
        // The inner cargo's progress would come out as warnings of this package.
        env::set_var("CARGO_TERM_QUIET", "true");
        if toolchain != "nightly" {
            // A stable compiler with a prebuilt core: aya's crates and ours (assembly) use unstable features. Named, because "1" would
            // make aya-build ask for build-std.
            env::set_var("RUSTC_BOOTSTRAP", "aya_ebpf,aya_log_ebpf,observer");
        }
    }
    let root = workspace.join("observer-ebpf");
    let package = Package {
        name: "observer-ebpf",
        root_dir: root.to_str().context("the checkout's path must be UTF-8")?,
        ..Package::default()
    };
    let toolchain = if toolchain == "nightly" { Toolchain::Nightly } else { Toolchain::Custom(toolchain) };
    aya_build::build_ebpf([package], toolchain)
        .context("building the kernel programs; `cargo xtask setup` repairs a toolchain that has gone missing")
}
