//! The commands that backends are started with.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::address::Address;
use super::netns::Netns;
use super::scenario::{Backend, BackendKind};
use crate::{paths, shell};

/// Longer than any service time of the lab.
const PATIENCE: u32 = 120;

/// None: nobody listens.
pub(super) fn command(backend: &Backend, netns: &Netns, address: &Address, folder: &Path) -> Result<Option<Command>> {
    let mut command = match backend.kind {
        BackendKind::None => return Ok(None),
        BackendKind::Raw => raw(backend, netns, address)?,
        BackendKind::Gunicorn => gunicorn(backend, netns, address, folder)?,
    };
    if let Some(backlog) = backend.backlog {
        command.args(["--backlog", &backlog.to_string()]);
    }
    Ok(Some(command))
}

/// How many processes called gunicorn there are when it has started.
pub(super) fn processes(backend: &Backend) -> usize {
    match backend.kind {
        BackendKind::Gunicorn => backend.workers + 1,
        BackendKind::Raw | BackendKind::None => 0,
    }
}

fn raw(backend: &Backend, netns: &Netns, address: &Address) -> Result<Command> {
    let ourselves = std::env::current_exe().context("cannot find our own executable")?;
    let mut command = netns.command(ourselves);
    command.args(["lab-backend", "--listen", &address.to_string()]);
    if let Some(idle) = backend.idle {
        command.args(["--idle", &idle.to_string()]);
    }
    Ok(command)
}

fn gunicorn(backend: &Backend, netns: &Netns, address: &Address, folder: &Path) -> Result<Command> {
    let program = paths::program("gunicorn").context("gunicorn is not installed")?;
    let mut command = netns.command(program);
    command
        .args(["--bind", &address.to_string(), "--workers", &backend.workers.to_string()])
        .args(["--timeout", &backend.timeout.unwrap_or(PATIENCE).to_string(), "--worker-tmp-dir", "/dev/shm"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(paths::lab_definitions());
    if backend.tls {
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        certify(&key, &certificate)?;
        command.arg("--keyfile").arg(key).arg("--certfile").arg(certificate);
    }
    command.arg("app:app");
    Ok(command)
}

/// A certificate that nobody need trust.
fn certify(key: &Path, certificate: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=lab", "-keyout"]).arg(key).arg("-out").arg(certificate);
    shell::output(&mut openssl)?;
    fs::metadata(certificate).context("openssl wrote no certificate").map(drop)
}
