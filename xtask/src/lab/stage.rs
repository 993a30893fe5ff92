//! A staged incident: namespaces, backend, proxy, load. Dropping it leaves nothing behind.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::access_log::AccessLog;
use super::address::Address;
use super::folder::RunFolder;
use super::netns::Netns;
use super::proxy::{Kind, Setup, Syslog};
use super::scenario::{Action, Backend, Event, Filter, Load, Nginx, Probe, Side, Sysctls, Timeouts, Topology};
use super::{backend, link, proxy};
use crate::{shell, wait};

const START: Duration = Duration::from_secs(15);

pub(crate) struct Stage {
    folder: RunFolder,
    proxy: Netns,
    /// None: the proxy's own namespace.
    upstream: Option<Netns>,
    address: Address,
    kind: Kind,
    backend: Option<Child>,
    front: Option<Child>,
    /// Of a proxy that writes no file.
    syslog: Option<Syslog>,
    probes: Vec<Child>,
    /// Of the proxy, since it was started: what observer says of others on the host is not about this stage.
    pub(super) proxy_pids: BTreeSet<u32>,
}

impl Stage {
    /// The namespaces and a fresh folder for what is written during the run.
    pub(crate) fn new(folder: PathBuf, topology: Topology, sysctls: &Sysctls) -> Result<Self> {
        let folder = RunFolder::create(folder)?;
        // What the backend and the proxy fork is ours to reap when they are gone; in a container nobody else might.
        set_child_subreaper(true).context("cannot adopt what the stage's programs leave behind")?;
        let proxy = Netns::create("proxy")?;
        let upstream = match topology {
            Topology::Local => None,
            Topology::Remote => Some(Netns::create("upstream")?),
        };
        let host = if upstream.is_some() { link::upstream() } else { Ipv4Addr::LOCALHOST };
        let stage = Self {
            folder,
            proxy,
            upstream,
            address: Address::tcp(host),
            kind: Kind::Nginx,
            backend: None,
            front: None,
            syslog: None,
            probes: Vec::new(),
            proxy_pids: BTreeSet::new(),
        };
        if let Some(upstream) = &stage.upstream {
            link::connect(&stage.proxy, upstream)?;
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

    /// The proxy's account so far.
    pub(crate) fn access_log(&self) -> Result<AccessLog> {
        AccessLog::read(self.kind, &self.access_log_path())
    }

    pub(super) fn access_log_path(&self) -> PathBuf {
        self.folder().join("access.log")
    }

    pub(super) fn proxy(&self) -> &Netns {
        &self.proxy
    }

    pub(super) fn upstream(&self) -> &Netns {
        self.upstream.as_ref().unwrap_or(&self.proxy)
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    fn host(&self) -> Ipv4Addr {
        if self.upstream.is_some() { link::upstream() } else { Ipv4Addr::LOCALHOST }
    }

    /// Packet filter and routes.
    pub(super) fn restrict(&self, firewall: &[Filter], routes: &[String]) -> Result<()> {
        for Filter { side, hook, rule } in firewall {
            let netns = match side {
                Side::Proxy => &self.proxy,
                Side::Upstream => self.upstream(),
            };
            let port = self.address.port().unwrap_or_default();
            netns.filter(hook.name(), &rule.replace("{port}", &port.to_string()))?;
        }
        for route in routes {
            let route = route.replace("{upstream}", &self.host().to_string());
            let words: Vec<_> = ["route"].into_iter().chain(route.split(' ')).collect();
            self.proxy.ip(&words)?;
        }
        Ok(())
    }

    /// Starts the backend and waits until it listens.
    pub(crate) fn start_backend(&mut self, backend: &Backend) -> Result<()> {
        if backend.unix {
            self.address = Address::unix();
        }
        let Some(mut command) = backend::command(backend, self.upstream(), &self.address, self.folder())? else {
            return Ok(());
        };
        self.backend = Some(spawn(&mut command, self.log("backend.log")?, self.log("backend.log")?)?);
        self.wait_for("the backend", |stage| {
            let listens = match &stage.address {
                Address::Tcp(socket) => stage.upstream().listens(socket.port())?,
                Address::Unix(path) => path.exists(),
            };
            Ok(listens && stage.upstream().processes("gunicorn")?.len() >= backend::processes(backend))
        })
    }

    /// Starts the proxy and waits until it listens with all its processes.
    pub(super) fn start_proxy(
        &mut self,
        kind: Kind,
        nginx: &Nginx,
        timeouts: &Timeouts,
        dead_peers: u16,
    ) -> Result<()> {
        let dead: Vec<_> = (1..=dead_peers).map(|number| Address::dead(self.host(), number)).collect();
        let setup = Setup { folder: self.folder(), upstream: &self.address, dead: &dead, timeouts, nginx };
        let mut command = kind.command(&self.proxy, &setup)?;
        self.kind = kind;
        self.syslog = kind.collect(&self.access_log_path(), &self.proxy)?;
        self.front = Some(spawn(&mut command, self.log("proxy.log")?, self.log("proxy.log")?)?);
        self.wait_for(kind.program(), |stage| {
            let processes = stage.proxy.processes(kind.program())?.len();
            Ok(stage.proxy.listens(proxy::FRONT_PORT)? && processes >= kind.processes(nginx))
        })?;
        self.note_proxy_pids()
    }

    pub(crate) fn start_nginx(&mut self, nginx: &Nginx) -> Result<()> {
        self.start_proxy(Kind::Nginx, nginx, &Timeouts::default(), 0)
    }

    /// Before and after whatever may change them.
    pub(super) fn note_proxy_pids(&mut self) -> Result<()> {
        let pids = self.proxy.processes(self.kind.program())?;
        self.proxy_pids.extend(pids.into_iter().filter_map(|pid| u32::try_from(pid).ok()));
        Ok(())
    }

    /// Starts a phase of the load; what the clients saw goes to `report`.
    pub(crate) fn start_load(&self, load: &Load, report: &Path) -> Result<Child> {
        let mut command = self.proxy.command(std::env::current_exe().context("cannot find our own executable")?);
        command.args(["lab-load", "--address", proxy::FRONT, "--requests", &load.requests.to_string()]);
        for path in &load.paths {
            command.args(["--path", path]);
        }
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                command.arg(name).arg(value);
            }
        };
        option("--concurrency", load.concurrency.map(|clients| clients.to_string()));
        option("--rate", load.rate.map(|rate| rate.to_string()));
        option("--pause", load.pause.map(|pause| pause.to_string()));
        option("--body", load.body.map(|bytes| bytes.to_string()));
        option("--patience", load.patience.map(|patience| patience.to_string()));
        if load.keepalive {
            command.arg("--keepalive");
        }
        let report = File::create(report).with_context(|| format!("cannot create {}", report.display()))?;
        command.stdout(report).spawn().context("cannot start the load")
    }

    pub(super) fn start_probe(&mut self, probe: &Probe) -> Result<()> {
        let port = probe.ports_from.or(self.address.port()).context("a probe needs a port")?;
        let mut command = self.proxy.command(std::env::current_exe().context("cannot find our own executable")?);
        command.args(["lab-probe", "--address", &format!("{}:{port}", self.host())]);
        command.args(["--connections", &probe.connections.to_string()]);
        if probe.ports_from.is_some() {
            command.arg("--ports");
        }
        if let Some(source) = probe.source_port {
            command.args(["--source-port", &source.to_string()]);
        }
        self.probes.push(spawn(&mut command, self.log("probe.log")?, self.log("probe.log")?)?);
        Ok(())
    }

    pub(super) fn act(&mut self, event: &Event, backend: &Backend) -> Result<()> {
        let program = match event.to {
            Side::Proxy => &mut self.front,
            Side::Upstream => &mut self.backend,
        };
        let program = program.as_mut().context("an event for a program that was not started")?;
        let leader = Pid::from_raw(i32::try_from(program.id()).context("a pid out of range")?);
        // What it forks stays in its process group.
        match event.action {
            Action::Freeze => killpg(leader, Signal::SIGSTOP),
            Action::Thaw => killpg(leader, Signal::SIGCONT),
            Action::Kill => killpg(leader, Signal::SIGKILL),
            Action::Terminate | Action::Restart => kill(leader, Signal::SIGTERM),
            Action::Reload => kill(leader, Signal::SIGHUP),
        }
        .with_context(|| format!("cannot {:?}", event.action))?;
        match event.action {
            Action::Restart => {
                let gone = shell::exit_within(program, START)?;
                gone.context("the backend does not end")?;
                self.start_backend(backend)
            }
            Action::Reload => self.note_proxy_pids(),
            _ => Ok(()),
        }
    }

    fn log(&self, name: &str) -> Result<File> {
        let path = self.folder().join(name);
        let mut options = File::options();
        options.create(true).append(true).open(&path).with_context(|| format!("cannot open {}", path.display()))
    }

    /// Polls `condition`, and notices when what should fulfil it has ended.
    fn wait_for(&mut self, what: &str, condition: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        wait::until(what, START, || {
            if condition(self)? {
                return Ok(Some(()));
            }
            for child in self.backend.iter_mut().chain(&mut self.front) {
                if let Some(status) = child.try_wait().context("cannot wait for a child")? {
                    bail!("{what} did not start: {status}; see the logs in {}", self.folder.path().display());
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
        for child in self.backend.iter_mut().chain(&mut self.front).chain(&mut self.probes) {
            shell::end(child);
        }
        for pid in killed {
            // Ours to reap, or not there any more.
            let _ = waitpid(Pid::from_raw(pid), None);
        }
        if let Address::Unix(path) = &self.address {
            let _ = fs::remove_file(path);
        }
    }
}

fn spawn(command: &mut Command, output: File, errors: File) -> Result<Child> {
    command
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))
}
