//! Typed reads of kernel structs at the offsets that userspace resolved. With the maps the only unsafe code here.

use core::marker::PhantomData;

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_probe_read_kernel, bpf_probe_read_kernel_buf, bpf_probe_read_user,
    generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs},
};
use observer_common::{
    COMM_LEN, Flow,
    connect::{AF_INET, PATH_LEN},
    layout::ABSENT,
    state,
};

use crate::{
    access::{Access, Direct},
    settings::{offset, setting},
};

/// `IPPROTO_TCP`; MPTCP's own sockets have 262.
pub(crate) const IPPROTO_TCP: u16 = 6;

/// A `struct sock *` (a tracepoint's argument, or walked to from one), and how it may be read.
#[derive(Clone, Copy)]
pub(crate) struct Sock<A = Direct>(*const u8, PhantomData<A>);

/// A `struct tcp_sock *`: a full TCP socket, so that the fields beyond `struct sock` may be read.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock<A = Direct>(*const u8, PhantomData<A>);

/// States of sockets that are smaller than `struct sock`: `tcp_timewait_sock` and `tcp_request_sock` (`sk_fullsock`,
/// include/net/sock.h).
pub(crate) const TIME_WAIT_OR_REQUEST: [u8; 2] = [state::TIME_WAIT, state::NEW_SYN_RECV];

