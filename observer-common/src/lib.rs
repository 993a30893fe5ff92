//! The wire contract between observer's kernel programs and its userspace.
//!
//! One module per subject, named as on both sides. Every record starts with a [`Header`], is `repr(C)`
//! with explicit padding, holds no pointer, and has its size asserted beside it. Addresses have one form:
//! 16 bytes, an IPv4 address mapped (`::ffff:a.b.c.d`); ports and counts are in host byte order.
#![no_std]

pub mod answer;
pub mod connect;
pub mod connection;
pub mod counter;
pub mod handshake;
pub mod latency;
pub mod layout;
pub mod listener;
pub mod look;
pub mod names;
pub mod reset;
pub mod retransmit;
pub mod signal;
pub mod spread;
pub mod time_wait;
pub mod unix;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of a task's `comm`, its closing NUL included (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// Which record follows a [`Header`]. The number is the wire value.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`connection::Ended`]
    ConnectionEnded = 1,
    /// [`connection::Unserved`]
    Unserved = 2,
    /// [`connect::Failed`]
    ConnectFailed = 3,
    /// [`listener::Overflow`]
    ListenOverflow = 4,
    /// [`listener::Changed`]
    ListenerChanged = 5,
    /// [`reset::Sent`]
    ResetSent = 6,
    /// [`retransmit::Segment`]
    Retransmit = 7,
    /// [`retransmit::SynAck`]
    SynAckRetransmit = 8,
    /// [`answer::Outcome`]
    Outcome = 9,
    /// [`connection::Hurt`]
    Hurt = 10,
    /// [`signal::Sent`]
    Signal = 11,
    /// [`handshake::Done`]
    Handshake = 12,
}

impl Kind {
    /// All kinds, in wire order.
    pub const ALL: [Self; 12] = [
        Self::ConnectionEnded,
        Self::Unserved,
        Self::ConnectFailed,
        Self::ListenOverflow,
        Self::ListenerChanged,
        Self::ResetSent,
        Self::Retransmit,
        Self::SynAckRetransmit,
        Self::Outcome,
        Self::Hurt,
        Self::Signal,
        Self::Handshake,
    ];

    /// The kind with this wire value, if there is one.
    pub fn from_wire(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == value)
    }
}

/// What every record in the EVENTS ring starts with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// Nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`).
    pub time: u64,
    /// A [`Kind`].
    pub kind: u32,
    /// Size of the whole record in bytes, this header included.
    pub size: u32,
}
const _: () = assert!(size_of::<Header>() == 16);

/// The two ends of a connection, as one host's socket sees them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Flow {
    /// Address of the socket's own end.
    pub local: [u8; 16],
    /// Address of the peer.
    pub remote: [u8; 16],
    /// Port of the socket's own end; 0 while none has been chosen.
    pub local_port: u16,
    /// Port of the peer.
    pub remote_port: u16,
    /// Inode number of the network namespace (`net.ns.inum`, as in /proc/PID/ns/net); 0 when unknown.
    pub netns: u32,
}
const _: () = assert!(size_of::<Flow>() == 40);

impl Flow {
    /// Nothing known.
    pub const fn empty() -> Self {
        Self { local: [0; 16], remote: [0; 16], local_port: 0, remote_port: 0, netns: 0 }
    }
}

/// The process that did something in its own context (never taken in softirq, where `current` is somebody else).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Task {
    /// Process id (the kernel's tgid), in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The thread's `comm`, NUL-padded; bytes of somebody else's choosing.
    pub comm: [u8; COMM_LEN],
}
const _: () = assert!(size_of::<Task>() == 24);

/// TCP states as the kernel numbers them (include/net/tcp_states.h); part of its ABI, so constants here.
pub mod state {
    /// `TCP_ESTABLISHED`
    pub const ESTABLISHED: u8 = 1;
    /// `TCP_SYN_SENT`
    pub const SYN_SENT: u8 = 2;
    /// `TCP_SYN_RECV`
    pub const SYN_RECV: u8 = 3;
    /// `TCP_FIN_WAIT1`
    pub const FIN_WAIT1: u8 = 4;
    /// `TCP_FIN_WAIT2`
    pub const FIN_WAIT2: u8 = 5;
    /// `TCP_TIME_WAIT`
    pub const TIME_WAIT: u8 = 6;
    /// `TCP_CLOSE`
    pub const CLOSE: u8 = 7;
    /// `TCP_CLOSE_WAIT`
    pub const CLOSE_WAIT: u8 = 8;
    /// `TCP_LAST_ACK`
    pub const LAST_ACK: u8 = 9;
    /// `TCP_LISTEN`
    pub const LISTEN: u8 = 10;
    /// `TCP_NEW_SYN_RECV`
    pub const NEW_SYN_RECV: u8 = 12;
    /// `TCP_CLOSING`
    pub const CLOSING: u8 = 11;
}
