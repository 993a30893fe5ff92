//! nginx before nginx in a network namespace, for wrk to load. Dropping it leaves nothing behind.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::cost;
use crate::bench_sockets::OVERFLOW_PORT;
use crate::lab::{Netns, RunFolder};
use crate::{paths, shell, wait};

const START: Duration = Duration::from_secs(15);
const FRONT: u16 = 8080;
/// What is asked for.
pub(super) const URL: &str = "http://127.0.0.1:8080/";
const BACK: u16 = 9000;
/// Addresses of the upstream: each has the ports of the namespace to itself.
const UPSTREAMS: u8 = 4;
/// Connections a second to a listener that is full.
const OVERFLOWS: &str = "2000";

/// How the traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Traffic {
    /// A connection of the client and one to the upstream for each request.
    Short,
    /// Connections are kept on both sides.
    Keepalive,
    /// As short, beside a listener whose accept queue overflows all the time.
    Overflow,
}

impl Traffic {
    pub(super) const ALL: [Self; 3] = [Self::Short, Self::Keepalive, Self::Overflow];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Keepalive => "keepalive",
            Self::Overflow => "overflow",
        }
    }
}

pub(super) struct Ground {
    traffic: Traffic,
    folder: RunFolder,
    netns: Netns,
    children: Vec<Child>,
    /// Of what takes the processor for the requests, but for wrk.
    pids: Vec<i32>,
}

impl Ground {
    /// Returns when requests can come.
    pub(super) fn stage(traffic: Traffic) -> Result<Self> {
        let folder = RunFolder::create(paths::lab_runs().join("bench"))?;
        // Its workers are ours to reap when their master is gone; in a container nobody else might.
        set_child_subreaper(true).context("cannot adopt what nginx leaves behind")?;
        let netns = Netns::create("bench")?;
        netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
        netns.sysctl("net.ipv4.ip_local_reserved_ports", &format!("{FRONT},{BACK},{OVERFLOW_PORT}"))?;
        let mut ground = Self { traffic, folder, netns, children: Vec::new(), pids: Vec::new() };
        ground.nginx("back", BACK, &back())?;
        ground.nginx("front", FRONT, &front(ground.keeps_connections()))?;
        if traffic == Traffic::Overflow {
            let mut command = ground.command(&std::env::current_exe().context("cannot find our own executable")?);
            command.args(["bench-sockets", "overflow", "--rate", OVERFLOWS]);
            ground.children.push(command.spawn().context("cannot start the overflows")?);
            wait::until("overflows", START, || Ok(ground.overflows()?.then_some(())))?;
        }
        // A master and a worker each.
        ground.pids = ground.netns.processes("nginx")?;
        ground.pids.extend(cost::packet_threads()?);
        Ok(ground)
    }

    fn overflows(&self) -> Result<bool> {
        Ok(self.netns.counters()?.get("ListenOverflows").is_some_and(|count| *count > 0))
    }

    fn nginx(&mut self, name: &str, port: u16, http: &str) -> Result<()> {
        let folder = self.folder.path().display();
        let errors = self.folder.path().join(format!("{name}.log"));
        let text = format!(
            "# Written by xtask.\ndaemon off;\nworker_processes 1;\npid {folder}/{name}.pid;\nerror_log {};\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 1000000000;\n{http}}}\n",
            errors.display(),
        );
        let configuration = self.folder.path().join(format!("{name}.conf"));
        fs::write(&configuration, text).with_context(|| format!("cannot write {}", configuration.display()))?;
        let mut command = self.command(&paths::program("nginx").context("nginx is not installed")?);
        command.arg("-c").arg(configuration).arg("-e").arg(&errors);
        self.children.push(command.spawn().context("cannot start nginx")?);
        let workers = 2 * self.children.len();
        wait::until(&format!("nginx ({name})"), START, || {
            for child in &mut self.children {
                if let Some(status) = child.try_wait().context("cannot wait for nginx")? {
                    bail!("nginx did not start: {status}; see {}", errors.display());
                }
            }
            let up = self.netns.listens(port)? && self.netns.processes("nginx")?.len() >= workers;
            Ok(up.then_some(()))
        })
    }

    pub(super) fn keeps_connections(&self) -> bool {
        self.traffic == Traffic::Keepalive
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A program inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        self.netns.command(program)
    }

    /// Processor time that the requests have taken so far, but for wrk's.
    pub(super) fn run_time(&self) -> Result<Duration> {
        cost::run_time(&self.pids)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let killed: BTreeSet<i32> = self.netns.kill_all();
        for child in &mut self.children {
            shell::end(child);
        }
        for pid in killed {
            // Ours to reap, or not there any more.
            let _ = waitpid(Pid::from_raw(pid), None);
        }
    }
}

/// Answers at once.
fn back() -> String {
    let mut listens = String::new();
    for number in 1..=UPSTREAMS {
        let _ = writeln!(listens, "    listen 127.0.0.{number}:{BACK} backlog=4096;");
    }
    format!("  server {{\n{listens}    location / {{ return 200 \"ok\\n\"; }}\n  }}\n")
}

fn front(keep: bool) -> String {
    let mut servers = String::new();
    for number in 1..=UPSTREAMS {
        let _ = writeln!(servers, "    server 127.0.0.{number}:{BACK};");
    }
    let (pool, location) = if keep {
        (
            "    keepalive 64;\n    keepalive_requests 1000000000;\n",
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; ",
        )
    } else {
        ("", "")
    };
    format!(
        "  upstream back {{\n{servers}{pool}  }}\n  server {{\n    listen 127.0.0.1:{FRONT} backlog=4096;\n    \
         location / {{ {location}proxy_pass http://back; }}\n  }}\n"
    )
}
