//! Signals that end or stop a process.

use aya_ebpf::programs::BtfTracePointContext;
use observer_common::{
    Kind,
    signal::{Sent, TOLD},
};

use crate::{emit, filter, sock::of_task};

/// `SEND_SIG_PRIV` (include/linux/sched/signal.h): what stands for a `kernel_siginfo` when the kernel sends on its own account.
const SEND_SIG_PRIV: u64 = 1;
/// Signal of a fault, which the kernel sends whoever `current` is.
const SIGSEGV: i32 = 11;

/// `TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
#[inline(always)]
pub(crate) fn sent(ctx: &BtfTracePointContext) {
    let signal: i32 = ctx.arg(0);
    if !TOLD.contains(&(signal as u32)) {
        return;
    }
    let info: u64 = ctx.arg(1);
    let Some((target, comm)) = of_task(ctx.arg(2)) else { return };
    emit::record::<Sent>(Kind::Signal, |record, header| {
        record.header = header;
        record.task = filter::current();
        record.target = target;
        record.signal = signal as u32;
        record.comm = comm;
        record.by_kernel = u8::from(info == SEND_SIG_PRIV || signal == SIGSEGV);
        record.pad = [0; 7];
    });
}
