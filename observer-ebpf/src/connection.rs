//! Proxies' connections, from connect() to their end, and connections that end in an accept queue.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user, generated::bpf_jiffies64},
};
use aya_log_ebpf::warn;
use observer_common::{
    Kind, Task,
    connection::{ANSWERS_UNWATCHED, ANSWERS_VISIBLE, BASELINE, Ended, Hurt, RESET_RECEIVED, Unserved},
    counter::Counter,
    listener::Door,
    state,
};

use crate::{
    access::{Access, Arguments},
    again,
    answer::{self, Head, Release},
    connect, emit,
    filter::{self, netns_matters, port_matters},
    handshake, latency, listener, look,
    maps::{ARRIVALS, DOORS, Try},
    settings::setting,
    sock::{self, Sock, TcpSock},
    tries,
};

/// Every state change of every TCP socket of the host.
#[inline(always)]
pub(crate) fn state_changed(ctx: &impl Arguments) {
    let Some(sock) = ctx.sock(0) else { return };
    let new: i32 = ctx.argument(2);
    see_to(ctx, sock, new as u8, false);
    again::handled(sock, new as u8);
}

/// The same, for the second program.
#[inline(always)]
pub(crate) fn state_changed_again(ctx: &impl Arguments) {
    let Some(sock) = ctx.sock(0) else { return };
    let new: i32 = ctx.argument(2);
    if again::was_skipped(sock, new as u8) {
        see_to(ctx, sock, new as u8, true);
    }
}

/// `again` tells that another program may have seen to it after all, see [`again`](crate::again).
#[inline(always)]
fn see_to<C: Arguments>(ctx: &C, sock: Sock<C::Access>, new: u8, again: bool) {
    let old: i32 = ctx.argument(1);
    let old = old as u8;
    match (old, new) {
        (state::CLOSE, state::SYN_SENT) if again && has_begun(sock) => {}
        (state::CLOSE, state::SYN_SENT) => {
            // Of a socket whose end was missed, and whose memory is another's now.
            tries::forget(sock);
            if started(ctx, sock) {
                answer::connects_again();
            }
        }
        (state::SYN_SENT, state::ESTABLISHED) => established(sock),
        (state::SYN_RECV, state::ESTABLISHED) => arrived(sock),
        (_, state::LISTEN) => listener::changed(sock, true),
        (state::LISTEN, state::CLOSE) => listener::changed(sock, false),
        (state::FIN_WAIT2 | state::CLOSING, state::CLOSE) => time_wait(sock),
        (state::SYN_SENT | state::ESTABLISHED | state::CLOSE_WAIT, _) if !(again && has_ended(sock)) => {
            left(sock, old, new)
        }
        _ => {}
    }
}

/// Whether this connect() of the current thread is followed already.
#[inline(always)]
fn has_begun(sock: Sock<impl Access>) -> bool {
    let Some(entry) = tries::of(sock) else { return false };
    // SAFETY: as in `established`.
    unsafe {
        (*entry).established == 0 && (*entry).ended == 0 && (*entry).task.tid == bpf_get_current_pid_tgid() as u32
    }
}

/// Whether the connection of this socket has ended, and waits to be let go of.
#[inline(always)]
fn has_ended(sock: Sock<impl Access>) -> bool {
    // SAFETY: as in `established`.
    tries::of(sock).is_some_and(|entry| unsafe { (*entry).ended } == 1)
}

/// A connect() in its caller's context: the one moment at which the kernel says for certain who it is. Whether it is a proxy's.
// Not inlined, like `established`, so that their stack is not there when `report` needs its own.
#[inline(never)]
fn started(ctx: &impl EbpfContext, sock: Sock<impl Access>) -> bool {
    if !port_matters(u16::from_be(sock.dport())) {
        return false;
    }
    let Some(task) = filter::current_proxy() else { return false };
    let Some(tcp) = sock.tcp() else { return false };
    if !netns_matters(sock.netns()) {
        return false;
    }
    emit::count(Counter::ConnectionsStarted);
    connect::began(sock);
    let Some(entry) = tries::begin(sock, &task, false) else {
        emit::count(Counter::TriesUntracked);
        warn!(ctx, "no room to follow a connection of process {}", task.pid);
        return true;
    };
    let look = look::at_reads();
    // SAFETY: valid for the program's run; only this socket's events write it, one at a time.
    unsafe {
        (*entry).started = bpf_ktime_get_ns();
        (*entry).look = look;
        if look != 0 {
            (*entry).write_seq = tcp.write_seq();
            (*entry).flags = BASELINE;
        }
    }
    true
}

