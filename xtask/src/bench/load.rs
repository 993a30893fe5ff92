//! Processor time and memory of observer while connections come at some rate, and while many sockets stand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cost::{self, Share};
use super::say;
use crate::bench_sockets::BACKLOG;
use crate::lab::{Netns, RunFolder, Watch};
use crate::{paths, shell, wait};

/// Connections a second, and whether their clients give them up unaccepted, which is trouble: observer looks closely then, and keeps
/// what it has seen of each.
const RATES: [(u32, bool); 5] = [(0, false), (1_000, false), (10_000, false), (50_000, false), (10_000, true)];
/// Measured.
const WINDOW: Duration = Duration::from_secs(10);
/// The load runs longer than it is measured by a second before and one after.
const SECONDS: &str = "12";
const SETTLE: Duration = Duration::from_secs(1);
const STANDING: Duration = Duration::from_mins(1);
const LISTENERS: u32 = 500;
const TIME_WAITS: u32 = 100_000;

/// Processes that share standing sockets out among them, evenly: each may have so many files only.
const HOLDERS: u32 = 4;
/// Of the listeners.
const FIRST_PORT: u32 = 20_000;

/// What the generator says.
#[derive(Deserialize)]
struct Made {
    connections: u32,
    failed: u32,
    seconds: f64,
}

struct Used {
    cores: f64,
    /// MiB at the end, and at most.
    memory: [f64; 2],
    /// By kind, those of which any were.
    lost: BTreeMap<String, u64>,
    /// What observer forgot to make room, which is no loss of events.
    evicted: u64,
}

pub(super) fn measure() -> Result<Value> {
    let folder = RunFolder::create(paths::lab_runs().join("bench"))?;
    say(&format!(
        "\nobserver's own processor time and memory, over {}\n{:<44} {:>10} {:>8} {:>9} {:>9} {:>6} {:>8}",
        humantime::format_duration(WINDOW),
        "",
        "reached/s",
        "a core",
        "MiB",
        "at most",
        "lost",
        "evicted"
    ))?;
    let mut rates = Vec::new();
    for (rate, given_up) in RATES {
        let (used, made) = at(folder.path(), rate, given_up)?;
        let reached = made.as_ref().map_or(0.0, |made| f64::from(made.connections) / made.seconds);
        let what = if given_up { "given up unaccepted" } else { "connections a second" };
        row(&format!("{rate} {what}"), reached, &used)?;
        let mut value = used.json();
        value["given_up"] = json!(given_up);
        value["asked_per_second"] = json!(rate);
        value["reached_per_second"] = json!(reached);
        value["connections_failed"] = json!(made.map_or(0, |made| made.failed));
        rates.push(value);
    }
    let standing = Standing::stage(folder.path(), LISTENERS, 0, TIME_WAITS)?;
    let watch = watch(folder.path())?;
    let used = used(watch)?;
    let time_wait = standing.sockets()?.time_wait;
    row(&format!("{LISTENERS} listeners, {time_wait} TIME_WAIT sockets"), 0.0, &used)?;
    let mut value = used.json();
    value["listeners"] = json!(LISTENERS);
    value["time_wait"] = json!(time_wait);
    Ok(json!({ "rates": rates, "standing": value }))
}

fn watch(folder: &Path) -> Result<Watch> {
    let mut watch = Watch::spawn(folder, "observer", None, &[])?;
    watch.wait_ready()?;
    Ok(watch)
}

fn at(folder: &Path, rate: u32, given_up: bool) -> Result<(Used, Option<Made>)> {
    let watch = watch(folder)?;
    if rate == 0 {
        return Ok((used(watch)?, None));
    }
    let netns = Netns::create("bench")?;
    netns.sysctl("net.ipv4.ip_local_port_range", "10240 65535")?;
    netns.sysctl("net.core.somaxconn", &BACKLOG.to_string())?;
    let said = folder.join("sockets.json");
    let rate = rate.to_string();
    let mut arguments = vec!["rate", "--rate", &rate, "--seconds", SECONDS];
    arguments.extend(given_up.then_some("--given-up"));
    let mut generator = Started::spawn(&netns, &arguments, &said)?;
    let used = used(watch)?;
    let status =
        wait::until("the load to end", STANDING, || generator.0.try_wait().context("cannot wait for the load"))?;
    if !status.success() {
        bail!("the load failed: {status}");
    }
    let said = fs::read_to_string(said).context("cannot read what the load did")?;
    Ok((used, Some(serde_json::from_str(&said).context("the load said something else")?)))
}

