//! TIME_WAIT sockets, counted by destination while `iter/tcp` walks a namespace.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Whom the TIME_WAIT sockets of one namespace once talked to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Destination {
    /// Address of the peer.
    pub addr: [u8; 16],
    /// Port of the peer.
    pub port: u16,
    /// Padding, 0.
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<Destination>() == 20);