#[inline(never)]
fn established(sock: Sock<impl Access>) {
    let Some(entry) = tries::of(sock) else { return };
    let Some(tcp) = sock.tcp() else { return };
    // SAFETY: the entry is valid for the program's run; only this socket's events write it, one at a time.
    unsafe {
        // To read the clock takes as long as all else here.
        let now = match tcp.last_packet() {
            Some(time) => time,
            None => bpf_ktime_get_ns(),
        };
        (*entry).established = now;
        // The sequence number is chosen within connect(), after it began.
        (*entry).write_seq = tcp.snd_una();
        (*entry).copied_seq = tcp.copied_seq();
        handshake::succeeded(sock, (*entry).syn_retransmits, now);
    }
}

/// The proxy has read from a connection: what it wrote before has begun to be answered.
/// `tcp_rcv_space_adjust(struct sock *sk)`, called by every read that took payload (`tcp_recvmsg_locked`, net/ipv4/tcp.c).
#[inline(always)]
pub(crate) fn read(sock: Sock) {
    let look = look::at_reads();
    // Being attached, or detached.
    if look == 0 {
        return;
    }
    let Some(entry) = tries::of(sock) else { return };
    let Some(tcp) = sock.tcp() else { return };
    let written = tcp.write_seq();
    // SAFETY: as above.
    unsafe {
        if (*entry).look != look {
            forget_reads(&mut *entry);
            (*entry).look = look;
        }
        if (*entry).flags & BASELINE == 0 || written != (*entry).write_seq {
            (*entry).exchanges = (*entry).exchanges.wrapping_add(1);
            answer_begins(&mut *entry, tcp);
        }
        (*entry).write_seq = written;
        (*entry).flags |= BASELINE;
        (*entry).last_read = bpf_ktime_get_ns();
        (*entry).copied_seq = tcp.copied_seq();
    }
}

/// What was read in an earlier look says nothing: more may have been read since.
#[inline(always)]
fn forget_reads(entry: &mut Try) {
    entry.flags &= !BASELINE;
    (entry.exchanges, entry.last_read) = (0, 0);
    (entry.answer_status, entry.head) = (0, 0);
}

/// The first read of an answer: its status, if it is plain HTTP.
#[inline(always)]
fn answer_begins(entry: &mut Try, tcp: TcpSock) {
    answer::upstream_answers(entry.task.pid);
    // What a connection was upgraded to stays: a tunnel is no sequence of requests.
    if setting!(registers_readable) == 0 || entry.answer_status == SWITCHING_PROTOCOLS {
        return;
    }
    (entry.answer_status, entry.head) = (0, 0);
    let Some(buffer) = sock::read_buffer() else { return };
    // SAFETY: the helper checks the user's address.
    let Ok(head) = (unsafe { bpf_probe_read_user::<Head>(buffer.cast()) }) else { return };
    // What cannot be told from the handshake of TLS, or from frames of HTTP/2, is not measured.
    if answer::is_fastcgi(&head) {
        latency::answer_begins(tcp);
    }
    if let Some(status) = answer::fastcgi_status(buffer, &head) {
        return answer::upstream_answered(status);
    }
    let Some(status) = answer::status(&head) else { return };
    // 100 and its like are not yet the answer.
    if status >= 200 {
        latency::answer_begins(tcp);
    }
    entry.answer_status = status;
    answer::upstream_answered(status);
    entry.head = answer::head_of(buffer, tcp.copied_seq().wrapping_sub(entry.copied_seq));
}

/// HTTP's answer to an upgrade that is granted.
const SWITCHING_PROTOCOLS: u16 = 101;

/// A handshake is complete, and the connection goes to its listener's accept queue.
#[inline(always)]
fn arrived(sock: Sock<impl Access>) {
    let door = Door { netns: sock.netns(), port: sock.num(), pad: 0 };
    if !port_matters(door.port) || !netns_matters(door.netns) {
        return;
    }
    if let Some(arrivals) = DOORS.get_ptr_mut(door.slot()) {
        // SAFETY: valid for the program's run, and this CPU's own.
        unsafe {
            if (*arrivals).count == 0 {
                (*arrivals).door = door;
            }
            if (*arrivals).door == door {
                (*arrivals).count += 1;
                return;
            }
        }
    }
    if let Some(count) = ARRIVALS.get_ptr_mut(door) {
        // SAFETY: valid for the program's run, and this CPU's own.
        unsafe { *count += 1 };
    } else {
        let _ = ARRIVALS.insert(door, 1, 0);
    }
}

