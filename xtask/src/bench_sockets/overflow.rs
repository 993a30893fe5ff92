//! A listener whose accept queue is full nearly always.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};

use super::{address, be_a_proxy, paced};
use crate::lab_backend::listener;

pub(crate) const PORT: u16 = 9999;
const BACKLOG: i32 = 8;
/// Between two that are accepted.
const ACCEPT_EVERY: Duration = Duration::from_millis(50);
/// Given up, oldest first, when there are more.
const WAITING: usize = 256;

/// Until killed.
pub(super) fn run(rate: u32) -> Result<()> {
    let address = address(0, PORT);
    let listener = listener::open(&address.to_string(), BACKLOG)?;
    thread::spawn(move || {
        while listener::accept(&listener).is_ok() {
            thread::sleep(ACCEPT_EVERY);
        }
    });
    be_a_proxy()?;
    let mut waiting: VecDeque<OwnedFd> = VecDeque::new();
    paced(rate, None, |_| {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).context("cannot open a socket")?;
        match connect(fd.as_raw_fd(), &SockaddrIn::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => waiting.push_back(fd),
            Err(error) => return Err(error).context("cannot connect"),
        }
        if waiting.len() > WAITING {
            waiting.pop_front();
        }
        Ok(())
    })
    .map(drop)
}
