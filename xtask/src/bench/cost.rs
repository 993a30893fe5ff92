//! Processor time and memory of processes.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What these processes have run so far; threads but their first are not counted (Documentation/scheduler/sched-stats.rst).
pub(super) fn run_time(pids: &[i32]) -> Result<Duration> {
    let of = |pid: &i32| {
        let path = format!("/proc/{pid}/schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let nanos = text.split(' ').next().context("an empty schedstat")?;
        Ok(Duration::from_nanos(nanos.parse().context("not a number")?))
    };
    pids.iter().map(of).sum()
}

/// The kernel's threads for packets that no process takes in at once: loopback's too, under load.
pub(super) fn packet_threads() -> Result<Vec<i32>> {
    let processes = fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let called =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.starts_with("ksoftirqd/"));
    Ok(pids.filter(called).collect())
}

/// What our children took that have ended and been waited for.
pub(super) fn ended_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask what children used")?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// The share of a core that a process takes, its threads and those that it waited for included.
pub(super) struct Share {
    pid: u32,
    began: Instant,
    ticks: u64,
}

impl Share {
    pub(super) fn begin(pid: u32) -> Result<Self> {
        Ok(Self { pid, ticks: ticks(pid)?, began: Instant::now() })
    }

    pub(super) fn end(&self) -> Result<f64> {
        let ticks = u32::try_from(ticks(self.pid)? - self.ticks)?;
        Ok(f64::from(ticks) / 100.0 / self.began.elapsed().as_secs_f64())
    }
}

/// Hundredths of a second, whatever the kernel's own ticks are (USER_HZ, proc_pid_stat(5)).
fn ticks(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has gone")?;
    let after_name = stat.rsplit_once(')').context("not a stat line")?.1;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    // utime, stime, cutime, cstime
    let times = fields.get(11..15).context("a short stat line")?;
    times.iter().map(|field| field.parse::<u64>().context("not a number")).sum()
}

/// MiB that a process has in memory, and the most that it ever had.
pub(super) fn memory(pid: u32) -> Result<[f64; 2]> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has gone")?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("a status without memory")?;
        let kib: u32 = line.trim().trim_end_matches(" kB").parse().context("not a number")?;
        Ok(f64::from(kib) / 1024.0)
    };
    Ok([field("VmRSS:")?, field("VmHWM:")?])
}
