//! The reverse proxies that are staged: how each is configured, started, and how it writes down what it answered.

mod apache;
mod caddy;
mod haproxy;
mod nginx;
mod syslog;

use std::fmt;
use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

pub(super) use self::syslog::Syslog;

use super::access_log::Line;
use super::address::Address;
use super::netns::Netns;
use super::scenario::{Nginx, Timeouts};
use crate::paths;

/// Where clients reach it, within its namespace.
pub(crate) const FRONT: &str = "127.0.0.1:8080";
pub(super) const FRONT_PORT: u16 = 8080;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Apache,
    Caddy,
}

/// What a configuration is made of.
pub(super) struct Setup<'a> {
    pub(super) folder: &'a Path,
    pub(super) upstream: &'a Address,
    /// Further servers, where nobody listens.
    pub(super) dead: &'a [SocketAddrV4],
    pub(super) timeouts: &'a Timeouts,
    /// What is nginx's only.
    pub(super) nginx: &'a Nginx,
}

impl Kind {
    /// Its program, which its processes are called by too.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Apache => "apache2",
            Self::Caddy => "caddy",
        }
    }

    /// The answers by which it says that the upstream failed; the same event has another status with another proxy.
    pub(super) fn failures(self) -> &'static [&'static str] {
        match self {
            Self::Nginx | Self::Caddy => &["502", "504"],
            Self::Haproxy | Self::Apache => &["502", "503", "504"],
        }
    }

    /// Whether observer reads its log.
    pub(super) fn has_log(self) -> bool {
        matches!(self, Self::Nginx | Self::Haproxy)
    }

    /// How many processes there are when it has started.
    pub(super) fn processes(self, nginx: &Nginx) -> usize {
        match self {
            Self::Nginx => nginx.workers + 1,
            Self::Haproxy | Self::Caddy => 1,
            Self::Apache => 2,
        }
    }

    /// Takes in the log of those that do not write a file by themselves.
    pub(super) fn collect(self, log: &Path, netns: &Netns) -> Result<Option<Syslog>> {
        match self {
            Self::Haproxy => Syslog::open(log, netns).map(Some),
            Self::Nginx | Self::Apache | Self::Caddy => Ok(None),
        }
    }

    /// Writes its configuration, and says how to start it: in the foreground, all its processes in one group.
    pub(super) fn command(self, netns: &Netns, setup: &Setup) -> Result<Command> {
        let configuration = setup.folder.join("proxy.conf");
        let text = match self {
            Self::Nginx => nginx::configuration(setup),
            Self::Haproxy => haproxy::configuration(setup),
            Self::Apache => apache::configuration(setup),
            Self::Caddy => caddy::configuration(setup),
        };
        fs::write(&configuration, text).with_context(|| format!("cannot write {}", configuration.display()))?;
        let program = paths::program(self.program()).with_context(|| format!("{} is not installed", self.program()))?;
        let mut command = netns.command(program);
        match self {
            Self::Nginx => command.arg("-c").arg(&configuration).arg("-e").arg(setup.folder.join("error.log")),
            Self::Haproxy => command.arg("-db").arg("-f").arg(&configuration),
            Self::Apache => command.arg("-DFOREGROUND").arg("-f").arg(&configuration),
            Self::Caddy => command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(&configuration)
                .env("XDG_DATA_HOME", setup.folder)
                .env("XDG_CONFIG_HOME", setup.folder),
        };
        Ok(command)
    }

    /// None: a line that is not about a request.
    pub(super) fn parse(self, line: &str) -> Result<Option<Line>> {
        match self {
            Self::Nginx | Self::Apache => Line::parse(line).map(Some),
            Self::Haproxy => haproxy::parse(line),
            Self::Caddy => caddy::parse(line).map(Some),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.program())
    }
}
