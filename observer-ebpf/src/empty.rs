//! Programs that do nothing, on the hooks of observer's own and under the same names: what a hook costs by itself, for
//! `cargo bench -p observer --bench programs`. No part of observer.
#![no_std]
#![no_main]
#![expect(missing_docs, unreachable_pub, reason = "aya's attribute macros generate public functions without docs")]

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_skb, tracepoint},
    programs::{BtfTracePointContext, SkBuffContext, TracePointContext},
};

macro_rules! btf_tracepoints {
    ($($name:ident $function:literal)*) => {$(
        #[btf_tracepoint(function = $function)]
        pub fn $name(_: BtfTracePointContext) -> i32 {
            0
        }
    )*};
}

macro_rules! tracepoints {
    ($($name:ident)*) => {$(
        #[tracepoint]
        pub fn $name(_: TracePointContext) -> u32 {
            0
        }
    )*};
}

btf_tracepoints! {
    inet_sock_set_state "inet_sock_set_state"
    tcp_send_reset "tcp_send_reset"
    tcp_receive_reset "tcp_receive_reset"
    tcp_retransmit_skb "tcp_retransmit_skb"
    tcp_retransmit_synack "tcp_retransmit_synack"
    kfree_skb "kfree_skb"
    tcp_rcv_space_adjust "tcp_rcv_space_adjust"
    tcp_destroy_sock "tcp_destroy_sock"
    inet_sk_error_report "inet_sk_error_report"
    signal_generate "signal_generate"
}

tracepoints! {
    sys_enter_epoll_wait
    sys_enter_epoll_pwait
    sys_enter_write
    sys_enter_sendto
    sys_enter_writev
    sys_enter_sendmsg
    sys_enter_connect
    sys_exit_connect
}

/// Lets the packet pass.
#[cgroup_skb]
pub fn listen_overflow(_: SkBuffContext) -> i32 {
    1
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// As observer's own.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
