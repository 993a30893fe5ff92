//! Sockets that stand.

use std::io::{Read, Write, pipe, stdout};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result};

use super::address;

/// Says so when they all do, and keeps them until killed.
pub(super) fn run(first: u16, listeners: u16, connections: u32, time_waits: u32) -> Result<()> {
    let open = |number| TcpListener::bind((Ipv4Addr::UNSPECIFIED, first + number)).context("cannot listen");
    let listeners: Vec<_> = (0..listeners).map(open).collect::<Result<_>>()?;
    let mut kept = Vec::new();
    for number in 0..connections {
        kept.push(both_ends(&listeners, first, number)?);
    }
    for number in 0..time_waits {
        // Whichever end is closed first keeps the addresses for a minute.
        let (client, server) = both_ends(&listeners, first, number)?;
        drop(client);
        drop(server);
    }
    writeln!(stdout(), "standing").context("cannot say so")?;
    let (mut never, _open) = pipe().context("cannot open a pipe")?;
    never.read_exact(&mut [0]).context("killed")
}

fn both_ends(listeners: &[TcpListener], first: u16, number: u32) -> Result<(TcpStream, TcpStream)> {
    let index = usize::try_from(number)? % listeners.len();
    let listener = listeners.get(index).context("connections need a listener")?;
    let port = first + u16::try_from(index)?;
    let client = TcpStream::connect(address(number, port)).context("cannot connect")?;
    let (server, _) = listener.accept().context("cannot accept")?;
    Ok((client, server))
}
