//! Programs on the entry of kernel functions, twice: by fentry, and by kprobes where the kernel refuses that. Those not attached
//! are not loaded either.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};

use crate::{listener, reset};

/// `tcp_conn_request(struct request_sock_ops *rsk_ops, const struct tcp_request_sock_ops *af_ops, struct sock *sk,
/// struct sk_buff *skb)` (net/ipv4/tcp_input.c): a SYN has come to a listener, over IPv4 or IPv6.
#[fentry(function = "tcp_conn_request")]
pub fn fentry_tcp_conn_request(ctx: FEntryContext) -> i32 {
    listener::syn(&ctx);
    0
}

/// See [`fentry_tcp_conn_request`].
#[kprobe(function = "tcp_conn_request")]
pub fn kprobe_tcp_conn_request(ctx: ProbeContext) -> u32 {
    listener::syn(&ctx);
    0
}

/// `tcp_v4_syn_recv_sock(const struct sock *sk, struct sk_buff *skb, …)` (net/ipv4/tcp_ipv4.c): a handshake is complete.
#[fentry(function = "tcp_v4_syn_recv_sock")]
pub fn fentry_tcp_v4_syn_recv_sock(ctx: FEntryContext) -> i32 {
    listener::completed(&ctx);
    0
}

/// See [`fentry_tcp_v4_syn_recv_sock`].
#[kprobe(function = "tcp_v4_syn_recv_sock")]
pub fn kprobe_tcp_v4_syn_recv_sock(ctx: ProbeContext) -> u32 {
    listener::completed(&ctx);
    0
}

/// `tcp_v6_syn_recv_sock`, likewise (net/ipv6/tcp_ipv6.c).
#[fentry(function = "tcp_v6_syn_recv_sock")]
pub fn fentry_tcp_v6_syn_recv_sock(ctx: FEntryContext) -> i32 {
    listener::completed_v6(&ctx);
    0
}

/// See [`fentry_tcp_v6_syn_recv_sock`].
#[kprobe(function = "tcp_v6_syn_recv_sock")]
pub fn kprobe_tcp_v6_syn_recv_sock(ctx: ProbeContext) -> u32 {
    listener::completed_v6(&ctx);
    0
}

/// `tcp_v4_send_reset(const struct sock *sk, struct sk_buff *skb)` (net/ipv4/tcp_ipv4.c), where the tracepoint `tcp_send_reset`
/// tells of full sockets only.
#[fentry(function = "tcp_v4_send_reset")]
pub fn fentry_tcp_v4_send_reset(ctx: FEntryContext) -> i32 {
    reset::sent_without_socket(&ctx);
    0
}

/// See [`fentry_tcp_v4_send_reset`].
#[kprobe(function = "tcp_v4_send_reset")]
pub fn kprobe_tcp_v4_send_reset(ctx: ProbeContext) -> u32 {
    reset::sent_without_socket(&ctx);
    0
}

/// `tcp_v6_send_reset`, likewise (net/ipv6/tcp_ipv6.c).
#[fentry(function = "tcp_v6_send_reset")]
pub fn fentry_tcp_v6_send_reset(ctx: FEntryContext) -> i32 {
    reset::sent_without_socket(&ctx);
    0
}

/// See [`fentry_tcp_v6_send_reset`].
#[kprobe(function = "tcp_v6_send_reset")]
pub fn kprobe_tcp_v6_send_reset(ctx: ProbeContext) -> u32 {
    reset::sent_without_socket(&ctx);
    0
}