/// Entry into TIME_WAIT has no event of its own: the socket is closed and replaced (`tcp_time_wait`,
/// net/ipv4/tcp_minisocks.c). An error says that it was reset instead.
#[inline(always)]
fn time_wait(sock: Sock<impl Access>) {
    if sock.err() != 0 || !sock.is_tcp() || !netns_matters(sock.netns()) {
        return;
    }
    if setting!(filter_ports) == 1 {
        let Some(tcp) = sock.tcp() else { return };
        if !port_matters(u16::from_be(sock.dport())) && !port_matters(tcp.local_port()) {
            return;
        }
    }
    emit::count(Counter::TimeWaitsEntered);
}

/// A connection left `SYN_SENT`, `ESTABLISHED` or `CLOSE_WAIT`.
#[inline(always)]
fn left(sock: Sock<impl Access>, old: u8, new: u8) {
    let Some(pointer) = followed(sock) else { return left_by_others(sock, old, new) };
    // SAFETY: as in `established`; of no use to anyone once it is forgotten, which comes last.
    let entry = unsafe { &mut *pointer };
    let look = look::at_reads();
    if look == 0 || entry.look != look {
        forget_reads(entry);
    }
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
    let fin = old == state::CLOSE_WAIT || new == state::CLOSE_WAIT;
    let out = old == state::SYN_SENT || request_out(tcp, entry, fin);
    // After the upstream's FIN: it died with an error, or the proxy had asked for more and now gives it up.
    let more = (new == state::CLOSE && broken) || (new == state::LAST_ACK && out && entry.failed == 0);
    if !in_connect && (!closing || more) {
        entry.failed = u8::from(out);
        entry.told = report(tcp, entry, &Ending { old, new, error: error as u16, shutdown: tcp.shutdown() });
    }
    // Closed by its own process, which thereby lets go of it; else by what came from the network.
    let by_proxy = tcp.shutdown() == BOTH_WAYS && !broken;
    if by_proxy && !in_connect {
        let_go(tcp, entry, fin);
    }
    if new == state::CLOSE_WAIT {
        entry.closing = 1;
    } else if by_proxy || in_connect || setting!(destroys_traced) == 0 || look == 0 {
        tries::forget(sock);
    } else {
        entry.ended = 1;
    }
}

/// The connection of this socket, if it is followed and has not ended.
#[inline(always)]
fn followed(sock: Sock<impl Access>) -> Option<*mut Try> {
    let entry = tries::of(sock)?;
    // SAFETY: as in `established`.
    if unsafe { (*entry).ended } == 1 {
        // The end of that socket was missed, and its memory is another's now.
        tries::forget(sock);
        return None;
    }
    Some(entry)
}

/// The proxy lets go of a connection.
#[inline(never)]
fn let_go(tcp: TcpSock<impl Access>, entry: &Try, fin: bool) {
    // What was read last is no answer to what was asked since.
    let head = if tcp.write_seq() == entry.write_seq { entry.head } else { 0 };
    answer::let_go(&Release {
        told: entry.told,
        failed: entry.failed == 1,
        head,
        left_unread: unread(tcp, fin),
        upstream_status: if head == 0 { 0 } else { entry.answer_status },
        asked: entry.last_read == 0 || tcp.write_seq() != entry.write_seq,
        last_read: entry.last_read,
    });
}

/// `sk_shutdown` of a socket that its process has closed (`SHUTDOWN_MASK`, include/net/sock.h).
const BOTH_WAYS: u8 = 3;

/// Whether the proxy wrote something after it last read, and nothing has come since.
#[inline(always)]
fn request_out(tcp: TcpSock<impl Access>, entry: &Try, fin: bool) -> bool {
    if entry.flags & BASELINE == 0 {
        return tcp.lsndtime().wrapping_sub(tcp.lrcvtime()) as i32 > 0;
    }
    let written = tcp.write_seq().wrapping_sub(entry.write_seq);
    (written > GOODBYE_BYTES || (written > 0 && entry.exchanges == 0)) && unread(tcp, fin) == 0
}

/// What fits in a TLS alert that says goodbye; a request is longer.
const GOODBYE_BYTES: u32 = 31;

/// Payload received and not read. A FIN has a sequence number.
#[inline(always)]
fn unread(tcp: TcpSock<impl Access>, fin: bool) -> u32 {
    tcp.rcv_nxt().wrapping_sub(tcp.copied_seq()).saturating_sub(u32::from(fin))
}

