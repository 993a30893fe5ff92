//! `iter/unix`: the listening unix sockets of one network namespace.

use aya_ebpf::helpers::generated::bpf_seq_write;
use observer_common::{connect::PATH_LEN, state, unix::Sample};

use crate::{sock::UnixSock, walk::Meta};

/// `SOCK_STREAM` (include/linux/net.h), part of the ABI.
const SOCK_STREAM: u16 = 1;

/// `struct bpf_iter__unix` (net/unix/af_unix.c): `meta`, `unix_sk`, `uid`, each in a word of its own.
#[repr(C)]
struct Context {
    meta: *const Meta,
    sock: *const u8,
}

/// Called by the kernel for each unix socket of the namespace in which the iterator was opened, and once more with NULL at
/// the end. One that listens is written to the file as a [`Sample`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/unix")]
extern "C" fn walk_unix(ctx: *const Context) -> i32 {
    // SAFETY: the kernel's own context.
    let (seq, pointer) = unsafe { ((*(*ctx).meta).seq, (*ctx).sock) };
    let Some(sock) = UnixSock::new(pointer) else { return 0 };
    // TCP's states are used here as well (unix_listen, net/unix/af_unix.c).
    if sock.state() != state::LISTEN || sock.sk_type() != SOCK_STREAM {
        return 0;
    }
    let mut sample = Sample { inode: 0, depth: 0, limit: 0, path_len: 0, path: [0; PATH_LEN] };
    sample.path_len = sock.path(&mut sample.path);
    if sample.path_len == 0 {
        return 0;
    }
    sample.inode = sock.inode();
    sample.depth = sock.receive_queue_len();
    sample.limit = sock.max_ack_backlog();
    // SAFETY: a sample of ours; the kernel grows the file's buffer and calls again when it is full.
    unsafe { bpf_seq_write(seq.cast(), (&raw const sample).cast(), size_of::<Sample>() as u32) };
    0
}
