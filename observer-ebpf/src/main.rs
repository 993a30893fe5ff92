//! observer's kernel programs: each reads, filters, emits, and is short.
//!
//! Userspace resolves every field offset from the running kernel's BTF and freezes it into `.rodata`
//! ([`settings`]), so the verifier sees constants and allows direct loads. Nothing here keeps state but the maps
//! of [`maps`]; nothing but [`emit`] touches the ring.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, unreachable_pub, reason = "aya's attribute macros generate public functions without docs")]

mod access;
mod again;
mod answer;
mod connect;
mod connection;
mod emit;
mod filter;
mod functions;
mod handshake;
mod latency;
mod listener;
mod look;
mod maps;
mod packet;
mod raw;
mod reset;
mod retransmit;
mod settings;
mod signal;
mod sock;
mod tries;
mod walk;
mod walk_unix;

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_skb, tracepoint},
    programs::{BtfTracePointContext, SkBuffContext, TracePointContext},
};

/// `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`, before the state is stored.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    connection::state_changed(&ctx);
    0
}

/// The same: see `again`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn again_inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    connection::state_changed_again(&ctx);
    0
}

/// `TP_PROTO(const struct sock *sk, const struct sk_buff *skb__nullable, const enum sk_rst_reason reason)`; the
/// reason only where `Settings::reset_has_reason` says so.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    reset::sent(&ctx);
    0
}

/// `TP_PROTO(struct sock *sk)`
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    reset::received(&ctx);
    0
}

/// The same: see `again`.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn again_tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    reset::received_again(&ctx);
    0
}

/// `TP_PROTO(const struct sock *sk, const struct sk_buff *skb[, int err])`
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    retransmit::segment(&ctx);
    0
}

/// `TP_PROTO(const struct sock *sk, const struct request_sock *req)`
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn tcp_retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    retransmit::syn_ack(&ctx);
    0
}

/// `TP_PROTO(struct sk_buff *skb, void *location, enum skb_drop_reason reason, struct sock *rx_sk)`: the carrier of
/// listen overflows (ACK path only) where the cgroup program cannot attach.
#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    listener::freed(&ctx);
    0
}

/// Listen overflows, at the root of the cgroup-2 tree: runs for every packet that reaches a socket, just before
/// the kernel's own test. Always lets the packet pass.
#[cgroup_skb]
pub fn listen_overflow(ctx: SkBuffContext) -> i32 {
    listener::packet(&ctx);
    1
}

/// `TP_PROTO(struct sock *sk)`: a read took payload.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
pub fn tcp_rcv_space_adjust(ctx: BtfTracePointContext) -> i32 {
    if let Some(sock) = sock::Sock::new(ctx.arg(0)) {
        connection::read(sock);
    }
    0
}

/// `TP_PROTO(struct sock *sk)`
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    if let Some(sock) = sock::Sock::new(ctx.arg(0)) {
        connection::destroyed(sock);
        again::handled(sock, again::DESTROYED);
    }
    0
}

/// The same: see `again`.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn again_tcp_destroy_sock(ctx: BtfTracePointContext) -> i32 {
    if let Some(sock) = sock::Sock::new(ctx.arg(0))
        && again::was_skipped(sock, again::DESTROYED)
    {
        connection::destroyed(sock);
    }
    0
}

/// `TP_PROTO(const struct sock *sk)`: the process is told of an error.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    connection::error_reported(&ctx);
    0
}

/// The same: see `again`.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn again_inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    connection::error_reported_again(&ctx);
    0
}

/// `TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`
#[btf_tracepoint(function = "signal_generate")]
pub fn signal_generate(ctx: BtfTracePointContext) -> i32 {
    signal::sent(&ctx);
    0
}

/// `syscalls:sys_enter_epoll_wait`
#[tracepoint]
pub fn sys_enter_epoll_wait(ctx: TracePointContext) -> u32 {
    answer::waits(&ctx);
    0
}

/// `syscalls:sys_enter_epoll_pwait`
#[tracepoint]
pub fn sys_enter_epoll_pwait(ctx: TracePointContext) -> u32 {
    answer::waits(&ctx);
    0
}

/// `syscalls:sys_enter_write`
#[tracepoint]
pub fn sys_enter_write(ctx: TracePointContext) -> u32 {
    answer::wrote(&ctx, answer::Call::Buffer);
    0
}

/// `syscalls:sys_enter_sendto`
#[tracepoint]
pub fn sys_enter_sendto(ctx: TracePointContext) -> u32 {
    answer::wrote(&ctx, answer::Call::Buffer);
    0
}

/// `syscalls:sys_enter_writev`
#[tracepoint]
pub fn sys_enter_writev(ctx: TracePointContext) -> u32 {
    answer::wrote(&ctx, answer::Call::Vector);
    0
}

/// `syscalls:sys_enter_sendmsg`
#[tracepoint]
pub fn sys_enter_sendmsg(ctx: TracePointContext) -> u32 {
    answer::wrote(&ctx, answer::Call::Message);
    0
}

/// `syscalls:sys_enter_connect`
#[tracepoint]
pub fn sys_enter_connect(ctx: TracePointContext) -> u32 {
    connect::entered(&ctx);
    0
}

/// `syscalls:sys_exit_connect`
#[tracepoint]
pub fn sys_exit_connect(ctx: TracePointContext) -> u32 {
    connect::left(&ctx);
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The programs have no panicking path left after optimisation; the verifier would refuse an endless loop.
    loop {}
}

/// The licence that the kernel asks for before it lends its GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
