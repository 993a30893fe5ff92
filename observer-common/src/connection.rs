//! A proxy's connection to an upstream, and connections that nobody accepted.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Flow, Header, Task};

/// [`Ended::flags`]: a RST was received on this connection (`tcp_receive_reset`).
pub const RESET_RECEIVED: u8 = 1;
/// [`Ended::flags`]: what the proxy wrote since it last read is known, so that requests on one connection are told apart.
pub const BASELINE: u8 = 2;
/// [`Ended::flags`]: what the process answers its clients can be expected to be seen.
pub const ANSWERS_VISIBLE: u8 = 4;
/// [`Ended::flags`]: nobody looks at what processes answer: no outcome will name this connection, unless that changes before its process
/// lets go of it.
pub const ANSWERS_UNWATCHED: u8 = 8;

/// Connections open before observer that can be taken over, per namespace.
pub const MAX_ADOPTED: u32 = 65_536;

/// A proxy's connection left the states in which it could carry a request. Written once per connection at the
/// first of these transitions, and a second time only when a connection that the upstream had closed in peace
/// then dies with an error (`CLOSE_WAIT` to `CLOSE`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Ended {
    /// When and what.
    pub header: Header,
    /// The proxy's end is local, the upstream remote.
    pub flow: Flow,
    /// The process that called connect().
    pub task: Task,
    /// connect(), nanoseconds; 0 if that was before observer.
    pub started: u64,
    /// End of the handshake, nanoseconds; 0 if it never ended, or before observer.
    pub established: u64,
    /// Payload bytes sent, retransmissions included (`tcp_sock.bytes_sent`).
    pub bytes_sent: u64,
    /// Payload bytes that the upstream's kernel has acknowledged.
    pub bytes_acked: u64,
    /// Payload bytes received in order, a FIN not counted.
    pub bytes_received: u64,
    /// Bytes written by the proxy and not acknowledged, sent or not (`write_seq - snd_una`).
    pub unacked: u32,
    /// Segments with payload sent (`data_segs_out`).
    pub data_segments_out: u32,
    /// Microseconds since the proxy last sent payload, to the jiffy (1 to 10 ms); `u32::MAX` if it never did.
    pub since_sent: u32,
    /// Microseconds since payload last arrived, to the jiffy; `u32::MAX` if none ever did.
    pub since_received: u32,
    /// SYN retransmissions seen.
    pub syn_retransmits: u16,
    /// Other retransmissions seen.
    pub data_retransmits: u16,
    /// `sk_err`, an errno; 0 for none.
    pub error: u16,
    /// State before.
    pub old_state: u8,
    /// State after.
    pub new_state: u8,
    /// `sk_shutdown`: 3 when the process itself has closed.
    pub shutdown: u8,
    /// [`RESET_RECEIVED`]
    pub flags: u8,
    /// Whether the last payload sent is younger than the last received, by jiffies: 1 yes, 0 no.
    pub outstanding: u8,
    /// Padding, 0.
    pub pad: u8,
    /// HTTP status of the last answer whose head the proxy read here; 0 if none was seen.
    pub answer_status: u16,
    /// `sk_err_soft` when an error was last reported: an ICMP error that found the socket in use; 0 for none.
    pub soft_error: u16,
    /// When the proxy last read payload, nanoseconds; 0 if it never did, or before observer.
    pub last_read: u64,
    /// Bytes that the proxy wrote since it last read; all that it wrote if it never read. With [`BASELINE`] only.
    pub written_since_read: u32,
    /// Payload bytes received and not read, a FIN not counted.
    pub unread: u32,
    /// Times that the proxy read after it had written: answers begun. From observer's start only, if that was later.
    pub exchanges: u32,
    /// Padding, 0.
    pub pad3: u32,
}
const _: () = assert!(size_of::<Ended>() == 176);

/// A client gave up a connection (closed it, or reset it) that its listener's process had never accepted, or had accepted and not answered; or one that
/// nobody accepted was reset.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Unserved {
    /// When and what.
    pub header: Header,
    /// The listener's end is local, the client (the proxy) remote.
    pub flow: Flow,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// Bytes of the answer that the client's kernel has not acknowledged.
    pub unacked: u32,
    /// State after: `CLOSE_WAIT` when the client gave up, `CLOSE` when it was reset or the listener went away.
    pub new_state: u8,
    /// 1 if a process had accepted it.
    pub accepted: u8,
    /// 1 if the client reset it.
    pub reset: u8,
    /// Padding, 0.
    pub pad: u8,
    /// Microseconds since payload last arrived, to the jiffy; `u32::MAX` if none ever did.
    pub waited: u32,
    /// Padding, 0.
    pub pad2: u32,
}
const _: () = assert!(size_of::<Unserved>() == 88);

/// An accepted connection was closed by its application while a request was unanswered, as far as the kernel can tell:
/// nothing had been sent, or something had come since. Also whenever the process was dying.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Hurt {
    /// When and what.
    pub header: Header,
    /// The application's end is local, the client (the proxy) remote.
    pub flow: Flow,
    /// Who closed it.
    pub task: Task,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes sent.
    pub bytes_sent: u64,
    /// `task_struct.exit_code` if the process is dying: the signal in the low 7 bits, the exit status above bit 8.
    pub exit_code: u32,
    /// 1 if the process is dying (`PF_EXITING`).
    pub exiting: u8,
    /// Padding, 0.
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<Hurt>() == 104);
