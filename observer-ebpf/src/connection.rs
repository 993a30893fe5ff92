//! Proxies' connections, from connect() to their end, and connections that end in an accept queue.

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, generated::bpf_jiffies64},
    programs::BtfTracePointContext,
};
use aya_log_ebpf::warn;
use observer_common::{
    Kind, Task,
    connection::{Ended, RESET_RECEIVED, Unaccepted},
    counter::Counter,
    state,
};

use crate::{
    connect, emit,
    filter::{self, port_matters},
    handshake, listener,
    maps::{TRIES, Try},
    settings::setting,
    sock::{Sock, TcpSock},
};

/// `IPPROTO_TCP`; MPTCP's own sockets (262) appear here too and are left out.
const IPPROTO_TCP: u16 = 6;

/// Every state change of every TCP socket of the host.
#[inline(always)]
pub(crate) fn state_changed(ctx: &BtfTracePointContext) {
    let Some(sock) = Sock::new(ctx.arg(0)) else { return };
    let (old, new): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    let (old, new) = (old as u8, new as u8);
    match (old, new) {
        (state::CLOSE, state::SYN_SENT) => started(ctx, sock),
        (state::SYN_SENT, state::ESTABLISHED) => established(sock),
        (_, state::LISTEN) => listener::changed(sock, true),
        (state::LISTEN, state::CLOSE) => listener::changed(sock, false),
        (state::FIN_WAIT2 | state::CLOSING, state::CLOSE) => time_wait(sock),
        (state::SYN_SENT | state::ESTABLISHED | state::CLOSE_WAIT, _) => left(sock, old, new),
        _ => {}
    }
}

/// A connect() in its caller's context: the one moment at which the kernel says for certain who it is.
#[inline(always)]
fn started(ctx: &BtfTracePointContext, sock: Sock) {
    if !port_matters(u16::from_be(sock.dport())) {
        return;
    }
    let Some(task) = filter::current_proxy() else { return };
    let Some(tcp) = sock.tcp() else { return };
    if tcp.protocol() != IPPROTO_TCP {
        return;
    }
    emit::count(Counter::ConnectionsStarted);
    connect::began(sock);
    let entry = Try {
        task,
        // SAFETY: a helper without arguments.
        started: unsafe { bpf_ktime_get_ns() },
        established: 0,
        syn_retransmits: 0,
        data_retransmits: 0,
        flags: 0,
        closing: 0,
        pad: [0; 2],
    };
    if TRIES.insert(sock.key(), entry, 0).is_err() {
        emit::count(Counter::TriesUntracked);
        warn!(ctx, "no room to follow a connection of process {}", task.pid);
    }
}

#[inline(always)]
fn established(sock: Sock) {
    if let Some(entry) = TRIES.get_ptr_mut(sock.key()) {
        // SAFETY: the entry is valid for the program's run; only this socket's events write it, one at a time.
        unsafe { (*entry).established = bpf_ktime_get_ns() };
        // SAFETY: as above.
        handshake::succeeded(sock, unsafe { &*entry });
    }
}

/// Entry into TIME_WAIT has no event of its own: the socket is closed and replaced (`tcp_time_wait`,
/// net/ipv4/tcp_minisocks.c). An error says that it was reset instead.
#[inline(always)]
fn time_wait(sock: Sock) {
    if let Some(tcp) = sock.tcp()
        && tcp.err() == 0
    {
        emit::count(Counter::TimeWaitsEntered);
    }
}

/// A connection left `SYN_SENT`, `ESTABLISHED` or `CLOSE_WAIT`.
#[inline(always)]
fn left(sock: Sock, old: u8, new: u8) {
    let key = sock.key();
    let Some(pointer) = TRIES.get_ptr_mut(key) else {
        if old == state::ESTABLISHED && (new == state::CLOSE_WAIT || new == state::CLOSE) {
            unaccepted(sock, new);
        }
        return;
    };
    // SAFETY: as in `established`; copied, because the entry may be removed below.
    let entry = unsafe { *pointer };
    let Some(tcp) = sock.tcp() else { return };
    let error = tcp.err();
    let closing = entry.closing == 1;
    // connect() itself refused (no free port, say): its return value tells more than this state change does.
    // The error alone does not tell: the proxy may just have fetched it on another CPU.
    let broken = error != 0 || entry.flags & RESET_RECEIVED != 0;
    let in_connect = old == state::SYN_SENT && !broken && tcp.shutdown() == 0 && connect::refused(sock, tcp);
    if !closing {
        emit::count(Counter::ConnectionsEnded);
    }
    if !in_connect && (!closing || (new == state::CLOSE && broken)) {
        report(tcp, &entry, old, new);
    }
    if new == state::CLOSE_WAIT {
        // SAFETY: as above.
        unsafe { (*pointer).closing = 1 };
    } else {
        // Sockets are reused at once, so an entry must not outlive its connection.
        let _ = TRIES.remove(key);
    }
}

#[inline(always)]
fn report(tcp: TcpSock, entry: &Try, old: u8, new: u8) {
    emit::record::<Ended>(Kind::ConnectionEnded, |record, header| {
        record.header = header;
        tcp.sock().flow(tcp.local_port(), &mut record.flow);
        record.task = Task { ..entry.task };
        record.started = entry.started;
        record.established = entry.established;
        record.bytes_sent = tcp.bytes_sent();
        // The SYN counts as a byte (tcp_snd_una_update over it, net/ipv4/tcp_input.c).
        record.bytes_acked = tcp.bytes_acked().saturating_sub(1);
        // The FIN has a sequence number and is counted as a byte (tcp_fin, net/ipv4/tcp_input.c).
        let fin = u64::from(new == state::CLOSE_WAIT || old == state::CLOSE_WAIT);
        record.bytes_received = tcp.bytes_received().saturating_sub(fin);
        record.unacked = tcp.write_seq().wrapping_sub(tcp.snd_una());
        record.data_segments_out = tcp.data_segs_out();
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_jiffies64() } as u32;
        let (sent, received) = (tcp.lsndtime(), tcp.lrcvtime());
        record.since_sent = since(now, sent, record.bytes_sent);
        record.since_received = since(now, received, record.bytes_received);
        record.syn_retransmits = entry.syn_retransmits;
        record.data_retransmits = entry.data_retransmits;
        record.error = tcp.err() as u16;
        record.old_state = old;
        record.new_state = new;
        record.shutdown = tcp.shutdown();
        record.flags = entry.flags;
        record.outstanding = u8::from(sent.wrapping_sub(received) as i32 > 0);
        record.pad = [0; 5];
    });
}

/// Microseconds since a time stamp in jiffies; `u32::MAX` where there was no payload to stamp.
#[inline(always)]
fn since(now: u32, stamp: u32, bytes: u64) -> u32 {
    if bytes == 0 {
        return u32::MAX;
    }
    let microseconds = u64::from(now.wrapping_sub(stamp)) * u64::from(setting!(jiffy) / 1000);
    if microseconds >= u64::from(u32::MAX) { u32::MAX - 1 } else { microseconds as u32 }
}

/// A socket that no process ever owned went away: it was still in an accept queue.
#[inline(always)]
fn unaccepted(sock: Sock, new: u8) {
    let Some(tcp) = sock.tcp() else { return };
    if tcp.owned() || !port_matters(tcp.local_port()) {
        return;
    }
    emit::count(Counter::Unaccepted);
    emit::record::<Unaccepted>(Kind::Unaccepted, |record, header| {
        record.header = header;
        sock.flow(tcp.local_port(), &mut record.flow);
        record.new_state = new;
        record.pad = [0; 7];
    });
}
