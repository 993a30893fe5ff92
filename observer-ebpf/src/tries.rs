//! What is remembered of proxies' connections: tables of our own in arrays, because one search in a kernel's hash table takes longer
//! than all else that is done to a connection of no interest, and to put something in or take it out far longer.
//!
//! What takes long is memory that the processor has not near, and pages that it has not looked up lately. So there are two tables.
//! A socket is in a slot of the first, so small that it stays near, and that the kernel puts it where pages are large (32 KiB at most,
//! `__bpf_map_area_alloc`, kernel/bpf/syscall.c). If that is another's, it is in the second, which has room for all: in the slot that
//! its address falls on, where neighbours in memory are neighbours, or in one of [`PLACES`], each a step of its own further.
//!
//! Slots are taken without a lock: whoever adds one to a slot's claims and then reads one is alone there, and others have read
//! more and gone on. Nobody else writes to a slot that is taken, for its key is its socket's address, and of one socket there is one
//! event at a time.

use core::{arch::asm, ptr};

use observer_common::{Task, spread::spread};

use crate::{
    access::Access,
    maps::{NEAR, TRIES, Try, USERS},
    settings::setting,
    sock::Sock,
};

/// Slots of the first table, a power of two: 28 KiB.
pub(crate) const NEAR_SLOTS: usize = 256;

/// Slots of the second table in which a socket may be. With half of it full, one connection in 65,536 finds them all taken.
const PLACES: u32 = 16;

/// No two sockets are nearer to each other than two to this (`struct tcp_sock` has 2.2 KiB and more), so that of a stretch of
/// memory none has another's slot.
pub(crate) const SOCKET_BITS: u32 = 11;

/// Users that are told apart, a power of two.
pub(crate) const USERS_SLOTS: usize = 256;

/// Where it is noted whether a proxy's connections are of this user. A byte, so that to write one is not to write others.
#[inline(always)]
fn of_user(uid: u32) -> *mut u8 {
    // SAFETY: so many bits name no byte that is not there.
    unsafe { USERS.pointer().cast::<u8>().add(uid as usize & (USERS_SLOTS - 1)) }
}

/// Whether the socket may be one that is remembered: what tells is in the socket itself, and in memory that is hardly ever written. One
/// that a listener made is none, though its memory may have been one's whose end was missed. Full sockets only.
#[inline(always)]
fn may_have(sock: Sock<impl Access>) -> bool {
    // SAFETY: valid for the program's run.
    sock.max_ack_backlog() == 0 && unsafe { of_user(sock.uid()).read_volatile() != 0 }
}

/// Part of a table.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    /// The socket's; 0 while it is nobody's.
    key: u64,
    /// Who is here, and who is about to find that somebody else is.
    claims: u32,
    /// Connections that would be here, and are not: of the first table, in the second; there, in another slot.
    elsewhere: u32,
    entry: Try,
}

impl Slot {
    /// Nobody's.
    pub(crate) const EMPTY: Self = Self { key: 0, claims: 0, elsewhere: 0, entry: Try::NOTHING };
}

/// Adds to a number, as other CPUs may do at the same time.
///
/// # Safety
/// `number` must be valid.
#[inline(always)]
unsafe fn add(number: *mut u32, what: u32) {
    // An instruction since BPF has been there; Rust offers none for it.
    // SAFETY: the caller's promise; the memory is that of the number.
    unsafe { asm!("lock *(u32 *)({number} + 0) += {what}", number = in(reg) number, what = in(reg) what) }
}

/// Takes one from a number, likewise.
///
/// # Safety
/// See [`add`].
#[inline(always)]
unsafe fn less(number: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe { add(number, 1_u32.wrapping_neg()) }
}

/// The slot of a socket in the first table.
#[inline(always)]
fn near(key: u64) -> *mut Slot {
    let at = (key >> SOCKET_BITS) as usize & (NEAR_SLOTS - 1);
    // SAFETY: so many bits name no slot that is not there.
    unsafe { NEAR.pointer().cast::<Slot>().add(at) }
}

/// Where in the second table a socket may be.
#[derive(Clone, Copy)]
struct Search {
    key: u64,
    at: u32,
}

impl Search {
    #[inline(always)]
    fn of(key: u64) -> Self {
        Self { key, at: (key >> SOCKET_BITS) as u32 }
    }

    #[inline(always)]
    fn slot(self) -> Option<*mut Slot> {
        TRIES.get_ptr_mut(self.at & setting!(tries_mask) as u32)
    }

    #[inline(always)]
    fn next(self) -> Self {
        // An odd step comes to all of a table whose size is a power of two.
        let step = (spread(self.key) >> 32) as u32 | 1;
        Self { at: self.at.wrapping_add(step), ..self }
    }
}

/// The number of the slot of the second table that a socket is in.
// A call, so that this is not in the way of what is usual.
#[inline(never)]
fn far(key: u64) -> Option<u32> {
    let mut search = Search::of(key);
    let mut number = 0;
    while number < PLACES {
        let slot = search.slot()?;
        // SAFETY: as in `of`.
        unsafe {
            if (*slot).key == key {
                return Some(search.at & setting!(tries_mask) as u32);
            }
            if number == 0 && (*slot).elsewhere == 0 {
                return None;
            }
        }
        search = search.next();
        number += 1;
    }
    None
}

