//! What proxies answer. A thread that lets go of a try and then writes to its client answers for that try: in every
//! event loop the one follows from the other within microseconds.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user, bpf_probe_read_user_buf},
    programs::TracePointContext,
};
use observer_common::{
    Flow, Kind,
    answer::{
        ANSWERED, ANSWERS_FIRST, CLIENT_GONE, HEAD_BEGUN, HEAD_LONG, HEAD_NONE, HEAD_WHOLE, HIDDEN, IN_CIPHER, Outcome,
        PLAINLY, Process, RETRIED, SERVER_ERRORS, SILENT, THREAD_PER_REQUEST, THREADS_SHARED, UNSEEN_AFTER,
    },
    counter::Counter,
    look::SETTLED,
};

use crate::{
    emit,
    filter::{self, netns_matters},
    look,
    maps::{HEAD_BYTES, HEADS, PROCESSES, THREADS, Thread},
    settings::setting,
    sock::{Described, IPPROTO_TCP, of_descriptor},
};

/// Offsets in the records of `syscalls:sys_enter_{write,writev,sendto,sendmsg}`: descriptor, buffer, length.
const DESCRIPTOR: usize = 16;
const BUFFER: usize = 24;
const LENGTH: usize = 32;

/// What a thread does about a try (answer, try again, write something that cannot be read, hang up) follows before it next
/// waits for events, in microseconds, but for the time in which it waits for a processor: among busy neighbours tens of
/// milliseconds, out of its quota (cpu.max) what is left of a period of 100 ms, more than once perhaps.
const WITHOUT_WAITING: u64 = 500_000_000;
/// A proxy that answers first passes an upstream's own 5xx on within this time.
const AT_ONCE: u64 = 20_000_000;
/// Where answers come first, the try that was meant is let go of within this time.
const LET_GO_WITHIN: u64 = 150_000_000;
/// Others do within this one: as soon as all of it has come.
const PASSED_ON_WITHIN: u64 = 1_000_000_000;
/// What fits in a TLS alert that says goodbye; an answer is longer.
const GOODBYE_BYTES: u64 = 31;

/// The beginning of what is written: enough for `HTTP/1.1 502`.
pub(crate) type Head = [u8; 12];

/// How a system call passes what is to be written.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    /// A buffer and its length.
    Buffer,
    /// An array of `struct iovec`.
    Vector,
    /// A `struct user_msghdr` (include/linux/socket.h), whose array of `struct iovec` is at 16.
    Message,
}

/// Some process writes to some descriptor.
#[inline(always)]
pub(crate) fn wrote(ctx: &TracePointContext, call: Call) {
    let look = look::at_answers();
    if look == 0 {
        return;
    }
    let Some(process) = PROCESSES.get_ptr_mut(ctx.tgid()) else { return };
    // SAFETY: constant offsets within the record.
    let (Ok(fd), Ok(buffer), Ok(length)) =
        (unsafe { (ctx.read_at::<u64>(DESCRIPTOR), ctx.read_at::<*const u8>(BUFFER), ctx.read_at::<u64>(LENGTH)) })
    else {
        return;
    };
    let Some((head, length)) = head(call, buffer, length) else { return };
    // With a filter on one network namespace, what is written elsewhere is looked at no further.
    if setting!(only_netns) != 0
        && !of_descriptor(fd as u32).is_some_and(|described| netns_matters(described.flow.netns))
    {
        return;
    }
    if let Some(status) = status(&head) {
        emit::count(Counter::Answers);
        // SAFETY: valid for the program's run; threads that race write the same.
        unsafe { (*process).speaks = PLAINLY };
        answered(process, fd as u32, status, look);
    } else {
        wrote_something(process, fd as u32, length, &head);
    }
}

