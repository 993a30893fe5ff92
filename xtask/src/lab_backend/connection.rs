//! One client's connection, of whatever family.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::sys::time::TimeVal;

pub(super) struct Connection {
    socket: File,
    buffer: Vec<u8>,
}

pub(super) struct Request {
    /// Whether the client wants the connection closed after the answer.
    pub(super) close: bool,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, idle: Option<Duration>) -> Result<Self> {
        if let Some(idle) = idle {
            let idle = TimeVal::new(
                i64::try_from(idle.as_secs()).context("too long a time")?,
                i64::from(idle.subsec_micros()),
            );
            setsockopt(&socket, sockopt::ReceiveTimeout, &idle).context("cannot set SO_RCVTIMEO")?;
        }
        // A unix socket has no such delay.
        let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
        Ok(Self { socket: File::from(socket), buffer: Vec::new() })
    }

    /// The path of the next request, which stays unread. None when the client closed or was idle for too long.
    pub(super) fn peek_path(&self) -> Result<Option<String>> {
        let mut bytes = [0; 256];
        let length = match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK) {
            Ok(0) | Err(Errno::EAGAIN) => return Ok(None),
            Ok(length) => length,
            Err(error) => return Err(error).context("cannot peek"),
        };
        let text = String::from_utf8_lossy(&bytes[..length]);
        Ok(Some(text.split(' ').nth(1).unwrap_or_default().to_owned()))
    }

    /// Takes in the next request with its body. None: it is not HTTP.
    pub(super) fn read_request(&mut self) -> Result<Option<Request>> {
        let mut chunk = [0; 16384];
        loop {
            if self.buffer.first().is_some_and(|first| !first.is_ascii_uppercase()) {
                return Ok(None);
            }
            if let Some(head) = head(&self.buffer)
                && self.buffer.len() >= head.length + head.body
            {
                self.buffer.drain(..head.length + head.body);
                return Ok(Some(Request { close: head.close }));
            }
            match self.socket.read(&mut chunk)? {
                0 => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
                length => self.buffer.extend_from_slice(&chunk[..length]),
            }
        }
    }

    pub(super) fn write(&mut self, text: &str) -> Result<()> {
        self.socket.write_all(text.as_bytes()).context("cannot write")
    }

    /// Closing with a linger time of zero, which is what follows, sends a reset instead of a FIN.
    pub(super) fn reset(&self) -> Result<()> {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.socket, sockopt::Linger, &linger).context("cannot set SO_LINGER")
    }
}

struct Head {
    length: usize,
    body: usize,
    close: bool,
}

/// None: not all of it is here.
fn head(bytes: &[u8]) -> Option<Head> {
    let length = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..length]).to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or_default();
    let close = text.lines().next().is_some_and(|line| line.ends_with("http/1.0"))
        || text.contains("\r\nconnection: close\r\n");
    Some(Head { length, body, close })
}
