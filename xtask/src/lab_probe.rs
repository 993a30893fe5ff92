//! `xtask lab-probe`: connections without a request, as port scanners, plain health checks and SYN floods make them.

use std::io::Read;
use std::io::pipe;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

/// On one host an answer comes at once, and silence is one too.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    address: SocketAddrV4,
    #[arg(long)]
    connections: u16,
    /// One to each of as many ports, from that of the address on
    #[arg(long)]
    ports: bool,
    /// Of the first; the others follow. None of these is waited for or given up
    #[arg(long)]
    source_port: Option<u16>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(source) = args.source_port {
        return flood(args, source);
    }
    for number in 0..args.connections {
        let port = if args.ports { args.address.port().saturating_add(number) } else { args.address.port() };
        let address = SocketAddrV4::new(*args.address.ip(), port);
        // What comes of it is for others to see.
        let _ = TcpStream::connect_timeout(&address.into(), PATIENCE);
    }
    Ok(())
}

/// Starts them all and keeps trying until killed.
fn flood(args: &Args, source: u16) -> Result<()> {
    let started: Result<Vec<_>> =
        (0..args.connections).map(|number| half_open(args.address, source + number)).collect();
    let _started = started?;
    let (mut never, _open) = pipe().context("cannot open a pipe")?;
    never.read_exact(&mut [0]).context("killed")
}

fn half_open(address: SocketAddrV4, source: u16) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).context("cannot open a socket")?;
    let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, source));
    bind(fd.as_raw_fd(), &any).context("cannot bind")?;
    match connect(fd.as_raw_fd(), &SockaddrIn::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(error) => Err(error).context("cannot connect"),
    }
}
