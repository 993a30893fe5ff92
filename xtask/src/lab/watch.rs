//! observer itself, run from outside the stage as a user would: the built binary, `watch --format json`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value;

use super::clock;
use super::netns::Netns;
use super::verdict::Verdict;
use crate::{paths, shell, wait};

/// Attaching takes well under a second; a loaded machine takes longer, and three at once on an emulated one half a minute.
const READY: Duration = Duration::from_mins(2);
/// Longer than any trial: we stop it, but if we are killed it must not stay for ever.
const LIFE: &str = "5m";
/// How the names end of what it said and of what it recorded.
const LINES: &str = "jsonl";
const TRACE: &str = "arrows.zst";
/// A last round of samples is taken, over all the sockets there are.
const STOP: Duration = Duration::from_secs(30);

pub(crate) struct Watch {
    child: Child,
    /// The folder and the beginning of the names of what it writes there.
    files: PathBuf,
    lines: Receiver<Printed>,
    started: u64,
    /// When it said so.
    ready: Option<u64>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) warnings: Vec<Warning>,
    pub(crate) summary: Option<Summary>,
}

/// A line of observer's.
struct Printed {
    text: String,
    /// When it reached us, microseconds since the epoch.
    arrived: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Warning {
    /// Code of the cause that it leads to.
    pub(super) cause: String,
    /// Of the proxy, or of the listener, that it is about.
    pub(super) netns: Option<u64>,
    time: String,
}

impl Warning {
    /// Microseconds since the epoch.
    pub(super) fn time(&self) -> Result<u64> {
        clock::parse(&self.time)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
    /// What observer had to let go, by kind.
    pub(crate) lost: BTreeMap<String, u64>,
    overflowed: Vec<Overflowed>,
    logs: Logs,
}

#[derive(Debug, Deserialize)]
struct Logs {
    followed: Vec<Followed>,
}

#[derive(Debug, Deserialize)]
struct Followed {
    path: String,
    lines: u64,
}

#[derive(Debug, Deserialize)]
struct Overflowed {
    /// Address and port.
    listener: String,
    overflows: u64,
}

impl Summary {
    /// Lines that it read of this log.
    pub(crate) fn lines_of(&self, log: &Path) -> u64 {
        let of = |each: &&Followed| Path::new(&each.path) == log;
        self.logs.followed.iter().find(of).map_or(0, |each| each.lines)
    }

    /// Overflows of the accept queues on this port; a stage's port is its own on the whole host.
    pub(super) fn overflows(&self, port: u16) -> u64 {
        let on_port = self.overflowed.iter().filter(|each| each.listener.ends_with(&format!(":{port}")));
        on_port.map(|each| each.overflows).sum()
    }
}

impl Watch {
    /// Its output is copied to `name` under `folder`. Sees the whole host, or only `netns`.
    pub(crate) fn spawn(folder: &Path, name: &str, netns: Option<&Netns>, options: &[&str]) -> Result<Self> {
        let files = folder.join(name);
        let errors = files.with_added_extension("log");
        let log = File::create(&errors).with_context(|| format!("cannot create {}", errors.display()))?;
        let mut command = Command::new(paths::observer());
        command.args(["watch", "--format", "json", "--duration", LIFE]).args(options);
        if let Some(netns) = netns {
            command.arg("--netns").arg(netns.path());
        }
        let started = clock::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", paths::observer().display()))?;
        let stdout = child.stdout.take().context("no stdout of observer")?;
        let copy = File::create(files.with_added_extension(LINES)).context("cannot copy the output")?;
        let lines = read_lines(BufReader::new(stdout), copy);
        Ok(Self {
            child,
            files,
            lines,
            started,
            ready: None,
            verdicts: Vec::new(),
            warnings: Vec::new(),
            summary: None,
        })
    }

    /// The same, and records meanwhile.
    pub(super) fn spawn_recording(folder: &Path, name: &str, netns: Option<&Netns>, logs: &[&str]) -> Result<Self> {
        let trace = folder.join(name).with_added_extension(TRACE);
        let trace = trace.to_string_lossy();
        Self::spawn(folder, name, netns, &[logs, &["--record", &trace]].concat())
    }

    /// Whether what it recorded says again, line for line, what it said; else in what the two differ. To be asked once it has
    /// been stopped.
    pub(super) fn replayed(&self) -> Result<Option<String>> {
        let trace = self.files.with_added_extension(TRACE);
        let again = Command::new(paths::observer())
            .args(["watch", "--format", "json", "--from-trace"])
            .arg(&trace)
            .stdin(Stdio::null())
            .output()
            .context("cannot replay what observer recorded")?;
        if !again.status.success() {
            return Ok(Some(format!("{} cannot be replayed: {}", trace.display(), again.status)));
        }
        let lines = self.files.with_added_extension(LINES);
        let live = fs::read(&lines).with_context(|| format!("cannot read {}", lines.display()))?;
        let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let (live, again) = (lines(&live), lines(&again.stdout));
        let count = live.len().max(again.len());
        let differs = (0..count).find(|line| live.get(*line) != again.get(*line)).map(|line| line + 1);
        Ok(differs.map(|line| format!("{} says otherwise than it did live, from line {line} on", trace.display())))
    }

    /// Returns when all hooks are attached.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        wait::until("observer to be ready", READY, || {
            self.pump()?;
            if let Some(status) = self.child.try_wait().context("cannot wait for observer")? {
                bail!("observer ended before it was ready: {status}; see {}.log", self.files.display());
            }
            Ok(self.ready.map(drop))
        })
    }

    /// From its start to its line, once that is there.
    pub(crate) fn took_to_be_ready(&self) -> Option<Duration> {
        self.ready.map(|ready| Duration::from_micros(ready.saturating_sub(self.started)))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes in what has been printed so far.
    pub(crate) fn pump(&mut self) -> Result<()> {
        while let Ok(line) = self.lines.try_recv() {
            self.take(&line)?;
        }
        Ok(())
    }

    /// Ends it as Ctrl-C would, and reads to the last line.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a pid out of range")?;
        kill(Pid::from_raw(pid), Signal::SIGINT).context("cannot interrupt observer")?;
        let deadline = Instant::now() + STOP;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.take(&line)?,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    bail!("observer did not stop within {}", humantime::format_duration(STOP))
                }
            }
        }
        match shell::exit_within(&mut self.child, STOP)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("observer ended with {status}"),
            None => bail!("observer closed its output but did not end"),
        }
    }

    fn take(&mut self, printed: &Printed) -> Result<()> {
        let line = &printed.text;
        let value: Value = serde_json::from_str(line).with_context(|| format!("observer printed no JSON: {line}"))?;
        let malformed = || format!("not of the documented form: {line}");
        match value["type"].as_str() {
            Some("ready") => self.ready = Some(printed.arrived),
            Some("verdict") => self.verdicts.push(Verdict::parse(&value, printed.arrived)?),
            Some("warning") => self.warnings.push(Warning::deserialize(&value).with_context(malformed)?),
            Some("summary") => self.summary = Some(Summary::deserialize(&value).with_context(malformed)?),
            // The format may grow; what we do not compare we let pass.
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        shell::end(&mut self.child);
    }
}

/// A thread of its own, so that observer never waits for us. It ends with observer's output.
fn read_lines(stdout: impl BufRead + Send + 'static, mut copy: File) -> Receiver<Printed> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for text in stdout.lines().map_while(Result::ok) {
            let arrived = clock::now();
            let _ = writeln!(copy, "{text}");
            if sender.send(Printed { text, arrived }).is_err() {
                break;
            }
        }
    });
    receiver
}
