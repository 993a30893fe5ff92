//! Connections at a rate.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{Backlog, listen};
use serde_json::json;

use super::{address, be_a_proxy, paced};

const PORT: u16 = 9000;
/// The namespace must allow as much (`somaxconn`).
pub(crate) const BACKLOG: i32 = 65_535;

/// Prints what came of it, as JSON.
pub(super) fn run(rate: u32, span: Duration) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen")?;
    // A SYN that finds the queue full would have us wait for a second.
    listen(&listener, Backlog::new(BACKLOG)?).context("cannot listen")?;
    // Ends with the process. A connection that was reset meanwhile is none.
    thread::spawn(move || listener.incoming().for_each(drop));
    be_a_proxy()?;
    let started = Instant::now();
    let mut failed = 0;
    let tried = paced(rate, Some(span), |number| {
        if TcpStream::connect(address(number, PORT)).is_err() {
            failed += 1;
        }
        Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", json!({ "connections": tried - failed, "failed": failed, "seconds": seconds }));
    Ok(())
}
