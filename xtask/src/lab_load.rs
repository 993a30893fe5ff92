//! `xtask lab-load`: HTTP requests, open or closed loop, with an exact count of the answers by status.

mod client;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use self::client::Client;

/// A thread per request in flight needs little.
const STACK: usize = 64 * 1024;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    address: SocketAddr,
    /// Asked for in turn
    #[arg(long = "path")]
    paths: Vec<String>,
    #[arg(long)]
    requests: usize,
    /// Closed loop: clients, each with one request at a time
    #[arg(long, required_unless_present = "rate")]
    concurrency: Option<usize>,
    /// Open loop: requests a second
    #[arg(long, conflicts_with = "concurrency")]
    rate: Option<f64>,
    /// Keep connections
    #[arg(long)]
    keepalive: bool,
    /// Seconds between a client's requests, in the closed loop
    #[arg(long, conflicts_with = "rate")]
    pause: Option<f64>,
    /// Bytes sent with each request, which is a POST then
    #[arg(long)]
    body: Option<usize>,
    /// Seconds after which a client leaves without its answer
    #[arg(long)]
    patience: Option<f64>,
}

/// What the clients saw: a status, or why there was none.
type Seen = Mutex<BTreeMap<String, usize>>;

pub(crate) fn run(args: &Args) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")?;
    let seen = Seen::default();
    let started = Instant::now();
    match (args.rate, args.concurrency) {
        (Some(rate), _) => open_loop(args, rate, &seen)?,
        (None, concurrency) => closed_loop(args, concurrency.unwrap_or(1), &seen)?,
    }
    let seen = seen.into_inner().unwrap_or_default();
    let report = json!({
        "requests": seen.values().sum::<usize>(),
        "status": seen,
        "seconds": started.elapsed().as_secs_f64(),
    });
    println!("{report}");
    Ok(())
}

fn closed_loop(args: &Args, concurrency: usize, seen: &Seen) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..concurrency {
            spawn(scope, || {
                let mut client = client(args, args.keepalive);
                for turn in 0.. {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.requests {
                        return;
                    }
                    if let Some(pause) = args.pause.filter(|_| turn > 0) {
                        thread::sleep(Duration::from_secs_f64(pause));
                    }
                    count(seen, &client.ask(path(args, number)));
                }
            })?;
        }
        Ok(())
    })
}

/// Keeps to the timetable whatever becomes of the requests, as real users do.
fn open_loop(args: &Args, rate: f64, seen: &Seen) -> Result<()> {
    let started = Instant::now();
    let interval = Duration::try_from_secs_f64(1.0 / rate).context("not a rate")?;
    let mut due = started;
    thread::scope(|scope| {
        for number in 0..args.requests {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            due += interval;
            spawn(scope, move || count(seen, &client(args, false).ask(path(args, number))))?;
        }
        Ok(())
    })
}

fn spawn<'scope>(scope: &'scope thread::Scope<'scope, '_>, work: impl FnOnce() + Send + 'scope) -> Result<()> {
    thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).context("cannot start a client")?;
    Ok(())
}

fn client(args: &Args, keepalive: bool) -> Client {
    Client::new(args.address, keepalive, args.body, args.patience.map(Duration::from_secs_f64))
}

fn path(args: &Args, number: usize) -> &str {
    args.paths.get(number % args.paths.len().max(1)).map_or("/", String::as_str)
}

fn count(seen: &Seen, answer: &str) {
    if let Ok(mut seen) = seen.lock() {
        *seen.entry(answer.to_owned()).or_default() += 1;
    }
}
