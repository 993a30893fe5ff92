//! Facts about this host that are no events: its clocks.

use std::{fs, time::Duration};

use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::{
    event::HostSample,
    text::escape,
    time::{Time, WallClock},
};

/// Length of a jiffy in nanoseconds: the resolution of the coarse clock is one tick (`KTIME_LOW_RES`,
/// include/linux/hrtimer.h). 4 ms where the kernel would not say.
pub fn jiffy() -> u32 {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from);
    resolution.ok().and_then(|tick| u32::try_from(tick.as_nanos()).ok()).unwrap_or(4_000_000)
}

/// The kernel's clock, now. Called by sources and the pipeline only.
pub fn now() -> Time {
    let nanos = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos());
    Time(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What the current thread has used of the processors.
pub fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// What observer, all its threads, has used of the processors; its kernel programs not counted, which run on others' time.
pub fn own_processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Memory that observer occupies, in bytes (`VmRSS` of /proc/self/status, proc_pid_status(5)); maps in the kernel not counted.
/// 0 where it cannot be read.
pub fn own_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

/// The wall clock against the kernel's.
pub fn wall_clock() -> WallClock {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| Duration::from(time).as_nanos());
    WallClock { offset: u64::try_from(wall).unwrap_or(0).saturating_sub(now().0) }
}

/// The processors' totals since boot, all of them together (`/proc/stat`, proc_stat(5); `/proc/pressure/cpu`).
pub fn processors() -> Option<HostSample> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user's already.
    let ticks: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|word| word.parse().ok()).take(8).collect();
    let pressure = fs::read_to_string("/proc/pressure/cpu").ok();
    let waited_us = pressure.and_then(|text| text.lines().next()?.rsplit_once("total=")?.1.trim().parse().ok());
    Some(HostSample { ticks: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0), waited_us })
}

/// The host's name, control characters escaped; empty where it cannot be read.
pub fn name() -> String {
    from_proc("/proc/sys/kernel/hostname")
}

/// Release of its kernel (`uname -r`), likewise.
pub fn kernel() -> String {
    from_proc("/proc/sys/kernel/osrelease")
}

fn from_proc(path: &str) -> String {
    escape(fs::read(path).unwrap_or_default().trim_ascii())
}

/// A sysctl that matters, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value, or why there is none.
    pub value: String,
    /// What to mind about this value, if it is a known trap.
    pub remark: Option<String>,
}

/// A remark on a sysctl's value, if it is a trap.
type Remark = fn(&str) -> Option<String>;

/// The sysctls that lie behind 502s, each with what makes its value a trap.
const SETTINGS: [(&str, Remark); 6] = [
    ("net.core.somaxconn", |value| {
        let limit: u32 = value.parse().ok()?;
        (limit < 1024).then(|| {
            format!("every listener's accept queue is cut to {limit}, whatever backlog it asks for (default 4096)")
        })
    }),
    ("net.ipv4.ip_local_port_range", |value| {
        let mut ends = value.split_whitespace().map(str::parse::<u32>);
        let ports = (ends.next()?.ok()?, ends.next()?.ok()?);
        let count = (ports.1 + 1).saturating_sub(ports.0);
        (count < 20_000).then(|| {
            format!("only {count} ports per destination: without keepalive {} new connections a second", count / 60)
        })
    }),
    ("net.ipv4.tcp_tw_reuse", |value| {
        (value == "0").then(|| "ports in TIME_WAIT are never reused, not even on loopback (default 2)".to_owned())
    }),
    ("net.ipv4.tcp_abort_on_overflow", |value| {
        (value != "0").then(|| "a full accept queue resets clients: bursts that would pass become 502s".to_owned())
    }),
    ("net.ipv4.tcp_syncookies", |value| {
        (value == "0").then(|| "a full SYN queue drops connections instead of answering with a cookie".to_owned())
    }),
    ("net.ipv4.tcp_max_syn_backlog", |_| None),
];

/// What to mind about a setting's value, if it is a known trap.
pub fn remark(name: &str, value: &str) -> Option<String> {
    SETTINGS.iter().find(|(each, _)| *each == name).and_then(|(_, remark)| remark(value))
}

/// The settings of the network namespace that this process is in.
pub fn settings() -> Vec<Setting> {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")));
    SETTINGS
        .iter()
        .map(|(name, remark)| match read(name) {
            Ok(value) => {
                let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
                Setting { name, remark: remark(&value), value }
            }
            Err(error) => Setting { name, value: format!("unreadable: {error}"), remark: None },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_no_traps() {
        for (name, value) in [
            ("net.core.somaxconn", "4096"),
            ("net.ipv4.ip_local_port_range", "32768 60999"),
            ("net.ipv4.tcp_tw_reuse", "2"),
            ("net.ipv4.tcp_abort_on_overflow", "0"),
            ("net.ipv4.tcp_syncookies", "1"),
        ] {
            assert_eq!(remark(name, value), None, "{name}");
        }
    }

    #[test]
    fn traps_are_remarked_on_with_their_numbers() {
        assert!(remark("net.core.somaxconn", "128").is_some_and(|text| text.contains("cut to 128")));
        assert!(remark("net.ipv4.ip_local_port_range", "40000 40099").is_some_and(|text| text.contains("only 100")));
        assert!(remark("net.ipv4.tcp_abort_on_overflow", "1").is_some());
        assert_eq!(remark("net.core.somaxconn", "nonsense"), None);
    }

    #[test]
    fn a_jiffy_is_between_one_and_ten_milliseconds() {
        assert!((1_000_000..=10_000_000).contains(&jiffy()));
    }
}
