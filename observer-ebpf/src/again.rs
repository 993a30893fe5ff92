//! Second programs on a tracepoint, for what the kernel skips the first for.
//!
//! A program that runs is not run again on its processor (`__bpf_trace_run`, kernel/trace/bpf_trace.c, since 6.2), but others on the same
//! tracepoint are. So what comes while the first sees to another (packets and timers of that processor come at any time, from 7.0 on also
//! other tasks) the second sees to. The first leaves a mark when it is done, by which the second knows that there is nothing to do: in the
//! slot of the socket, for from 7.0 on a task may have moved to another processor by then. Should another socket's mark have taken its place
//! in between, which takes one of the same slot, the second repeats what the first did, and finds of most of it that it has been done.

use observer_common::counter::Counter;

use crate::{access::Access, emit, look, maps::HANDLED, sock::Sock, tries::SOCKET_BITS};

/// Slots for marks, a power of two: 8 KiB.
pub(crate) const MARKS: usize = 1024;

/// What happens to a socket: a new state, or one of these, which are no states.
pub(crate) const DESTROYED: u8 = 32;
/// See [`DESTROYED`].
pub(crate) const RESET: u8 = 33;
/// See [`DESTROYED`].
pub(crate) const ERROR: u8 = 34;

/// The first program has seen to something.
#[inline(always)]
pub(crate) fn handled(sock: Sock<impl Access>, what: u8) {
    if look::twice() {
        let (slot, mark) = mark(sock, what);
        // SAFETY: valid for the program's run; a word.
        unsafe { slot.write_volatile(mark) };
    }
}

/// Whether the first program has not; counted. Without marks that cannot be told.
#[inline(always)]
pub(crate) fn was_skipped(sock: Sock<impl Access>, what: u8) -> bool {
    if !look::twice() {
        return false;
    }
    let (slot, mark) = mark(sock, what);
    // SAFETY: as above.
    unsafe {
        if slot.read_volatile() == mark {
            // The same may happen to the same socket again.
            slot.write_volatile(0);
            return false;
        }
    }
    emit::count(Counter::SkipsMadeUp);
    true
}

/// Where it is noted what happened to a socket, and what is. The lowest bits of sockets' addresses are all the same.
#[inline(always)]
fn mark(sock: Sock<impl Access>, what: u8) -> (*mut u64, u64) {
    let key = sock.key();
    let at = (key >> SOCKET_BITS) as usize & (MARKS - 1);
    // SAFETY: so many bits name no slot that is not there.
    (unsafe { HANDLED.pointer().cast::<u64>().add(at) }, key.wrapping_add(u64::from(what)))
}
