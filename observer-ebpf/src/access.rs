//! Two ways to a program's arguments and to what they point at: one code serves programs whose pointers the verifier knows,
//! and programs to which they are numbers.

use core::{arch::asm, mem::MaybeUninit};

use aya_ebpf::{
    Argument, EbpfContext,
    helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock},
    programs::{BtfTracePointContext, FEntryContext, ProbeContext, RawTracePointContext},
};

use crate::{
    maps::ORIGIN,
    settings::offset,
    sock::{IPPROTO_TCP, Sock, TIME_WAIT_OR_REQUEST},
};

/// How a program may read what a kernel pointer points at.
pub(crate) trait Access: Copy {
    /// Loads a `T` at `base + offset`.
    ///
    /// # Safety
    /// Any bytes must be a valid `T`. For [`Direct`], `base` must be a pointer that the verifier knows.
    unsafe fn load<T: Copy>(base: *const u8, offset: usize) -> T;

    /// The same socket as a `struct tcp_sock *`; NULL if it is no full TCP socket.
    ///
    /// # Safety
    /// `sock` must be a `struct sock_common *`, for [`Direct`] one that the verifier knows.
    unsafe fn tcp(sock: *const u8) -> *const u8;

    /// A number that stands for an address, the same in all programs.
    fn number(address: *const u8) -> u64;
}

/// What addresses are told from: the verifier lets no program calculate with a pointer, but take one from another.
#[inline(always)]
fn origin() -> *const u8 {
    (&raw const ORIGIN).cast()
}

/// By plain loads, which the verifier checks against the kernel's own types: BTF tracepoints, fentry, iterators, cgroup programs.
#[derive(Clone, Copy)]
pub(crate) enum Direct {}

/// By a helper that cannot fault, where pointers are numbers to the verifier: raw tracepoints and kprobes. What cannot be read is
/// zeroes (`bpf_probe_read_kernel_common`, kernel/trace/bpf_trace.c).
#[derive(Clone, Copy)]
pub(crate) enum Probed {}

impl Access for Direct {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: *const u8, offset: usize) -> T {
        // SAFETY: the verifier checks base and offset against the kernel's own type.
        unsafe { base.add(offset).cast::<T>().read_volatile() }
    }

    #[inline(always)]
    unsafe fn tcp(sock: *const u8) -> *const u8 {
        // SAFETY: the helper checks family, protocol and state itself and answers NULL.
        unsafe { bpf_skc_to_tcp_sock(sock.cast_mut().cast()) }.cast_const().cast()
    }

    #[inline(always)]
    fn number(address: *const u8) -> u64 {
        let mut number = address as u64;
        // Written out so that the compiler does not calculate otherwise.
        // SAFETY: changes nothing but that register.
        unsafe {
            asm!("{number} -= {origin}", number = inout(reg) number, origin = in(reg) origin(), options(pure, nomem, nostack));
        }
        number
    }
}

impl Access for Probed {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: *const u8, offset: usize) -> T {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: as many bytes of ours as the helper is told of, all written before; any bytes are a T by the caller's promise.
        unsafe {
            bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, base.wrapping_add(offset).cast());
            value.assume_init()
        }
    }

    /// The test of `bpf_skc_to_tcp_sock` (net/core/filter.c), which these programs may not call.
    #[inline(always)]
    unsafe fn tcp(sock: *const u8) -> *const u8 {
        // SAFETY: plain numbers; smaller sockets have no protocol there, so the state is tested first.
        let full = unsafe {
            let state: u8 = Self::load(sock, offset!(state));
            !TIME_WAIT_OR_REQUEST.contains(&state) && Self::load::<u16>(sock, offset!(protocol)) == IPPROTO_TCP
        };
        if full { sock } else { core::ptr::null() }
    }

    /// These may not take a pointer from a number, so that the origin has to be made one.
    #[inline(always)]
    fn number(address: *const u8) -> u64 {
        let origin = origin();
        // SAFETY: a pointer of ours, read as a number.
        (address as u64).wrapping_sub(unsafe { Self::load::<u64>((&raw const origin).cast(), 0) })
    }
}

/// A program's context as a list of arguments.
pub(crate) trait Arguments: EbpfContext {
    /// How what they point at may be read.
    type Access: Access;

    /// The argument at `index`, from 0. Where the kernel passes fewer, the program is refused.
    fn argument<T: Argument>(&self, index: usize) -> T;

    /// Likewise, a `struct sock *`; `None` for NULL.
    #[inline(always)]
    fn sock(&self, index: usize) -> Option<Sock<Self::Access>> {
        Sock::new(self.argument(index))
    }
}

impl Arguments for BtfTracePointContext {
    type Access = Direct;

    #[inline(always)]
    fn argument<T: Argument>(&self, index: usize) -> T {
        self.arg(index)
    }
}

impl Arguments for RawTracePointContext {
    type Access = Probed;

    #[inline(always)]
    fn argument<T: Argument>(&self, index: usize) -> T {
        self.arg(index)
    }
}

impl Arguments for FEntryContext {
    type Access = Direct;

    #[inline(always)]
    fn argument<T: Argument>(&self, index: usize) -> T {
        self.arg(index)
    }
}

impl Arguments for ProbeContext {
    type Access = Probed;

    #[inline(always)]
    fn argument<T: Argument>(&self, index: usize) -> T {
        // SAFETY: the indices asked for are constants, and no higher than the fourth register of those that pass arguments.
        unsafe { self.arg(index).unwrap_unchecked() }
    }
}