macro_rules! fields {
    ($access:ident: $($(#[$doc:meta])* $name:ident: $type:ty;)+) => {
        $($(#[$doc])* #[inline(always)]
        pub(crate) fn $name(self) -> $type {
            // SAFETY: a number at an offset within the pointer's type.
            unsafe { $access::load(self.0, offset!($name)) }
        })+
    };
}

impl<A: Access> Sock<A> {
    /// `None` for NULL.
    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Option<Self> {
        (!pointer.is_null()).then_some(Self(pointer, PhantomData))
    }

    fields! {
        A:
        family: u16;
        state: u8;
        num: u16;
        dport: u16;
        /// Accept queue limit. What a listener made keeps a copy of the listener's; what connect() made has none (`sk_clone`,
        /// net/core/sock.c). Full sockets only.
        max_ack_backlog: u32;
        /// Full sockets only.
        err: u32;
        /// Full sockets only.
        protocol: u16;
        /// Full sockets only. That of whoever made it (`sock_init_data`, net/core/sock.c), unless somebody gives a connection's
        /// descriptor away by fchown().
        uid: u32;
    }

    /// Whether a process owns the socket: false while it waits in an accept queue, and after release. Full sockets only.
    #[inline(always)]
    pub(crate) fn owned(self) -> bool {
        // SAFETY: as the fields; the pointer is only tested.
        let socket: *const u8 = unsafe { A::load(self.0, offset!(socket)) };
        !socket.is_null()
    }

    /// Whether it is TCP's and not MPTCP's own, or another protocol's that has states like it. Full sockets only.
    #[inline(always)]
    pub(crate) fn is_tcp(self) -> bool {
        self.protocol() == IPPROTO_TCP
    }

    /// What stands for the address, to be used as a key only; never 0.
    #[inline(always)]
    pub(crate) fn key(self) -> u64 {
        A::number(self.0)
    }

    /// The address, for helpers.
    #[inline(always)]
    pub(crate) fn address(self) -> *const u8 {
        self.0
    }

    /// The full TCP socket, if it is one: not a TIME_WAIT or request socket, not MPTCP.
    #[inline(always)]
    pub(crate) fn tcp(self) -> Option<TcpSock<A>> {
        // SAFETY: a socket.
        let tcp = unsafe { A::tcp(self.0) };
        (!tcp.is_null()).then_some(TcpSock(tcp, PhantomData))
    }

    /// Inode number of the socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        // SAFETY: as the fields; skc_net is never NULL on a live socket.
        unsafe {
            let net: *const u8 = A::load(self.0, offset!(net));
            A::load(net, offset!(inum))
        }
    }

    /// Both ends. `local_port` is given by the caller, who knows where it can be found in this state.
    #[inline(always)]
    pub(crate) fn flow(self, local_port: u16, flow: &mut Flow) {
        flow.local_port = local_port;
        flow.remote_port = u16::from_be(self.dport());
        flow.netns = self.netns();
        // SAFETY: as the fields.
        unsafe {
            if self.family() == AF_INET {
                map_v4(A::load(self.0, offset!(rcv_saddr)), &mut flow.local);
                map_v4(A::load(self.0, offset!(daddr)), &mut flow.remote);
            } else {
                copy_v6::<A>(self.0.wrapping_add(offset!(v6_rcv_saddr)), &mut flow.local);
                copy_v6::<A>(self.0.wrapping_add(offset!(v6_daddr)), &mut flow.remote);
            }
        }
    }
}

impl<A: Access> Sock<A> {
    /// The remote address, in two words that say nothing but which it is.
    #[inline(always)]
    pub(crate) fn remote(self) -> [u64; 2] {
        // SAFETY: as the fields.
        unsafe {
            if self.family() == AF_INET {
                return [0, u64::from(A::load::<u32>(self.0, offset!(daddr)))];
            }
            let word = |at: usize| u64::from(A::load::<u32>(self.0, offset!(v6_daddr) + at));
            [word(0) << 32 | word(4), word(8) << 32 | word(12)]
        }
    }
}

impl<A: Access> TcpSock<A> {
    fields! {
        A:
        err_soft: u32;
        shutdown: u8;
        ack_backlog: u32;
        drops: u32;
        sport: u16;
        syn_queue: u32;
        lrcvtime: u32;
        rcv_nxt: u32;
        copied_seq: u32;
        snd_una: u32;
        write_seq: u32;
        bytes_received: u64;
        bytes_acked: u64;
        bytes_sent: u64;
        data_segs_out: u32;
        lsndtime: u32;
    }

    /// The socket that it is.
    #[inline(always)]
    pub(crate) fn sock(self) -> Sock<A> {
        Sock(self.0, PhantomData)
    }

    /// When the packet was sent that was acknowledged last, in microseconds of the clock that `bpf_ktime_get_ns` tells
    /// (`first_tx_mstamp`, set by `tcp_rate_skb_delivered`, net/ipv4/tcp_rate.c); `None` where this kernel does not note it.
    #[inline(always)]
    pub(crate) fn last_acked_sent(self) -> Option<u64> {
        if offset!(first_tx) == usize::from(ABSENT) {
            return None;
        }
        // SAFETY: as the fields.
        Some(unsafe { A::load(self.0, offset!(first_tx)) })
    }

    /// See [`Sock::max_ack_backlog`].
    #[inline(always)]
    pub(crate) fn max_ack_backlog(self) -> u32 {
        self.sock().max_ack_backlog()
    }

    /// See [`Sock`].
    #[inline(always)]
    pub(crate) fn err(self) -> u32 {
        self.sock().err()
    }

    /// See [`Sock`].
    #[inline(always)]
    pub(crate) fn owned(self) -> bool {
        self.sock().owned()
    }

    /// When it last had to do with a packet, nanoseconds to the microsecond (`tcp_mstamp_refresh`, net/ipv4/tcp_output.c); `None`
    /// where this kernel does not note it.
    #[inline(always)]
    pub(crate) fn last_packet(self) -> Option<u64> {
        if offset!(mstamp) == usize::from(ABSENT) {
            return None;
        }
        // SAFETY: as the fields.
        Some(unsafe { A::load::<u64>(self.0, offset!(mstamp)) }.wrapping_mul(1000))
    }

    /// Inode number of the socket; 0 if no process owns it.
    #[inline(always)]
    pub(crate) fn inode(self) -> u64 {
        // SAFETY: a pointer, only handed on.
        inode_of(unsafe { A::load(self.0, offset!(socket)) })
    }

    /// Whether it has sent something, and nothing has come since, by jiffies.
    #[inline(always)]
    pub(crate) fn answered(self) -> bool {
        self.bytes_sent() > 0 && self.lrcvtime().wrapping_sub(self.lsndtime()) as i32 <= 0
    }

    /// Errno of the last error in the socket's queue, where an ICMP error goes first (`ip_icmp_error`,
    /// net/ipv4/ip_sockglue.c).
    #[inline(always)]
    pub(crate) fn queued_error(self) -> Option<u32> {
        // SAFETY: as the fields; the packet is read with a helper that cannot fault.
        unsafe {
            if A::load::<u32>(self.0, offset!(error_queue_len)) == 0 {
                return None;
            }
            let last: *const u8 = bpf_probe_read_kernel(self.0.wrapping_add(offset!(error_queue_last)).cast()).ok()?;
            bpf_probe_read_kernel(last.wrapping_add(offset!(skb_cb) + offset!(exterr_errno)).cast()).ok()
        }
    }

    /// The kernel's own test (`sk_acceptq_is_full`).
    #[inline(always)]
    pub(crate) fn accept_queue_full(self) -> bool {
        self.ack_backlog() > self.max_ack_backlog()
    }

    /// The namespace's `tcp_syncookies` and `tcp_abort_on_overflow`.
    #[inline(always)]
    pub(crate) fn syncookies(self) -> u8 {
        // SAFETY: as the fields.
        unsafe {
            let net: *const u8 = A::load(self.0, offset!(net));
            A::load(net, offset!(syncookies))
        }
    }

    /// The namespace's `tcp_abort_on_overflow`.
    #[inline(always)]
    pub(crate) fn abort_on_overflow(self) -> u8 {
        // SAFETY: as the fields.
        unsafe {
            let net: *const u8 = A::load(self.0, offset!(net));
            A::load(net, offset!(abort_on_overflow))
        }
    }

    /// Number of the local port, host order, in whatever state.
    #[inline(always)]
    pub(crate) fn local_port(self) -> u16 {
        u16::from_be(self.sport())
    }
}

/// Number of the inode behind a `struct socket *`, which is part of a larger struct (`SOCK_INODE`, include/net/sock.h); 0 for NULL.
#[inline(always)]
fn inode_of(socket: *const u8) -> u64 {
    // SAFETY: the helper cannot fault.
    unsafe { bpf_probe_read_kernel(socket.wrapping_add(offset!(socket_inode)).cast()) }.unwrap_or(0)
}

/// The name of the current thread.
#[inline(always)]
pub(crate) fn thread_comm() -> [u8; COMM_LEN] {
    if setting!(task_readable) == 0 {
        return bpf_get_current_comm().unwrap_or([0; COMM_LEN]);
    }
    // A call of the helper takes longer than all the rest that is done to a connection of no interest.
    // SAFETY: the current task.
    unsafe { comm_of(bpf_get_current_task_btf() as *const u8) }
}

/// A task's name.
///
/// # Safety
/// `task` must be a pointer that the verifier knows as a task.
#[inline(always)]
unsafe fn comm_of(task: *const u8) -> [u8; COMM_LEN] {
    // SAFETY: loaded from at BTF's offsets; two words for sixteen bytes.
    let words: [u64; 2] =
        unsafe { [Direct::load(task, offset!(comm)), Direct::load(task, offset!(comm) + size_of::<u64>())] };
    // Before 5.17 the end of an older and longer name may lie behind a shorter one's NUL (`__set_task_comm`, fs/exec.c).
    let (first, closed) = until_nul(words[0]);
    let (second, _) = until_nul(words[1]);
    // SAFETY: as many bytes.
    unsafe { core::mem::transmute([first, if closed { 0 } else { second }]) }
}

/// The bytes of a word before its first NUL, and whether there is one.
#[inline(always)]
fn until_nul(word: u64) -> (u64, bool) {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_le(word);
    // The lowest bit that is set is the highest of the first byte that is zero.
    let zeroes = word.wrapping_sub(ONES) & !word & (ONES << 7);
    let before = (zeroes & zeroes.wrapping_neg()) >> 7;
    (u64::to_le(if zeroes == 0 { word } else { word & before.wrapping_sub(1) }), zeroes != 0)
}

/// The name of the current task's process.
#[inline(always)]
pub(crate) fn process_comm() -> Option<[u8; COMM_LEN]> {
    if setting!(task_readable) == 1 {
        // SAFETY: as in `thread_comm`; a task has a leader for as long as it runs.
        return Some(unsafe { comm_of(Direct::load(bpf_get_current_task_btf() as *const u8, offset!(group_leader))) });
    }
    // SAFETY: helpers that cannot fault; a task has a leader for as long as it runs.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let leader = bpf_probe_read_kernel(task.wrapping_add(offset!(group_leader)).cast::<*const u8>()).ok()?;
        bpf_probe_read_kernel(leader.wrapping_add(offset!(comm)).cast()).ok()
    }
}

/// What lies behind a descriptor of the current task.
pub(crate) struct Described {
    /// Whether connect() made it, and no listener; of a TCP socket only.
    pub(crate) began: bool,
    /// Protocol number.
    pub(crate) protocol: u16,
    /// Both ends, the namespace; ports and addresses of a TCP socket only.
    pub(crate) flow: Flow,
}

/// Looks behind a descriptor of the current task. For rare paths: a dozen reads that the verifier need not understand. For
/// anything but a socket the answer is made of whatever bytes lie there, and must match something known to be used.
#[inline(always)]
pub(crate) fn of_descriptor(fd: u32) -> Option<Described> {
    type Pointer = *const u8;
    // SAFETY: the helper cannot fault.
    let follow = |base: Pointer, offset: usize| -> Option<Pointer> {
        unsafe { bpf_probe_read_kernel(base.wrapping_add(offset).cast::<Pointer>()) }.ok()
    };
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() } as Pointer;
    let files = follow(task, offset!(task_files))?;
    let table = follow(files, offset!(files_table))?;
    let descriptors = follow(table, offset!(table_files))?;
    let file = follow(descriptors, fd as usize * size_of::<Pointer>())?;
    let socket = follow(file, offset!(file_private))?;
    let sk = follow(socket, offset!(socket_sk))?;
    let net = follow(sk, offset!(net))?;
    let mut flow = Flow::empty();
    // SAFETY: as above.
    unsafe {
        let protocol = bpf_probe_read_kernel(sk.wrapping_add(offset!(protocol)).cast()).ok()?;
        let family: u16 = bpf_probe_read_kernel(sk.wrapping_add(offset!(family)).cast()).ok()?;
        flow.netns = bpf_probe_read_kernel(net.wrapping_add(offset!(inum)).cast()).ok()?;
        flow.local_port = bpf_probe_read_kernel(sk.wrapping_add(offset!(num)).cast()).ok()?;
        flow.remote_port = u16::from_be(bpf_probe_read_kernel(sk.wrapping_add(offset!(dport)).cast()).ok()?);
        if family == AF_INET {
            map_v4(bpf_probe_read_kernel(sk.wrapping_add(offset!(rcv_saddr)).cast()).ok()?, &mut flow.local);
            map_v4(bpf_probe_read_kernel(sk.wrapping_add(offset!(daddr)).cast()).ok()?, &mut flow.remote);
        } else {
            flow.local = bpf_probe_read_kernel(sk.wrapping_add(offset!(v6_rcv_saddr)).cast()).ok()?;
            flow.remote = bpf_probe_read_kernel(sk.wrapping_add(offset!(v6_daddr)).cast()).ok()?;
        }
        let backlog: u32 = bpf_probe_read_kernel(sk.wrapping_add(offset!(max_ack_backlog)).cast()).ok()?;
        Some(Described { began: backlog == 0, protocol, flow })
    }
}

