//! Where the running kernel keeps the fields that the programs read.
//!
//! Rust emits no CO-RE relocations, so userspace resolves every offset from the kernel's BTF and puts it into the programs' own
//! instructions, in place of a [`placeholder`], before they are loaded: the verifier then sees constants and allows direct loads, and
//! no load of an offset comes before the load that it is for.

/// An offset that this kernel does not have.
pub const ABSENT: u16 = u16::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident = $path:literal, $need:ident;)+) => {
        /// Byte offsets of kernel struct fields; [`ABSENT`] where the kernel has none.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets { $($(#[$doc])* pub $field: u16,)+ }

        impl Offsets {
            /// No offset known yet.
            pub const UNRESOLVED: Self = Self { $($field: ABSENT,)+ };

            /// Every field: its path from a struct through members, whether the programs can do without it, and
            /// where to put its offset.
            pub fn fields(&mut self) -> [(&'static str, bool, &mut u16); Self::COUNT] {
                [$(($path, offsets!(@$need), &mut self.$field),)+]
            }

            /// How many fields there are.
            pub const COUNT: usize = [$($path,)+].len();

            /// The offsets in the order of their fields.
            fn values(&self) -> [u16; Self::COUNT] {
                [$(self.$field,)+]
            }
        }
    };
    (@required) => { true };
    (@optional) => { false };
}

