//! Handshakes that succeed, so that silence can be told from an upstream that turns only some away.

use observer_common::{
    Flow, Kind,
    handshake::{Done, EVERY},
};

use crate::{
    access::Access,
    emit,
    maps::{HANDSHAKES, PEER_BITS, Told},
    sock::Sock,
};

/// A proxy's connection was established; `now` in nanoseconds.
#[inline(always)]
pub(crate) fn succeeded(sock: Sock<impl Access>, syn_retransmits: u16, now: u64) {
    let mut flow = Flow::empty();
    sock.flow(sock.num(), &mut flow);
    let peer = number(&flow);
    let Some(slots) = HANDSHAKES.get_ptr_mut(0) else { return };
    // SAFETY: so many bits name no other slot; another CPU may write the same one meanwhile: then both tell.
    let told = unsafe {
        let slot = slots.cast::<Told>().add((peer >> (u64::BITS - PEER_BITS)) as usize);
        let told = (*slot).peer == peer && now < (*slot).time.saturating_add(EVERY);
        if !told || syn_retransmits > 0 {
            *slot = Told { peer, time: now };
        }
        told
    };
    if told && syn_retransmits == 0 {
        return;
    }
    emit::record::<Done>(Kind::Handshake, |record, header| {
        record.header = header;
        record.flow = flow;
        record.syn_retransmits = syn_retransmits;
        record.pad = [0; 6];
    });
}

/// A number for the upstream of a connection. Two upstreams have the same once in 2^64.
#[inline(always)]
fn number(flow: &Flow) -> u64 {
    /// See `observer_common::names`.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let [mut low, mut high] = [0_u64; 2];
    let mut at = 0;
    while at < 8 {
        low |= u64::from(flow.remote[at]) << (8 * at);
        high |= u64::from(flow.remote[8 + at]) << (8 * at);
        at += 1;
    }
    let door = u64::from(flow.netns) << 16 | u64::from(flow.remote_port);
    let mut number = door.wrapping_mul(SPREAD);
    number = (number ^ (number >> 32) ^ low).wrapping_mul(SPREAD);
    (number ^ (number >> 32) ^ high).wrapping_mul(SPREAD)
}
