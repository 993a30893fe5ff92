//! Processor time of observer while a proxy's log grows, line by line, and whether it reads them all.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cost::{self, Share};
use super::say;
use crate::lab::{RunFolder, Watch};
use crate::{paths, wait};

/// Lines a second.
const RATES: [u32; 2] = [0, 50_000];
/// Measured.
const WINDOW: Duration = Duration::from_secs(10);
/// What begins with the start is over.
const SETTLE: Duration = Duration::from_secs(1);
/// As nginx writes of a request that failed: each is taken apart, told, and held against the tries that were seen.
const LINE: &str = "2026/11/30 19:05:00 [error] 4194303#0: *45 connect() failed (111: Connection refused) while connecting to \
                    upstream, client: 10.0.0.1, server: shop.example, request: \"GET /api/cart/items?session=5f2c HTTP/1.1\", \
                    upstream: \"http://127.0.0.1:9000/api/cart/items?session=5f2c\", host: \"shop.example\"\n";

pub(super) fn measure() -> Result<Value> {
    let folder = RunFolder::create(paths::lab_runs().join("bench"))?;
    say(&format!(
        "\nfollowing a log of nginx's, over {}\n{:<24} {:>10} {:>10} {:>9} {:>8}",
        humantime::format_duration(WINDOW),
        "lines a second",
        "written",
        "read",
        "a core",
        "MiB"
    ))?;
    let rows = RATES.iter().map(|rate| at(folder.path(), *rate)).collect::<Result<Vec<_>>>()?;
    Ok(Value::Array(rows))
}

fn at(folder: &Path, rate: u32) -> Result<Value> {
    let path = folder.join("error.log");
    let mut log = File::create(&path).context("cannot write a log")?;
    let named = path.to_string_lossy();
    let mut watch = Watch::spawn(folder, "observer", None, &["--error-log", &named])?;
    watch.wait_ready()?;
    wait::at_most(SETTLE, || Ok(false))?;
    let share = Share::begin(watch.pid())?;
    let begun = Instant::now();
    let mut written = 0;
    wait::at_most(WINDOW, || {
        watch.pump()?;
        // As many as should have been by now.
        let due = begun.elapsed().min(WINDOW).as_secs_f64() * f64::from(rate);
        let mut handful = String::new();
        while f64::from(written) < due {
            handful.push_str(LINE);
            written += 1;
        }
        log.write_all(handful.as_bytes()).context("cannot write a log")?;
        Ok(false)
    })?;
    let cores = share.end()?;
    let [memory, _] = cost::memory(watch.pid())?;
    watch.stop()?;
    let summary = watch.summary.as_ref().context("observer gave no summary")?;
    let read = summary.lines_of(&path);
    say(&format!("{rate:<24} {written:>10} {read:>10} {:>7.2} % {memory:>8.1}", cores * 100.0))?;
    fs::remove_file(&path).context("cannot remove a log")?;
    Ok(json!({
        "lines_per_second": rate,
        "written": written,
        "read": read,
        "cores": cores,
        "memory_mib": memory,
    }))
}