offsets! {
    /// Address family.
    family = "sock_common.skc_family", required;
    /// TCP state.
    state = "sock_common.skc_state", required;
    /// Local port, host order.
    num = "sock_common.skc_num", required;
    /// Remote port, network order.
    dport = "sock_common.skc_dport", required;
    /// Remote IPv4 address.
    daddr = "sock_common.skc_daddr", required;
    /// Local IPv4 address.
    rcv_saddr = "sock_common.skc_rcv_saddr", required;
    /// Remote IPv6 address.
    v6_daddr = "sock_common.skc_v6_daddr", required;
    /// Local IPv6 address.
    v6_rcv_saddr = "sock_common.skc_v6_rcv_saddr", required;
    /// Network namespace, a pointer to `struct net`.
    net = "sock_common.skc_net.net", required;
    /// Protocol number.
    protocol = "sock.sk_protocol", required;
    /// The user for whom the socket was made.
    uid = "sock.sk_uid.val", required;
    /// Pending error.
    err = "sock.sk_err", required;
    /// Error that ended nothing.
    err_soft = "sock.sk_err_soft", required;
    /// Packets in the queue of errors.
    error_queue_len = "sock.sk_error_queue.qlen", required;
    /// Last packet in the queue of errors.
    error_queue_last = "sock.sk_error_queue.prev", required;
    /// Control block of a packet.
    skb_cb = "sk_buff.cb", required;
    /// In the control block of an error, `struct sock_extended_err`, which begins with the errno.
    exterr_errno = "sock_exterr_skb.ee", required;
    /// Shutdown mask.
    shutdown = "sock.sk_shutdown", required;
    /// Accept queue depth.
    ack_backlog = "sock.sk_ack_backlog", required;
    /// Accept queue limit.
    max_ack_backlog = "sock.sk_max_ack_backlog", required;
    /// The owning `struct socket`, NULL if none.
    socket = "sock.sk_socket", required;
    /// Drop count.
    drops = "sock.sk_drops", required;
    /// Local port, network order, kept after release.
    sport = "inet_sock.inet_sport", required;
    /// Handshakes under way.
    syn_queue = "inet_connection_sock.icsk_accept_queue.qlen", required;
    /// Jiffies of the last payload received.
    lrcvtime = "inet_connection_sock.icsk_ack.lrcvtime", required;
    /// Next sequence number expected.
    rcv_nxt = "tcp_sock.rcv_nxt", required;
    /// First sequence number not yet read by the application.
    copied_seq = "tcp_sock.copied_seq", required;
    /// First sequence number not yet acknowledged.
    snd_una = "tcp_sock.snd_una", required;
    /// Last sequence number written by the application, plus one.
    write_seq = "tcp_sock.write_seq", required;
    /// Payload bytes received.
    bytes_received = "tcp_sock.bytes_received", required;
    /// Bytes acknowledged, the SYN counted as one.
    bytes_acked = "tcp_sock.bytes_acked", required;
    /// Payload bytes sent.
    bytes_sent = "tcp_sock.bytes_sent", required;
    /// Segments with payload sent.
    data_segs_out = "tcp_sock.data_segs_out", required;
    /// Jiffies of the last payload sent.
    lsndtime = "tcp_sock.lsndtime", required;
    /// Microseconds of `CLOCK_MONOTONIC` at which the packet was sent that was acknowledged last.
    first_tx = "tcp_sock.first_tx_mstamp", optional;
    /// When the socket last had to do with a packet, in microseconds of that clock.
    mstamp = "tcp_sock.tcp_mstamp", optional;
    /// Inode number of a namespace.
    inum = "net.ns.inum", required;
    /// `net.ipv4.tcp_syncookies`
    syncookies = "net.ipv4.sysctl_tcp_syncookies", required;
    /// `net.ipv4.tcp_abort_on_overflow`
    abort_on_overflow = "net.ipv4.sysctl_tcp_abort_on_overflow", required;
    /// Start of a packet's buffer.
    skb_head = "sk_buff.head", required;
    /// Offset of the IP header in it.
    skb_network_header = "sk_buff.network_header", required;
    /// Offset of the TCP header in it.
    skb_transport_header = "sk_buff.transport_header", required;
    /// Protocol of the network layer, an Ethernet type in network order.
    skb_protocol = "sk_buff.protocol", required;
    /// Device the packet came by.
    skb_dev = "sk_buff.dev", required;
    /// Namespace of a device.
    dev_net = "net_device.nd_net.net", required;
    /// A task's first thread, by whose name the process goes.
    group_leader = "task_struct.group_leader", required;
    /// A task's name.
    comm = "task_struct.comm", required;
    /// A task's flags (`PF_EXITING`).
    task_flags = "task_struct.flags", required;
    /// What a dying task leaves to its parent.
    exit_code = "task_struct.exit_code", required;
    /// A task's process.
    tgid = "task_struct.tgid", required;
    /// A task's open files.
    task_files = "task_struct.files", required;
    /// Their table.
    files_table = "files_struct.fdt", required;
    /// The table's descriptors.
    table_files = "fdtable.fd", required;
    /// What a file stands for: for a socket, its `struct socket`.
    file_private = "file.private_data", required;
    /// The `struct sock` of a `struct socket`.
    socket_sk = "socket.sk", required;
    /// Second argument of a system call, as the caller put it (x86-64).
    regs_si = "pt_regs.si", optional;
    /// Number of the system call (x86-64).
    regs_orig_ax = "pt_regs.orig_ax", optional;
    /// Type of a socket (`SOCK_STREAM` and so on).
    sk_type = "sock.sk_type", optional;
    /// Packets that wait to be received; for a listening unix socket, connections.
    receive_queue_len = "sock.sk_receive_queue.qlen", optional;
    /// Where a unix socket is bound.
    unix_addr = "unix_sock.addr", optional;
    /// Length of that address, its family included.
    unix_addr_len = "unix_address.len", optional;
    /// The address itself, a `struct sockaddr_un`.
    unix_addr_name = "unix_address.name", optional;
    /// Number of the inode that lies behind a `struct socket`.
    socket_inode = "socket_alloc.vfs_inode.i_ino", optional;
    /// Byte that holds the `acked` bit of a request.
    req_acked = "inet_request_sock.acked", required;
}

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $type:ty;)+) => {
        /// Constants that the programs take from userspace besides offsets.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Settings { $($(#[$doc])* pub $field: $type,)+ }

        /// Numbers of the settings.
        #[expect(non_camel_case_types, reason = "named as the fields are")]
        #[derive(Clone, Copy)]
        pub enum Setting { $($(#[$doc])* $field,)+ }

        impl Settings {
            /// How many there are.
            const COUNT: usize = [$(stringify!($field),)+].len();

            /// The settings in the order of their numbers.
            fn values(&self) -> [u64; Self::COUNT] {
                [$(u64::from(self.$field),)+]
            }
        }
    };
}

settings! {
    /// Nanoseconds per jiffy (`1e9 / CONFIG_HZ`).
    jiffy: u32;
    /// `SK_RST_REASON_TCP_FLAGS` of this kernel; 0 where it has none.
    reset_flags: u32;
    /// `SKB_DROP_REASON_TCP_LISTEN_OVERFLOW` of this kernel; 0 where it has none.
    drop_listen_overflow: u32;
    /// Mask of the `acked` bit within its byte.
    req_acked_mask: u8;
    /// 1 if `tcp_send_reset` passes a reason.
    reset_has_reason: u8;
    /// 1 if `tcp_retransmit_skb` passes an error.
    retransmit_has_error: u8;
    /// 1 if `kfree_skb` passes the receiving socket.
    kfree_has_socket: u8;
    /// 1 if the connect syscalls are traced.
    connect_traced: u8;
    /// 1 if only the ports in the PORTS map matter.
    filter_ports: u8;
    /// 1 if reads are traced (`tcp_rcv_space_adjust`).
    reads_traced: u8;
    /// 1 if the end of sockets is traced (`tcp_destroy_sock`).
    destroys_traced: u8;
    /// 1 if a program can look at the registers of the current system call (`bpf_task_pt_regs`, x86-64).
    registers_readable: u8;
    /// 1 if what proxies write is traced.
    answers_traced: u8;
    /// 1 if a program can load fields of the current task (`bpf_get_current_task_btf`, 5.11).
    task_readable: u8;
    /// The only network namespace that matters, by inode number; 0 for all.
    only_netns: u32;
    /// Entries of the table of proxies' connections, less one: a power of two, so that it is a mask.
    tries_mask: u32;
    /// The proxies' names through [`crate::names::bit`].
    names: u64;
}

/// What stands in the programs for a constant until userspace has put its value there: the operand of an instruction that loads
/// 64 bits (`BPF_LD | BPF_IMM | BPF_DW`). Offsets are numbered in the order of their fields, then come the settings.
pub const fn placeholder(number: usize) -> u64 {
    MARK | number as u64
}

/// Begins every placeholder. Nothing else in the programs is such a number.
const MARK: u64 = u64::from_be_bytes(*b"observ\0\0");
/// The rest of it.
const NUMBER: u64 = 0xffff;

/// The number of a setting among all constants.
pub const fn setting(setting: Setting) -> usize {
    Offsets::COUNT + setting as usize
}

/// Constants of the programs.
pub const CONSTANTS: usize = Offsets::COUNT + Settings::COUNT;

/// The values of all constants, by number.
pub fn constants(offsets: &Offsets, settings: &Settings) -> [u64; CONSTANTS] {
    let mut values = [0; CONSTANTS];
    for (value, offset) in values.iter_mut().zip(offsets.values()) {
        *value = u64::from(offset);
    }
    values[Offsets::COUNT..].copy_from_slice(&settings.values());
    values
}

/// The number of the constant for which this is the placeholder.
pub const fn placed(operand: u64) -> Option<usize> {
    if operand & !NUMBER == MARK { Some((operand & NUMBER) as usize) } else { None }
}
