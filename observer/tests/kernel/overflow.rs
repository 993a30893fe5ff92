//! Accept queues and SYN queues that overflow: each event once, equal to the kernel's own counts.

use observer::{
    diagnose::{Confidence, Said},
    event::{Body, Counters, OverflowPath},
    hooks::{Carrier, Hook, HookStatus},
    kernel::Options,
};
use socket2::{SockFilter, Socket};

use crate::common::{
    Watcher, all_but_skipped, carried_by, connect, eventually, in_netns, kernel_counter, kernel_knows, listen, only,
    sysctl,
};

pub(crate) fn overflows(counters: &Counters) -> u64 {
    counters.listen_overflow_syn + counters.listen_overflow_ack
}

/// The counters at a moment at which the kernel's own did not move: read before and after. What they count of these overflows, and that
/// is all of them but what a kernel that interrupts programs is known to have skipped.
pub(crate) fn settled(watcher: &mut Watcher, name: &str, at_least: u64) -> (u64, Counters) {
    watcher.until("the kernel's counter to stand still while ours is read", |watcher| {
        let before = kernel_counter(name);
        let ours = *watcher.engine.model().counters();
        let all = all_but_skipped(overflows(&ours), before, &ours);
        (before >= at_least && kernel_counter(name) == before && all).then_some((overflows(&ours), ours))
    })
}

#[test]
fn syn_overflows_equal_the_kernels_count() {
    for (number, (bind, to)) in
        [("127.0.0.1:7101", "127.0.0.1:7101"), ("[::1]:7102", "[::1]:7102"), ("[::]:7103", "127.0.0.1:7103")]
            .into_iter()
            .enumerate()
    {
        let comm = format!("obs-syn-{number}");
        in_netns(&comm, || {
            let port = to.rsplit(':').next().unwrap().parse().unwrap();
            let mut watcher = Watcher::start(only(&comm, port));
            let _listener = listen(bind, 2);
            let clients = crowd(to, 10);
            // Three fit; seven SYNs are dropped at once, and again when they are sent again.
            let (kernel, ours) = settled(&mut watcher, "ListenOverflows", 7);
            assert_eq!((overflows(&ours), ours.listen_overflow_ack), (kernel, 0), "{bind}");
            drop(clients);
            watcher.until("a verdict for each that gave up", |watcher| (watcher.verdicts().len() >= 7).then_some(()));
            for verdict in watcher.verdicts() {
                assert_eq!(
                    (verdict.cause, verdict.confidence),
                    ("accept-queue-overflow", Confidence::Certain),
                    "{verdict:?}"
                );
            }
        });
    }
}

/// Clients that connect one after the other, each once the kernel has judged the SYN of the one before. It may leave that to a
/// thread of its own (ksoftirqd, kernel/softirq.c): of SYNs sent together, more would find the queue not yet full than fit in it,
/// and overflow later, by their ACKs.
pub(crate) fn crowd(to: &str, count: usize) -> Vec<Socket> {
    let connected = |_| {
        let before = kernel_counter("ListenOverflows");
        let client = connect(to);
        eventually("an answer to a SYN, or an overflow", || {
            (client.peer_addr().is_ok() || kernel_counter("ListenOverflows") > before).then_some(())
        });
        client
    };
    (0..count).map(connected).collect()
}

/// Has the listener take nothing but SYNs, so that handshakes stay half done: a filter on the socket, which sees
/// segments from the TCP header on (its flags are byte 13).
fn only_syns(listener: &Socket) {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let program = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ];
    listener.attach_filter(&program).unwrap();
}

