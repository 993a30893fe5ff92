//! Signals that end or stop a process.

use observer_common::{
    Kind,
    signal::{Sent, TOLD},
};

use crate::{access::Arguments, emit, filter, sock::of_task};

/// `SEND_SIG_PRIV` (include/linux/sched/signal.h): what stands for a `kernel_siginfo` when the kernel sends on its own account.
const SEND_SIG_PRIV: u64 = 1;
/// Signal of a fault, which the kernel sends whoever `current` is.
const SIGSEGV: i32 = 11;

/// `TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
#[inline(always)]
pub(crate) fn sent(ctx: &impl Arguments) {
    let signal: i32 = ctx.argument(0);
    if !TOLD.contains(&(signal as u32)) {
        return;
    }
    let info: u64 = ctx.argument(1);
    let Some((target, comm)) = of_task(ctx.argument(2)) else { return };
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
