//! The programs that the lab stages incidents with, and those that tests are about.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::Result;

use super::{debian, say};
use crate::{paths, privilege, shell};

/// Program, and the Debian package that brings it.
const NEEDED: &[(&str, &str)] = &[
    ("apache2", "apache2-bin"),
    ("caddy", "caddy"),
    ("gunicorn", "gunicorn"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("puma", "puma"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("uwsgi_python3", "uwsgi-plugin-python3"),
    ("wrk", "wrk"),
];

/// What some of these packages start, by the name of program and service.
const SERVICES: &[&str] = &["caddy", "haproxy", "nginx"];

pub(super) fn bring() -> Result<bool> {
    let missing = NEEDED.iter().filter(|(program, _)| paths::program(program).is_none());
    let mut packages: Vec<_> = missing.map(|&(_, package)| package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(false);
    }
    let before: Vec<_> = SERVICES.iter().filter(|service| runs(service)).collect();
    debian::install(&packages)?;
    for service in SERVICES {
        if !before.contains(&service) && runs(service) {
            say(&format!(
                "the package of {service} started a service; stopping it, the lab runs its own in namespaces"
            ));
            stop(service)?;
        }
    }
    Ok(true)
}

fn runs(program: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes
        .filter_map(Result::ok)
        .any(|process| fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim() == program))
}

fn stop(service: &str) -> Result<()> {
    let mut command = if Path::new("/run/systemd/system").is_dir() {
        let mut systemctl = privilege::command("systemctl");
        systemctl.args(["--quiet", "disable", "--now", service]);
        systemctl
    } else {
        let mut stop = privilege::command("service");
        stop.args([service, "stop"]);
        stop
    };
    shell::run(command.stdout(Stdio::null()))
}
