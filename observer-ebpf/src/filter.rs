//! Which processes and ports matter. Decided here, so that what does not matter costs a lookup at most.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use observer_common::{COMM_LEN, Task};

use crate::{
    maps::{PORTS, PROXIES},
    settings::setting,
};

/// The current task, or nothing of it where the kernel would not say.
#[inline(always)]
pub(crate) fn current() -> Task {
    let id = bpf_get_current_pid_tgid();
    Task { pid: (id >> 32) as u32, tid: id as u32, comm: bpf_get_current_comm().unwrap_or([0; COMM_LEN]) }
}

/// Whether a process of this name is a proxy.
#[inline(always)]
pub(crate) fn is_proxy(comm: &[u8; COMM_LEN]) -> bool {
    PROXIES.get_ptr(comm).is_some()
}

/// Whether an upstream on this port matters.
#[inline(always)]
pub(crate) fn port_matters(port: u16) -> bool {
    setting!(filter_ports) == 0 || PORTS.get_ptr(port).is_some()
}
