//! Connections at a rate.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{Backlog, listen};
use serde_json::json;

use super::{address, be_a_proxy, paced};

const PORT: u16 = 9000;
/// What the namespace must allow (`somaxconn`).
pub(crate) const BACKLOG: i32 = 65_535;

/// Connections that are open at once, so that each may have been accepted and answered before it is closed here.
const OPEN: usize = 500;

/// Has each connection answered, by a byte, and closed by the server as soon as it has accepted it; or closes it at once, `given_up`
/// before it may have been accepted. Prints what came of it, as JSON.
pub(super) fn run(rate: u32, given_up: bool, span: Duration) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen")?;
    // A SYN that finds the queue full would have us wait for a second.
    listen(&listener, Backlog::MAXALLOWABLE).context("cannot listen")?;
    // Ends with the process. A connection that was reset meanwhile, or given up, needs no answer.
    thread::spawn(move || listener.incoming().flatten().for_each(|mut client| drop(client.write(&[0]))));
    be_a_proxy()?;
    let started = Instant::now();
    let mut failed = 0;
    let mut open = VecDeque::new();
    let tried = paced(rate, Some(span), |number| {
        match TcpStream::connect(address(number, PORT)) {
            Ok(stream) if !given_up => open.push_back(stream),
            Ok(_) => {}
            Err(_) => failed += 1,
        }
        if open.len() > OPEN {
            answered(open.pop_front());
        }
        Ok(())
    })?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}", json!({ "connections": tried - failed, "failed": failed, "seconds": seconds }));
    Ok(())
}

/// Waits for an answer. One that was reset has none.
fn answered(stream: Option<TcpStream>) {
    if let Some(mut stream) = stream {
        let _ = stream.read(&mut [0]);
    }
}
