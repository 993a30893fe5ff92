//! connect() calls that fail: who says so, over which protocol, and why.

use std::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use observer::{diagnose::Confidence, event::Body, kernel::Options};
use socket2::Socket;

use crate::common::{Watcher, connect, in_netns, ip, listen, netns, nft, nobody_starts, only, sysctl};

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
                    let _here = nobody_starts();
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
        let mut asked = Some(connect("198.51.100.2:7181"));
        for (to, errno) in [("192.0.2.1:7181", 113), ("192.0.2.2:7181", 13), ("192.0.2.3:7181", 22)] {
            assert_eq!(TcpStream::connect(to).unwrap_err().raw_os_error(), Some(errno));
        }
        watcher.until("a verdict for each", |watcher| {
            // As a proxy does, which fetches the error and closes.
            asked = asked.take().filter(|asked| asked.take_error().unwrap().is_none());
            (watcher.verdicts().len() >= 4).then_some(())
        });
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
