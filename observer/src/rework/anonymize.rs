//! A recording without the addresses and names in it, which comes to the same verdicts. What replaces them is made with a
//! random key that is forgotten: it is the same for the same throughout a recording, and nowhere else.

mod about;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hash},
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Rewritten,
    change::{Change, change},
};
use crate::{
    addr::UnixPath,
    diagnose::logged,
    event::{Process, SERVICES},
    proxy,
    trace::{ReadError, Reader, WriteError},
};

/// Rounds of the permutation of addresses (a Feistel network, H. Feistel, 1973), of which four are the least.
const ROUNDS: u8 = 8;

/// Writes the recording anew. Gives back what kept the rest of it from being read.
pub fn anonymize(mut reader: Reader, out: impl Write) -> Result<Option<ReadError>, WriteError> {
    let mut key = Key::random();
    let mut rewritten = Rewritten::begin(&key.about(reader.about()), out)?;
    let mut batch = Vec::new();
    let left_out = loop {
        match reader.next_batch(&mut batch) {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
        for mut event in batch.drain(..) {
            change(&mut event, &mut key);
            rewritten.event(event)?;
        }
    };
    rewritten.finish()?;
    Ok(left_out)
}

/// What decides what becomes of each name and address: the key of a hash (SipHash, as the standard library has it).
struct Key(RandomState);

impl Key {
    fn random() -> Self {
        Self(RandomState::new())
    }

    /// A number for one thing of a kind.
    fn number(&self, kind: &str, of: impl Hash) -> u64 {
        self.0.hash_one((kind, of))
    }

    fn comm(&self, comm: &str) -> String {
        if comm.is_empty() || proxy::KNOWN.contains(&comm) {
            return comm.to_owned();
        }
        format!("app-{:08x}", self.number("comm", comm) >> 32)
    }

    fn host(&self, host: &str) -> String {
        format!("host-{:08x}", self.number("host", host) >> 32)
    }

    /// Of a path what tells a service of the system from an upstream stays, and whether it is an abstract name.
    fn unix_path(&self, path: &str) -> String {
        // A listener's path may be cut, where connect() tells all of it.
        let number = self.number("path", UnixPath::new(path).as_str()) >> 32;
        match SERVICES.iter().find(|service| path.starts_with(**service)) {
            Some(service) if service.len() == path.len() => path.to_owned(),
            Some(service) => format!("{service}{number:08x}"),
            None if path.starts_with('@') => format!("@{number:08x}"),
            None => format!("/run/{number:08x}.sock"),
        }
    }

    fn v4(&self, ip: Ipv4Addr) -> Ipv4Addr {
        let ordinary = |ip: Ipv4Addr| !matches!(ip.octets()[0], 0 | 127 | 224..);
        let mut changed = ip;
        // Among the ordinary ones, so that two never become the same.
        while ordinary(ip) {
            let bits = self.permuted(u128::from(changed.to_bits()), 16);
            changed = Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or_default());
            if ordinary(changed) {
                break;
            }
        }
        changed
    }

    fn v6(&self, ip: Ipv6Addr) -> Ipv6Addr {
        // What is link-local stays so: connect() has other errors for it.
        if ip.is_unicast_link_local() {
            let (network, rest) = (ip.to_bits() >> 112 << 112, ip.to_bits() << 16 >> 16);
            return Ipv6Addr::from_bits(network | self.permuted(rest, 56));
        }
        let ordinary = |ip: Ipv6Addr| {
            let special = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local();
            !special && ip.to_ipv4_mapped().is_none()
        };
        let mut changed = ip;
        while ordinary(ip) {
            changed = Ipv6Addr::from_bits(self.permuted(changed.to_bits(), 64));
            if ordinary(changed) {
                break;
            }
        }
        changed
    }

    /// Another number of twice that many bits, for each its own.
    fn permuted(&self, number: u128, half: u32) -> u128 {
        let mask = (1_u128 << half) - 1;
        let (mut left, mut right) = (number >> half & mask, number & mask);
        for round in 0..ROUNDS {
            let mixed = u128::from(self.number("ip", (half, round, right))) & mask;
            (left, right) = (right, left ^ mixed);
        }
        left << half | right
    }
}

impl Change for Key {
    fn ip(&mut self, ip: &mut IpAddr) {
        *ip = match *ip {
            IpAddr::V4(v4) => IpAddr::V4(self.v4(v4)),
            IpAddr::V6(v6) => IpAddr::V6(self.v6(v6)),
        };
    }

    fn process(&mut self, process: &mut Process) {
        process.comm = self.comm(&process.comm).into();
    }

    fn path(&mut self, path: &mut String) {
        *path = self.unix_path(path);
    }

    fn name(&mut self, name: &mut String) {
        if !name.is_empty() {
            *name = format!("/{:08x}", self.number("name", &*name) >> 32);
        }
    }

    fn said(&mut self, said: &mut String) {
        *said = logged::without_names(said);
    }

    /// Names of pools, hosts and headers are in it. What kind of finding it is, and of which servers, is told without it.
    fn written(&mut self, text: &mut String) {
        text.clear();
    }
}

#[cfg(test)]
mod tests;
