//! Where things are. The workspace is where this crate was compiled, so the commands work from any directory.

use std::env;
use std::path::{Path, PathBuf};

pub(crate) fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Always the workspace's own folder, whatever `CARGO_TARGET_DIR` says: observer's build script and the lab meet there.
pub(crate) fn target() -> PathBuf {
    workspace().join("target")
}

pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

pub(crate) fn observer() -> PathBuf {
    target().join("release/observer")
}

/// Scenario definitions and what their backends run.
pub(crate) fn lab_definitions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

/// What checks that other tools read recordings.
pub(crate) fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// Logs of each lab run, kept for looking at.
pub(crate) fn lab_runs() -> PathBuf {
    target().join("lab")
}

/// Kernels, machines and their logs, of `cargo xtask vm`.
pub(crate) fn machines() -> PathBuf {
    target().join("vm")
}

/// The system's copy of a program: its own folders before PATH, which may put shims of language version managers first,
/// and which lacks the sbin folders for an ordinary user.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    system
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}
