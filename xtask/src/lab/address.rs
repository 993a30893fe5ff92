//! Where a stage's upstream listens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

/// Differs from run to run: addresses are the same in every stage, and what observer says of an upstream does not name
/// its namespace.
fn port() -> u16 {
    let distinct = u16::try_from(std::process::id() % 1000).unwrap_or_default();
    9000 + distinct
}

/// Its form in text is that of nginx's log, gunicorn's `--bind` and observer's verdicts.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Tcp(SocketAddrV4),
    Unix(PathBuf),
}

impl Address {
    pub(super) fn tcp(host: Ipv4Addr) -> Self {
        Self::Tcp(SocketAddrV4::new(host, port()))
    }

    /// Not in the run's folder: the path of a unix socket is 107 bytes long at most.
    pub(super) fn unix() -> Self {
        Self::Unix(format!("/run/observer-stage-{}.sock", std::process::id()).into())
    }

    /// On the same host, where nobody listens.
    pub(super) fn dead(host: Ipv4Addr, number: u16) -> SocketAddrV4 {
        SocketAddrV4::new(host, port() + 1000 * number)
    }

    /// None for a unix socket.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(socket) => Some(socket.port()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(socket) => write!(f, "{socket}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
