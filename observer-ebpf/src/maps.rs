//! The maps: who writes, who reads, what happens when one is full.

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, LruPerCpuHashMap, PerCpuArray, RingBuf},
};
use observer_common::{
    COMM_LEN, Flow, Task,
    answer::Process,
    connect, connection,
    counter::Counter,
    handshake::Peer,
    latency::Counts,
    listener::{self, Arrivals, Door},
    time_wait::Destination,
};

use crate::{
    again::MARKS,
    tries::{NEAR_SLOTS, Slot, USERS_SLOTS},
};

/// A map of one value that programs come at by its address, without a search.
#[repr(transparent)]
pub(crate) struct Global<T>(UnsafeCell<T>);
// SAFETY: all CPUs write and read it at once, only through pointers, and no more than a word at a time.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Valid for as long as a program runs.
    #[inline(always)]
    pub(crate) fn pointer(&self) -> *mut T {
        self.0.get()
    }
}

/// Lies at one address for all programs; of no other use.
#[unsafe(no_mangle)]
pub(crate) static ORIGIN: u64 = 0;

/// Since when what proxies read, answer and connect to has been looked at (`bpf_ktime_get_ns`; 0 while it is not), and since
/// when packets at full accept queues have, in the slots that `look` names. Written by userspace, when the programs of the close
/// look are all attached and before the first is detached, so that what they leave behind is not taken for what is. A map of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.look")]
pub(crate) static LOOK: Global<[u64; observer_common::look::SLOTS]> = Global::new([0; observer_common::look::SLOTS]);

/// Records for userspace. Written by `emit` only. Full: the record is lost and counted by kind.
/// Userspace sets the size.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// One slot per `Counter`, per CPU. Written by `emit`, read by userspace. Cannot be full.
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::SLOTS, 0);

/// Proxies' open connections, as `tries` keeps them for `connection`, and for `walk` those that were there before us. Full, or nearly: a
/// connection is not followed, counted in `TriesUntracked`. Userspace sets the size, a power of two.
/// Not socket-local storage: to make and free one costs more than it saves (on 6.18 a connection of a proxy took 1 µs more).
#[map]
pub(crate) static TRIES: Array<Slot> = Array::with_max_entries(1, 0);

/// For whose users there are connections in `TRIES`, or were: not 0 where the number falls on. Written by `tries`, which thus need
/// not look for those of others.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.users")]
pub(crate) static USERS: Global<[u8; USERS_SLOTS]> = Global::new([0; USERS_SLOTS]);

/// The first of the two tables of `tries`, which alone writes it. Taken: see `TRIES`, the second.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.near")]
pub(crate) static NEAR: Global<[Slot; NEAR_SLOTS]> = Global::new([Slot::EMPTY; NEAR_SLOTS]);

/// connect() calls under way, by thread. Written by `connect` and `connection`. Full: the call's failure is
/// reported without its address, counted in `ConnectsUntracked`.
#[map]
pub(crate) static CONNECTING: HashMap<u64, Connecting> = HashMap::with_max_entries(16_384, 0);

/// The proxies, by `comm`, each with a `observer_common::answer` kind of threading. Written by userspace before attaching, which refuses more names than fit.
#[map]
pub(crate) static PROXIES: HashMap<[u8; COMM_LEN], u8> = HashMap::with_max_entries(64, 0);

/// The upstream ports that matter when `Settings::filter_ports` is set. Written like `PROXIES`.
#[map]
pub(crate) static PORTS: HashMap<u16, u8> = HashMap::with_max_entries(1024, 0);

/// TIME_WAIT sockets by destination, filled while `iter/tcp` walks one namespace, emptied by userspace after each
/// walk. Full: the destination is missing from the sample; the namespace's own total still holds.
#[map]
pub(crate) static TIME_WAITS: HashMap<Destination, u32> = HashMap::with_max_entries(4096, 0);

/// Open connections that a process has accepted, by listener; filled and emptied like `TIME_WAITS`. Full: the listener's
/// number is missing from the sample.
#[map]
pub(crate) static ACCEPTED: HashMap<Door, u32> = HashMap::with_max_entries(4096, 0);

