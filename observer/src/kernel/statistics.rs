//! What the programs cost, by the kernel's own statistics.

use std::{fs, os::fd::OwnedFd};

use aya::sys::{Stats, enable_stats};

/// What a program has cost since it was loaded, as far as the kernel's statistics were on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunTime {
    /// Its name.
    pub name: String,
    /// How often it ran (`run_cnt`).
    pub runs: u64,
    /// Nanoseconds that it took altogether (`run_time_ns`).
    pub nanos: u64,
}

/// The attached programs, by name and descriptor; they must outlive this.
pub struct Statistics {
    programs: Vec<(String, i32)>,
    /// The kernel measures while it is held: two readings of the clock for each run of any program on this host.
    measuring: Option<OwnedFd>,
}

impl Statistics {
    pub(crate) fn of(programs: Vec<(String, i32)>) -> Self {
        Self { programs, measuring: None }
    }

    /// Has the kernel measure (`BPF_ENABLE_STATS`, 5.8), or not any more.
    pub fn measure(&mut self, on: bool) {
        self.measuring = if on { enable_stats(Stats::RunTime).ok() } else { None };
    }

    /// Each program as it stands; none where the kernel does not measure.
    pub fn read(&self) -> Vec<RunTime> {
        let measured = self.measuring.iter().flat_map(|_| &self.programs);
        let read = |(name, fd): &(String, i32)| {
            let [nanos, runs] = fields(*fd, ["run_time_ns:", "run_cnt:"]);
            Some(RunTime { name: name.clone(), runs: runs?, nanos: nanos? })
        };
        measured.filter_map(read).collect()
    }
}

/// Numbers that the kernel tells of a program (kernel/bpf/syscall.c `bpf_prog_show_fdinfo`).
pub(super) fn fields<const COUNT: usize>(fd: i32, names: [&str; COUNT]) -> [Option<u64>; COUNT] {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    names.map(|name| info.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok())
}
