//! What is there, and what is followed: hooks, listeners, connections, answers, costs.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use observer::{event::Body, hooks::Hook, kernel::Options, source::Source as _};

use crate::common::{Watcher, in_netns, kernel_knows, listen, netns, only};

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
