//! Which processes and ports matter. Decided here, so that what does not matter costs a lookup at most.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use observer_common::{Task, answer::Process, names};

use crate::{
    maps::{KNOWN, KNOWN_SLOTS, Known, PORTS, PROCESSES, PROXIES},
    settings::setting,
    sock::{process_comm, thread_comm},
};

/// The current task, or nothing of it where the kernel would not say.
#[inline(always)]
pub(crate) fn current() -> Task {
    let id = bpf_get_current_pid_tgid();
    Task { pid: (id >> 32) as u32, tid: id as u32, comm: thread_comm() }
}

/// The current task if it is a proxy's: by its own name, or by that of its process where threads have names of their own
/// (Envoy's are `wrk:worker_0` and so on).
#[inline(always)]
pub(crate) fn current_proxy() -> Option<Task> {
    let mut task = current();
    if is_proxy(&task) {
        return Some(task);
    }
    // The process has this very name.
    if task.tid == task.pid {
        return None;
    }
    task.comm = process_comm()?;
    is_proxy(&task).then_some(task)
}

#[inline(always)]
fn is_proxy(task: &Task) -> bool {
    if setting!(names) & names::bit(&task.comm) == 0 {
        return false;
    }
    let known = KNOWN.get_ptr_mut(task.pid & (KNOWN_SLOTS - 1));
    if let Some(known) = known {
        // SAFETY: valid for the program's run, and this CPU's own.
        unsafe {
            if (*known).pid == task.pid && (*known).left > 0 && (*known).comm == task.comm {
                (*known).left -= 1;
                return true;
            }
        }
    }
    if !is_found(task) {
        return false;
    }
    if let Some(known) = known {
        // SAFETY: as above.
        unsafe { *known = Known { comm: task.comm, pid: task.pid, left: UNTIL_LOOKED_FOR } };
    }
    true
}

/// Connections of a process for which it is looked for once: so rarely that it costs nothing, so often that it is among the last used.
const UNTIL_LOOKED_FOR: u32 = 64;

/// Whether a name that passes the sieve is a proxy's; its process is known from then on.
#[inline(never)]
fn is_found(task: &Task) -> bool {
    let process = PROCESSES.get_ptr_mut(task.pid);
    // SAFETY: valid for the program's run; a thread that races writes the same.
    if process.is_some_and(|process| unsafe { (*process).comm } == task.comm) {
        return true;
    }
    let Some(threading) = PROXIES.get_ptr(task.comm) else { return false };
    if let Some(process) = process {
        // SAFETY: as above.
        unsafe { (*process).comm = task.comm };
    } else {
        // SAFETY: valid for the program's run; written before attaching only.
        let process = Process { comm: task.comm, ..Process::new(unsafe { *threading }) };
        // Without room its answers are not seen; its tries are.
        let _ = PROCESSES.insert(task.pid, process, 0);
    }
    true
}

/// Whether sockets of this network namespace matter.
#[inline(always)]
pub(crate) fn netns_matters(netns: u32) -> bool {
    let only = setting!(only_netns);
    only == 0 || only == u64::from(netns)
}

/// Whether an upstream on this port matters.
#[inline(always)]
pub(crate) fn port_matters(port: u16) -> bool {
    setting!(filter_ports) == 0 || PORTS.get_ptr(port).is_some()
}
