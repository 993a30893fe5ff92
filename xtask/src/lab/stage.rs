//! A staged incident: namespaces, backend, nginx, load. Dropping it leaves nothing behind.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::folder::RunFolder;
use super::netns::Netns;
use super::nginx;
use super::scenario::{Backend, Gunicorn, Load, Nginx, Sysctls, Topology};
use crate::{paths, shell, wait};

const PROXY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const UPSTREAM_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Link addresses of our own choosing, so that neighbour entries can be permanent and no SYN waits for ARP.
const PROXY_LINK: &str = "02:00:00:4d:00:01";
const UPSTREAM_LINK: &str = "02:00:00:4d:00:02";
const START: Duration = Duration::from_secs(15);

pub(crate) struct Stage {
    folder: RunFolder,
    proxy: Netns,
    /// None: the proxy's own namespace.
    upstream: Option<Netns>,
    children: Vec<Child>,
}

impl Stage {
    /// The namespaces and a fresh folder for what is written during the run.
    pub(crate) fn new(folder: PathBuf, topology: Topology, sysctls: &Sysctls) -> Result<Self> {
        let folder = RunFolder::create(folder)?;
        // What the backend and nginx fork is ours to reap when they are gone; in a container nobody else might.
        set_child_subreaper(true).context("cannot adopt what the stage's programs leave behind")?;
        let proxy = Netns::create("proxy")?;
        let upstream = match topology {
            Topology::Local => None,
            Topology::Remote => Some(Netns::create("upstream")?),
        };
        let stage = Self { folder, proxy, upstream, children: Vec::new() };
        if let Some(upstream) = &stage.upstream {
            connect(&stage.proxy, upstream)?;
        }
        for (key, value) in &sysctls.proxy {
            stage.proxy.sysctl(key, value)?;
        }
        for (key, value) in &sysctls.upstream {
            stage.upstream().sysctl(key, value)?;
        }
        Ok(stage)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn access_log(&self) -> PathBuf {
        self.folder().join("access.log")
    }

    pub(super) fn upstream(&self) -> &Netns {
        self.upstream.as_ref().unwrap_or(&self.proxy)
    }

    /// As nginx and observer write it.
    pub(super) fn upstream_socket(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.upstream_address(), upstream_port())
    }

    fn upstream_address(&self) -> Ipv4Addr {
        if self.upstream.is_some() { UPSTREAM_ADDRESS } else { Ipv4Addr::LOCALHOST }
    }

    /// Starts the backend and waits until it listens.
    pub(crate) fn start_backend(&mut self, backend: &Backend) -> Result<()> {
        let log = self.log("backend.log")?;
        let (mut command, processes) = match backend {
            Backend::None => return Ok(()),
            Backend::Raw {} => {
                let mut command = self.upstream().command(ourselves()?);
                command.args(["lab-backend", "--listen", &self.upstream_socket().to_string()]);
                (command, 0)
            }
            Backend::Gunicorn(gunicorn) => (self.gunicorn(gunicorn)?, gunicorn.workers + 1),
        };
        self.children.push(spawn(&mut command, log)?);
        self.wait_for("the backend", |stage| {
            Ok(stage.upstream().listens(upstream_port())? && stage.upstream().processes("gunicorn")?.len() >= processes)
        })
    }

    fn gunicorn(&self, gunicorn: &Gunicorn) -> Result<Command> {
        let program = paths::program("gunicorn").context("gunicorn is not installed")?;
        let mut command = self.upstream().command(program);
        command
            .args(["--bind", &self.upstream_socket().to_string(), "--workers", &gunicorn.workers.to_string()])
            .args(["--timeout", "120", "--worker-tmp-dir", "/dev/shm", "app:app"])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(paths::lab_definitions());
        if let Some(backlog) = gunicorn.backlog {
            command.args(["--backlog", &backlog.to_string()]);
        }
        Ok(command)
    }

