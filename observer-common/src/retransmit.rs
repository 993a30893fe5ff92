//! Retransmissions.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Flow, Header};

/// A segment of a proxy's connection to an upstream was sent again (`tcp_retransmit_skb`, successful ones).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Segment {
    /// When and what.
    pub header: Header,
    /// The proxy's end is local.
    pub flow: Flow,
    /// The socket's state: `SYN_SENT` for a SYN.
    pub state: u8,
    /// Padding, 0.
    pub pad: [u8; 7],
}
const _: () = assert!(size_of::<Segment>() == 64);

/// A listener sent a SYN-ACK again although the handshake was complete (`tcp_retransmit_synack` with
/// `inet_request_sock.acked`): the client's ACK came and the accept queue had no room for it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SynAck {
    /// When and what.
    pub header: Header,
    /// The listener's end is local.
    pub flow: Flow,
}
const _: () = assert!(size_of::<SynAck>() == 56);
