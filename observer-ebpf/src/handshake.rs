//! Handshakes that succeed, so that silence can be told from an upstream that turns only some away.

use observer_common::{
    Kind,
    handshake::{Done, EVERY},
    spread::spread,
};

use crate::{
    access::Access,
    emit,
    maps::{HANDSHAKES, PEER_BITS},
    sock::Sock,
};

/// A proxy's connection was established; `now` in nanoseconds.
#[inline(always)]
pub(crate) fn succeeded(sock: Sock<impl Access>, syn_retransmits: u16, now: u64) {
    let peer = number(sock);
    let time = now / TICK;
    // SAFETY: so many bits name no other slot; another CPU may write the same one meanwhile: then both tell.
    let told = unsafe {
        let slot = HANDSHAKES.pointer().cast::<u64>().add((peer >> (u64::BITS - PEER_BITS)) as usize);
        let before = slot.read_volatile();
        let told = before >> u32::BITS == peer & LOWER
            && (time.wrapping_add(ASIDE).wrapping_sub(before) & LOWER) < EVERY / TICK + ASIDE;
        if !told || syn_retransmits > 0 {
            slot.write_volatile(peer << u32::BITS | time & LOWER);
        }
        told
    };
    if told && syn_retransmits == 0 {
        return;
    }
    emit::record::<Done>(Kind::Handshake, |record, header| {
        record.header = header;
        sock.flow(sock.num(), &mut record.flow);
        record.syn_retransmits = syn_retransmits;
        record.pad = [0; 6];
    });
}

/// Nanoseconds of the time that is kept of a handshake, which thus comes round once in 50 days.
const TICK: u64 = 1_000_000;
/// So many of these one processor may be behind another, which tells the time of an earlier packet.
const ASIDE: u64 = 1000;
/// The lower half of a word.
const LOWER: u64 = u32::MAX as u64;

/// A number for the upstream of a connection. What is kept of it two upstreams have the same of once in 2^43.
#[inline(always)]
fn number(sock: Sock<impl Access>) -> u64 {
    let [low, high] = sock.remote();
    let door = u64::from(sock.netns()) << 16 | u64::from(sock.dport());
    let mut number = spread(door);
    number = spread(number ^ (number >> 32) ^ low);
    spread(number ^ (number >> 32) ^ high)
}