/// Bit of `task_struct.flags`: the task is dying (`PF_EXITING`, include/linux/sched.h).
const PF_EXITING: u32 = 4;

/// Whether the current task dies, and its exit code, which is set before its files are closed (`do_exit`, kernel/exit.c); 0 if it
/// does not. No `Option`: the compiler leaves the code of a `None` unset and may spill it all the same, and a read of stack that
/// was never written is refused by the verifiers of old kernels (5.10: `invalid read from stack`).
#[inline(always)]
pub(crate) fn dying() -> (bool, u32) {
    // SAFETY: helpers that cannot fault.
    unsafe {
        // Asked at every close of an accepted connection. The helper that gives a task to be read plainly came with 5.11.
        let flags: u32 = if setting!(task_readable) == 1 {
            Direct::load(bpf_get_current_task_btf() as *const u8, offset!(task_flags))
        } else {
            let task = bpf_get_current_task() as *const u8;
            bpf_probe_read_kernel(task.wrapping_add(offset!(task_flags)).cast()).unwrap_or(0)
        };
        if flags & PF_EXITING == 0 {
            return (false, 0);
        }
        let task = bpf_get_current_task() as *const u8;
        match bpf_probe_read_kernel(task.wrapping_add(offset!(exit_code)).cast()) {
            Ok(code) => (true, code),
            Err(_) => (false, 0),
        }
    }
}

