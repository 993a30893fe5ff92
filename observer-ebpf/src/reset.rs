//! RST segments, sent and received.

use observer_common::{
    Flow, Kind, Task,
    connection::RESET_RECEIVED,
    counter::Counter,
    reset::{NO_REASON, NO_STATE, Sent},
    state,
};

use crate::{
    access::{Access, Arguments},
    again, emit,
    filter::{self, netns_matters, port_matters},
    look,
    packet::{self, ACK, RST, Segment},
    settings::setting,
    sock::{self, Sock, TIME_WAIT_OR_REQUEST, TcpSock},
    tries,
};

/// This host sends a RST. `sk` and `skb` may each be NULL; which of them is there says what kind it is.
#[inline(always)]
pub(crate) fn sent<C: Arguments>(ctx: &C) {
    let sock = ctx.sock(0);
    let skb: *const u8 = ctx.argument(1);
    let reason = if setting!(reset_has_reason) == 1 { ctx.argument(2) } else { NO_REASON };
    let mut segment = Segment::NONE;
    // SAFETY: tested against NULL.
    let answers = !skb.is_null() && unsafe { packet::of_skb::<C::Access>(skb, &mut segment) };
    tell(sock, answers, &segment, reason, Counter::ResetsSent);
}

/// This host is about to answer a segment with a RST; told of where the tracepoint does not, for want of a full socket. A segment
/// that is a RST itself gets no answer (`tcp_v4_send_reset`, net/ipv4/tcp_ipv4.c). What the kernel keeps
/// quiet about for rarer reasons (a wrong signature, an address that is not the host's) is counted all the same.
#[inline(always)]
pub(crate) fn sent_without_socket<C: Arguments>(ctx: &C) {
    let sock = ctx.sock(0);
    if sock.is_some_and(|sock| !TIME_WAIT_OR_REQUEST.contains(&sock.state())) {
        return;
    }
    let mut segment = Segment::NONE;
    // SAFETY: the function's argument, never NULL.
    if !unsafe { packet::of_skb::<C::Access>(ctx.argument(1), &mut segment) } || segment.flags & RST != 0 {
        return;
    }
    tell(sock, true, &segment, NO_REASON, Counter::ResetsWithoutSocket);
}

/// Tells of a RST, as an answer to a segment or not, and counts it: a counter for each program.
#[inline(always)]
fn tell(sock: Option<Sock<impl Access>>, answers: bool, segment: &Segment, reason: u32, counter: Counter) {
    // TIME_WAIT and request sockets are smaller than a full one; only what the packet says is safe there.
    let tcp = sock.and_then(Sock::tcp);
    let port = match tcp {
        _ if answers => segment.flow.local_port,
        Some(tcp) => tcp.local_port(),
        None => return,
    };
    // The compiler is to load it in any case: it would else copy a register that was never written, for nothing.
    let mut netns = core::hint::black_box(segment.flow.netns);
    if let Some(tcp) = tcp {
        netns = tcp.sock().netns();
    }
    if !port_matters(port) || !netns_matters(netns) {
        return;
    }
    emit::count(counter);
    // Listening is tested on the common part, which every socket has.
    let listening = sock.is_some_and(|sock| sock.state() == state::LISTEN);
    let unknown = listening && tcp.is_some_and(|tcp| no_handshake(tcp, answers && segment.flags & ACK != 0, reason));
    if unknown {
        emit::count(Counter::OverflowsRetracted);
    }
    emit::record::<Sent>(Kind::ResetSent, |record, header| {
        record.header = header;
        record.reason = reason;
        record.task = Task { pid: 0, tid: 0, comm: [0; 16] };
        record.flow = Flow::empty();
        record.unread = 0;
        record.depth = 0;
        record.limit = 0;
        record.state = NO_STATE;
        record.owned = 0;
        record.shutdown = 0;
        record.answer = 0;
        record.segment_flags = 0;
        record.no_handshake = u8::from(unknown);
        record.exiting = 0;
        record.answered = 0;
        record.exit_code = 0;
        record.pad2 = 0;
        if let Some(tcp) = tcp {
            tcp.sock().flow(tcp.local_port(), &mut record.flow);
            record.state = tcp.sock().state();
            record.owned = u8::from(tcp.owned());
            record.shutdown = tcp.shutdown();
            record.answered = u8::from(tcp.answered());
            if listening {
                record.depth = tcp.ack_backlog();
                record.limit = tcp.max_ack_backlog();
            } else {
                record.unread = tcp.rcv_nxt().wrapping_sub(tcp.copied_seq());
            }
        } else if let Some(sock) = sock {
            record.state = sock.state();
        }
        if answers {
            let netns = record.flow.netns;
            record.flow = segment.flow;
            if netns != 0 {
                record.flow.netns = netns;
            }
            record.answer = 1;
            record.segment_flags = segment.flags;
        } else {
            record.task = filter::current();
            let (dies, exit_code) = sock::dying();
            record.exiting = u8::from(dies);
            record.exit_code = exit_code;
        }
    });
}

/// Whether a listener with a full queue answers an ACK for which it knows no handshake: `packet` in [`crate::listener`] saw that
/// ACK meet the full queue and counted it, but the kernel never came to its own test. Told apart from
/// `tcp_abort_on_overflow`'s RST by the reason, or on kernels that give none by the sysctl.
#[inline(always)]
fn no_handshake(tcp: TcpSock<impl Access>, to_ack: bool, reason: u32) -> bool {
    // What is not looked at was not counted.
    if !look::at_queues() {
        return false;
    }
    let forgotten = if setting!(reset_has_reason) == 1 {
        u64::from(reason) == setting!(reset_flags)
    } else {
        tcp.abort_on_overflow() == 0
    };
    forgotten && to_ack && tcp.accept_queue_full()
}

/// A connection was reset by its peer (or, without a RST on the wire, because data came after the application had
/// closed; such sockets have been forgotten by then).
#[inline(always)]
pub(crate) fn received(ctx: &impl Arguments) {
    let Some(sock) = ctx.sock(0) else { return };
    was_received(sock);
    again::handled(sock, again::RESET);
}

/// The same, for the second program.
#[inline(always)]
pub(crate) fn received_again(ctx: &impl Arguments) {
    let Some(sock) = ctx.sock(0) else { return };
    if again::was_skipped(sock, again::RESET) {
        was_received(sock);
    }
}

#[inline(always)]
fn was_received(sock: Sock<impl Access>) {
    if let Some(entry) = tries::of(sock) {
        // SAFETY: valid for the program's run; one event of a socket at a time.
        unsafe {
            // There is one reset of a connection, though two programs may see to it.
            if (*entry).flags & RESET_RECEIVED == 0 {
                (*entry).flags |= RESET_RECEIVED;
                emit::count(Counter::ResetsReceived);
            }
        }
    }
}
