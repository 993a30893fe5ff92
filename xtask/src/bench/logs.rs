//! Processor time of observer while a proxy's log grows, line by line, and whether it reads them all.

use std::borrow::Cow;
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

/// Of what, and how many lines a second.
const RUNS: [(Kind, u32); 3] = [(Kind::Errors, 0), (Kind::Errors, 50_000), (Kind::Requests, 50_000)];
/// Measured.
const WINDOW: Duration = Duration::from_secs(10);
/// What begins with the start is over.
const SETTLE: Duration = Duration::from_secs(1);
/// As nginx writes of a request that failed: each is taken apart, told, and held against the tries that were seen.
const LINE: &str = "2026/11/30 19:05:00 [error] 4194303#0: *45 connect() failed (111: Connection refused) while connecting to \
                    upstream, client: 10.0.0.1, server: shop.example, request: \"GET /api/cart/items?session=5f2c HTTP/1.1\", \
                    upstream: \"http://127.0.0.1:9000/api/cart/items?session=5f2c\", host: \"shop.example\"\n";

/// As nginx writes of any request.
const REQUEST: &str = "10.0.0.1 - - [30/Nov/2026:19:05:00 +0000] \"GET /api/cart/items?session=5f2c HTTP/1.1\" 200 1534 \
                       \"https://shop.example/cart\" \"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\"\n";
/// Every so many of them failed.
const FAILED_OF: u32 = 100;

/// What is in a log.
#[derive(Clone, Copy)]
enum Kind {
    /// What went wrong.
    Errors,
    /// Each request.
    Requests,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Requests => "requests",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Errors => "--error-log",
            Self::Requests => "--access-log",
        }
    }

    fn line(self, number: u32) -> Cow<'static, str> {
        match self {
            Self::Errors => LINE.into(),
            Self::Requests if number.is_multiple_of(FAILED_OF) => REQUEST.replace("\" 200 ", "\" 502 ").into(),
            Self::Requests => REQUEST.into(),
        }
    }
}

pub(super) fn measure() -> Result<Value> {
    let folder = RunFolder::create(paths::lab_runs().join("bench"))?;
    say(&format!(
        "\nfollowing a log of nginx's, over {}\n{:<10} {:>14} {:>10} {:>10} {:>9} {:>8}",
        humantime::format_duration(WINDOW),
        "of",
        "lines a second",
        "written",
        "read",
        "a core",
        "MiB"
    ))?;
    let rows = RUNS.iter().map(|(kind, rate)| at(folder.path(), *kind, *rate)).collect::<Result<Vec<_>>>()?;
    Ok(Value::Array(rows))
}

fn at(folder: &Path, kind: Kind, rate: u32) -> Result<Value> {
    let path = folder.join("proxy.log");
    let mut log = File::create(&path).context("cannot write a log")?;
    let named = path.to_string_lossy();
    let mut watch = Watch::spawn(folder, "observer", None, &[kind.option(), &named])?;
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
            handful.push_str(&kind.line(written));
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
    say(&format!("{:<10} {rate:>14} {written:>10} {read:>10} {:>7.2} % {memory:>8.1}", kind.name(), cores * 100.0))?;
    fs::remove_file(&path).context("cannot remove a log")?;
    Ok(json!({
        "of": kind.name(),
        "lines_per_second": rate,
        "written": written,
        "read": read,
        "cores": cores,
        "memory_mib": memory,
    }))
}
