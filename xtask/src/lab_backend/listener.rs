//! A listening socket with a backlog of one's own choosing, which the standard library does not let one choose.

use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrLike, UnixAddr, accept4, bind, listen, setsockopt,
    socket, sockopt,
};

/// `ADDRESS:PORT` or `unix:PATH`.
pub(crate) fn open(address: &str, backlog: i32) -> Result<OwnedFd> {
    let listener = if let Some(path) = address.strip_prefix("unix:") {
        bound(AddressFamily::Unix, &UnixAddr::new(path).context("not a path")?)?
    } else {
        let address: SocketAddrV4 = address.parse().context("not an address")?;
        bound(AddressFamily::Inet, &SockaddrIn::from(address))?
    };
    listen(&listener, Backlog::new(backlog).context("not a backlog")?).context("cannot listen")?;
    Ok(listener)
}

fn bound(family: AddressFamily, address: &dyn SockaddrLike) -> Result<OwnedFd> {
    let listener = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("cannot open a socket")?;
    if family == AddressFamily::Inet {
        setsockopt(&listener, sockopt::ReuseAddr, &true).context("cannot reuse the address")?;
    }
    bind(listener.as_raw_fd(), address).context("cannot bind")?;
    Ok(listener)
}

pub(crate) fn accept(listener: &OwnedFd) -> Result<OwnedFd> {
    loop {
        match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: accept4() has just made this descriptor, and nobody else knows it.
            Ok(accepted) => return Ok(unsafe { OwnedFd::from_raw_fd(accepted) }),
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
}
