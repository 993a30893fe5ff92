//! `xtask bench-sockets`: bare connections for `cargo xtask bench`, both ends within one process, without a request.

mod overflow;
mod rate;
mod stand;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::prctl::set_name;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(crate) use self::overflow::PORT as OVERFLOW_PORT;
pub(crate) use self::rate::BACKLOG;

/// A name that observer takes for a proxy's.
const PROXY: &std::ffi::CStr = c"nginx";
/// Of 127.0.0.0/8, in turn: each has the ports of the namespace to itself.
const ADDRESSES: u32 = 200;
/// A pause is no shorter than this; what falls due meanwhile comes at once.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Connections that are accepted and closed, so many a second or as many as can be
    Rate {
        #[arg(long)]
        rate: u32,
        /// Close them at once, before they may have been accepted
        #[arg(long)]
        given_up: bool,
        #[arg(long)]
        seconds: u32,
    },
    /// Connections to a listener whose accept queue is full, until killed
    Overflow {
        #[arg(long)]
        rate: u32,
    },
    /// Sockets that stand until this is killed
    Stand {
        /// Of the first listener; the others follow
        #[arg(long)]
        port: u16,
        #[arg(long)]
        listeners: u16,
        #[arg(long)]
        connections: u32,
        #[arg(long)]
        time_waits: u32,
    },
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match args.what {
        What::Rate { rate, given_up, seconds } => rate::run(rate, given_up, Duration::from_secs(seconds.into())),
        What::Overflow { rate } => overflow::run(rate),
        What::Stand { port, listeners, connections, time_waits } => {
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
            setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")?;
            stand::run(port, listeners, connections, time_waits)
        }
    }
}

/// From now on observer follows what this process tries.
fn be_a_proxy() -> Result<()> {
    set_name(PROXY).context("cannot take a name")
}

fn address(number: u32, port: u16) -> SocketAddrV4 {
    let last = u8::try_from(number % ADDRESSES + 1).unwrap_or(1);
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), port)
}

/// Calls `act` so many times a second, late ones at once.
fn paced(rate: u32, span: Option<Duration>, mut act: impl FnMut(u32) -> Result<()>) -> Result<u32> {
    let started = Instant::now();
    let mut done = 0;
    loop {
        let elapsed = started.elapsed();
        if span.is_some_and(|span| elapsed >= span) {
            return Ok(done);
        }
        if elapsed.as_secs_f64() * f64::from(rate) < f64::from(done) {
            std::thread::sleep(PAUSE);
            continue;
        }
        act(done)?;
        done = done.wrapping_add(1);
    }
}
