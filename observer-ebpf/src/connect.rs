//! connect() calls of proxies: what the kernel refuses at once never becomes a connection.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, bpf_probe_read_user_buf},
    programs::TracePointContext,
};
use aya_log_ebpf::warn;
use observer_common::{
    Flow, Kind,
    connect::{AF_INET, AF_INET6, AF_UNIX, Failed, PATH_LEN},
    counter::Counter,
};

use crate::{
    access::Access,
    answer::{self, Release},
    emit,
    filter::{self, netns_matters, port_matters},
    look,
    maps::{CONNECTING, Connecting},
    settings::setting,
    sock::{IPPROTO_TCP, Sock, TcpSock, map_v4, of_descriptor},
};

/// Offsets in the records of `syscalls:sys_enter_connect` (fd, uservaddr, addrlen) and `sys_exit_connect` (ret):
/// six words of eight bytes from 16 on, ABI on 64-bit.
const ENTER_DESCRIPTOR: usize = 16;
const ENTER_ADDRESS: usize = 24;
const ENTER_LENGTH: usize = 32;
const EXIT_RESULT: usize = 16;

/// Results that are no failure: under way, interrupted, already under way, already connected.
const HARMLESS: [i64; 5] = [-115, -4, -114, -106, -512];
/// Results that a second connect() call fetches from a connection whose end was reported already: reset, timed out,
/// refused.
const OLD_NEWS: [u16; 3] = [104, 110, 111];

/// A proxy calls connect().
#[inline(always)]
pub(crate) fn entered(ctx: &TracePointContext) {
    let look = look::at_connects();
    if look == 0 {
        return;
    }
    let Some(task) = filter::current_proxy() else { return };
    // SAFETY: constant offsets within the record.
    let (Ok(fd), Ok(address), Ok(length)) = (unsafe {
        (
            ctx.read_at::<u64>(ENTER_DESCRIPTOR),
            ctx.read_at::<*const u8>(ENTER_ADDRESS),
            ctx.read_at::<u64>(ENTER_LENGTH),
        )
    }) else {
        return;
    };
    // SAFETY: the helper checks the user's address; a bad one gives an error and the kernel's EFAULT is then all there is.
    let Ok(family) = (unsafe { bpf_probe_read_user::<u16>(address.cast()) }) else { return };
    let mut call = Connecting {
        flow: Flow::empty(),
        family,
        path_len: 0,
        fd: fd as u32,
        began: 0,
        undone: 0,
        look,
        path: [0; PATH_LEN],
    };
    // SAFETY: as above; struct sockaddr_in and sockaddr_in6 as in include/uapi/linux/in.h and in6.h.
    unsafe {
        if family == AF_INET || family == AF_INET6 {
            call.flow.remote_port = u16::from_be(bpf_probe_read_user(address.add(2).cast()).unwrap_or(0));
            if !port_matters(call.flow.remote_port) {
                return;
            }
        }
        if family == AF_INET {
            map_v4(bpf_probe_read_user(address.add(4).cast()).unwrap_or(0), &mut call.flow.remote);
        } else if family == AF_INET6 {
            let _ = bpf_probe_read_user_buf(address.add(8), &mut call.flow.remote);
        } else if family == AF_UNIX {
            if setting!(filter_ports) == 1 || length <= 2 {
                return;
            }
            let wanted = (length - 2) as usize;
            let used = if wanted < PATH_LEN { wanted } else { PATH_LEN };
            call.path_len = used as u16;
            let _ = bpf_probe_read_user_buf(address.add(2), &mut call.path[..used]);
        } else {
            return;
        }
    }
    if CONNECTING.insert(bpf_get_current_pid_tgid(), call, 0).is_err() {
        emit::count(Counter::ConnectsUntracked);
        warn!(ctx, "no room to follow a connect() of process {}", task.pid);
    }
}

/// The call began a handshake: what fails from here on is the connection's story, unless `refused` says otherwise.
#[inline(always)]
pub(crate) fn began(sock: Sock<impl Access>) {
    if look::at_connects() == 0 {
        return;
    }
    if let Some(call) = CONNECTING.get_ptr_mut(bpf_get_current_pid_tgid()) {
        // SAFETY: valid for the program's run, and this thread is in the call.
        unsafe {
            (*call).flow.netns = sock.netns();
            (*call).began = sock.key();
        }
    }
}

/// Whether the current thread is inside a traced connect() on this socket, whose result will tell of the failure.
#[inline(always)]
pub(crate) fn refused(sock: Sock<impl Access>, tcp: TcpSock<impl Access>) -> bool {
    let look = look::at_connects();
    if look == 0 {
        return false;
    }
    let Some(call) = CONNECTING.get_ptr_mut(bpf_get_current_pid_tgid()) else { return false };
    // SAFETY: as in `began`.
    unsafe {
        // Softirq runs in whoever's context: it must be this call's own socket. A call of an earlier look may have returned unseen.
        if (*call).began != sock.key() || (*call).look != look {
            return false;
        }
        sock.flow(tcp.local_port(), &mut (*call).flow);
        (*call).undone = 1;
    }
    true
}

/// The call returned.
#[inline(always)]
pub(crate) fn left(ctx: &TracePointContext) {
    let thread = bpf_get_current_pid_tgid();
    let Some(call) = CONNECTING.get_ptr(thread) else { return };
    // SAFETY: a constant offset within the record.
    let result = unsafe { ctx.read_at::<i64>(EXIT_RESULT) }.unwrap_or(0);
    // SAFETY: the entry is valid for the program's run, and its thread is here.
    let call = unsafe { &*call };
    // What it entered in an earlier look returned unseen.
    if call.look != look::at_connects() {
        let _ = CONNECTING.remove(thread);
        return;
    }
    if result == 0 && call.family == AF_UNIX {
        answer::has_unix_upstreams();
    }
    if result < 0 && !HARMLESS.contains(&result) {
        failed(call, (-result) as u16);
    }
    let _ = CONNECTING.remove(thread);
}

/// Tells of a call that failed, if it was at an upstream.
#[inline(always)]
fn failed(call: &Connecting, error: u16) {
    let mut flow = call.flow;
    if call.began != 0 && call.undone == 0 {
        // A call that waited (a blocking socket's) returns what its connection came to, and that has been told.
        return;
    }
    if call.began == 0 {
        if call.family != AF_UNIX && OLD_NEWS.contains(&error) {
            return;
        }
        // Resolvers connect datagram sockets, and the C library does so to see which addresses can be reached.
        match of_descriptor(call.fd) {
            Some(described) if call.family == AF_UNIX || described.protocol == IPPROTO_TCP => {
                flow.netns = described.flow.netns;
            }
            _ => return,
        }
    }
    if !netns_matters(flow.netns) {
        return;
    }
    emit::count(Counter::ConnectsFailed);
    let told = emit::record::<Failed>(Kind::ConnectFailed, |record, header| {
        record.header = header;
        record.flow = flow;
        record.task = filter::current();
        record.error = error;
        record.family = call.family;
        record.path_len = u32::from(call.path_len);
        record.path = call.path;
        record.began = u8::from(call.began != 0);
        record.answers_visible = u8::from(answer::visible(record.task.pid));
        record.pad = [0; 2];
    });
    answer::let_go(&Release {
        told,
        failed: true,
        head: 0,
        left_unread: 0,
        upstream_status: 0,
        asked: true,
        last_read: 0,
    });
}
