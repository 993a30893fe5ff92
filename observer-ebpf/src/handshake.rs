//! Handshakes that succeed, so that silence can be told from an upstream that turns only some away.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use observer_common::{
    Flow, Kind,
    handshake::{Done, EVERY, Peer},
};

use crate::{
    access::Access,
    emit,
    maps::{HANDSHAKES, Try},
    sock::Sock,
};

/// A proxy's connection was established.
#[inline(always)]
pub(crate) fn succeeded(sock: Sock<impl Access>, entry: &Try) {
    let mut flow = Flow::empty();
    sock.flow(sock.num(), &mut flow);
    let peer = Peer { addr: flow.remote, netns: flow.netns, port: flow.remote_port, pad: [0; 2] };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: another CPU may write the same entry meanwhile: then both tell.
    let told = HANDSHAKES.get_ptr(peer).map_or(0, |told| unsafe { *told });
    if entry.syn_retransmits == 0 && now < told.saturating_add(EVERY) {
        return;
    }
    let _ = HANDSHAKES.insert(peer, now, 0);
    emit::record::<Done>(Kind::Handshake, |record, header| {
        record.header = header;
        record.flow = flow;
        record.syn_retransmits = entry.syn_retransmits;
        record.pad = [0; 6];
    });
}