/// Over the window, which begins when things have settled; then ends it.
fn used(mut watch: Watch) -> Result<Used> {
    wait::at_most(SETTLE, || Ok(false))?;
    let share = Share::begin(watch.pid())?;
    wait::at_most(WINDOW, || watch.pump().map(|()| false))?;
    let cores = share.end()?;
    let memory = cost::memory(watch.pid())?;
    watch.stop()?;
    let mut lost = watch.summary.as_ref().context("observer gave no summary")?.lost.clone();
    let evicted = lost.remove("evicted").unwrap_or_default();
    lost.retain(|_, count| *count > 0);
    Ok(Used { cores, memory, lost, evicted })
}

fn row(what: &str, reached: f64, used: &Used) -> Result<()> {
    let [now, most] = used.memory;
    say(&format!(
        "{what:<44} {reached:>10.0} {:>6.2} % {now:>9.1} {most:>9.1} {:>6} {:>8}",
        used.cores * 100.0,
        used.all_lost(),
        used.evicted
    ))
}

impl Used {
    fn all_lost(&self) -> u64 {
        self.lost.values().sum()
    }

    fn json(&self) -> Value {
        json!({
            "cores": self.cores,
            "memory_mib": self.memory[0],
            "memory_most_mib": self.memory[1],
            "lost": self.all_lost(),
            "lost_by_kind": self.lost,
            "evicted": self.evicted,
        })
    }
}

/// One of our own; dropping it ends it.
struct Started(Child);

impl Started {
    fn spawn(netns: &Netns, arguments: &[&str], said: &Path) -> Result<Self> {
        let file = File::create(said).with_context(|| format!("cannot create {}", said.display()))?;
        let mut command = netns.command(std::env::current_exe().context("cannot find our own executable")?);
        command.arg("bench-sockets").args(arguments).stdout(file);
        Ok(Self(command.spawn().context("cannot start the load")?))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        shell::end(&mut self.0);
    }
}

/// Sockets that do nothing, in a namespace of their own.
pub(super) struct Standing {
    _holders: Vec<Started>,
    netns: Netns,
}

/// What the kernel counts in a namespace.
pub(super) struct Sockets {
    /// Ends of connections and listeners.
    pub(super) in_use: u32,
    pub(super) time_wait: u32,
}

impl Standing {
    /// Returns when they all stand. TIME_WAIT sockets do so for a minute (TCP_TIMEWAIT_LEN).
    pub(super) fn stage(folder: &Path, listeners: u32, connections: u32, time_waits: u32) -> Result<Self> {
        let netns = Netns::create("bench")?;
        netns.sysctl("net.ipv4.tcp_max_tw_buckets", "262144")?;
        netns.sysctl("net.ipv4.ip_local_port_range", "32768 65535")?;
        let mut holders = Vec::new();
        for holder in 0..HOLDERS {
            let port = FIRST_PORT + holder * (listeners / HOLDERS);
            let counts = [port, listeners / HOLDERS, connections / HOLDERS, time_waits / HOLDERS];
            let [port, listeners, connections, time_waits] = counts.map(|count| count.to_string());
            let mut arguments = vec!["stand", "--port", &port, "--listeners", &listeners];
            arguments.extend(["--connections", &connections, "--time-waits", &time_waits]);
            let said = folder.join(format!("standing-{holder}"));
            holders.push((Started::spawn(&netns, &arguments, &said)?, said));
        }
        wait::until("sockets to stand", STANDING, || {
            let mut all = true;
            for (holder, said) in &mut holders {
                if let Some(status) = holder.0.try_wait().context("cannot wait for the sockets")? {
                    bail!("the sockets could not be made: {status}");
                }
                all &= fs::read_to_string(said).is_ok_and(|text| !text.is_empty());
            }
            Ok(all.then_some(()))
        })?;
        Ok(Self { _holders: holders.into_iter().map(|(holder, _)| holder).collect(), netns })
    }

    pub(super) fn sockets(&self) -> Result<Sockets> {
        let text = shell::output(self.netns.command("cat").arg("/proc/net/sockstat"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("TCP: ")).context("no TCP in sockstat")?;
        let words: Vec<_> = line.split(' ').collect();
        let of = |name: &str| -> Result<u32> {
            let at = words.iter().position(|word| *word == name).context("a short sockstat")?;
            words.get(at + 1).context("a short sockstat")?.parse().context("not a number")
        };
        Ok(Sockets { in_use: of("inuse")?, time_wait: of("tw")? })
    }
}
