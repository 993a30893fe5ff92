//! RST segments that this host sends.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Flow, Header, Task};

/// [`Sent::reason`] on a kernel whose tracepoint does not pass one.
pub const NO_REASON: u32 = u32::MAX;
/// [`Sent::state`] when no socket was there to have one.
pub const NO_STATE: u8 = 0;

/// This host sent a RST (`tcp_send_reset`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Sent {
    /// When and what.
    pub header: Header,
    /// The sender is local.
    pub flow: Flow,
    /// `current` at the time; the sender's process only for an active reset (`answer` 0).
    pub task: Task,
    /// `enum sk_rst_reason` of this kernel, or [`NO_REASON`].
    pub reason: u32,
    /// Received and unread bytes (`rcv_nxt - copied_seq`), a FIN counted as one.
    pub unread: u32,
    /// For a listener: connections in the accept queue.
    pub depth: u32,
    /// For a listener: the queue's limit.
    pub limit: u32,
    /// The socket's state, or [`NO_STATE`].
    pub state: u8,
    /// 1 if the RST answers a segment, 0 if the host sends it of its own accord.
    pub answer: u8,
    /// TCP flags of the segment that is answered; 0 if none.
    pub segment_flags: u8,
    /// 1 if a process owns the socket, 0 if it was never accepted (or already released).
    pub owned: u8,
    /// `sk_shutdown`.
    pub shutdown: u8,
    /// 1 if a listener with a full queue answers an ACK for which it knows no handshake.
    pub no_handshake: u8,
    /// 1 if the sending process is dying (`PF_EXITING`); for a RST of its own accord only.
    pub exiting: u8,
    /// 1 if the socket had sent something since it last received; for a RST of its own accord only.
    pub answered: u8,
    /// Its `task_struct.exit_code` then.
    pub exit_code: u32,
    /// Padding, 0.
    pub pad2: u32,
}
const _: () = assert!(size_of::<Sent>() == 112);
