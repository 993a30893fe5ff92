//! The kernel's side, for real: programs attached to this kernel, traffic in namespaces of the tests' own, and the
//! kernel's own counters as the judge. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "kernel/answers.rs"]
mod answers;
mod common;
#[path = "kernel/ladder.rs"]
mod ladder;
#[path = "kernel/look.rs"]
mod look;
#[path = "kernel/skipped.rs"]
mod skipped;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use common::{Watcher, carried_by, connect, eventually, in_netns, kernel_counter, listen, netns, only, sysctl};
use observer::{
    diagnose::{Confidence, Said},
    event::{Body, Counters, OverflowPath},
    hooks::{Carrier, Hook, HookStatus},
    kernel::Options,
    source::Source as _,
};
use socket2::{SockFilter, Socket};

fn overflows(counters: &Counters) -> u64 {
    counters.listen_overflow_syn + counters.listen_overflow_ack
}

/// The counters at a moment at which the kernel's own did not move: read before and after, and equal.
fn settled(watcher: &mut Watcher, name: &str, at_least: u64) -> (u64, Counters) {
    watcher.until("the kernel's counter to stand still while ours is read", |watcher| {
        let before = kernel_counter(name);
        let ours = *watcher.engine.model().counters();
        (before >= at_least && kernel_counter(name) == before && overflows(&ours) == before).then_some((before, ours))
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
            let clients: Vec<_> = (0..10).map(|_| connect(to)).collect();
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
fn overflow_by_ack(at: &str, to: &str) -> (Socket, Vec<Socket>) {
    let listener = listen(at, 64);
    only_syns(&listener);
    let clients: Vec<_> = (0..8).map(|_| connect(to)).collect();
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
fn forgotten_handshakes_are_no_overflows(comm: &str, options: Options) {
    in_netns(comm, || {
        sysctl("net.ipv4.tcp_syncookies", "0");
        // The listener forgets a handshake after its first repeated SYN-ACK.
        sysctl("net.ipv4.tcp_synack_retries", "0");
        let at = format!("127.0.0.1:{}", options.ports[0]);
        let mut watcher = Watcher::start(options);
        let (_listener, clients) = overflow_by_ack(&at, &at);
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

/// Whether this kernel's types have that name, asked of their strings alone.
fn kernel_knows(name: &str) -> bool {
    let types = std::fs::read(observer::kernel::btf::VMLINUX).unwrap();
    types.split(|byte| *byte == 0).any(|string| string == name.as_bytes())
}

#[test]
fn every_hook_finds_its_carrier() {
    // What the types of older kernels have no name for cannot be carried there.
    const YOUNGER: [(Hook, &str); 3] = [
        (Hook::SocketErrors, "btf_trace_inet_sk_error_report"),
        (Hook::UnixSockets, "bpf_iter__unix"),
        (Hook::UpstreamAnswers, "BPF_FUNC_task_pt_regs"),
    ];
    in_netns("obs-hooks", || {
        let watcher = Watcher::start(Options { answers: true, ..only("obs-hooks", 7199) });
        let without = |hook: Hook| YOUNGER.iter().any(|(younger, name)| *younger == hook && !kernel_knows(name));
        let degraded: Vec<_> = watcher.live.hooks().degradations().filter(|(hook, _)| !without(*hook)).collect();
        assert!(degraded.is_empty(), "{degraded:#?}");
    });
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

#[test]
fn refusals_are_told_over_both_protocols() {
    for (number, to) in ["127.0.0.1:7120", "[::1]:7121"].into_iter().enumerate() {
        let comm = format!("obs-refused-{number}");
        in_netns(&comm, || {
            let mut watcher = Watcher::start(only(&comm, 7120 + u16::try_from(number).unwrap()));
            let _client = connect(to);
            watcher.until("a verdict", |watcher| (!watcher.verdicts().is_empty()).then_some(()));
            let verdicts = watcher.verdicts();
            assert_eq!(verdicts.len(), 1);
            assert_eq!((verdicts[0].cause, verdicts[0].upstream.to_string().as_str()), ("upstream-refused", to));
            assert_eq!(*verdicts[0].proxy.comm, *comm);
            assert_eq!(verdicts[0].proxy.pid, std::process::id());
        });
    }
}

#[test]
fn a_blocking_connect_that_is_refused_is_told_once() {
    in_netns("obs-blocking", || {
        let mut watcher = Watcher::start(only("obs-blocking", 7122));
        assert_eq!(TcpStream::connect("127.0.0.1:7122").unwrap_err().raw_os_error(), Some(111));
        watcher.until("a verdict", |watcher| (!watcher.verdicts().is_empty()).then_some(()));
        let (counters, events) = watcher.finish();
        assert_eq!((counters.connections_ended, counters.connects_failed), (1, 0));
        let told =
            events.iter().filter(|event| matches!(event.body, Body::ConnectionEnded(_) | Body::ConnectFailed(_)));
        assert_eq!(told.count(), 1);
    });
}

#[test]
fn exhausted_ports_are_told_with_their_time_wait() {
    in_netns("obs-ports", || {
        sysctl("net.ipv4.ip_local_port_range", "40000 40049");
        sysctl("net.ipv4.tcp_tw_reuse", "0");
        let mut watcher = Watcher::start(only("obs-ports", 7130));
        let listener = TcpListener::bind("127.0.0.1:7130").unwrap();
        let mut refused = 0;
        for _ in 0..60 {
            match TcpStream::connect("127.0.0.1:7130") {
                Ok(client) => {
                    let (served, _) = listener.accept().unwrap();
                    drop(client);
                    drop(served);
                }
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(99));
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 10);
        watcher.until("a verdict for each", |watcher| {
            let ports = watcher.verdicts().iter().filter(|verdict| verdict.cause == "port-exhaustion").count();
            (ports == refused).then_some(())
        });
    });
}

#[test]
fn time_wait_shown_equals_the_kernels_own() {
    in_netns("obs-tw", || {
        let mut watcher = Watcher::start(only("obs-tw", 7140));
        let listener = TcpListener::bind("127.0.0.1:7140").unwrap();
        for _ in 0..500 {
            let client = TcpStream::connect("127.0.0.1:7140").unwrap();
            let (served, _) = listener.accept().unwrap();
            drop(client);
            drop(served);
        }
        let sockstat = || -> u32 {
            let text = std::fs::read_to_string("/proc/thread-self/net/sockstat").unwrap();
            let after = text.split(" tw ").nth(1).unwrap();
            after.split_whitespace().next().unwrap().parse().unwrap()
        };
        let here = netns();
        let (shown, to_upstream) = watcher.until("a sample with all of them", |watcher| {
            let sample = watcher.namespace(here).filter(|sample| sample.time_wait >= 495)?;
            Some((sample.time_wait, sample.time_wait_by_destination.clone()))
        });
        let kernel = sockstat();
        assert!(shown.abs_diff(kernel) * 100 <= kernel, "shown {shown}, sockstat {kernel}");
        let to_upstream = to_upstream.iter().find(|(to, _)| to.port == 7140).map(|(_, count)| *count);
        assert_eq!(to_upstream, Some(shown), "every one of them is towards the upstream");
    });
}

#[test]
fn a_hundred_thousand_connections_are_counted_exactly_though_the_ring_overflows() {
    const CONNECTIONS: u64 = 100_000;
    in_netns("obs-flood", || {
        let mut options = only("obs-flood", 7150);
        // Small, and not read meanwhile: most records must find it full.
        options.ring = 64 << 10;
        let mut watcher = Watcher::start(options);
        let listener = TcpListener::bind("127.0.0.1:7150").unwrap();
        let opened = kernel_counter("ActiveOpens");
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..CONNECTIONS {
                    drop(listener.accept().unwrap());
                }
            });
            for _ in 0..CONNECTIONS {
                let client = TcpStream::connect("127.0.0.1:7150").unwrap();
                Socket::from(client).set_linger(Some(Duration::ZERO)).unwrap();
            }
        });
        let opened = kernel_counter("ActiveOpens") - opened;
        assert_eq!(opened, CONNECTIONS);
        watcher.until("the counters to have it all", |watcher| {
            (watcher.engine.model().counters().connections_started >= CONNECTIONS).then_some(())
        });
        let (counters, events) = watcher.finish();
        assert_eq!(counters.connections_started, opened, "the kernel's ActiveOpens");
        assert_eq!(counters.connections_ended, CONNECTIONS);
        let told = events.iter().filter(|event| matches!(event.body, Body::ConnectionEnded(_))).count() as u64;
        let lost = counters.lost.records[0];
        assert!(lost > 0, "the ring was meant to overflow");
        assert_eq!(told + lost, CONNECTIONS, "{told} told, {lost} lost");
        assert_eq!(counters.lost.undecoded, 0);
    });
}

#[test]
fn listeners_are_found_with_process_and_limit_in_any_namespace() {
    in_netns("obs-listen", || {
        let _listener = listen("0.0.0.0:7160", 77);
        let here = netns();
        let mut watcher = Watcher::start(only("obs-listen", 7160));
        let (limit, pid) = watcher.until("the listener's sample", |watcher| {
            watcher.events.iter().find_map(|event| match &event.body {
                Body::ListenerSample(sample) if sample.netns.0 == here => {
                    assert_eq!(sample.at.ip, Ipv4Addr::UNSPECIFIED);
                    Some((sample.limit, sample.process.as_ref()?.pid))
                }
                _ => None,
            })
        });
        assert_eq!((limit, pid), (77, std::process::id()));
    });
}

#[test]
fn connections_open_before_are_followed() {
    in_netns("obs-adopt", || {
        let listener = TcpListener::bind("127.0.0.1:7170").unwrap();
        let mut client = TcpStream::connect("127.0.0.1:7170").unwrap();
        let (mut served, _) = listener.accept().unwrap();
        // By processes, not threads: /proc names the sockets' owner by its main thread.
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        let mut watcher = Watcher::start(only(comm.trim(), 7170));
        watcher.poll();
        assert_eq!(watcher.count(|body| matches!(body, Body::Handshake(_))), 1, "its upstream was there");
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(served.read(&mut [0; 100]).unwrap(), 18);
        drop(served);
        watcher.until("a verdict", |watcher| (!watcher.verdicts().is_empty()).then_some(()));
        let verdict = watcher.verdicts()[0];
        assert_eq!((verdict.cause, verdict.proxy.pid), ("upstream-closed-early", std::process::id()));
        let (counters, _) = watcher.finish();
        assert_eq!((counters.connections_adopted, counters.connections_ended), (1, 1));
        drop(client);
    });
}

#[test]
fn connect_errors_are_told_for_tcp_only() {
    in_netns("obs-noroute", || {
        let mut watcher = Watcher::start(only("obs-noroute", 7180));
        // No route leads out of this namespace.
        let datagram = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(datagram.connect("192.0.2.1:7180").unwrap_err().raw_os_error(), Some(101));
        assert_eq!(TcpStream::connect("192.0.2.1:7180").unwrap_err().raw_os_error(), Some(101));
        let here = netns();
        watcher.until("a verdict", |watcher| (!watcher.verdicts().is_empty()).then_some(()));
        let (verdict, count) = (watcher.verdicts()[0].clone(), watcher.verdicts().len());
        assert_eq!((count, verdict.cause, verdict.upstream.netns.0), (1, "upstream-unreachable", here));
        assert!(verdict.summary.contains("errno 101"), "{}", verdict.summary);
        assert_eq!(watcher.finish().0.connects_failed, 1);
    });
}

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn who_says_that_an_upstream_is_out_of_reach_is_told() {
    in_netns("obs-reach", || {
        ip("route add unreachable 192.0.2.1");
        ip("route add prohibit 192.0.2.2");
        ip("route add blackhole 192.0.2.3");
        ip("link add near type veth peer name far");
        ip("link set far up");
        ip("address add 198.51.100.1/24 dev near");
        ip("link set near up");
        let mut watcher = Watcher::start(only("obs-reach", 7181));
        // Nobody at the other end has that address.
        let _asked = connect("198.51.100.2:7181");
        for (to, errno) in [("192.0.2.1:7181", 113), ("192.0.2.2:7181", 13), ("192.0.2.3:7181", 22)] {
            assert_eq!(TcpStream::connect(to).unwrap_err().raw_os_error(), Some(errno));
        }
        watcher.until("a verdict for each", |watcher| (watcher.verdicts().len() >= 4).then_some(()));
        let told = |verdict: &observer::diagnose::Verdict| {
            (verdict.upstream.to_string(), verdict.evidence.get("refused_by").map(ToString::to_string))
        };
        let expected = [
            ("192.0.2.1:7181", "route"),
            ("192.0.2.2:7181", "policy"),
            ("192.0.2.3:7181", "route"),
            ("198.51.100.2:7181", "neighbour"),
        ];
        for (verdict, (to, by)) in watcher.verdicts().into_iter().zip(expected) {
            assert_eq!(verdict.cause, "upstream-unreachable", "{verdict:?}");
            assert_eq!(told(verdict), (to.to_owned(), Some(by.to_owned())), "{verdict:?}");
        }
    });
}

/// A connect() to a unix socket that does not wait, and its errno.
fn connect_unix(path: &std::path::Path) -> (Socket, Option<i32>) {
    let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let outcome = socket.connect(&socket2::SockAddr::unix(path).unwrap());
    (socket, outcome.err().and_then(|error| error.raw_os_error()))
}

#[test]
fn unix_sockets_that_turn_away_are_told_by_path() {
    in_netns("obs-unix", || {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name);
        let listener = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(path("full")).unwrap()).unwrap();
        listener.listen(1).unwrap();
        drop(std::os::unix::net::UnixListener::bind(path("left")).unwrap());

        let mut watcher =
            Watcher::start(Options { proxies: vec!["obs-unix".into()], answers: false, ..Options::default() });
        // They stay queued though they have left.
        for _ in 0..2 {
            assert_eq!(connect_unix(&path("full")).1, None);
        }
        let full = format!("unix:{}", path("full").display());
        let (limit, pid) = watcher.until("a sample of the full queue", |watcher| {
            watcher.events.iter().find_map(|event| match &event.body {
                Body::UnixListenerSample(it) if it.depth == 2 && it.path.to_string() == full => {
                    Some((it.limit, it.process.as_ref()?.pid))
                }
                _ => None,
            })
        });
        assert_eq!((limit, pid), (1, std::process::id()));
        assert_eq!(connect_unix(&path("full")).1, Some(11));
        assert_eq!(connect_unix(&path("left")).1, Some(111));
        assert_eq!(connect_unix(&path("none")).1, Some(2));
        // The permission to pass over permissions goes with root's place in the file system, of this thread alone.
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        assert_eq!(connect_unix(&path("full")).1, Some(13));
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(0));

        watcher.until("a verdict for each", |watcher| (watcher.verdicts().len() >= 4).then_some(()));
        let expected = [
            ("full", "unix-backlog-full"),
            ("left", "unix-refused"),
            ("none", "unix-missing"),
            ("full", "unix-permission"),
        ];
        let told: Vec<_> = watcher.verdicts().into_iter().map(|it| (it.upstream.to_string(), it.cause)).collect();
        let expected = expected.map(|(name, cause)| (format!("unix:{}", path(name).display()), cause));
        assert_eq!(told, expected);
        let turned_away = watcher.verdicts()[0];
        assert_eq!(turned_away.evidence.get("listener_pid"), Some(&std::process::id().into()), "{turned_away:?}");
    });
}

fn nft(rules: &str) {
    let status = std::process::Command::new("nft").arg(rules).status().unwrap();
    assert!(status.success(), "nft {rules}");
}

#[test]
fn syns_that_a_firewall_drops_are_told_from_a_full_queue() {
    for (number, (hook, word)) in [("input", "dropped none"), ("output", "do not leave")].into_iter().enumerate() {
        let comm = format!("obs-drop-{number}");
        in_netns(&comm, || {
            let port = 7190 + u16::try_from(number).unwrap();
            nft(&format!(
                "add table ip t; add chain ip t c {{ type filter hook {hook} priority 0; }}; \
                 add rule ip t c tcp dport {port} drop"
            ));
            let at = format!("127.0.0.1:{port}");
            let _listener = listen(&at, 8);
            let mut watcher = Watcher::start(only(&comm, port));
            let client = connect(&at);
            // As long as a proxy with a short timer waits: the SYN is sent again after one second. With many namespaces, as
            // tests side by side have, a round of samples does not come to all.
            let sent = Instant::now();
            let here = netns();
            let samples = |watcher: &Watcher| {
                watcher.count(|body| matches!(body, Body::NamespaceSample(it) if it.netns.0 == here))
            };
            watcher.poll();
            let before = samples(&watcher);
            watcher.until("a proxy's patience to end, and a sample", |watcher| {
                (sent.elapsed() > Duration::from_millis(1_700) && samples(watcher) > before).then_some(())
            });
            drop(client);
            watcher.until("a verdict", |watcher| (!watcher.verdicts().is_empty()).then_some(()));
            let verdict = watcher.verdicts()[0];
            assert_eq!((verdict.cause, verdict.confidence), ("connect-timeout", Confidence::Likely), "{verdict:?}");
            assert_eq!(verdict.status, Some(504));
            assert!(verdict.summary.contains(word), "{}", verdict.summary);
        });
    }
}

#[test]
fn handshakes_are_told_about_once_a_second() {
    in_netns("obs-shakes", || {
        let listener = TcpListener::bind("127.0.0.1:7195").unwrap();
        let mut watcher = Watcher::start(only("obs-shakes", 7195));
        let clients: Vec<_> = (0..50).map(|_| TcpStream::connect("127.0.0.1:7195").unwrap()).collect();
        let started = watcher.until("all of them", |watcher| {
            let started = watcher.engine.model().counters().connections_started;
            (started >= 50).then_some(started)
        });
        assert_eq!(started, 50);
        let told = watcher.count(|body| matches!(body, Body::Handshake(it) if it.syn_retransmits == 0));
        assert!((1..=3).contains(&told), "{told} of 50 in about a second");
        drop((clients, listener));
    });
}

/// Exchanges over one kept connection, each answered by a thread after that time; this process is the proxy. Gives how long the
/// longest of them took.
fn exchanges(port: u16, count: usize, after: Duration) -> Duration {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: upstream\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut ours = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    let upstream = thread::spawn(move || {
        for _ in 0..count {
            theirs.read_exact(&mut [0; REQUEST.len()]).unwrap();
            thread::sleep(after);
            theirs.write_all(OK).unwrap();
        }
    });
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        let begun = Instant::now();
        ours.write_all(REQUEST).unwrap();
        ours.read_exact(&mut [0; OK.len()]).unwrap();
        longest = longest.max(begun.elapsed());
        // The time between answer and next request is nobody's to wait for.
        thread::sleep(Duration::from_millis(20));
    }
    upstream.join().unwrap();
    longest
}

