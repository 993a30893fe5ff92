//! What userspace found out about this kernel. Frozen `.rodata`: the verifier treats every value as a constant.

use observer_common::layout::{Offsets, Settings};

#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::UNRESOLVED;

#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings {
    jiffy: 0,
    reset_flags: 0,
    drop_listen_overflow: 0,
    req_acked_mask: 0,
    reset_has_reason: 0,
    retransmit_has_error: 0,
    kfree_has_socket: 0,
    connect_traced: 0,
    filter_ports: 0,
    reads_traced: 0,
    destroys_traced: 0,
    registers_readable: 0,
    answers_traced: 0,
    task_readable: 0,
    pad: 0,
    only_netns: 0,
    pad2: 0,
    names: 0,
};

/// Reads a field as userspace set it, not as it was compiled.
#[inline(always)]
pub(crate) fn read<T: Copy>(field: &'static T) -> T {
    // SAFETY: a reference is valid; volatile, because userspace rewrites the section before loading.
    unsafe { core::ptr::read_volatile(field) }
}

/// A field of [`SETTINGS`].
macro_rules! setting {
    ($field:ident) => {
        $crate::settings::read(&$crate::settings::SETTINGS.$field)
    };
}
/// A field of [`OFFSETS`], ready to be added to a pointer.
macro_rules! offset {
    ($field:ident) => {
        usize::from($crate::settings::read(&$crate::settings::OFFSETS.$field))
    };
}
pub(crate) use {offset, setting};
