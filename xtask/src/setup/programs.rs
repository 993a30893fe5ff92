//! The programs that the lab stages incidents with.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;

use super::{debian, say};
use crate::{paths, privilege, shell};

/// Program, and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("gunicorn", "gunicorn"),
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("wrk", "wrk"),
];

pub(super) fn bring() -> Result<bool> {
    let missing = NEEDED.iter().filter(|(program, _)| paths::program(program).is_none());
    let mut packages: Vec<_> = missing.map(|&(_, package)| package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(false);
    }
    let served_before = nginx_runs();
    debian::install(&packages)?;
    if !served_before && nginx_runs() {
        say("the nginx package started a service; stopping it, the lab runs its own nginx in its own namespaces");
        stop_service()?;
    }
    Ok(true)
}

fn nginx_runs() -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes
        .filter_map(Result::ok)
        .any(|process| fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim() == "nginx"))
}

fn stop_service() -> Result<()> {
    let mut command = if Path::new("/run/systemd/system").is_dir() {
        let mut systemctl = privilege::command("systemctl");
        systemctl.args(["--quiet", "disable", "--now", "nginx"]);
        systemctl
    } else {
        let mut service = privilege::command("service");
        service.args(["nginx", "stop"]);
        service
    };
    shell::run(command.stdout(Stdio::null()))
}
