//! Whether there is a close look now. Without one the programs that run for every read and write are not attached, and
//! nothing that they noted is believed.

use observer_common::look::{ADOPTING, PROXIES, QUEUES, TWICE};

use crate::{maps::LOOK, settings::setting};

/// Since when what proxies do has been looked at, which names the look; 0 if it is not.
#[inline(always)]
pub(crate) fn at_proxies() -> u64 {
    since(PROXIES)
}

/// Whether packets at full accept queues are looked at.
#[inline(always)]
pub(crate) fn at_queues() -> bool {
    since(QUEUES) != 0
}

/// The present look at what proxies read; 0 if there is none.
#[inline(always)]
pub(crate) fn at_reads() -> u64 {
    if setting!(reads_traced) == 1 { at_proxies() } else { 0 }
}

/// The present look at what proxies answer; 0 if there is none.
#[inline(always)]
pub(crate) fn at_answers() -> u64 {
    if setting!(answers_traced) == 1 { at_proxies() } else { 0 }
}

/// The present look at connect() calls; 0 if there is none.
#[inline(always)]
pub(crate) fn at_connects() -> u64 {
    if setting!(connect_traced) == 1 { at_proxies() } else { 0 }
}

/// Whether connections are to be taken over.
#[inline(always)]
pub(crate) fn adopting() -> bool {
    since(ADOPTING) != 0
}

/// Whether there is a second program of state changes, or is about to be.
#[inline(always)]
pub(crate) fn twice() -> bool {
    since(TWICE) != 0
}

#[inline(always)]
fn since(slot: usize) -> u64 {
    // SAFETY: there are so many slots; userspace may change them at any time.
    unsafe { LOOK.pointer().cast::<u64>().add(slot).read_volatile() }
}
