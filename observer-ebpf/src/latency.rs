//! How long upstreams take to begin their answers, counted here: on kept connections nothing else tells of each.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use observer_common::{
    Flow,
    counter::Counter,
    handshake::Peer,
    latency::{self, BUCKETS},
};

use crate::{
    emit,
    maps::{FIRST_BYTES, NOTHING_COUNTED},
    sock::TcpSock,
};

/// A proxy reads the first bytes of an answer. The request was sent when the packet was that is acknowledged last: an answer
/// acknowledges the request, and nothing has been sent since but acknowledgements, which are not acknowledged. Of a request in
/// several packets that is the last, of one sent again the last time.
#[inline(always)]
pub(crate) fn answer_begins(tcp: TcpSock) {
    let Some(sent) = tcp.last_acked_sent() else { return };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let sent = sent.wrapping_mul(1000);
    // Pacing may stamp a packet with a time to come.
    if sent == 0 || sent > now {
        return;
    }
    let mut flow = Flow::empty();
    tcp.sock().flow(0, &mut flow);
    let peer = Peer { addr: flow.remote, netns: flow.netns, port: flow.remote_port, pad: [0; 2] };
    if FIRST_BYTES.get_ptr(peer).is_none()
        && let Some(nothing) = NOTHING_COUNTED.get(0)
    {
        // Another CPU may have done it meanwhile, and counted already.
        const ONLY_NEW: u64 = 1;
        let _ = FIRST_BYTES.insert(peer, nothing, ONLY_NEW);
    }
    let Some(counts) = FIRST_BYTES.get_ptr_mut(peer) else { return emit::count(Counter::AnswersUnmeasured) };
    // The verifier is to see the bound in the very register.
    let bucket = core::hint::black_box(usize::from(latency::bucket(now - sent))) & (BUCKETS - 1);
    // SAFETY: valid for the program's run; CPUs that race may lose one of two counts.
    unsafe {
        let count = counts.cast::<u32>().add(bucket);
        *count = (*count).wrapping_add(1);
    }
}
