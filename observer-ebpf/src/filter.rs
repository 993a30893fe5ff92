//! Which processes and ports matter. Decided here, so that what does not matter costs a lookup at most.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use observer_common::{COMM_LEN, Task};

use crate::{
    maps::{PORTS, PROXIES},
    settings::setting,
    sock::process_comm,
};

/// The current task, or nothing of it where the kernel would not say.
#[inline(always)]
pub(crate) fn current() -> Task {
    let id = bpf_get_current_pid_tgid();
    Task { pid: (id >> 32) as u32, tid: id as u32, comm: bpf_get_current_comm().unwrap_or([0; COMM_LEN]) }
}

/// The current task if it is a proxy's: by its own name, or by that of its process where threads have names of their own
/// (Envoy's are `wrk:worker_0` and so on).
#[inline(always)]
pub(crate) fn current_proxy() -> Option<Task> {
    let mut task = current();
    if PROXIES.get_ptr(task.comm).is_some() {
        return Some(task);
    }
    task.comm = process_comm()?;
    PROXIES.get_ptr(task.comm).map(|_| task)
}

/// Whether an upstream on this port matters.
#[inline(always)]
pub(crate) fn port_matters(port: u16) -> bool {
    setting!(filter_ports) == 0 || PORTS.get_ptr(port).is_some()
}
