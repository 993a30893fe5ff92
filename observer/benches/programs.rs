//! What the kernel programs cost, by the kernel's own statistics, beside programs that do nothing on the same hooks
//! (`observer-ebpf/src/empty.rs`): attached together, so that both ran equally often and in the same conditions. Measured
//! while a command runs (`cargo bench -p observer --bench programs -- wrk …`), or for some seconds of whatever the host
//! does. `--close-look` measures those too that are attached only while something goes wrong. The last line is the same as one JSON
//! object.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use aya::{
    Btf, Ebpf,
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use observer::{
    kernel::{Options, look::When, statistics::RunTime},
    source::{Live, Polled, Source as _, logs},
};
use serde_json::json;

/// Without a command.
const SECONDS: u64 = 5;
/// Between two looks into the ring; it holds seconds of it.
const PAUSE: Duration = Duration::from_millis(10);

static EMPTY: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/empty"));

fn main() -> ExitCode {
    // cargo adds an option of its own.
    let mut command: Vec<OsString> = std::env::args_os().skip(1).filter(|argument| argument != "--bench").collect();
    let closely = command.first().is_some_and(|argument| argument == "--close-look");
    if closely {
        command.remove(0);
    }
    see_tracefs();
    let look = if closely { When::Always } else { When::Never };
    let mut live = Live::start(Options { look, ..Options::default() }, logs::Options::default())
        .expect("attaching: this needs root");
    live.measure(true);
    let attached = live.run_times().expect("it runs");
    let empty = attach_empty(&attached);
    let began = Instant::now();
    let (before, before_empty) = (live.run_times().expect("it runs"), run_times(&empty));
    let mut status = None;
    if let Some((program, arguments)) = command.split_first() {
        let mut child = Command::new(program).args(arguments).spawn().expect("the command starts");
        drain_until(&mut live, || {
            status = child.try_wait().expect("it is our child");
            status.is_some()
        });
    } else {
        drain_until(&mut live, || began.elapsed() >= Duration::from_secs(SECONDS));
    }
    let failed = status.is_some_and(|status| !status.success());
    let (after, after_empty) = (live.run_times().expect("it runs"), run_times(&empty));
    let seconds = began.elapsed().as_secs_f64();

    let empty = since(&before_empty, &after_empty);
    let mut programs: Vec<_> = since(&before, &after).into_values().filter(|program| program.runs > 0).collect();
    programs.sort_by_key(|program| std::cmp::Reverse(program.nanos));
    println!("{:<24} {:>12} {:>10} {:>10}", "program", "runs", "ns a run", "empty, ns");
    let mut rows = Vec::new();
    for program in programs {
        let ns = each(&program);
        let empty_ns = empty.get(&program.name).filter(|empty| empty.runs > 0).map(each);
        let shown = empty_ns.map_or("-".to_owned(), |ns| format!("{ns:.0}"));
        println!("{:<24} {:>12} {ns:>10.0} {shown:>10}", program.name, program.runs);
        rows.push(json!({ "name": program.name, "runs": program.runs, "ns": ns, "empty_ns": empty_ns }));
    }
    println!("{}", json!({ "seconds": seconds, "programs": rows }));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Where the host has not mounted it, in a mount namespace of our own, as observer does.
fn see_tracefs() {
    const PLACE: &str = "/sys/kernel/tracing";
    const NONE: Option<&str> = None;
    if Path::new(PLACE).join("events").exists() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).expect("this needs root");
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).expect("mounts of our own");
    mount(NONE, PLACE, Some("tracefs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, NONE).expect("a tracefs");
}

/// Takes out of the ring what comes, as observer does: a full one would make the programs cheaper.
fn drain_until(live: &mut Live, mut done: impl FnMut() -> bool) {
    let mut batch = Vec::new();
    while !done() {
        if live.poll(&mut batch) == Polled::Idle {
            std::thread::sleep(PAUSE);
        }
        batch.clear();
    }
}

/// One for each that observer has attached.
fn attach_empty(attached: &[RunTime]) -> Ebpf {
    let btf = Btf::from_sys_fs().expect("observer has read it too");
    let mut ebpf = Ebpf::load(EMPTY).expect("they are ours");
    for RunTime { name, .. } in attached {
        // Iterators run when they are read, not when something happens; and a hook costs what one program does.
        if name.starts_with("walk") || name.starts_with("again_") {
            continue;
        }
        let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("observer-ebpf/src/empty.rs lacks {name}"));
        let attached = match program {
            Program::BtfTracePoint(program) => program.load(name, &btf).and_then(|()| program.attach().map(drop)),
            Program::TracePoint(program) => program.load().and_then(|()| program.attach("syscalls", name).map(drop)),
            Program::CgroupSkb(program) => program.load().and_then(|()| {
                let root = File::open(cgroup_root()).expect("observer has found it too");
                program.attach(root, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single).map(drop)
            }),
            _ => panic!("{name} is of a kind that this does not attach"),
        };
        attached.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    ebpf
}

/// /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid host.
fn cgroup_root() -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").expect("there is /proc");
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let root = mounts.find(|mount| mount[2] == "cgroup2").expect("observer has found it too");
    root[1].to_owned()
}

fn run_times(ebpf: &Ebpf) -> Vec<RunTime> {
    let read = |(name, program): (&str, &Program)| {
        // Those that are not loaded have none.
        let info = program.info().ok()?;
        Some(RunTime {
            name: name.to_owned(),
            runs: info.run_count(),
            nanos: u64::try_from(info.run_time().as_nanos()).ok()?,
        })
    };
    ebpf.programs().filter_map(read).collect()
}

/// What has been added, by name.
fn since(before: &[RunTime], after: &[RunTime]) -> HashMap<String, RunTime> {
    let before: HashMap<_, _> = before.iter().map(|program| (&program.name, program)).collect();
    let of = |program: &RunTime| {
        let (runs, nanos) = before.get(&program.name).map_or((0, 0), |before| (before.runs, before.nanos));
        RunTime { name: program.name.clone(), runs: program.runs - runs, nanos: program.nanos - nanos }
    };
    after.iter().map(|program| (program.name.clone(), of(program))).collect()
}

/// Nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "whole nanoseconds are shown")]
fn each(program: &RunTime) -> f64 {
    program.nanos as f64 / program.runs as f64
}