/// A socket goes away for good (`tcp_destroy_sock`). One that the network had closed before is let go of by its process now.
#[inline(always)]
pub(crate) fn destroyed(sock: Sock) {
    let Some(pointer) = tries::of(sock) else { return };
    // SAFETY: as in `left`.
    let entry = unsafe { &mut *pointer };
    let look = look::at_reads();
    if look == 0 || entry.look != look {
        forget_reads(entry);
    }
    if let Some(tcp) = sock.tcp() {
        if entry.ended == 0 && entry.closing == 0 {
            end_missed(tcp, entry);
        }
        let_go(tcp, entry, entry.closing == 1);
    }
    tries::forget(sock);
}

/// Its end was not seen: the kernel skips a program that it has interrupted to run the timers and packets of that CPU
/// (`__bpf_trace_run`, kernel/trace/bpf_trace.c). Nothing of a socket that has reported an error is its process's own doing.
#[inline(always)]
fn end_missed(tcp: TcpSock<impl Access>, entry: &mut Try) {
    // The end of its handshake may have been missed too; the SYN counts as a byte (`tcp_snd_una_update`, net/ipv4/tcp_input.c).
    let old = if entry.established == 0 && tcp.bytes_acked() == 0 { state::SYN_SENT } else { state::ESTABLISHED };
    let shutdown = if entry.error == 0 { tcp.shutdown() } else { 0 };
    emit::count(Counter::ConnectionsEnded);
    entry.failed = u8::from(old == state::SYN_SENT || request_out(tcp, entry, false));
    entry.told = report(tcp, entry, &Ending { old, new: state::CLOSE, error: entry.error, shutdown });
}

/// How a connection ended.
struct Ending {
    old: u8,
    new: u8,
    error: u16,
    shutdown: u8,
}

// A function of its own, like `let_go`: with both inlined, the raw program of state changes, whose reads take stack, took more
// than the 512 bytes that a program and what it calls have on 6.1 and 6.12 (`check_max_stack_depth`, kernel/bpf/verifier.c).
#[inline(never)]
fn report(tcp: TcpSock<impl Access>, entry: &Try, &Ending { old, new, error, shutdown }: &Ending) -> u64 {
    let answers = if look::at_answers() == 0 {
        ANSWERS_UNWATCHED
    } else if answer::visible(entry.task.pid) {
        ANSWERS_VISIBLE
    } else {
        0
    };
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
        let fin = new == state::CLOSE_WAIT || old == state::CLOSE_WAIT;
        record.bytes_received = tcp.bytes_received().saturating_sub(u64::from(fin));
        record.unacked = tcp.write_seq().wrapping_sub(tcp.snd_una());
        record.data_segments_out = tcp.data_segs_out();
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_jiffies64() } as u32;
        let (sent, received) = (tcp.lsndtime(), tcp.lrcvtime());
        record.since_sent = since(now, sent, record.bytes_sent);
        record.since_received = since(now, received, record.bytes_received);
        record.syn_retransmits = entry.syn_retransmits;
        record.data_retransmits = entry.data_retransmits;
        record.error = error;
        record.old_state = old;
        record.new_state = new;
        record.shutdown = shutdown;
        record.flags = entry.flags | answers;
        record.outstanding = u8::from(sent.wrapping_sub(received) as i32 > 0);
        record.pad = 0;
        record.answer_status = entry.answer_status;
        record.soft_error = entry.soft_error;
        record.last_read = entry.last_read;
        record.written_since_read =
            if old == state::SYN_SENT { 0 } else { tcp.write_seq().wrapping_sub(entry.write_seq) };
        record.unread = unread(tcp, fin);
        record.exchanges = entry.exchanges;
        record.pad3 = 0;
    })
}

/// Microseconds since a time stamp in jiffies; `u32::MAX` where there was no payload to stamp.
#[inline(always)]
fn since(now: u32, stamp: u32, bytes: u64) -> u32 {
    if bytes == 0 {
        return u32::MAX;
    }
    let microseconds = u64::from(now.wrapping_sub(stamp)) * (setting!(jiffy) / 1000);
    if microseconds >= u64::from(u32::MAX) { u32::MAX - 1 } else { microseconds as u32 }
}

