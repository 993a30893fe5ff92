//! connect() calls that the kernel refused at once.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Flow, Header, Task};

/// Longest path in a unix socket address (`UNIX_PATH_MAX`, include/uapi/linux/un.h).
pub const PATH_LEN: usize = 108;

/// `AF_UNIX`
pub const AF_UNIX: u16 = 1;
/// `AF_INET`
pub const AF_INET: u16 = 2;
/// `AF_INET6`
pub const AF_INET6: u16 = 10;

/// A proxy's connect() came back with an error instead of starting a handshake.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Failed {
    /// When and what.
    pub header: Header,
    /// Where it wanted to go; empty for a unix socket. `netns` is 0 when the call failed before a source address was chosen.
    pub flow: Flow,
    /// Who called.
    pub task: Task,
    /// The errno, positive.
    pub error: u16,
    /// The address family asked for.
    pub family: u16,
    /// Bytes of `path` in use.
    pub path_len: u32,
    /// Path of the unix socket (an abstract one starts with NUL), unterminated.
    pub path: [u8; PATH_LEN],
    /// 1 if the call had got as far as to begin a handshake (`CLOSE` to `SYN_SENT`).
    pub began: u8,
    /// 1 if what the process answers its clients can be expected to be seen.
    pub answers_visible: u8,
    /// Padding, 0.
    pub pad: [u8; 2],
}
const _: () = assert!(size_of::<Failed>() == 200);