/// Proxies' sockets, by inode number: the connections among them that they began are to be followed although nobody saw them
/// begin. Filled by userspace before the first walks of `iter/tcp`, which move them to `TRIES`, and emptied after them. Full:
/// userspace leaves the rest out and counts it.
#[map]
pub(crate) static ADOPT: HashMap<u64, Task> = HashMap::with_max_entries(connection::MAX_ADOPTED, BPF_F_NO_PREALLOC);

/// Processes that are proxies, by process id. Written by `filter` and `answer`, and by userspace for those that were there
/// before us. Full: the one unused longest goes; its answers are not seen until it has connected again, some dozens of times at most (see `KNOWN`).
#[map]
pub(crate) static PROCESSES: LruHashMap<u32, Process> = LruHashMap::with_max_entries(8192, 0);

/// What proxies' threads let go of last, by thread. Written by `answer`. Full: the one unused longest goes; the answer
/// that it may still write is told without its try.
#[map]
pub(crate) static THREADS: LruHashMap<u64, Thread> = LruHashMap::with_max_entries(16_384, 0);

/// The beginning of an answer while it is looked at, per CPU; between `answer`'s own steps only. Cannot be full.
#[map]
pub(crate) static HEADS: PerCpuArray<[u8; HEAD_BYTES]> = PerCpuArray::with_max_entries(1, 0);

/// Bytes of an answer that are looked at for the end of its head.
pub(crate) const HEAD_BYTES: usize = 256;

/// Connections that reached an accept queue, by CPU, each listener in the slot that its name falls on. Written by `connection`, read by
/// userspace. Taken by another listener: see `ARRIVALS`.
#[map]
pub(crate) static DOORS: PerCpuArray<Arrivals> = PerCpuArray::with_max_entries(listener::SLOTS, 0);

/// The same of listeners whose slot in `DOORS` is another's. Full: the listener unused longest goes and counts from zero again.
#[map]
pub(crate) static ARRIVALS: LruPerCpuHashMap<Door, u64> = LruPerCpuHashMap::with_max_entries(4096, 0);

/// What first programs saw to last, by socket, as `again` writes it. Sockets share slots: see there.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.handled")]
pub(crate) static HANDLED: Global<[u64; MARKS]> = Global::new([0; MARKS]);

/// Processes that were found to be proxies' last, by CPU, each in the slot that its number falls on: most connections are of few
/// processes. Written by `filter`. Taken by another process: it is looked for in `PROCESSES` again.
#[map]
pub(crate) static KNOWN: PerCpuArray<Known> = PerCpuArray::with_max_entries(KNOWN_SLOTS, 0);

/// A power of two.
pub(crate) const KNOWN_SLOTS: u32 = 64;

/// A process that was found to be a proxy's.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) comm: [u8; COMM_LEN],
    pub(crate) pid: u32,
    /// For how many more connections it is not looked for in `PROCESSES`, where whoever is not looked for may be driven out.
    pub(crate) left: u32,
}

/// The handshakes told last, each in the slot of its upstream: half of its number above, and below when it was told. Written by
/// `handshake`. Upstreams that share a slot drive each other out, and their next handshakes are then told early.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.handshakes")]
pub(crate) static HANDSHAKES: Global<[u64; 1 << PEER_BITS]> = Global::new([0; 1 << PEER_BITS]);

/// Hundreds of upstreams have slots of their own, or nearly; 16 KiB, for what `tries` says of small tables.
pub(crate) const PEER_BITS: u32 = 11;

/// How long upstreams took to begin answers, since attaching, by upstream. Written by `latency`, read by userspace, which drops
/// those that have long been quiet. Full: answers of further upstreams are not measured, counted in `AnswersUnmeasured`.
#[map]
pub(crate) static FIRST_BYTES: HashMap<Peer, Counts> = HashMap::with_max_entries(1024, 0);

