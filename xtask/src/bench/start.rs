//! From the start of observer to its line `ready`: on the host as it is, and with many sockets there.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::figures::Spread;
use super::load::Standing;
use super::say;
use crate::lab::{RunFolder, Watch};
use crate::paths;

const STARTS: usize = 5;
const LISTENERS: u32 = 500;
/// Two to each connection: both its ends are here.
const SOCKETS: u32 = 50_000;

pub(super) fn measure() -> Result<Value> {
    let folder = RunFolder::create(paths::lab_runs().join("bench"))?;
    say("\nfrom the start to ready, milliseconds")?;
    let quiet = starts(folder.path(), "on the host as it is")?;
    let standing = Standing::stage(folder.path(), LISTENERS, SOCKETS / 2, 0)?;
    let sockets = standing.sockets()?;
    let busy = starts(folder.path(), &format!("with {LISTENERS} listeners and {} sockets", sockets.in_use))?;
    Ok(json!({
        "host_ms": quiet,
        "standing_ms": busy,
        "listeners": LISTENERS,
        "sockets": sockets.in_use,
    }))
}

fn starts(folder: &Path, what: &str) -> Result<Spread> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let mut watch = Watch::spawn(folder, "observer", None, &[])?;
        watch.wait_ready()?;
        times.push(watch.took_to_be_ready().context("it is ready")?.as_secs_f64() * 1e3);
        watch.stop()?;
    }
    let spread = Spread::of(&times).context("there were starts")?;
    let [low, high] = spread.quartiles;
    say(&format!("{what:<52} {:>6.0}   ({low:.0} to {high:.0})", spread.median))?;
    Ok(spread)
}