/// The first bytes and the length of the first buffer.
#[inline(always)]
fn head(call: Call, buffer: *const u8, length: u64) -> Option<(Head, u64)> {
    const MESSAGE_VECTOR: usize = 16;
    // SAFETY: the helper checks the user's addresses.
    unsafe {
        let (buffer, length) = match call {
            Call::Buffer => (buffer, length),
            Call::Vector => bpf_probe_read_user::<(*const u8, u64)>(buffer.cast()).ok()?,
            Call::Message => {
                let vector: *const u8 = bpf_probe_read_user(buffer.wrapping_add(MESSAGE_VECTOR).cast()).ok()?;
                bpf_probe_read_user::<(*const u8, u64)>(vector.cast()).ok()?
            }
        };
        if length < size_of::<Head>() as u64 {
            return None;
        }
        Some((bpf_probe_read_user(buffer.cast()).ok()?, length))
    }
}

/// The status in `HTTP/1.x NNN`.
#[inline(always)]
pub(crate) fn status(head: &Head) -> Option<u16> {
    if head[0] != b'H' || head[1] != b'T' || head[2] != b'T' || head[3] != b'P' || head[4] != b'/' || head[5] != b'1' {
        return None;
    }
    let digit = |at: usize| u16::from(head[at].wrapping_sub(b'0'));
    let (hundreds, tens, ones) = (digit(9), digit(10), digit(11));
    (hundreds < 10 && tens < 10 && ones < 10).then_some(hundreds * 100 + tens * 10 + ones)
}

/// A FastCGI record of standard output (FastCGI specification 3.3): version 1, type 6.
#[inline(always)]
pub(crate) fn is_fastcgi(head: &Head) -> bool {
    head[0] == 1 && head[1] == 6
}

/// The status that an application gives over FastCGI: a record of standard output that begins with
/// `Status: NNN`. Without one it is 200.
#[inline(always)]
pub(crate) fn fastcgi_status(buffer: *const u8, head: &Head) -> Option<u16> {
    if !is_fastcgi(head) || head[8] != b'S' || head[9] != b't' || head[10] != b'a' || head[11] != b't' {
        return None;
    }
    // SAFETY: the helper checks the user's address. The digits come after a header of 8 bytes and `Status: `.
    let digits: [u8; 3] = unsafe { bpf_probe_read_user(buffer.wrapping_add(16).cast()) }.ok()?;
    let digit = |at: usize| u16::from(digits[at].wrapping_sub(b'0'));
    (digit(0) < 10 && digit(1) < 10 && digit(2) < 10).then_some(digit(0) * 100 + digit(1) * 10 + digit(2))
}

#[inline(always)]
fn index(status: u16) -> Option<usize> {
    match status {
        500 => Some(0),
        502 => Some(1),
        503 => Some(2),
        504 => Some(3),
        _ => None,
    }
}
const _: () = assert!(SERVER_ERRORS[0] == 500 && SERVER_ERRORS[1] == 502 && SERVER_ERRORS[2] == 503);

/// A proxy has read the head of an upstream's answer of 500 or above: it will be passed on, most likely.
#[inline(always)]
pub(crate) fn upstream_answered(status: u16) {
    let Some(index) = index(status) else { return };
    let Some(process) = PROCESSES.get_ptr_mut((bpf_get_current_pid_tgid() >> 32) as u32) else { return };
    // SAFETY: valid for the program's run; threads that race may lose one of two counts.
    unsafe {
        (*process).passed_on[index & 3] += 1;
        (*process).passed_on_at = bpf_ktime_get_ns();
    }
}

/// Whether what a process answers its clients can be expected to be seen.
#[inline(always)]
pub(crate) fn visible(pid: u32) -> bool {
    if look::at_answers() == 0 {
        return false;
    }
    let Some(process) = PROCESSES.get_ptr(pid) else { return false };
    // SAFETY: valid for the program's run.
    unsafe {
        // Where threads share requests, an answer names no try.
        (*process).threading != u32::from(THREADS_SHARED)
            && ((*process).speaks != SILENT || (*process).read_in_silence < UNSEEN_AFTER)
    }
}

/// A proxy begins to read an upstream's answer.
#[inline(always)]
pub(crate) fn upstream_answers(pid: u32) {
    if let Some(process) = PROCESSES.get_ptr_mut(pid) {
        // SAFETY: valid for the program's run; threads that race may lose one of two counts.
        unsafe {
            if (*process).speaks == SILENT && (*process).read_in_silence < UNSEEN_AFTER {
                (*process).read_in_silence += 1;
            }
        }
    }
}