/// What is known of the connection of this socket. Full sockets only.
#[inline(always)]
pub(crate) fn of(sock: Sock<impl Access>) -> Option<*mut Try> {
    if !may_have(sock) {
        return None;
    }
    let key = sock.key();
    let near = near(key);
    // SAFETY: valid for the program's run; only the socket's own events make its key appear or go.
    unsafe {
        if (*near).key == key {
            return Some(&raw mut (*near).entry);
        }
        if (*near).elsewhere == 0 {
            return None;
        }
        let slot = TRIES.get_ptr_mut(far(key)?)?;
        Some(&raw mut (*slot).entry)
    }
}

/// Takes a slot, if it is free, for a connection of which no more is known than whose it is, and whether the upstream has closed it.
///
/// # Safety
/// `slot` must be valid.
#[inline(always)]
unsafe fn take(slot: *mut Slot, key: u64, task: &Task, closing: bool) -> bool {
    // SAFETY: the caller's promise; the slot is ours from where there is one claim.
    unsafe {
        add(&raw mut (*slot).claims, 1);
        let free = ptr::read_volatile(&raw const (*slot).claims) == 1;
        if free {
            clear(&raw mut (*slot).entry);
            (*slot).entry.task = *task;
            (*slot).entry.closing = u8::from(closing);
            ptr::write_volatile(&raw mut (*slot).key, key);
        } else {
            less(&raw mut (*slot).claims);
        }
        free
    }
}

/// Empties an entry, word by word: for anything else the compiler would call a loop over its bytes.
///
/// # Safety
/// `entry` must be valid.
#[inline(always)]
unsafe fn clear(entry: *mut Try) {
    const WORDS: usize = size_of::<Try>() / size_of::<u64>();
    let mut at = 0;
    while at < WORDS {
        // SAFETY: the caller's promise; zeroes are an entry.
        unsafe { ptr::write_volatile(entry.cast::<u64>().add(at), 0) };
        at += 1;
    }
}

/// Gives a slot back.
///
/// # Safety
/// `slot` must be valid, and the caller's.
#[inline(always)]
unsafe fn give_back(slot: *mut Slot) {
    // SAFETY: the caller's promise; the claim goes last.
    unsafe {
        ptr::write_volatile(&raw mut (*slot).key, 0);
        less(&raw mut (*slot).claims);
    }
}

/// Where to note what is known of a connection that is followed from now on, see [`take`]; `None` if there is no room. What its socket's
/// memory was before is forgotten. Full sockets only.
#[inline(always)]
pub(crate) fn begin(sock: Sock<impl Access>, task: &Task, closing: bool) -> Option<*mut Try> {
    let key = sock.key();
    forget_key(key);
    let user = of_user(sock.uid());
    // SAFETY: as in `may_have`.
    unsafe {
        if user.read_volatile() == 0 {
            user.write_volatile(1);
        }
    }
    let near = near(key);
    // SAFETY: as in `of`.
    unsafe {
        if take(near, key, task, closing) {
            return Some(&raw mut (*near).entry);
        }
        let slot = TRIES.get_ptr_mut(begin_far(key, task, closing)?)?;
        add(&raw mut (*near).elsewhere, 1);
        Some(&raw mut (*slot).entry)
    }
}

/// The number of the slot of the second table that a socket has got.
#[inline(never)]
fn begin_far(key: u64, task: &Task, closing: bool) -> Option<u32> {
    let first = Search::of(key);
    let mut search = first;
    let mut number = 0;
    while number < PLACES {
        // SAFETY: as in `of`.
        unsafe {
            let (slot, home) = (search.slot()?, first.slot()?);
            if take(slot, key, task, closing) {
                if slot != home {
                    add(&raw mut (*home).elsewhere, 1);
                }
                return Some(search.at & setting!(tries_mask) as u32);
            }
        }
        search = search.next();
        number += 1;
    }
    None
}

/// Forgets the connection of a socket, if there was one. Full sockets only.
#[inline(always)]
pub(crate) fn forget(sock: Sock<impl Access>) {
    if may_have(sock) {
        forget_key(sock.key());
    }
}

#[inline(always)]
fn forget_key(key: u64) {
    let near = near(key);
    // SAFETY: as in `of`.
    unsafe {
        if (*near).key == key {
            give_back(near);
        } else if (*near).elsewhere != 0 && forget_far(key) {
            less(&raw mut (*near).elsewhere);
        }
    }
}

#[inline(never)]
fn forget_far(key: u64) -> bool {
    let Some(slot) = far(key).and_then(|at| TRIES.get_ptr_mut(at)) else { return false };
    // SAFETY: as in `of`.
    unsafe {
        if let Some(home) = Search::of(key).slot()
            && slot != home
        {
            less(&raw mut (*home).elsewhere);
        }
        give_back(slot);
    }
    true
}
