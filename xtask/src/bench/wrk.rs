//! wrk, an HTTP load generator that takes little itself.

use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::ground::{Ground, URL};
use crate::{paths, shell, wait};

const CLIENTS: &str = "-c32";
const THREADS: &str = "-t1";
/// Beyond the time asked for.
const SLACK: Duration = Duration::from_secs(20);

/// What wrk says that it did.
#[derive(Debug, PartialEq)]
pub(super) struct Done {
    pub(super) requests: u32,
    pub(super) per_second: f64,
}

/// Its arguments for so many seconds.
pub(super) fn arguments(ground: &Ground, seconds: u32) -> Vec<String> {
    let mut arguments = vec![THREADS.to_owned(), CLIENTS.to_owned(), format!("-d{seconds}s")];
    if !ground.keeps_connections() {
        arguments.extend(["-H".to_owned(), "Connection: close".to_owned()]);
    }
    arguments.push(URL.to_owned());
    arguments
}

/// Runs it to its end.
pub(super) fn run(ground: &Ground, seconds: u32) -> Result<Done> {
    let output = ground.folder().join("wrk.out");
    let file = File::create(&output).with_context(|| format!("cannot create {}", output.display()))?;
    let program = paths::program("wrk").context("wrk is not installed")?;
    let mut command = ground.command(&program);
    let mut child = command.args(arguments(ground, seconds)).stdout(file).spawn().context("cannot start wrk")?;
    let ended = to_its_end(&mut child, Duration::from_secs(seconds.into()) + SLACK);
    if ended.is_err() {
        shell::end(&mut child);
    }
    ended?;
    read(&output)
}

fn to_its_end(child: &mut Child, limit: Duration) -> Result<()> {
    let status = wait::until("wrk to end", limit, || child.try_wait().context("cannot wait for wrk"))?;
    if !status.success() {
        bail!("wrk failed: {status}");
    }
    Ok(())
}

fn read(output: &Path) -> Result<Done> {
    parse(&fs::read_to_string(output).context("cannot read what wrk said")?)
}

pub(super) fn parse(text: &str) -> Result<Done> {
    if let Some(refused) = text.lines().find(|line| line.contains("Non-2xx")) {
        bail!("not all requests were answered well:{refused}");
    }
    let requests = text.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse().ok());
    let per_second = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    let (requests, per_second) =
        requests.zip(per_second).with_context(|| format!("wrk said something else: {text}"))?;
    if requests == 0 {
        bail!("wrk got no answer: {text}");
    }
    Ok(Done { requests, per_second })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 2s test @ http://127.0.0.1:8080/\n  1 threads and 32 connections\n  Thread Stats   Avg\n    \
                        Latency     1.20ms\n  27003 requests in 2.10s, 4.12MB read\nRequests/sec:  12858.57\nTransfer/sec:      1.96MB\n";

    #[test]
    fn what_wrk_did_is_read_from_its_summary() {
        assert_eq!(parse(SAID).expect("it parses"), Done { requests: 27003, per_second: 12858.57 });
    }

    #[test]
    fn answers_that_are_errors_are_no_throughput() {
        assert!(parse(&format!("{SAID}  Non-2xx or 3xx responses: 3\n")).is_err());
        assert!(parse("unable to connect to 127.0.0.1:8080 Connection refused\n").is_err());
    }
}
