//! Network namespaces that take everything in them along when they go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shell;

/// Names carry the process that owns them, so that runs do not meet and leftovers of a killed one can be told apart.
const PREFIX: &str = "observer-stage-";

pub(crate) struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn create(side: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{side}", std::process::id());
        shell::output(Command::new("ip").args(["netns", "add", &name]))?;
        let netns = Self { name };
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where `ip netns` keeps it.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Its number, as the kernel and observer call it.
    pub(super) fn inode(&self) -> Result<u64> {
        let path = self.path();
        Ok(fs::metadata(&path).with_context(|| format!("cannot look at {}", path.display()))?.ino())
    }

    /// The `ip` command on what is inside.
    pub(super) fn ip(&self, arguments: &[&str]) -> Result<()> {
        shell::output(Command::new("ip").args(["-n", &self.name]).args(arguments)).map(drop)
    }

    /// A program inside, in a process group of its own: a Ctrl-C is for us, and we end what we started in order.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref()).stdin(Stdio::null()).process_group(0);
        command
    }

    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        shell::output(self.command("sysctl").args(["-qw", &format!("{key}={value}")])).map(drop)
    }

    pub(crate) fn listens(&self, port: u16) -> Result<bool> {
        let sockets = shell::output(self.command("ss").args(["-Hlnt", &format!("sport = :{port}")]))?;
        Ok(!sockets.is_empty())
    }

    /// A rule of the packet filter, after those that are there.
    pub(super) fn filter(&self, hook: &str, rule: &str) -> Result<()> {
        let script = format!(
            "add table inet lab\n\
             add chain inet lab {hook} {{ type filter hook {hook} priority 0; }}\n\
             add rule inet lab {hook} {rule}\n"
        );
        let mut command = self.command("nft");
        let mut nft = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("cannot run nft")?;
        nft.stdin.take().context("no stdin of nft")?.write_all(script.as_bytes()).context("cannot write to nft")?;
        let status = nft.wait().context("cannot wait for nft")?;
        if !status.success() {
            bail!("nft refused this rule: {rule}");
        }
        Ok(())
    }

    /// Processes inside whose name begins with `comm`.
    pub(crate) fn processes(&self, comm: &str) -> Result<Vec<i32>> {
        let called =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with(comm));
        Ok(self.pids()?.into_iter().filter(called).collect())
    }

    /// The kernel's own counters, `TcpExt`.
    pub(crate) fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let text = shell::output(self.command("cat").arg("/proc/net/netstat"))?;
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
        let (names, values) = rows.next().zip(rows.next()).context("no TcpExt in /proc/net/netstat")?;
        // A few are signed, and none of those counts anything.
        let counter = |(name, value): (&str, &str)| Some((name.to_owned(), value.parse().ok()?));
        Ok(names.split(' ').zip(values.split(' ')).filter_map(counter).collect())
    }

    /// Ends every process inside, waits until they are gone, and says which they were, so that they can be reaped.
    pub(crate) fn kill_all(&self) -> BTreeSet<i32> {
        let mut killed = BTreeSet::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let pids = self.pids().unwrap_or_default();
            if pids.is_empty() {
                return killed;
            }
            for pid in pids {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                killed.insert(pid);
            }
            thread::sleep(Duration::from_millis(10));
        }
        eprintln!("xtask: processes in {} do not end", self.name);
        killed
    }

    fn pids(&self) -> Result<Vec<i32>> {
        let text = shell::output(Command::new("ip").args(["netns", "pids", &self.name]))?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.kill_all();
        // Orphaned sockets outlive their namespace and keep retransmitting into whatever is observed next.
        let _ = shell::output(self.command("ss").args(["-K", "-ta"]));
        if let Err(error) = shell::output(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Removes what a run left that was itself killed with SIGKILL.
pub(crate) fn sweep() -> Result<()> {
    let names = shell::output(Command::new("ip").args(["netns", "list"]))?;
    for name in names.lines().filter_map(|line| line.split(' ').next()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            eprintln!("lab: removing {name}, left by a run that was killed");
            drop(Netns { name: name.to_owned() });
        }
    }
    Ok(())
}