/// Takes one off what is to be passed on with this status.
#[inline(always)]
fn passes_on(process: *mut Process, index: usize, now: u64) -> bool {
    // SAFETY: as above.
    unsafe {
        let within = if (*process).threading == u32::from(ANSWERS_FIRST) { AT_ONCE } else { PASSED_ON_WITHIN };
        if now - (*process).passed_on_at > within {
            (*process).passed_on = [0; 4];
            return false;
        }
        let waiting = &mut (*process).passed_on[index & 3];
        let passes = *waiting > 0;
        if passes {
            *waiting -= 1;
        }
        passes
    }
}

/// How much of an HTTP head is at the beginning of a buffer into which `length` bytes have been read.
#[inline(always)]
pub(crate) fn head_of(buffer: *const u8, length: u32) -> u8 {
    const END: u32 = u32::from_ne_bytes(*b"\r\n\r\n");
    // Answers that go wrong are short; of a long one it is not worth the time.
    if length as usize >= HEAD_BYTES {
        return HEAD_LONG;
    }
    // The compiler knows the bound by now and would leave this out, but the verifier is to see it in the very register.
    let length = core::hint::black_box(length as usize) & (HEAD_BYTES - 1);
    let Some(bytes) = HEADS.get_ptr_mut(0) else { return HEAD_NONE };
    // SAFETY: this CPU's own buffer; the helper checks the user's address.
    unsafe {
        *bytes = [0; HEAD_BYTES];
        if bpf_probe_read_user_buf(buffer, &mut (&mut *bytes)[..length]).is_err() {
            return HEAD_NONE;
        }
        let mut at = 0;
        while at < HEAD_BYTES - 4 {
            if bytes.cast::<u8>().add(at).cast::<u32>().read_unaligned() == END {
                return HEAD_WHOLE;
            }
            at += 1;
        }
    }
    HEAD_BEGUN
}

/// A try that is let go of.
pub(crate) struct Release {
    /// Time of the record that told its end.
    pub(crate) told: u64,
    /// A request was out on it.
    pub(crate) failed: bool,
    /// See [`Thread`].
    pub(crate) head: u8,
    /// See [`Thread`].
    pub(crate) left_unread: u32,
    /// See [`Thread`].
    pub(crate) upstream_status: u16,
    /// The proxy had written something after it last read, or had never read.
    pub(crate) asked: bool,
    /// When the proxy last read from it.
    pub(crate) last_read: u64,
}

/// The current thread has let go of a try.
#[inline(always)]
pub(crate) fn let_go(try_: &Release) {
    if look::at_answers() == 0 {
        return;
    }
    let id = bpf_get_current_pid_tgid();
    let Some(process) = PROCESSES.get_ptr((id >> 32) as u32) else { return };
    // SAFETY: a helper without arguments; the process is valid for the program's run.
    let (now, threading) = unsafe { (bpf_ktime_get_ns(), (*process).threading) };
    let mut thread = Thread {
        released: now,
        told: try_.told,
        left_unread: try_.left_unread,
        failed: u8::from(try_.failed),
        head: try_.head,
        upstream_status: try_.upstream_status,
        ..Thread::NONE
    };
    if threading == u32::from(ANSWERS_FIRST) {
        return answered_before(id, now, &thread);
    }
    if threading != u32::from(THREAD_PER_REQUEST) {
        return;
    }
    if let Some(before) = THREADS.get_ptr(id) {
        // SAFETY: valid for the program's run.
        let before = unsafe { &*before };
        // What failed waits for its answer; what went well has had it, if something was answered since it was read.
        let waits = before.failed != 0 && before.released != 0 && now - before.released < WITHOUT_WAITING;
        if !try_.failed && (waits || (!try_.asked && before.wrote > try_.last_read)) {
            return;
        }
        thread.wrote = before.wrote;
    }
    // Without room its answer is told without the try.
    let _ = THREADS.insert(id, thread, 0);
}