    /// Starts nginx in front of the backend and waits until it listens.
    pub(crate) fn start_nginx(&mut self, nginx: &Nginx) -> Result<()> {
        let configuration = self.folder().join("nginx.conf");
        fs::write(&configuration, nginx::configuration(nginx, self.folder(), self.upstream_socket()))
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let program = paths::program("nginx").context("nginx is not installed")?;
        let mut command = self.proxy.command(program);
        command.arg("-c").arg(&configuration).arg("-e").arg(self.folder().join("error.log"));
        let log = self.log("nginx.log")?;
        self.children.push(spawn(&mut command, log)?);
        let processes = nginx.workers + 1;
        self.wait_for("nginx", |stage| {
            Ok(stage.proxy.listens(nginx::FRONT_PORT)? && stage.proxy.processes("nginx")?.len() >= processes)
        })
    }

    /// The proxy's processes: what observer says of others on the host is not about this stage.
    pub(super) fn proxy_pids(&self) -> Result<Vec<u32>> {
        let pids = self.proxy.processes("nginx")?;
        Ok(pids.into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect())
    }

    /// Starts a phase of the load; what the clients saw goes to `report`.
    pub(crate) fn start_load(&self, load: &Load, report: &Path) -> Result<Child> {
        let mut command = self.proxy.command(ourselves()?);
        command.args(["lab-load", "--address", nginx::FRONT, "--requests", &load.requests.to_string()]);
        for path in &load.paths {
            command.args(["--path", path]);
        }
        if let Some(concurrency) = load.concurrency {
            command.args(["--concurrency", &concurrency.to_string()]);
        }
        if let Some(rate) = load.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        if load.keepalive {
            command.arg("--keepalive");
        }
        let report = File::create(report).with_context(|| format!("cannot create {}", report.display()))?;
        command.stdout(report).spawn().context("cannot start the load")
    }

    fn log(&self, name: &str) -> Result<File> {
        let path = self.folder().join(name);
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    /// Polls `condition`, and notices when what should fulfil it has ended.
    fn wait_for(&mut self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        wait::until(what, START, || {
            if condition(self)? {
                return Ok(Some(()));
            }
            for child in &mut self.children {
                if let Some(status) = child.try_wait().context("cannot wait for a child")? {
                    bail!("{what} did not start: {status}; see the logs in {}", self.folder().display());
                }
            }
            Ok(None)
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let mut killed = self.proxy.kill_all();
        killed.append(&mut self.upstream().kill_all());
        for child in &mut self.children {
            shell::end(child);
        }
        for pid in killed {
            // Ours to reap, or not there any more.
            let _ = waitpid(Pid::from_raw(pid), None);
        }
    }
}

/// Differs from run to run: addresses are the same in every stage, and what observer says of an upstream does not name
/// its namespace.
fn upstream_port() -> u16 {
    let distinct = u16::try_from(std::process::id() % 1000).unwrap_or_default();
    9000 + distinct
}

fn connect(proxy: &Netns, upstream: &Netns) -> Result<()> {
    proxy.ip(&[
        "link",
        "add",
        "up0",
        "address",
        PROXY_LINK,
        "type",
        "veth",
        "peer",
        "name",
        "px0",
        "address",
        UPSTREAM_LINK,
        "netns",
        upstream.name(),
    ])?;
    for (netns, device, own, peer, peer_link) in [
        (proxy, "up0", PROXY_ADDRESS, UPSTREAM_ADDRESS, UPSTREAM_LINK),
        (upstream, "px0", UPSTREAM_ADDRESS, PROXY_ADDRESS, PROXY_LINK),
    ] {
        netns.ip(&["address", "add", &format!("{own}/24"), "dev", device])?;
        netns.ip(&["link", "set", device, "up"])?;
        netns.ip(&[
            "neighbour",
            "replace",
            &peer.to_string(),
            "lladdr",
            peer_link,
            "dev",
            device,
            "nud",
            "permanent",
        ])?;
    }
    Ok(())
}

fn spawn(command: &mut Command, log: File) -> Result<Child> {
    let copy = log.try_clone().context("cannot share a log file")?;
    command
        .stdout(Stdio::from(copy))
        .stderr(Stdio::from(log))
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}

fn ourselves() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find our own executable")
}