/// What an entry of `FIRST_BYTES` begins with: too large for the stack. Never written.
#[map]
pub(crate) static NOTHING_COUNTED: Array<Counts> = Array::with_max_entries(1, 0);

/// What is remembered of a proxy's connection while it lives.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Try {
    pub(crate) task: Task,
    pub(crate) started: u64,
    pub(crate) established: u64,
    pub(crate) last_read: u64,
    /// Time of the record that told its end; 0 while none has.
    pub(crate) told: u64,
    /// `write_seq` when the proxy last read; with the flag `BASELINE`.
    pub(crate) write_seq: u32,
    /// `copied_seq` then.
    pub(crate) copied_seq: u32,
    pub(crate) exchanges: u32,
    pub(crate) syn_retransmits: u16,
    pub(crate) data_retransmits: u16,
    pub(crate) answer_status: u16,
    pub(crate) flags: u8,
    /// The upstream's FIN was reported; more is told only if it dies with an error.
    pub(crate) closing: u8,
    /// A request was out when the end was told.
    pub(crate) failed: u8,
    /// It is closed; only the proxy has not let go of it yet.
    pub(crate) ended: u8,
    /// How much of an HTTP head was read, as `observer_common::answer` numbers it.
    pub(crate) head: u8,
    pub(crate) pad: u8,
    pub(crate) soft_error: u16,
    /// The last error that ended something.
    pub(crate) error: u16,
    pub(crate) pad2: [u8; 4],
    /// The close look in which what was read was noted; see [`LOOK`].
    pub(crate) look: u64,
}

impl Try {
    /// Of no connection.
    pub(crate) const NOTHING: Self = Self {
        task: Task { pid: 0, tid: 0, comm: [0; COMM_LEN] },
        started: 0,
        established: 0,
        last_read: 0,
        told: 0,
        write_seq: 0,
        copied_seq: 0,
        exchanges: 0,
        syn_retransmits: 0,
        data_retransmits: 0,
        answer_status: 0,
        flags: 0,
        closing: 0,
        failed: 0,
        ended: 0,
        head: 0,
        pad: 0,
        soft_error: 0,
        error: 0,
        pad2: [0; 4],
        look: 0,
    };
}

/// What a proxy's thread did last that its next answer may be about. Forgotten when it waits for events: what belongs
/// together is done in one go.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// When it let go of a try, nanoseconds; 0 if that has been answered.
    pub(crate) released: u64,
    /// Time of the record that told that try's end.
    pub(crate) told: u64,
    /// Time of the record that told of an answer without a try, where answers come first; 0 if there is none.
    pub(crate) answered: u64,
    /// When it last wrote a plain HTTP answer.
    pub(crate) wrote: u64,
    /// Payload bytes of the try that the proxy left unread.
    pub(crate) left_unread: u32,
    /// 1 if a request was out on the try.
    pub(crate) failed: u8,
    /// How much of an HTTP head had been read.
    pub(crate) head: u8,
    /// Status of that answer without a try.
    pub(crate) status: u16,
    /// Status of the upstream's last answer on the try.
    pub(crate) upstream_status: u16,
    pub(crate) pad: [u8; 6],
}

/// What is remembered of a connect() call until it returns.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Connecting {
    pub(crate) flow: Flow,
    pub(crate) family: u16,
    pub(crate) path_len: u16,
    pub(crate) fd: u32,
    /// The socket that began a handshake in this call (`CLOSE` to `SYN_SENT`); 0 if none did.
    pub(crate) began: u64,
    /// 1 if the call itself undid it, so that only its result tells why.
    pub(crate) undone: u64,
    /// The close look in which it began; see [`LOOK`].
    pub(crate) look: u64,
    pub(crate) path: [u8; connect::PATH_LEN],
}

impl Thread {
    /// One that let go of nothing.
    pub(crate) const NONE: Self = Self {
        released: 0,
        told: 0,
        answered: 0,
        wrote: 0,
        left_unread: 0,
        failed: 0,
        head: 0,
        status: 0,
        upstream_status: 0,
        pad: [0; 6],
    };
}
