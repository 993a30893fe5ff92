//! Endpoints, paths of unix sockets, and network namespaces.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::untrusted::harmless;

/// An address and a port. IPv4 addresses are never in their mapped form here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The port, 0 if none.
    pub port: u16,
}

impl Endpoint {
    /// From the wire's form: 16 bytes, IPv4 mapped.
    pub fn from_wire(addr: [u8; 16], port: u16) -> Self {
        let v6 = Ipv6Addr::from(addr);
        let ip = if addr == [0; 16] { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { v6.to_canonical() };
        Self { ip, port }
    }

    /// The address in the wire's form.
    pub fn to_wire(self) -> [u8; 16] {
        match self.ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }

    /// Whether a listener bound here takes connections to `other`: same port, and the same address or any.
    pub fn covers(self, other: Self) -> bool {
        self.port == other.port && (self.ip == other.ip || self.ip.is_unspecified())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.ip, self.port).fmt(f)
    }
}

/// Where a unix socket is bound, harmless to show: control characters escaped, an abstract name with `@` before it. Held in
/// place, so that it can be part of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixPath {
    /// Zeros behind the text.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl UnixPath {
    /// Bytes kept: all that a socket's address has room for (`UNIX_PATH_MAX`, include/uapi/linux/un.h). Only a path with much
    /// in it to be escaped is longer, and is cut.
    pub const MAX: usize = 108;

    /// From text that was made harmless already.
    pub fn new(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(Self::MAX)];
        let mut bytes = [0; Self::MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self { bytes, length: u8::try_from(text.len()).unwrap_or(u8::MAX) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// As nginx writes it: `unix:/run/app.sock`.
impl fmt::Display for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.as_str())
    }
}

impl Serialize for UnixPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UnixPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        harmless(deserializer).map(|text: String| Self::new(&text))
    }
}

/// Inode number of a network namespace, as in /proc/PID/ns/net; 0 when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetNs(pub u32);

impl NetNs {
    /// Whether it is known which one.
    pub fn known(self) -> bool {
        self.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_become_plain() {
        let mut wire = [0; 16];
        wire[10..].copy_from_slice(&[0xff, 0xff, 10, 77, 0, 2]);
        assert_eq!(Endpoint::from_wire(wire, 80).to_string(), "10.77.0.2:80");
        let loopback = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(Endpoint::from_wire(loopback, 9).to_string(), "[::1]:9");
    }

    #[test]
    fn a_path_is_kept_whole_or_cut_between_characters() {
        assert_eq!(UnixPath::new("/run/app.sock").to_string(), "unix:/run/app.sock");
        let long = format!("{}é", "a".repeat(UnixPath::MAX - 1));
        assert_eq!(UnixPath::new(&long).as_str(), "a".repeat(UnixPath::MAX - 1));
        assert_eq!(UnixPath::new(&"a".repeat(UnixPath::MAX)).as_str().len(), UnixPath::MAX);
        assert!(UnixPath::new("/a") < UnixPath::new("/ab"));
    }

    #[test]
    fn any_address_covers_all_on_its_port() {
        let any = Endpoint::from_wire([0; 16], 80);
        let one = Endpoint { ip: "10.0.0.1".parse().unwrap(), port: 80 };
        assert!(any.covers(one) && !one.covers(any));
        assert!(!any.covers(Endpoint { port: 81, ..one }));
    }
}