/// A connection that no proxy began: one that was accepted, or waits to be; or any other process's.
#[inline(always)]
fn left_by_others(sock: Sock<impl Access>, old: u8, new: u8) {
    if old == state::SYN_SENT || !sock.is_tcp() {
        return;
    }
    if new == state::FIN_WAIT1 || new == state::LAST_ACK {
        // Both only by close() or shutdown() of the socket's own process (`tcp_close_state`, net/ipv4/tcp.c), of what a listener made.
        if sock.max_ack_backlog() != 0 {
            answer::hangs_up();
        }
        if new == state::FIN_WAIT1 {
            hurt(sock);
        }
    } else if old == state::ESTABLISHED {
        unserved(sock, new);
    }
}

/// A process closes a connection first. Told only if it was accepted, and a request was unanswered or the process dies.
#[inline(always)]
fn hurt(sock: Sock<impl Access>) {
    if sock.max_ack_backlog() == 0 {
        return;
    }
    let Some(tcp) = sock.tcp() else { return };
    if tcp.bytes_received() == 0 {
        return;
    }
    let (dies, exit_code) = sock::dying();
    if (tcp.answered() && !dies) || !port_matters(tcp.local_port()) || !netns_matters(sock.netns()) {
        return;
    }
    emit::record::<Hurt>(Kind::Hurt, |record, header| {
        record.header = header;
        sock.flow(tcp.local_port(), &mut record.flow);
        record.task = filter::current();
        record.bytes_received = tcp.bytes_received();
        record.bytes_sent = tcp.bytes_sent();
        record.exit_code = exit_code;
        record.exiting = u8::from(dies);
        record.pad = [0; 3];
    });
}

/// What a RST leaves as a socket's error (`tcp_reset`, net/ipv4/tcp_input.c).
const ECONNRESET: u32 = 104;

/// A client gives up a connection: told if nobody had accepted it, or if its answer had not been sent, or not arrived.
#[inline(always)]
fn unserved(sock: Sock<impl Access>, new: u8) {
    let accepted = sock.owned();
    // What connect() made.
    if accepted && sock.max_ack_backlog() == 0 {
        return;
    }
    let Some(tcp) = sock.tcp() else { return };
    let reset = new == state::CLOSE && sock.err() == ECONNRESET;
    let unacked = tcp.write_seq().wrapping_sub(tcp.snd_una());
    if accepted {
        let asked = tcp.bytes_received() > 1;
        if !(new == state::CLOSE_WAIT || reset) || !asked || (tcp.answered() && unacked == 0) {
            return;
        }
    }
    if !port_matters(tcp.local_port()) || !netns_matters(sock.netns()) {
        return;
    }
    if !accepted {
        emit::count(Counter::Unaccepted);
    }
    emit::record::<Unserved>(Kind::Unserved, |record, header| {
        record.header = header;
        sock.flow(tcp.local_port(), &mut record.flow);
        // A FIN counts as a byte.
        record.bytes_received = tcp.bytes_received().saturating_sub(u64::from(new == state::CLOSE_WAIT));
        record.bytes_sent = tcp.bytes_sent();
        record.unacked = unacked;
        record.new_state = new;
        record.accepted = u8::from(accepted);
        record.reset = u8::from(reset);
        record.pad = 0;
        // SAFETY: a helper without arguments.
        let now = unsafe { bpf_jiffies64() } as u32;
        record.waited = since(now, tcp.lrcvtime(), record.bytes_received);
        record.pad2 = 0;
    });
}

/// An error is reported to a proxy's connection (`inet_sk_error_report`). One that does not end it (an ICMP error that found
/// the socket in use, `tcp_v4_err`, net/ipv4/tcp_ipv4.c) is gone once the proxy has asked for it.
#[inline(always)]
pub(crate) fn error_reported(ctx: &impl Arguments) {
    let Some(sock) = ctx.sock(0) else { return };
    note_error(sock);
    again::handled(sock, again::ERROR);
}

/// The same, for the second program.
#[inline(always)]
pub(crate) fn error_reported_again(ctx: &impl Arguments) {
    let Some(sock) = ctx.sock(0) else { return };
    if again::was_skipped(sock, again::ERROR) {
        note_error(sock);
    }
}

#[inline(always)]
fn note_error(sock: Sock<impl Access>) {
    let Some(entry) = tries::of(sock) else { return };
    let Some(tcp) = sock.tcp() else { return };
    let error = tcp.err();
    if error != 0 {
        // SAFETY: as in `established`.
        unsafe { (*entry).error = error as u16 };
        return;
    }
    // Reported before the soft error is set, after it is queued.
    let soft = tcp.err_soft();
    let error = if soft != 0 { soft } else { tcp.queued_error().unwrap_or(0) };
    // SAFETY: as in `established`.
    unsafe { (*entry).soft_error = error as u16 };
}
