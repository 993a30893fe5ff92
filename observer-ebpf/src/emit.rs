//! The only place that counts and the only one that writes to the ring.

use core::arch::asm;

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_ns};
use observer_common::{Header, Kind, counter::Counter};

use crate::{
    look,
    maps::{COUNTERS, EVENTS},
};

/// Adds one to a counter of this CPU. A plain addition: each counter belongs to one program, and the kernel never
/// runs a program within itself on one CPU (`bpf_trace_run`, kernel/trace/bpf_trace.c, skips and counts that as a
/// miss); or to programs that run in softirq only, which does not nest: those of cgroups, and those on the functions by which
/// listeners and missing sockets answer segments. Where two programs see to state changes, one may come in the middle of the other.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    add(counter as u32);
}

#[inline(always)]
fn add(slot: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the slot is valid for the program's run and belongs to this CPU.
        unsafe {
            if look::twice() {
                asm!("lock *(u64 *)({value} + 0) += {one}", value = in(reg) value, one = in(reg) 1_u64);
            } else {
                *value += 1;
            }
        }
    }
}

/// Reserves a record, has it filled, hands it over. Counts it as lost if the ring is full. Userspace polls, so
/// nobody is woken. Gives back the record's time, by which later ones may refer to it.
#[inline(always)]
pub(crate) fn record<T: 'static>(kind: Kind, fill: impl FnOnce(&mut T, Header)) -> u64 {
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        add(Counter::lost(kind));
        return time;
    };
    let header = Header { time, kind: kind as u32, size: size_of::<T>() as u32 };
    // SAFETY: `fill` writes every field, padding included; the records are plain integers, so that any bytes the
    // ring held before are a valid T meanwhile.
    fill(unsafe { entry.assume_init_mut() }, header);
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    time
}
