//! Retransmissions.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use observer_common::{
    Kind,
    counter::Counter,
    retransmit::{Segment, SynAck},
    state,
};

use crate::{
    access::Arguments,
    emit,
    filter::{netns_matters, port_matters},
    settings::{offset, setting},
    sock::Sock,
    tries,
};

/// A segment is sent again. Only proxies' connections matter; a failed attempt (`err`) put nothing on the wire.
#[inline(always)]
pub(crate) fn segment(ctx: &impl Arguments) {
    if setting!(retransmit_has_error) == 1 {
        let error: i32 = ctx.argument(2);
        if error != 0 {
            return;
        }
    }
    let Some(sock) = ctx.sock(0) else { return };
    let Some(entry) = tries::of(sock) else { return };
    let Some(tcp) = sock.tcp() else { return };
    let state = sock.state();
    // SAFETY: valid for the program's run; one event of a socket at a time.
    unsafe {
        if state == state::SYN_SENT {
            (*entry).syn_retransmits = (*entry).syn_retransmits.saturating_add(1);
        } else {
            (*entry).data_retransmits = (*entry).data_retransmits.saturating_add(1);
        }
    }
    emit::count(Counter::Retransmits);
    emit::record::<Segment>(Kind::Retransmit, |record, header| {
        record.header = header;
        sock.flow(tcp.local_port(), &mut record.flow);
        record.state = state;
        record.pad = [0; 7];
    });
}

/// A listener sends a SYN-ACK again. Only where the handshake was complete on the client's side is it news.
#[inline(always)]
pub(crate) fn syn_ack<C: Arguments>(ctx: &C) {
    let request: *const u8 = ctx.argument(1);
    // SAFETY: `struct inet_request_sock` begins with the `struct request_sock` of the argument; the helper cannot fault.
    let acked = unsafe { bpf_probe_read_kernel::<u8>(request.wrapping_add(offset!(req_acked))) };
    if u64::from(acked.unwrap_or(0)) & setting!(req_acked_mask) == 0 {
        return;
    }
    let Some(listener) = ctx.sock(0) else { return };
    let Some(request) = Sock::<C::Access>::new(request) else { return };
    let port = request.num();
    if !port_matters(port) || !netns_matters(listener.netns()) {
        return;
    }
    emit::count(Counter::SynAckRetransmits);
    emit::record::<SynAck>(Kind::SynAckRetransmit, |record, header| {
        record.header = header;
        request.flow(port, &mut record.flow);
        record.flow.netns = listener.netns();
    });
}
