//! The second carrier of every tracepoint hook: the same tracepoints, where the kernel refuses programs that know its types.
//! Those not attached are not loaded either.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{connection, reset, retransmit, signal};

/// See [`crate::inet_sock_set_state`]. Within what the macro generates: a call would take stack that is not there on 6.1
/// (see `report` in [`crate::connection`]).
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[inline(always)]
pub fn raw_inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    connection::state_changed(&ctx);
    0
}

/// See [`crate::again_inet_sock_set_state`]. Within what the macro generates, likewise.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
#[inline(always)]
pub fn raw_again_inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    connection::state_changed_again(&ctx);
    0
}

/// See [`crate::tcp_send_reset`].
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub fn raw_tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    reset::sent(&ctx);
    0
}

/// See [`crate::tcp_receive_reset`].
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub fn raw_tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    reset::received(&ctx);
    0
}

/// See [`crate::again_tcp_receive_reset`].
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub fn raw_again_tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    reset::received_again(&ctx);
    0
}

/// See [`crate::tcp_retransmit_skb`].
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
pub fn raw_tcp_retransmit_skb(ctx: RawTracePointContext) -> i32 {
    retransmit::segment(&ctx);
    0
}

/// See [`crate::tcp_retransmit_synack`].
#[raw_tracepoint(tracepoint = "tcp_retransmit_synack")]
pub fn raw_tcp_retransmit_synack(ctx: RawTracePointContext) -> i32 {
    retransmit::syn_ack(&ctx);
    0
}

/// See [`crate::inet_sk_error_report`].
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
pub fn raw_inet_sk_error_report(ctx: RawTracePointContext) -> i32 {
    connection::error_reported(&ctx);
    0
}

/// See [`crate::again_inet_sk_error_report`].
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
pub fn raw_again_inet_sk_error_report(ctx: RawTracePointContext) -> i32 {
    connection::error_reported_again(&ctx);
    0
}

/// See [`crate::signal_generate`].
#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn raw_signal_generate(ctx: RawTracePointContext) -> i32 {
    signal::sent(&ctx);
    0
}
