//! Listeners come, go and overflow.

use aya_ebpf::programs::{BtfTracePointContext, SkBuffContext};
use observer_common::{
    Flow, Kind,
    counter::Counter,
    listener::{Changed, Overflow, PATH_ACK, PATH_SYN, PATH_SYN_QUEUE},
    state,
};

use crate::{
    access::{Access, Arguments, Direct},
    emit,
    filter::{self, netns_matters, port_matters},
    packet::{self, ACK, RST, SYN, Segment},
    settings::setting,
    sock::{Sock, TcpSock},
};

/// A socket began or ceased to listen, in its process's context.
#[inline(always)]
pub(crate) fn changed(sock: Sock<impl Access>, opened: bool) {
    let Some(tcp) = sock.tcp() else { return };
    let port = tcp.local_port();
    if !port_matters(port) || !netns_matters(sock.netns()) {
        return;
    }
    emit::count(Counter::ListenerChanges);
    emit::record::<Changed>(Kind::ListenerChanged, |record, header| {
        record.header = header;
        sock.flow(port, &mut record.flow);
        record.flow.remote = [0; 16];
        record.flow.remote_port = 0;
        record.task = filter::current();
        record.depth = tcp.ack_backlog();
        record.limit = tcp.max_ack_backlog();
        record.opened = u8::from(opened);
        record.pad = [0; 7];
    });
}

/// A packet on its way to a socket (`tcp_filter`, just before `tcp_conn_request` or `tcp_check_req`).
#[inline(always)]
pub(crate) fn packet(ctx: &SkBuffContext) {
    // SAFETY: a field of the context; NULL is tested for.
    let sk = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    // SAFETY: not NULL.
    if unsafe { (*sk).state } != u32::from(state::LISTEN) {
        return;
    }
    let Some(tcp) = Sock::<Direct>::new(sk.cast()).and_then(Sock::tcp) else { return };
    let syn_queue_full = drops_for_full_syn_queue(tcp);
    if !syn_queue_full && !tcp.accept_queue_full() {
        return;
    }
    let Some(segment) = packet::of_context(ctx) else { return };
    let path = match segment.flags & (SYN | ACK | RST) {
        SYN if syn_queue_full => PATH_SYN_QUEUE,
        SYN if tcp.accept_queue_full() => PATH_SYN,
        ACK if tcp.accept_queue_full() => PATH_ACK,
        _ => return,
    };
    overflowed(tcp, &segment, path);
}

/// Whether a listener drops a SYN before it looks at its accept queue, as it does without cookies when its SYN queue is full
/// (tcp_conn_request, net/ipv4/tcp_input.c); ListenOverflows does not count that. Full is as inet_csk_reqsk_queue_is_full
/// (include/net/inet_connection_sock.h) says; kernels in which it still says `>=` never get beyond the limit, and there such
/// drops are not seen.
#[inline(always)]
fn drops_for_full_syn_queue(tcp: TcpSock<impl Access>) -> bool {
    tcp.syn_queue() > tcp.max_ack_backlog() && tcp.syncookies() == 0
}

/// A SYN has come to a listener, which makes the same tests next (`tcp_conn_request`).
#[inline(always)]
pub(crate) fn syn<C: Arguments>(ctx: &C) {
    let Some(tcp) = ctx.sock(2).and_then(Sock::tcp) else { return };
    let path = if drops_for_full_syn_queue(tcp) {
        PATH_SYN_QUEUE
    } else if tcp.accept_queue_full() {
        PATH_SYN
    } else {
        return;
    };
    let mut segment = Segment::NONE;
    // SAFETY: the function's argument, never NULL.
    if unsafe { packet::of_skb::<C::Access>(ctx.argument(3), &mut segment) } {
        overflowed(tcp, &segment, path);
    }
}

/// A handshake is complete, and the listener makes the same test next (`tcp_v4_syn_recv_sock`).
#[inline(always)]
pub(crate) fn completed<C: Arguments>(ctx: &C) {
    let Some(tcp) = ctx.sock(0).and_then(Sock::tcp) else { return };
    if !tcp.accept_queue_full() {
        return;
    }
    let mut segment = Segment::NONE;
    // SAFETY: the function's argument, never NULL.
    if unsafe { packet::of_skb::<C::Access>(ctx.argument(1), &mut segment) } {
        overflowed(tcp, &segment, PATH_ACK);
    }
}

/// Likewise over IPv6 (`tcp_v6_syn_recv_sock`), which hands what came over IPv4 to `tcp_v4_syn_recv_sock`.
#[inline(always)]
pub(crate) fn completed_v6<C: Arguments>(ctx: &C) {
    // SAFETY: the function's argument, never NULL.
    if unsafe { packet::is_v6::<C::Access>(ctx.argument(1)) } {
        completed(ctx);
    }
}

/// A packet was freed: the ACK path's overflows, by the kernel's own reason.
#[inline(always)]
pub(crate) fn freed(ctx: &BtfTracePointContext) {
    let reason: u32 = ctx.arg(2);
    if u64::from(reason) != setting!(drop_listen_overflow) || setting!(kfree_has_socket) == 0 {
        return;
    }
    let Some(tcp) = ctx.sock(3).and_then(Sock::tcp) else { return };
    let skb: *const u8 = ctx.arg(0);
    let mut segment = Segment::NONE;
    // SAFETY: a tracepoint's argument, never NULL here.
    if unsafe { packet::of_skb::<Direct>(skb, &mut segment) } {
        overflowed(tcp, &segment, PATH_ACK);
    }
}

#[inline(always)]
fn overflowed(tcp: TcpSock<impl Access>, segment: &Segment, path: u8) {
    if !port_matters(segment.flow.local_port) || !netns_matters(tcp.sock().netns()) {
        return;
    }
    emit::count(match path {
        PATH_SYN => Counter::ListenOverflowsSyn,
        PATH_ACK => Counter::ListenOverflowsAck,
        _ => Counter::SynQueueDrops,
    });
    emit::record::<Overflow>(Kind::ListenOverflow, |record, header| {
        record.header = header;
        record.flow = Flow { netns: tcp.sock().netns(), ..segment.flow };
        record.depth = tcp.ack_backlog();
        record.limit = tcp.max_ack_backlog();
        record.syn_queue = tcp.syn_queue();
        record.path = path;
        record.pad = [0; 3];
    });
}