#[test]
fn each_answer_on_a_kept_connection_is_measured() {
    in_netns("obs-first", || {
        let mut watcher = Watcher::start(only("obs-first", 7197));
        let after = Duration::from_millis(50);
        let longest = exchanges(7197, 20, after);
        let measured = |watcher: &Watcher| {
            let told = watcher.events.iter().filter_map(|event| match &event.body {
                Body::FirstBytes(told) => Some(told.within.clone()),
                _ => None,
            });
            told.flatten().collect::<Vec<_>>()
        };
        watcher.until("each to be measured", |watcher| {
            let count: u32 = measured(watcher).iter().map(|(_, count)| count).sum();
            assert!(count <= 20, "{count}");
            (count == 20).then_some(())
        });
        for (nanos, _) in measured(&watcher) {
            let told = Duration::from_nanos(nanos);
            assert!(told > after && told <= longest * 9 / 8, "{told:?}, {longest:?} at most");
        }
    });
}

#[test]
fn programs_tell_what_they_cost_while_that_is_asked() {
    in_netns("obs-cost", || {
        let mut watcher = Watcher::start(only("obs-cost", 7198));
        assert_eq!(watcher.live.run_times(), Some(Vec::new()), "nobody asked");
        watcher.live.measure(true);
        exchanges(7198, 10, Duration::ZERO);
        let programs = watcher.live.run_times().unwrap();
        let of = |name: &str| programs.iter().find(|program| program.name == name).unwrap();
        for name in ["inet_sock_set_state", "tcp_rcv_space_adjust"] {
            assert!(of(name).runs >= 3 && of(name).nanos / of(name).runs > 10, "{:?}", of(name));
        }
        watcher.live.measure(false);
        assert_eq!(watcher.live.run_times(), Some(Vec::new()));
        watcher.poll();
    });
}
