//! connect() errors, each as often as it was staged: at once, or by what the network answers.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
};

use observer::event::{Body, Event};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::{Watcher, here, in_netns, ip, lost, nft, sysctl};

/// The errno of a connect() that waits.
fn errno(to: &str) -> i32 {
    let to: SocketAddr = to.parse().unwrap();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.connect(&to.into()).unwrap_err().raw_os_error().unwrap()
}

/// How many events there are of each errno.
fn by_errno(events: &[Event], errno: impl Fn(&Body) -> Option<u16>) -> BTreeMap<i32, u64> {
    let mut counts = BTreeMap::new();
    for errno in events.iter().filter_map(|event| errno(&event.body)) {
        *counts.entry(errno.into()).or_default() += 1;
    }
    counts
}

#[test]
fn each_errno_is_counted_as_often_as_it_was_staged() {
    in_netns("obs-errno", || {
        for version in ["", "-6 "] {
            let net = if version.is_empty() { "192.0.2." } else { "2001:db8::" };
            ip(&format!("{version}route add unreachable {net}1"));
            ip(&format!("{version}route add prohibit {net}2"));
            ip(&format!("{version}route add blackhole {net}3"));
        }
        nft("add table inet t; add chain inet t c { type filter hook input priority 0; }; \
             add rule inet t c tcp dport 7431 drop");
        sysctl("net.ipv4.tcp_syn_retries", "1");
        let mut watcher = Watcher::start(here("obs-errno"));
        // No route; by a route's kind; nobody listens; nobody answers (the last two only once the connection has begun).
        let addresses = [
            ("192.0.2.9:7430", 101),
            ("[2001:db8::9]:7430", 101),
            ("[::ffff:192.0.2.9]:7430", 101),
            ("192.0.2.1:7430", 113),
            ("[2001:db8::1]:7430", 113),
            ("192.0.2.2:7430", 13),
            ("[2001:db8::2]:7430", 13),
            ("192.0.2.3:7430", 22),
            ("[2001:db8::3]:7430", 22),
            ("127.0.0.1:7430", 111),
            ("[::1]:7430", 111),
            ("[::ffff:127.0.0.1]:7430", 111),
            ("127.0.0.1:7431", 110),
        ];
        let (mut at_once, mut later) = (BTreeMap::new(), BTreeMap::new());
        for (index, (to, expected)) in addresses.into_iter().enumerate() {
            let times = if expected == 110 { 1 } else { 1 + index as u64 % 3 };
            let counts = if matches!(expected, 110 | 111) { &mut later } else { &mut at_once };
            *counts.entry(expected).or_default() += times;
            for _ in 0..times {
                assert_eq!(errno(to), expected, "{to}");
            }
        }
        // Two ports, both taken for these destinations.
        sysctl("net.ipv4.ip_local_port_range", "40000 40001");
        let held = ["127.0.0.1:7432", "[::1]:7433"].map(|at| {
            let listener = TcpListener::bind(at).unwrap();
            let clients = [0; 2].map(|_| std::net::TcpStream::connect(at).unwrap());
            assert_eq!((errno(at), errno(at)), (99, 99), "{at}");
            (listener, clients)
        });
        at_once.insert(99, 4);
        // Unix sockets: no file; nobody listens; the queue is full.
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| SockAddr::unix(folder.path().join(name)).unwrap();
        drop(UnixListener::bind(folder.path().join("left")).unwrap());
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        full.bind(&path("full")).unwrap();
        full.listen(0).unwrap();
        let to_unix = |name: &str| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket.connect(&path(name)).err().and_then(|error| error.raw_os_error())
        };
        assert_eq!(to_unix("full"), None, "one fits");
        for (name, expected, times) in [("none", 2, 3), ("left", 111, 2), ("full", 11, 4)] {
            at_once.insert(expected, times);
            for _ in 0..times {
                assert_eq!(to_unix(name), Some(expected));
            }
        }

        let (failed, ended) = (at_once.values().sum(), later.values().sum());
        watcher.until("all of them", |watcher| {
            let ours = watcher.engine.model().counters();
            (ours.connects_failed >= failed && ours.connections_ended >= ended).then_some(())
        });
        let (counters, events) = watcher.finish();
        assert_eq!((counters.connects_failed, lost(&counters)), (failed, 0));
        let at_once_told = by_errno(&events, |body| match body {
            Body::ConnectFailed(failed) => Some(failed.error),
            _ => None,
        });
        assert_eq!(at_once_told, at_once);
        let later_told = by_errno(&events, |body| match body {
            Body::ConnectionEnded(ended) => Some(ended.error),
            _ => None,
        });
        assert_eq!(later_told, later);
        // Four more are open, and those that got no port had begun.
        let begun = counters.connections_started - counters.connections_ended;
        assert_eq!((counters.connections_ended, begun), (ended + 4, 4));
        drop(held);
    });
}