/// The current thread waits for events: what it has not done about its last try, it will not do.
#[inline(always)]
pub(crate) fn waits(ctx: &TracePointContext) {
    if PROCESSES.get_ptr(ctx.tgid()).is_none() {
        return;
    }
    if let Some(thread) = THREADS.get_ptr_mut(bpf_get_current_pid_tgid()) {
        // SAFETY: valid for the program's run; the thread's own.
        unsafe { ((*thread).released, (*thread).answered) = (0, 0) };
    }
}

/// The thread has let go of a try, and may have answered for it just before.
#[inline(always)]
fn answered_before(id: u64, now: u64, thread: &Thread) {
    let Some(pointer) = THREADS.get_ptr_mut(id) else { return };
    // SAFETY: valid for the program's run; the thread's own.
    let before = unsafe { *pointer };
    let limit = before.status == 500 || before.status == 503;
    if before.answered == 0 || now - before.answered > LET_GO_WITHIN || (limit && thread.failed == 0) {
        return;
    }
    // SAFETY: as above.
    unsafe { (*pointer).answered = 0 };
    outcome(Flow::empty(), &Thread { answered: before.answered, ..*thread }, before.status, ANSWERED, false);
}

/// The try that the current thread let go of no longer ago than `within`, and now has done something about.
#[inline(always)]
fn take(within: u64, only_failed: bool) -> Option<Thread> {
    let thread = THREADS.get_ptr_mut(bpf_get_current_pid_tgid())?;
    // SAFETY: valid for the program's run; the thread's own.
    unsafe {
        let taken = *thread;
        if taken.released == 0 || (only_failed && taken.failed == 0) || bpf_ktime_get_ns() - taken.released > within {
            return None;
        }
        (*thread).released = 0;
        Some(taken)
    }
}

/// A plain HTTP answer.
#[inline(always)]
fn answered(process: *mut Process, fd: u32, status: u16, look: u64) {
    let id = bpf_get_current_pid_tgid();
    // SAFETY: a helper without arguments; the process is valid for the program's run.
    let (now, first) = unsafe { (bpf_ktime_get_ns(), (*process).threading == u32::from(ANSWERS_FIRST)) };
    let thread = THREADS.get_ptr_mut(id);
    if let Some(thread) = thread {
        // SAFETY: valid for the program's run; the thread's own.
        unsafe { (*thread).wrote = now };
    }
    let Some(index) = index(status) else {
        // A page that says sorry with another status, most likely; or the thread has turned to another client.
        if let Some(thread) = take(WITHOUT_WAITING, false)
            && thread.failed == 1
        {
            tell(process, fd, &thread, status, ANSWERED);
        }
        return;
    };
    if status == 502 || status == 504 {
        emit::count(Counter::AnswersFailed);
    }
    let settled = now - look >= SETTLED;
    if first {
        if passes_on(process, index, now) {
            return emit::count(Counter::ApplicationErrors);
        }
        let answered = if settled { tell(process, fd, &Thread::NONE, status, ANSWERED) } else { 0 };
        // Without room it stays without its try.
        let _ = THREADS.insert(id, Thread { answered, wrote: now, status, ..Thread::NONE }, 0);
        return;
    }
    // SAFETY: as above. The head of an upstream's own 5xx that was read after the try was let go of is what is passed on.
    let own = unsafe { thread.is_some_and(|thread| (*process).passed_on_at > (*thread).released) };
    if own && passes_on(process, index, now) {
        return emit::count(Counter::ApplicationErrors);
    }
    let taken = take(WITHOUT_WAITING, false);
    if let Some(thread) = taken
        && thread.failed == 1
    {
        tell(process, fd, &thread, status, ANSWERED);
        return;
    }
    if passes_on(process, index, now) {
        return emit::count(Counter::ApplicationErrors);
    }
    // 500 and 503 are limits and configuration of the proxy's own, whatever it let go of in peace just before.
    if (status == 502 || status == 504) && (settled || taken.is_some()) {
        tell(process, fd, &taken.unwrap_or(Thread::NONE), status, ANSWERED);
    }
}

