//! Listeners: their accept queues, and when they come and go.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Flow, Header, Task, spread::spread};

/// [`Overflow::path`]: a SYN was dropped.
pub const PATH_SYN: u8 = 1;
/// [`Overflow::path`]: the ACK that ends the handshake (or data behind it) was dropped or answered with a RST.
pub const PATH_ACK: u8 = 2;
/// [`Overflow::path`]: a SYN was dropped because the SYN queue was full, which ListenOverflows does not count.
pub const PATH_SYN_QUEUE: u8 = 3;

/// A segment met a listener whose accept queue was full (`sk_acceptq_is_full`, include/net/sock.h:
/// `sk_ack_backlog > sk_max_ack_backlog`), the kernel's own ListenOverflows test.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Overflow {
    /// When and what.
    pub header: Header,
    /// The listener's end is local (the address the client used), the client remote.
    pub flow: Flow,
    /// Connections in the accept queue.
    pub depth: u32,
    /// The queue's limit; full means `depth > limit`.
    pub limit: u32,
    /// Handshakes under way on this listener.
    pub syn_queue: u32,
    /// [`PATH_SYN`], [`PATH_ACK`] or [`PATH_SYN_QUEUE`].
    pub path: u8,
    /// Padding, 0.
    pub pad: [u8; 3],
}
const _: () = assert!(size_of::<Overflow>() == 72);

/// A socket began or ceased to listen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Changed {
    /// When and what.
    pub header: Header,
    /// The listener's end is local; the remote end is empty.
    pub flow: Flow,
    /// Who called listen() or closed the last descriptor.
    pub task: Task,
    /// Connections in the accept queue; on close these are reset.
    pub depth: u32,
    /// The queue's limit.
    pub limit: u32,
    /// 1 opened, 0 closed.
    pub opened: u8,
    /// Padding, 0.
    pub pad: [u8; 7],
}
const _: () = assert!(size_of::<Changed>() == 96);

/// One listener as `iter/tcp` writes it. No header: it comes through the iterator's own file, not the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Sample {
    /// Inode number of the socket, by which /proc names it; 0 if it has none.
    pub inode: u64,
    /// Bound address; all zero for any.
    pub addr: [u8; 16],
    /// Bound port.
    pub port: u16,
    /// Address family of the socket.
    pub family: u16,
    /// Connections in the accept queue.
    pub depth: u32,
    /// The queue's limit.
    pub limit: u32,
    /// Handshakes under way.
    pub syn_queue: u32,
    /// `sk_drops`; one overflow adds 1 (SYN) or 2 (ACK), so this is no count of overflows.
    pub drops: u32,
    /// Padding, 0.
    pub pad: u32,
}
const _: () = assert!(size_of::<Sample>() == 48);

/// Key of the ARRIVALS map: a listener, as far as an accepted connection tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Door {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Port.
    pub port: u16,
    /// Padding, 0.
    pub pad: u16,
}
const _: () = assert!(size_of::<Door>() == 8);

/// How many listeners can have a slot of their own in the DOORS map, two to this.
const SLOT_BITS: u32 = 10;
/// Entries of the DOORS map.
pub const SLOTS: u32 = 1 << SLOT_BITS;

impl Door {
    /// The slot of the DOORS map that it falls on.
    #[inline]
    pub const fn slot(self) -> u32 {
        (spread((self.netns as u64) << 16 | self.port as u64) >> (u64::BITS - SLOT_BITS)) as u32
    }
}

/// Value of the DOORS map: who has the slot, and how many connections reached its accept queue.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Arrivals {
    /// Whose slot it is, if the count is not 0.
    pub door: Door,
    /// Connections.
    pub count: u64,
}
const _: () = assert!(size_of::<Arrivals>() == 16);