/// Eight handshakes that are done for the client and half done for a listener whose queue then has room for one: each
/// segment that comes now finds it full, on the ACK path.
pub(crate) fn overflow_by_ack(at: &str, to: &str) -> (Socket, Vec<Socket>) {
    let listener = listen(at, 64);
    only_syns(&listener);
    let clients: Vec<_> = (0..8).map(|_| connect(to)).collect();
    eventually("handshakes that are done for the clients", || {
        clients.iter().all(|client| client.peer_addr().is_ok()).then_some(())
    });
    listener.listen(0).unwrap();
    listener.detach_filter().unwrap();
    for client in &clients {
        client.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
    (listener, clients)
}

#[test]
fn ack_overflows_equal_the_kernels_count() {
    for (cookies, port) in [("0", 7110), ("2", 7111)] {
        let comm = format!("obs-ack-{cookies}");
        in_netns(&comm, || {
            sysctl("net.ipv4.tcp_syncookies", cookies);
            let mut watcher = Watcher::start(only(&comm, port));
            let at = format!("127.0.0.1:{port}");
            let (_listener, clients) = overflow_by_ack(&at, &at);
            // Seven at once, and again with each retransmission; the fourth comes after more than a second, and who
            // gives up by then has waited long enough to be believed.
            let (kernel, ours) = settled(&mut watcher, "ListenOverflows", 35);
            assert_eq!((ours.listen_overflow_ack, ours.listen_overflow_syn), (kernel, 0), "cookies {cookies}");
            let records = watcher.count(|body| matches!(body, Body::ListenOverflow(_)));
            assert!(records as u64 >= kernel, "one record for each: {records} of {kernel}");
            drop(clients);
            watcher.until("a verdict for each", |watcher| (watcher.verdicts().len() >= 8).then_some(()));
            let (overflowed, others): (Vec<_>, Vec<_>) =
                watcher.verdicts().into_iter().partition(|verdict| verdict.cause == "accept-queue-overflow");
            assert!(overflowed.iter().all(|verdict| verdict.confidence == Confidence::Certain), "{overflowed:?}");
            // One was queued, and nobody accepted it: that is not the overflow.
            assert_eq!((overflowed.len(), others.len()), (7, 1));
            assert!(others[0].summary.contains("never accepted"), "{others:?}");
        });
    }
}

#[test]
fn a_full_syn_queue_is_no_accept_queue_overflow() {
    in_netns("obs-synq", || {
        sysctl("net.ipv4.tcp_syncookies", "0");
        let mut watcher = Watcher::start(only("obs-synq", 7112));
        let listener = listen("127.0.0.1:7112", 1);
        only_syns(&listener);
        let clients: Vec<_> = (0..8).map(|_| connect("127.0.0.1:7112")).collect();
        eventually("SYNs dropped by a full SYN queue", || (kernel_counter("TCPReqQFullDrop") >= 5).then_some(()));
        watcher.until("two rounds of counters", |watcher| {
            (watcher.count(|body| matches!(body, Body::Counters(_))) >= 3).then_some(())
        });
        assert_eq!(kernel_counter("ListenOverflows"), 0);
        assert_eq!(overflows(watcher.engine.model().counters()), 0);
        watcher.until("the kernel's counter to stand still while ours is read", |watcher| {
            let before = kernel_counter("TCPReqQFullDrop");
            let ours = watcher.engine.model().counters().syn_queue_drops;
            (kernel_counter("TCPReqQFullDrop") == before && ours == before).then_some(())
        });
        drop(clients);
        let verdicts = watcher.until("verdicts on those that gave up", |watcher| {
            let count = watcher.verdicts().len();
            (count >= 5).then_some(count)
        });
        for verdict in watcher.verdicts() {
            assert_eq!((verdict.cause, verdict.confidence), ("syn-queue-overflow", Confidence::Certain), "{verdict:?}");
        }
        assert!(verdicts <= 6, "two fit");
        let warned = |said: &Said| matches!(said, Said::Warning(it) if it.cause == "syn-queue-overflow");
        assert!(watcher.said.iter().any(warned));
    });
}

/// Acknowledgements at a full queue for which the listener knows no handshake any more are no overflows.
pub(crate) fn forgotten_handshakes_are_no_overflows(comm: &str, options: Options) {
    in_netns(comm, || {
        sysctl("net.ipv4.tcp_syncookies", "0");
        let at = format!("127.0.0.1:{}", options.ports[0]);
        let mut watcher = Watcher::start(options);
        let (_listener, clients) = overflow_by_ack(&at, &at);
        // The listener forgets a handshake when it is next to repeat the SYN-ACK; not sooner, or a busy machine might come to
        // the overflow when it has forgotten all of them.
        sysctl("net.ipv4.tcp_synack_retries", "0");
        watcher.until("forgotten handshakes reset", |watcher| {
            let forgotten = |body: &Body| matches!(body, Body::ResetSent(reset) if reset.no_handshake);
            (watcher.count(forgotten) >= 7).then_some(())
        });
        let (kernel, ours) = settled(&mut watcher, "ListenOverflows", 7);
        assert_eq!(ours.listen_overflow_ack, kernel);
        watcher.until("a verdict for each", |watcher| (watcher.verdicts().len() >= 7).then_some(()));
        for verdict in watcher.verdicts() {
            assert_eq!((verdict.cause, verdict.status), ("accept-queue-overflow", Some(502)), "{verdict:?}");
        }
        drop(clients);
    });
}

#[test]
fn acks_for_no_handshake_at_a_full_queue_count_for_nothing() {
    forgotten_handshakes_are_no_overflows("obs-forgotten", only("obs-forgotten", 7114));
}

#[test]
fn the_second_carrier_counts_the_ack_path_once() {
    in_netns("obs-kfree", || {
        // Before 6.15 there is nothing to count by, and that must be said.
        if !kernel_knows("SKB_DROP_REASON_TCP_LISTEN_OVERFLOW") {
            let watcher = Watcher::start(carried_by(Hook::ListenOverflow, Carrier::KfreeSkb, only("obs-kfree", 7113)));
            let Some(HookStatus::Missing(why)) = watcher.live.hooks().status(Hook::ListenOverflow) else {
                panic!("{:?}", watcher.live.hooks().status(Hook::ListenOverflow));
            };
            assert!(why.contains("TCP_LISTEN_OVERFLOW"), "{why}");
            return;
        }
        sysctl("net.ipv4.tcp_syncookies", "0");
        sysctl("net.ipv4.tcp_abort_on_overflow", "1");
        let options = carried_by(Hook::ListenOverflow, Carrier::KfreeSkb, only("obs-kfree", 7113));
        let mut watcher = Watcher::start(options);
        assert!(matches!(
            watcher.live.hooks().status(Hook::ListenOverflow),
            Some(HookStatus::Partial(Carrier::KfreeSkb, _))
        ));
        let (_listener, _clients) = overflow_by_ack("127.0.0.1:7113", "127.0.0.1:7113");
        // With tcp_abort_on_overflow every overflow on the ACK path, and nothing else here, is an embryonic reset.
        let resets =
            eventually("handshakes reset", || Some(kernel_counter("EmbryonicRsts")).filter(|count| *count > 0));
        watcher.until("as many overflows", |watcher| {
            let ours = watcher.engine.model().counters();
            (ours.listen_overflow_ack == kernel_counter("EmbryonicRsts") && ours.listen_overflow_ack >= resets)
                .then_some(())
        });
        watcher.until("verdicts on the resets", |watcher| (!watcher.verdicts().is_empty()).then_some(()));
        for verdict in watcher.verdicts() {
            assert_eq!((verdict.cause, verdict.status), ("accept-queue-overflow", Some(502)), "{verdict:?}");
            assert_eq!(verdict.because, Some("abort-on-overflow"), "{verdict:?}");
        }
        let paths = watcher.count(|body| matches!(body, Body::ListenOverflow(it) if it.path == OverflowPath::Syn));
        assert_eq!(paths, 0);
    });
}