/// Process id and name of a task that a tracepoint passes.
#[inline(always)]
pub(crate) fn of_task(task: *const u8) -> Option<(u32, [u8; COMM_LEN])> {
    // SAFETY: a helper that cannot fault.
    unsafe {
        let pid = bpf_probe_read_kernel(task.wrapping_add(offset!(tgid)).cast()).ok()?;
        Some((pid, bpf_probe_read_kernel(task.wrapping_add(offset!(comm)).cast()).ok()?))
    }
}

/// The buffer that the current system call reads into. For `read`, `recvfrom`, `readv` and `recvmsg`; x86-64 only, and only
/// where `Settings::registers_readable` says so.
#[inline(always)]
pub(crate) fn read_buffer() -> Option<*const u8> {
    const READ: u64 = 0;
    const READV: u64 = 19;
    const RECVFROM: u64 = 45;
    const RECVMSG: u64 = 47;
    /// `struct iovec` begins with the address; `struct user_msghdr` has its iovec at 16 (include/linux/socket.h).
    const MESSAGE_VECTOR: usize = 16;
    // SAFETY: the helpers give the current task and its saved registers; the fields are loaded at BTF's offsets, and what
    // they point at is read with a helper that checks it.
    unsafe {
        let task = bpf_get_current_task_btf();
        let registers = bpf_task_pt_regs(task) as *const u8;
        let call: u64 = Direct::load(registers, offset!(regs_orig_ax));
        let mut buffer: *const u8 = Direct::load(registers, offset!(regs_si));
        if call == RECVMSG {
            buffer = bpf_probe_read_user(buffer.wrapping_add(MESSAGE_VECTOR).cast()).ok()?;
        }
        if call == READV || call == RECVMSG {
            buffer = bpf_probe_read_user(buffer.cast()).ok()?;
        } else if call != READ && call != RECVFROM {
            return None;
        }
        Some(buffer)
    }
}

