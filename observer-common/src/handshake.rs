//! Handshakes that succeed: signs of life of an upstream.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Flow, Header};

/// Between two records of one upstream, nanoseconds; those after a SYN sent again are all told.
pub const EVERY: u64 = 1_000_000_000;

/// An upstream completed the handshake of a proxy's connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Done {
    /// When and what.
    pub header: Header,
    /// The proxy's end is local.
    pub flow: Flow,
    /// SYNs that had to be sent again.
    pub syn_retransmits: u16,
    /// Padding, 0.
    pub pad: [u8; 6],
}
const _: () = assert!(size_of::<Done>() == 64);

/// An upstream as seen from one namespace: a map's key, in the kernel only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Peer {
    /// Its address.
    pub addr: [u8; 16],
    /// The proxy's namespace.
    pub netns: u32,
    /// Its port.
    pub port: u16,
    /// Padding, 0.
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<Peer>() == 24);
