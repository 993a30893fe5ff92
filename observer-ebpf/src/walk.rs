//! `iter/tcp`: the sockets of one namespace, walked at the start and for samples.

use aya_ebpf::helpers::{
    bpf_ktime_get_ns,
    generated::{bpf_seq_write, bpf_skc_to_tcp_timewait_sock},
};
use observer_common::{
    Flow,
    counter::Counter,
    listener::{Door, Sample},
    state,
    time_wait::Destination,
};

use crate::{
    emit,
    filter::{netns_matters, port_matters},
    handshake, look,
    maps::{ACCEPTED, ADOPT, TIME_WAITS},
    sock::Sock,
    tries,
};

/// `struct bpf_iter__tcp` (net/ipv4/tcp_ipv4.c): `meta`, `sk_common`, `uid`, each in a word of its own.
#[repr(C)]
struct Context {
    meta: *const Meta,
    sock: *const u8,
}

/// `struct bpf_iter_meta` (include/linux/bpf.h) begins with the file that is written to.
#[repr(C)]
pub(crate) struct Meta {
    pub(crate) seq: *mut core::ffi::c_void,
}

/// Called by the kernel for each TCP socket of the namespace in which the iterator was opened, and once more with
/// NULL at the end. A listener is written to the file as a [`Sample`], a TIME_WAIT socket counted by destination, an open
/// connection followed from now on if userspace asks for it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn walk(ctx: *const Context) -> i32 {
    // SAFETY: the kernel's own context.
    let (seq, pointer) = unsafe { ((*(*ctx).meta).seq, (*ctx).sock) };
    let Some(sock) = Sock::new(pointer) else { return 0 };
    match sock.state() {
        state::LISTEN => sample(sock, seq),
        state::TIME_WAIT => count(sock),
        state::ESTABLISHED | state::CLOSE_WAIT => {
            adopt(sock);
            accepted(sock);
        }
        _ => {}
    }
    0
}

#[inline(always)]
fn sample(sock: Sock, seq: *mut core::ffi::c_void) {
    let Some(tcp) = sock.tcp() else { return };
    let mut flow = Flow::empty();
    sock.flow(sock.num(), &mut flow);
    let sample = Sample {
        inode: tcp.inode(),
        addr: flow.local,
        port: flow.local_port,
        family: sock.family(),
        depth: tcp.ack_backlog(),
        limit: tcp.max_ack_backlog(),
        syn_queue: tcp.syn_queue(),
        drops: tcp.drops(),
        pad: 0,
    };
    // SAFETY: a sample of ours; the kernel grows the file's buffer and calls again when it is full.
    unsafe { bpf_seq_write(seq.cast(), (&raw const sample).cast(), size_of::<Sample>() as u32) };
}

/// One that a listener made, and that a process owns, has been accepted.
#[inline(always)]
fn accepted(sock: Sock) {
    let Some(tcp) = sock.tcp() else { return };
    if tcp.max_ack_backlog() == 0 || !tcp.owned() {
        return;
    }
    let door = Door { netns: sock.netns(), port: sock.num(), pad: 0 };
    if let Some(value) = ACCEPTED.get_ptr_mut(door) {
        // SAFETY: valid for the program's run; one walk at a time.
        unsafe { *value += 1 };
    } else {
        let _ = ACCEPTED.insert(door, 1, 0);
    }
}

#[inline(always)]
fn adopt(sock: Sock) {
    if !look::adopting() {
        return;
    }
    let Some(tcp) = sock.tcp() else { return };
    // One that began since the programs were attached is there already, and better known.
    if tcp.max_ack_backlog() != 0 || tries::of(tcp.sock()).is_some() {
        return;
    }
    let Some(task) = ADOPT.get_ptr(tcp.inode()) else { return };
    if !port_matters(u16::from_be(sock.dport())) || !netns_matters(sock.netns()) {
        return;
    }
    // SAFETY: valid for the program's run; userspace changes it between walks only.
    if tries::begin(tcp.sock(), unsafe { &*task }, sock.state() == state::CLOSE_WAIT).is_none() {
        return emit::count(Counter::TriesUntracked);
    }
    emit::count(Counter::ConnectionsAdopted);
    // SAFETY: a helper without arguments.
    handshake::succeeded(sock, 0, unsafe { bpf_ktime_get_ns() });
}

#[inline(always)]
fn count(sock: Sock) {
    // SAFETY: the helper answers NULL for anything else; only its answer is asked for, the rest is in the common part.
    if unsafe { bpf_skc_to_tcp_timewait_sock(sock.address().cast_mut().cast()) }.is_null() {
        return;
    }
    let mut flow = Flow::empty();
    sock.flow(sock.num(), &mut flow);
    let destination = Destination { addr: flow.remote, port: flow.remote_port, pad: [0; 2] };
    if let Some(value) = TIME_WAITS.get_ptr_mut(destination) {
        // SAFETY: valid for the program's run; one walk at a time.
        unsafe { *value += 1 };
    } else {
        let _ = TIME_WAITS.insert(destination, 1, 0);
    }
}
