//! The Python packages that read what observer writes, in a virtual environment of their own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{debian, say};
use crate::{paths, shell};

/// The environment's own Python.
pub(crate) fn python() -> PathBuf {
    environment().join("bin/python")
}

fn environment() -> PathBuf {
    paths::tools().join("python")
}

/// True when something had to be done.
pub(super) fn bring() -> Result<bool> {
    let wanted = paths::interop().join("requirements.txt");
    let wanted_text = fs::read_to_string(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    // Written last, so that an interrupted installation is begun again.
    let installed = environment().join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted_text) {
        return Ok(false);
    }
    if !can_make_environments() {
        debian::install(&["python3-venv"])?;
    }
    say(&format!("installing Python packages: {}", wanted_text.split_whitespace().collect::<Vec<_>>().join(" ")));
    shell::run(system_python().args(["-m", "venv", "--clear"]).arg(environment()))?;
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--requirement"]).arg(&wanted);
    shell::run(pip.stdin(Stdio::null()))?;
    fs::copy(&wanted, &installed).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(true)
}

/// Debian keeps what that takes in a package of its own.
fn can_make_environments() -> bool {
    let mut command = system_python();
    command.args(["-c", "import ensurepip, venv"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn system_python() -> Command {
    Command::new(paths::program("python3").unwrap_or_else(|| "python3".into()))
}
