//! What may run beside the traffic: observer, other tools, or nothing.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::ground::Ground;
use crate::lab::Watch;
use crate::{interrupt, paths, shell, wait};

/// How long observer looks closely at first (`FIRST_LOOK` in its source/attention.rs), and a while for it to end that.
const FIRST_LOOK: Duration = Duration::from_secs(11);
/// bcc compiles its programs first.
const READY: Duration = Duration::from_secs(20);
/// Bytes read at a time of what a tool prints; a sign that is cut in two comes again.
const CHUNK: usize = 8 * 1024;
/// Ten times a second, as scripts that look for queues do.
const POLL: &str = "while :; do ss -tan >/dev/null; sleep 0.1; done";
/// The state changes of TCP with both ends, what is sent again, and resets.
const SCRIPT: &str = r#"
tracepoint:sock:inet_sock_set_state /args->protocol == 6/ {
  printf("%llu %s %d %d %s:%d %s:%d\n", nsecs, comm, args->oldstate, args->newstate,
    ntop(args->saddr), args->sport, ntop(args->daddr), args->dport);
}
tracepoint:tcp:tcp_retransmit_skb {
  printf("%llu retransmit %d %s:%d %s:%d\n", nsecs, args->state,
    ntop(args->saddr), args->sport, ntop(args->daddr), args->dport);
}
tracepoint:tcp:tcp_send_reset { printf("%llu reset sent\n", nsecs); }
tracepoint:tcp:tcp_receive_reset { printf("%llu reset received\n", nsecs); }
"#;

/// What runs beside the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Without,
    /// With these options.
    Observer(&'static str, &'static [&'static str]),
    Tool(&'static Tool),
}

/// Some other tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) key: &'static str,
    program: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
    /// What it says when it is ready. None: it tells of every connection, and is ready when it tells of ours.
    ready: Option<&'static str>,
}

/// As it is while nothing goes wrong.
pub(super) static OBSERVER: Way = Way::Observer("observer", &[]);
/// As it is while something does.
pub(super) static CLOSELY: Way = Way::Observer("observer_close_look", &["--close-look", "always"]);
pub(super) static TOOLS: [Tool; 5] = [
    Tool { key: "bpftrace", program: "bpftrace", package: "bpftrace", arguments: &["-e", SCRIPT], ready: None },
    Tool { key: "libbpf_tcpstates", program: "tcpstates", package: "libbpf-tools", arguments: &[], ready: None },
    Tool { key: "bcc_tcpstates", program: "tcpstates-bpfcc", package: "bpfcc-tools", arguments: &[], ready: None },
    Tool {
        key: "bcc_tcpretrans",
        program: "tcpretrans-bpfcc",
        package: "bpfcc-tools",
        arguments: &[],
        ready: Some("Tracing"),
    },
    Tool { key: "ss", program: "ss", package: "iproute2", arguments: &[], ready: None },
];

/// Debian's packages of the tools that are missing.
pub(super) fn packages() -> Vec<&'static str> {
    let missing = TOOLS.iter().filter(|tool| paths::program(tool.program).is_none());
    let mut packages: Vec<_> = missing.map(|tool| tool.package).collect();
    packages.dedup();
    packages
}

impl Way {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Observer(key, _) => key,
            Self::Tool(tool) => tool.key,
        }
    }

    /// Returns when it sees what happens.
    pub(super) fn start(self, ground: &Ground) -> Result<Running> {
        match self {
            Self::Without => Ok(Running::Nothing),
            Self::Observer(key, options) => {
                let mut watch = Watch::spawn(ground.folder(), key, None, options)?;
                watch.wait_ready()?;
                if options.is_empty() {
                    // Nothing happens that could be waited for: that is what it is about.
                    wait::at_most(FIRST_LOOK, || interrupt::check().map(|()| false))?;
                }
                Ok(Running::Observer(watch))
            }
            Self::Tool(tool) => tool.start(ground).map(Running::Tool),
        }
    }
}

impl Tool {
    fn start(&self, ground: &Ground) -> Result<Group> {
        let program = paths::program(self.program).with_context(|| format!("{} is not installed", self.program))?;
        if self.key == "ss" {
            let mut shell = ground.command(Path::new("/bin/sh"));
            return Ok(Group(shell.args(["-c", POLL]).spawn().context("cannot start ss")?));
        }
        let errors = ground.folder().join(self.key).with_added_extension("log");
        let log = File::create(&errors).with_context(|| format!("cannot create {}", errors.display()))?;
        let mut command = seeing_tracefs(&program);
        if self.ready.is_some() {
            // Or that line would wait for many others.
            command.env("PYTHONUNBUFFERED", "1");
        }
        command.args(self.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut group = Group(command.spawn().with_context(|| format!("cannot start {}", self.program))?);
        let nearby = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let address = nearby.local_addr().context("a listener without an address")?;
        let sign = self.ready.map_or_else(|| address.port().to_string(), str::to_owned);
        let said = drain(group.0.stdout.take().context("no stdout")?, sign);
        let ready = wait::at_most(READY, || {
            if let Some(status) = group.0.try_wait().context("cannot wait for a tool")? {
                bail!("{} ended with {status}: {}", self.program, reason(&errors));
            }
            drop(TcpStream::connect(address));
            drop(nearby.accept());
            Ok(said.load(Ordering::Relaxed))
        })?;
        if !ready {
            bail!("{} was not ready within {}: {}", self.program, humantime::format_duration(READY), reason(&errors));
        }
        Ok(group)
    }
}

/// In a mount namespace of its own where the host has not mounted it.
fn seeing_tracefs(program: &Path) -> Command {
    const PLACE: &str = "/sys/kernel/tracing";
    if Path::new(PLACE).join("events").exists() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &format!("mount -t tracefs tracefs {PLACE} && exec \"$@\""), "sh"])
        .arg(program);
    command
}

/// Says whether the sign has come. After it, what is printed is thrown away at next to no cost: the kernel moves it from the
/// pipe to /dev/null.
fn drain(mut output: ChildStdout, sign: String) -> Arc<AtomicBool> {
    let said = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&said);
    thread::spawn(move || -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let length = output.read(&mut chunk)?;
            if String::from_utf8_lossy(&chunk[..length]).contains(&sign) {
                break;
            }
            if length == 0 {
                return Ok(());
            }
        }
        set.store(true, Ordering::Relaxed);
        io::copy(&mut output, &mut File::options().write(true).open("/dev/null")?).map(drop)
    });
    said
}

/// The last that it said about itself.
fn reason(errors: &Path) -> String {
    let text = std::fs::read_to_string(errors).unwrap_or_default();
    let error = text.lines().find(|line| ["rror:", "FATAL", "No such file"].iter().any(|sign| line.contains(sign)));
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    error.or(last).unwrap_or("it gave no reason").trim().to_owned()
}

pub(super) enum Running {
    Nothing,
    Observer(Watch),
    Tool(Group),
}

impl Running {
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Observer(watch) => Some(watch.pid()),
            Self::Tool(group) => Some(group.0.id()),
        }
    }

    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::Observer(mut watch) => watch.stop(),
            Self::Nothing => interrupt::check(),
            Self::Tool(mut group) => match group.0.try_wait().context("cannot wait for a tool")? {
                Some(status) => bail!("it ended meanwhile: {status}"),
                None => interrupt::check(),
            },
        }
    }
}

/// A tool with all that it started; dropping it ends them.
pub(super) struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(leader) = i32::try_from(self.0.id()) {
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
        shell::end(&mut self.0);
    }
}