/// Something that is no plain HTTP answer: the next try, or an answer that cannot be read.
#[inline(always)]
fn wrote_something(process: *mut Process, fd: u32, length: u64, head: &Head) {
    // Looked at first: it is rare that a thread has something to answer for, and that its process has not spoken yet.
    // SAFETY: valid for the program's run.
    let (silent, answers) = unsafe {
        let thread = THREADS.get_ptr(bpf_get_current_pid_tgid());
        ((*process).speaks == SILENT, thread.is_some_and(|thread| (*thread).released != 0 && (*thread).failed != 0))
    };
    if !silent && !answers {
        return;
    }
    let Some(Described { began: again, protocol, .. }) = of_descriptor(fd) else { return };
    if protocol != IPPROTO_TCP {
        return;
    }
    if silent && !again && length > GOODBYE_BYTES {
        // SAFETY: as above.
        unsafe { (*process).speaks = IN_CIPHER };
    }
    // Of a process that answers plainly, only TLS hides an answer (a record of application data, RFC 8446
    // section 5.1): anything else is the middle of a plain one.
    let hidden =
        length > GOODBYE_BYTES && ((head[0] == 0x17 && head[1] == 3 && head[2] == 3) || !visible_plainly(process));
    if (again || hidden)
        && let Some(thread) = take(WITHOUT_WAITING, true)
    {
        tell(process, fd, &thread, 0, if again { RETRIED } else { HIDDEN });
    }
}

/// The current process has connected to a unix socket: what it hears there is not followed.
#[inline(always)]
pub(crate) fn has_unix_upstreams() {
    if let Some(process) = PROCESSES.get_ptr_mut((bpf_get_current_pid_tgid() >> 32) as u32) {
        // SAFETY: valid for the program's run; threads that race write the same.
        unsafe { (*process).unix = 1 };
    }
}

/// Whether the current process was seen to write to a client. Of one that never was, silence says nothing.
#[inline(always)]
fn speaks() -> bool {
    if look::at_answers() == 0 {
        return false;
    }
    let process = PROCESSES.get_ptr((bpf_get_current_pid_tgid() >> 32) as u32);
    // SAFETY: valid for the program's run.
    process.is_some_and(|process| unsafe { (*process).speaks != SILENT })
}

/// Whether a process answers in plain HTTP.
#[inline(always)]
fn visible_plainly(process: *mut Process) -> bool {
    // SAFETY: valid for the program's run.
    unsafe { (*process).speaks == PLAINLY }
}

/// The current thread begins a connection.
#[inline(always)]
pub(crate) fn connects_again() {
    if speaks() {
        settle(RETRIED);
    }
}

/// The current thread closes a connection that it had accepted.
#[inline(always)]
pub(crate) fn hangs_up() {
    if speaks() {
        settle(CLIENT_GONE);
    }
}

/// What the current thread did last about a try that failed, if there is one. Not inlined, for the sake of its callers' stack.
#[inline(never)]
fn settle(what: u8) {
    if let Some(thread) = take(WITHOUT_WAITING, true) {
        outcome(Flow::empty(), &thread, 0, what, false);
    }
}

#[inline(always)]
fn tell(process: *mut Process, fd: u32, thread: &Thread, status: u16, what: u8) -> u64 {
    let flow = of_descriptor(fd).filter(|described| described.protocol == IPPROTO_TCP).map(|described| described.flow);
    // SAFETY: valid for the program's run.
    let unix = unsafe { (*process).unix != 0 };
    outcome(flow.unwrap_or(Flow::empty()), thread, status, what, unix)
}

#[inline(always)]
fn outcome(flow: Flow, thread: &Thread, status: u16, what: u8, unix: bool) -> u64 {
    emit::record::<Outcome>(Kind::Outcome, |record, header| {
        record.header = header;
        record.flow = flow;
        record.task = filter::current();
        record.told = thread.told;
        record.status = status;
        record.what = what;
        record.head = thread.head;
        record.left_unread = thread.left_unread;
        record.told_before = thread.answered;
        record.upstream_status = thread.upstream_status;
        record.unix = u8::from(unix);
        record.pad = [0; 5];
    })
}
