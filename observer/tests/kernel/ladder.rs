//! One carrier at a time, whichever this kernel allows: each sees the same.

use std::{
    io::Write as _,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use observer::{
    addr::NetNs,
    event::Body,
    hooks::{Carrier, Forced, Hook, HookStatus},
    kernel::Options,
};
use socket2::Socket;

use crate::{
    common::{
        Watcher, carried_by, connect, eventually, in_netns, kernel_counter, kernel_knows, listen, netns, nobody_starts,
        only, start, sysctl,
    },
    overflow::{crowd, forgotten_handshakes_are_no_overflows, overflow_by_ack, overflows, settled},
};

/// Whether this kernel lets a carrier attach; what it must let attach is checked, and a refusal must be one that is known.
pub(crate) fn offered(watcher: &Watcher, hook: Hook, carrier: Carrier) -> bool {
    let hooks = watcher.live.hooks();
    let status = hooks.status(hook).unwrap();
    if let Some(chosen) = status.carrier() {
        assert_eq!(chosen, carrier);
        return true;
    }
    let HookStatus::Missing(why) = status else { panic!("{status:?}") };
    assert!(hooks.degradations().any(|(degraded, told)| degraded == hook && told.contains(why.as_str())));
    let known = match carrier {
        Carrier::Fentry => why.contains("EPERM") || why.contains("ENOTSUPP"),
        Carrier::Kprobe => why.contains("no kprobes") && !Path::new("/sys/bus/event_source/devices/kprobe").exists(),
        Carrier::KfreeSkb => !kernel_knows("SKB_DROP_REASON_TCP_LISTEN_OVERFLOW"),
        _ => false,
    };
    assert!(known, "{}: {why}", hook.name());
    false
}

/// Ends of the same overflow, over each protocol: where the listener is bound, where the clients connect to.
fn ends(port: u16) -> [(String, String); 3] {
    let (v4, v6) = (format!("127.0.0.1:{port}"), format!("[::1]:{port}"));
    [(v4.clone(), v4.clone()), (v6.clone(), v6), (format!("[::]:{port}"), v4)]
}

const COOKIES_OFF: (&str, &str) = ("net.ipv4.tcp_syncookies", "0");

/// Each overflow counts once with that carrier, on both paths and over both protocols: the kernel's own count is the judge.
fn counts_each_overflow_once(carrier: Carrier, port: u16) {
    for (number, (at, to)) in ends(port).into_iter().enumerate() {
        let comm = format!("obs-{carrier}-{number}");
        let comm = &comm[..comm.len().min(15)];
        if carrier != Carrier::KfreeSkb {
            in_netns(comm, || {
                let options = carried_by(Hook::ListenOverflow, carrier, only(comm, port));
                let mut watcher = Watcher::start(options);
                if !offered(&watcher, Hook::ListenOverflow, carrier) {
                    return;
                }
                let _listener = listen(&at, 2);
                let _clients = crowd(&to, 10);
                let (kernel, ours) = settled(&mut watcher, "ListenOverflows", 7);
                assert_eq!((ours.listen_overflow_syn, ours.listen_overflow_ack), (kernel, 0), "{carrier} {at}");
            });
        }
        // Seven at once, and again with what is sent again.
        let by_ack = counts_each_overflow_by_ack_once(carrier, comm, (&at, &to), &[COOKIES_OFF], 14);
        if by_ack.is_none() {
            return;
        }
    }
    let (comm, [(at, to), ..]) = (format!("obs-{carrier}"), ends(port));
    // The kernel gives no reason for what a cookie brought (tcp_v4_cookie_check, net/ipv4/tcp_ipv4.c).
    if carrier != Carrier::KfreeSkb {
        counts_each_overflow_by_ack_once(carrier, &comm, (&at, &to), &[("net.ipv4.tcp_syncookies", "2")], 14);
    }
    let abort = ("net.ipv4.tcp_abort_on_overflow", "1");
    let aborted = counts_each_overflow_by_ack_once(carrier, &comm, (&at, &to), &[COOKIES_OFF, abort], 7);
    // Reset by its first segment, none sends another.
    assert!(aborted.is_none_or(|aborted| aborted == 7), "{carrier}: {aborted:?}");
}

/// On the ACK path with these sysctls, of which the kernel counts so many at least; `None` where the kernel has no such carrier.
fn counts_each_overflow_by_ack_once(
    carrier: Carrier,
    comm: &str,
    (at, to): (&str, &str),
    sysctls: &[(&str, &str)],
    at_least: u64,
) -> Option<u64> {
    let port = to.rsplit(':').next().unwrap().parse().unwrap();
    in_netns(comm, || {
        for (name, value) in sysctls {
            sysctl(name, value);
        }
        let mut watcher = Watcher::start(carried_by(Hook::ListenOverflow, carrier, only(comm, port)));
        if !offered(&watcher, Hook::ListenOverflow, carrier) {
            return None;
        }
        let (_listener, _clients) = overflow_by_ack(at, to);
        let (kernel, ours) = settled(&mut watcher, "ListenOverflows", at_least);
        assert_eq!((ours.listen_overflow_ack, ours.listen_overflow_syn), (kernel, 0), "{carrier} {at} {sysctls:?}");
        let records = watcher.count(|body| matches!(body, Body::ListenOverflow(_))) as u64;
        assert!(records >= kernel, "one record for each: {records} of {kernel}");
        Some(kernel)
    })
}

#[test]
fn fentry_counts_each_overflow_once() {
    counts_each_overflow_once(Carrier::Fentry, 7400);
}

#[test]
fn kprobes_count_each_overflow_once() {
    counts_each_overflow_once(Carrier::Kprobe, 7401);
}

#[test]
fn cgroup_skb_counts_each_overflow_once() {
    counts_each_overflow_once(Carrier::CgroupSkb, 7402);
}

#[test]
fn kfree_skb_counts_each_overflow_by_ack_once() {
    counts_each_overflow_once(Carrier::KfreeSkb, 7403);
}

#[test]
fn a_cgroup_program_takes_back_what_was_no_overflow() {
    let options = carried_by(Hook::ListenOverflow, Carrier::CgroupSkb, only("obs-taken-back", 7404));
    forgotten_handshakes_are_no_overflows("obs-taken-back", options);
}

/// All tracepoint hooks by that carrier.
pub(crate) fn tracepoints_by(carrier: Carrier, options: Options) -> Options {
    // What no socket is there for rides on what carries resets.
    let hooks = Hook::ALL.into_iter().filter(|hook| *hook != Hook::ResetsWithoutSocket);
    let forced = hooks.filter(|hook| hook.carriers().contains(&Carrier::RawTp)).map(|hook| Forced { hook, carrier });
    Options { forced: forced.collect(), ..options }
}

/// Resets the other end.
fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// The same traffic gives the same counts, whatever reads the tracepoints' arguments.
fn tracepoints_see_the_same(carrier: Carrier, port: u16) {
    let comm = format!("obs-{carrier}");
    in_netns(&comm, || {
        let options = Options { netns: Some(NetNs(netns())), ..only(&comm, port) };
        let mut watcher = Watcher::start(tracepoints_by(carrier, options));
        for (hook, status) in &watcher.live.hooks().0 {
            let tracepoint = hook.carriers().contains(&Carrier::RawTp) && *hook != Hook::ResetsWithoutSocket;
            if tracepoint && (*hook != Hook::SocketErrors || kernel_knows("btf_trace_inet_sk_error_report")) {
                assert_eq!(*status, HookStatus::Full(carrier), "{}", hook.name());
            }
        }
        let at = format!("127.0.0.1:{port}");
        for _ in 0..3 {
            TcpStream::connect(&at).unwrap_err();
        }
        let listener = TcpListener::bind(&at).unwrap();
        for _ in 0..4 {
            let client = TcpStream::connect(&at).unwrap();
            let (mut served, _) = listener.accept().unwrap();
            served.write_all(b"not what was asked for").unwrap();
            let _here = nobody_starts();
            reset(served);
            drop(client);
        }
        // Two that the upstream ends in peace, one of them over the other protocol.
        let here = nobody_starts();
        drop(listener);
        let listener = listen(&format!("[::]:{port}"), 8);
        for to in [at, format!("[::1]:{port}")] {
            let client = TcpStream::connect(to).unwrap();
            let (served, _) = listener.accept().unwrap();
            drop(served);
            drop(client);
        }
        drop(here);
        let mut child = start(Command::new("cat").stdin(Stdio::piped()));
        child.kill().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        watcher.until("the signal", |watcher| {
            let ours = |body: &Body| matches!(body, Body::Signal(it) if it.number == 9 && it.to.pid == pid);
            (watcher.count(ours) == 1).then_some(())
        });
        let by_peer = |watcher: &Watcher| {
            watcher.count(|body| matches!(body, Body::ConnectionEnded(ended) if ended.reset_received))
        };
        watcher.until("the ends", |watcher| (by_peer(watcher) == 7).then_some(()));
        let sent = watcher.count(|body| matches!(body, Body::ResetSent(reset) if reset.process.is_some()));
        assert_eq!(sent, 4);
        let (counters, _) = watcher.finish();
        assert_eq!((counters.connections_started, counters.connections_ended), (9, 9));
        assert_eq!(counters.resets_received, 7);
        assert_eq!(kernel_counter("RetransSegs"), 0);
        assert_eq!((counters.retransmits, counters.lost.records.iter().sum::<u64>()), (0, 0));
    });
}

#[test]
fn btf_tracepoints_see_all() {
    tracepoints_see_the_same(Carrier::TpBtf, 7410);
}

#[test]
fn raw_tracepoints_see_all() {
    tracepoints_see_the_same(Carrier::RawTp, 7411);
}

/// SYNs and SYN-ACKs that are sent again are told as often as the kernel counts them.
fn repetitions_are_told(carrier: Carrier, port: u16) {
    let comm = format!("obs-again-{carrier}");
    let at = format!("127.0.0.1:{port}");
    in_netns(&comm, || {
        let mut watcher = Watcher::start(tracepoints_by(carrier, only(&comm, port)));
        let _listener = listen(&at, 0);
        let _clients = crowd(&at, 4);
        watcher.until("SYNs sent again, as many as the kernel says", |watcher| {
            let kernel = kernel_counter("RetransSegs");
            (kernel >= 3 && watcher.engine.model().counters().retransmits == kernel).then_some(())
        });
        assert_eq!(watcher.engine.model().counters().synack_retransmits, 0);
    });
    in_netns(&comm, || {
        sysctl("net.ipv4.tcp_syncookies", "0");
        let mut watcher = Watcher::start(tracepoints_by(carrier, only(&comm, port)));
        let (_listener, _clients) = overflow_by_ack(&at, &at);
        watcher.until("SYN-ACKs sent again to all that were turned away", |watcher| {
            (watcher.engine.model().counters().synack_retransmits >= 7).then_some(())
        });
        let told = watcher.count(|body| matches!(body, Body::SynAckRetransmit(_))) as u64;
        assert!((7..=kernel_counter("TCPSynRetrans")).contains(&told), "{told}");
        assert!(overflows(watcher.engine.model().counters()) >= 7);
    });
}

#[test]
fn btf_tracepoints_tell_what_is_sent_again() {
    repetitions_are_told(Carrier::TpBtf, 7412);
}

#[test]
fn raw_tracepoints_tell_what_is_sent_again() {
    repetitions_are_told(Carrier::RawTp, 7413);
}

/// RSTs for want of an open socket: three refusals, and one from TIME_WAIT.
fn provoke_resets(port: u16) {
    for to in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("127.0.0.1:{port}")] {
        let client = connect(&to);
        eventually("a refusal", || client.take_error().unwrap());
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _here = nobody_starts();
    drop(listener.accept().unwrap());
    client.write_all(b"too late").unwrap();
    eventually("a reset", || client.take_error().unwrap());
}

fn resets_without_socket_are_told_once(comm: &str, port: u16, forced: Option<Carrier>) {
    in_netns(comm, || {
        let mut options = Options { netns: Some(NetNs(netns())), ..only(comm, port) };
        if let Some(carrier) = forced {
            options = carried_by(Hook::ResetsWithoutSocket, carrier, options);
        }
        let mut watcher = Watcher::start(options);
        let status = watcher.live.hooks().status(Hook::ResetsWithoutSocket).unwrap().clone();
        if let HookStatus::Missing(why) = &status {
            let known = ["from 6.10 on", "not carried", "count twice", "EPERM", "no kprobes"];
            assert!(known.iter().any(|known| why.contains(known)), "{why}");
        }
        provoke_resets(port);
        let told = |watcher: &Watcher| watcher.count(|body| matches!(body, Body::ResetSent(_)));
        // Where the kernel passes a reason, the program of the other resets tells of these as well.
        let all = kernel_knows("sk_rst_reason") || status.carrier().is_some();
        assert_eq!(kernel_counter("OutRsts"), 4);
        if all {
            watcher.until("each of them", |watcher| (told(watcher) >= 4).then_some(()));
        }
        let refusals = watcher.count(|body| matches!(body, Body::ResetSent(reset) if reset.answers_syn));
        assert_eq!(refusals == 3, all, "{status:?}");
        let (_, events) = watcher.finish();
        let told = events.iter().filter(|event| matches!(event.body, Body::ResetSent(_))).count();
        assert!(if all { told == 4 } else { told < 4 }, "{told}: {status:?}");
    });
}

#[test]
fn resets_without_a_socket_are_told_once_whatever_carries_them() {
    let carriers = Hook::ResetsWithoutSocket.carriers().iter().copied().map(Some);
    for (number, forced) in (0..).zip(std::iter::once(None).chain(carriers)) {
        resets_without_socket_are_told_once(&format!("obs-stray-{number}"), 7420 + number, forced);
    }
}
