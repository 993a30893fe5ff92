//! Signals that end or stop a process, or let it go on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{COMM_LEN, Header, Task};

/// The signals told of, as the kernel numbers them on every architecture that observer runs on: SIGABRT, SIGKILL, SIGSEGV,
/// SIGTERM, SIGCONT, SIGSTOP.
pub const TOLD: [u32; 6] = [6, 9, 11, 15, 18, 19];

/// A signal of [`TOLD`] was sent to a process (`signal_generate`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Sent {
    /// When and what.
    pub header: Header,
    /// Who sent it, unless `by_kernel`.
    pub task: Task,
    /// Process id of the receiver.
    pub target: u32,
    /// Its number.
    pub signal: u32,
    /// The receiver's `comm`, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// 1 if the kernel sent it on its own account (the OOM killer's SIGKILL, a fault's SIGSEGV).
    pub by_kernel: u8,
    /// Padding, 0.
    pub pad: [u8; 7],
}
const _: () = assert!(size_of::<Sent>() == 72);
