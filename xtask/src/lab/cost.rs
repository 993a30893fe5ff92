//! `cargo xtask lab cost`: what observing costs the proxy, in processor time a request, against the same load unobserved.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::scenario::{Backend, BackendKind, Load, Nginx, Sysctls, Topology};
use super::stage::Stage;
use super::watch::Watch;
use crate::{interrupt, paths, wait};

/// Requests measured at a time: some seconds of them.
const REQUESTS: usize = 30_000;
const CLIENTS: usize = 8;
/// Each way of observing is measured so often, in turn, and its median counts: machines are shared.
const ROUNDS: usize = 3;
const LOAD: Duration = Duration::from_mins(2);

#[derive(Clone, Copy)]
enum Way {
    Unobserved,
    WithoutAnswers,
    Whole,
}

impl Way {
    const ALL: [Self; 3] = [Self::Unobserved, Self::WithoutAnswers, Self::Whole];

    fn name(self) -> &'static str {
        match self {
            Self::Unobserved => "unobserved",
            Self::WithoutAnswers => "observer --no-answers",
            Self::Whole => "observer",
        }
    }
}

/// Prints the medians, each as a ratio to the unobserved load's: requests on kept connections, and a connection for each.
pub(super) fn measure() -> Result<()> {
    interrupt::listen()?;
    for (kept, what) in [(true, "kept upstream connections"), (false, "an upstream connection for each request")] {
        let mut stage = Stage::new(paths::lab_runs().join("cost"), Topology::Local, &Sysctls::default())?;
        stage.start_backend(&Backend { kind: BackendKind::Raw, ..Backend::default() })?;
        stage.start_nginx(&nginx(kept))?;
        stage.note_proxy_pids()?;
        let mut costs = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (way, costs) in Way::ALL.into_iter().zip(&mut costs) {
                costs.push(cost(&stage, way)?);
            }
        }
        println!("{what}: nginx's processor time a request, median of {ROUNDS}");
        let unobserved = median(&mut costs[0]);
        for (way, costs) in Way::ALL.into_iter().zip(&mut costs) {
            let cost = median(costs);
            println!("  {:<22} {cost:>6.1} µs  x{:.3}", way.name(), cost / unobserved);
        }
    }
    Ok(())
}

fn nginx(kept: bool) -> Nginx {
    let location = ["proxy_http_version 1.1", "proxy_set_header Connection \"\""].map(str::to_owned);
    Nginx {
        keepalive: kept.then_some(CLIENTS),
        location: if kept { location.to_vec() } else { Vec::new() },
        ..Nginx::default()
    }
}

/// Microseconds of processor time that the proxy takes for a request.
fn cost(stage: &Stage, way: Way) -> Result<f64> {
    let mut watch = match way {
        Way::Unobserved => None,
        Way::WithoutAnswers => Some(Watch::spawn(stage.folder(), "observer", None, &["--no-answers"])?),
        Way::Whole => Some(Watch::spawn(stage.folder(), "observer", None, &[])?),
    };
    if let Some(watch) = &mut watch {
        watch.wait_ready()?;
    }
    let before = ticks(stage)?;
    let load = Load {
        paths: vec!["/".to_owned()],
        requests: REQUESTS,
        concurrency: Some(CLIENTS),
        keepalive: true,
        ..Load::default()
    };
    let mut clients = stage.start_load(&load, &stage.folder().join("load.json"))?;
    let ended = wait::until("the load to end", LOAD, || clients.try_wait().context("cannot wait for the load"))?;
    if !ended.success() {
        bail!("the load failed: {ended}");
    }
    let used = ticks(stage)? - before;
    if let Some(watch) = &mut watch {
        watch.stop()?;
    }
    // Clock ticks are a hundredth of a second for programs, whatever the kernel's own (USER_HZ, proc_pid_stat(5)).
    Ok(f64::from(u32::try_from(used).context("a strange time")?) * 10_000.0 / f64::from(u32::try_from(REQUESTS)?))
}

/// Processor time of the proxy's processes so far, in clock ticks, its own and the kernel's for it.
fn ticks(stage: &Stage) -> Result<u64> {
    let mut ticks = 0;
    for pid in &stage.proxy_pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the proxy has gone")?;
        let after_name = stat.rsplit_once(')').context("not a stat line")?.1;
        let fields: Vec<_> = after_name.split_whitespace().collect();
        for field in [11, 12] {
            ticks += fields.get(field).context("a short stat line")?.parse::<u64>().context("not a number")?;
        }
    }
    Ok(ticks)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