/// `::ffff:a.b.c.d` from an address in network order.
#[inline(always)]
pub(crate) fn map_v4(address: u32, to: &mut [u8; 16]) {
    let words = to.as_mut_ptr().cast::<u32>();
    // SAFETY: 16 bytes of ours, every one written; unaligned writes are split by the compiler where needed.
    unsafe {
        words.write_unaligned(0);
        words.add(1).write_unaligned(0);
        words.add(2).write_unaligned(0xffff_u32.to_be());
        words.add(3).write_unaligned(address);
    }
}

/// Copies an IPv6 address out of a kernel struct.
///
/// # Safety
/// `from` must point at a `struct in6_addr` that the verifier lets us read.
#[inline(always)]
unsafe fn copy_v6<A: Access>(from: *const u8, to: &mut [u8; 16]) {
    let words = to.as_mut_ptr().cast::<u32>();
    // SAFETY: the caller's promise; four loads of four bytes each.
    unsafe {
        words.write_unaligned(A::load(from, 0));
        words.add(1).write_unaligned(A::load(from, 4));
        words.add(2).write_unaligned(A::load(from, 8));
        words.add(3).write_unaligned(A::load(from, 12));
    }
}

/// Walks from a `struct net_device *` to its namespace's inode number.
///
/// # Safety
/// `device` must be a pointer that the verifier knows as a device.
#[inline(always)]
pub(crate) unsafe fn device_netns<A: Access>(device: *const u8) -> u32 {
    // SAFETY: the caller's promise; see `load`.
    unsafe {
        let net: *const u8 = A::load(device, offset!(dev_net));
        A::load(net, offset!(inum))
    }
}

/// Loads a field of an `sk_buff`.
///
/// # Safety
/// `skb` must be a pointer that the verifier knows as an `sk_buff`.
#[inline(always)]
pub(crate) unsafe fn skb_field<A: Access, T: Copy>(skb: *const u8, offset: usize) -> T {
    // SAFETY: the caller's promise.
    unsafe { A::load(skb, offset) }
}

/// A `struct unix_sock *` that the verifier trusts: an iterator's argument.
#[derive(Clone, Copy)]
pub(crate) struct UnixSock(*const u8);

/// The family before the path in a `struct sockaddr_un` (include/uapi/linux/un.h).
const FAMILY_LEN: u32 = 2;

impl UnixSock {
    /// `None` for NULL.
    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Option<Self> {
        (!pointer.is_null()).then_some(Self(pointer))
    }

    fields! {
        Direct:
        state: u8;
        sk_type: u16;
        receive_queue_len: u32;
        max_ack_backlog: u32;
    }

    /// Number of the socket's inode; 0 if no process owns it.
    #[inline(always)]
    pub(crate) fn inode(self) -> u64 {
        // SAFETY: a pointer, only handed on.
        inode_of(unsafe { Direct::load(self.0, offset!(socket)) })
    }

    /// Copies the path that it is bound to, and tells its length; 0 if it is not bound.
    #[inline(always)]
    pub(crate) fn path(self, to: &mut [u8; PATH_LEN]) -> u32 {
        // SAFETY: as the fields; an address lives as long as its socket, and the helpers cannot fault.
        unsafe {
            let address: *const u8 = Direct::load(self.0, offset!(unix_addr));
            let length: u32 = bpf_probe_read_kernel(address.wrapping_add(offset!(unix_addr_len)).cast()).unwrap_or(0);
            let used = length.saturating_sub(FAMILY_LEN);
            let used = if used > PATH_LEN as u32 { PATH_LEN as u32 } else { used };
            let path = address.wrapping_add(offset!(unix_addr_name)).wrapping_add(FAMILY_LEN as usize);
            match bpf_probe_read_kernel_buf(path, &mut to[..used as usize]) {
                Ok(()) => used,
                Err(_) => 0,
            }
        }
    }
}
