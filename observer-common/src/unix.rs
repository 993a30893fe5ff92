//! Listening unix sockets.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::connect::PATH_LEN;

/// One listener as `iter/unix` writes it. No header: it comes through the iterator's own file, not the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Sample {
    /// Inode of the socket, as /proc/PID/fd names it.
    pub inode: u64,
    /// Connections that wait to be accepted.
    pub depth: u32,
    /// How many may; full means deeper than that.
    pub limit: u32,
    /// Bytes of `path` in use.
    pub path_len: u32,
    /// Path that it is bound to (an abstract one starts with NUL), unterminated.
    pub path: [u8; PATH_LEN],
}
const _: () = assert!(size_of::<Sample>() == 128);
