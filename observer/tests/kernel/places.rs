//! Overflows where several listen: both protocols at one listener, listeners that share a port, namespaces that use the same one.

use std::{collections::HashMap, net::SocketAddr, sync::mpsc::channel, thread};

use observer::{
    addr::NetNs,
    diagnose::Confidence,
    event::{Body, ListenOverflow, OverflowPath},
    hooks::{Carrier, Hook},
};
use socket2::{Domain, Socket, Type};

use crate::{
    common::{Watcher, carried_by, in_netns, kernel_counter, kernel_counter_of, listen, lost, netns, only, sysctl},
    ladder::offered,
    overflow::{crowd, overflow_by_ack, overflows, settled},
};

/// Those by which overflows on both paths are seen.
const CARRIERS: [Carrier; 3] = [Carrier::Fentry, Carrier::Kprobe, Carrier::CgroupSkb];

/// `None` where this kernel has no such carrier.
fn watching(comm: &str, carrier: Carrier, port: u16) -> Option<Watcher> {
    let watcher = Watcher::start(carried_by(Hook::ListenOverflow, carrier, only(comm, port)));
    offered(&watcher, Hook::ListenOverflow, carrier).then_some(watcher)
}

fn told(watcher: &Watcher) -> impl Iterator<Item = &ListenOverflow> {
    watcher.events.iter().filter_map(|event| match &event.body {
        Body::ListenOverflow(overflow) => Some(overflow),
        _ => None,
    })
}

#[test]
fn a_listener_of_both_protocols_counts_the_clients_of_both() {
    for (port, carrier) in (7450..).zip(CARRIERS) {
        in_netns("obs-dual", || both_protocols(carrier, port));
    }
}

fn both_protocols(carrier: Carrier, port: u16) {
    let Some(mut watcher) = watching("obs-dual", carrier, port) else { return };
    let _listener = listen(&format!("[::]:{port}"), 0);
    let clients = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"].map(|to| crowd(&format!("{to}:{port}"), 4));
    let (kernel, ours) = settled(&mut watcher, "ListenOverflows", 11);
    assert_eq!((overflows(&ours), lost(&ours)), (kernel, 0));
    assert_told_once(&watcher, kernel);
    // Whoever came by IPv4 is told so, whichever way its socket and the listener's write it.
    let clients: Vec<SocketAddr> = clients
        .iter()
        .flatten()
        .map(|client| client.local_addr().unwrap().as_socket().unwrap())
        .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
        .collect();
    for overflow in told(&watcher) {
        let from = SocketAddr::new(overflow.flow.remote.ip, overflow.flow.remote.port);
        assert!(clients.contains(&from), "{from} of {clients:?}");
        assert_eq!(overflow.flow.local.port, port);
    }
}

#[test]
fn of_listeners_that_share_a_port_the_full_one_overflows() {
    for (port, carrier) in (7455..).zip(CARRIERS) {
        in_netns("obs-shared", || shared_port(carrier, port));
    }
}

/// Of so many overflows that were counted: more may have come since, of which the kernel knows.
fn assert_told_once(watcher: &Watcher, counted: u64) {
    let told = told(watcher).count() as u64;
    let most = kernel_counter("ListenOverflows");
    assert!((counted..=most).contains(&told), "{told} were told of, {counted} counted, and {most} happened by now");
}

fn shared_port(carrier: Carrier, port: u16) {
    const CLIENTS: usize = 60;
    let Some(mut watcher) = watching("obs-shared", carrier, port) else { return };
    let shared = |backlog| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        socket.listen(backlog).unwrap();
        socket
    };
    let (full, roomy) = (shared(0), shared(128));
    let clients = crowd(&format!("127.0.0.1:{port}"), CLIENTS);
    // Each is assigned by its addresses' hash: about half of them to each.
    let (kernel, ours) = settled(&mut watcher, "ListenOverflows", 10);
    assert_eq!((overflows(&ours), lost(&ours)), (kernel, 0));
    let of_full = |overflow: &ListenOverflow| (overflow.limit, overflow.depth, overflow.path);
    assert!(told(&watcher).all(|overflow| of_full(overflow) == (0, 1, OverflowPath::Syn)));
    assert_told_once(&watcher, kernel);
    drop((clients, full, roomy));
    let turned_away =
        told(&watcher).map(|overflow| overflow.flow.remote.port).collect::<std::collections::HashSet<_>>().len();
    watcher.until("a verdict for each", |watcher| (watcher.verdicts().len() >= turned_away).then_some(()));
    for verdict in watcher.verdicts() {
        assert_eq!((verdict.cause, verdict.confidence), ("accept-queue-overflow", Confidence::Certain), "{verdict:?}");
    }
}

#[test]
fn namespaces_that_use_the_same_port_are_told_apart() {
    for (port, carrier) in (7460..).zip(CARRIERS) {
        several_namespaces(carrier, port);
    }
}

fn several_namespaces(carrier: Carrier, port: u16) {
    const CLIENTS: [usize; 2] = [6, 11];
    let Some(mut watcher) = watching("obs-apart", carrier, port) else { return };
    thread::scope(|scope| {
        let (tell, ready) = channel();
        // What a thread waits for comes, or the test has failed and its channel is gone.
        let releases = CLIENTS.map(|count| {
            let tell = tell.clone();
            let (release, released) = channel::<()>();
            scope.spawn(move || {
                in_netns("obs-apart", move || {
                    let at = format!("127.0.0.1:{port}");
                    let _listener = listen(&at, 2);
                    let clients = crowd(&at, count);
                    tell.send((NetNs(netns()), format!("self/task/{}", nix::unistd::gettid()))).unwrap();
                    let _ = released.recv();
                    drop(clients);
                    let _ = released.recv();
                });
            });
            release
        });
        drop(tell);
        let namespaces: Vec<_> = ready.iter().take(CLIENTS.len()).collect();
        assert_eq!(namespaces.len(), CLIENTS.len(), "a thread failed");
        let kernel = || namespaces.iter().map(|(netns, task)| (*netns, kernel_counter_of(task, "ListenOverflows")));
        watcher.until("as many overflows of each as its kernel counts", |watcher| {
            let before: HashMap<_, _> = kernel().collect();
            let mut ours: HashMap<_, u64> = HashMap::new();
            for overflow in told(watcher) {
                *ours.entry(overflow.flow.netns).or_default() += 1;
            }
            // Three fit in each.
            let enough = before.values().sum::<u64>() >= CLIENTS.iter().sum::<usize>() as u64 - 6;
            (enough && ours == before && kernel().collect::<HashMap<_, _>>() == before).then_some(())
        });
        assert_eq!(lost(watcher.engine.model().counters()), 0);
        for release in &releases {
            release.send(()).unwrap();
        }
        watcher.until("a verdict for each", |watcher| (watcher.verdicts().len() >= 11).then_some(()));
        for ((netns, _), limit) in namespaces.iter().zip([2, 2]) {
            let of_it = watcher.verdicts().into_iter().filter(|verdict| verdict.upstream.netns == *netns);
            let of_it: Vec<_> = of_it.collect();
            assert!(CLIENTS.iter().any(|count| of_it.len() == count - 3), "{} in {netns:?}", of_it.len());
            for verdict in of_it {
                assert_eq!(
                    (verdict.cause, verdict.evidence.get("queue_limit")),
                    ("accept-queue-overflow", Some(&u32::into(limit)))
                );
            }
        }
    });
}

#[test]
fn aborts_on_overflow_equal_the_kernels_count() {
    in_netns("obs-abort", || {
        sysctl("net.ipv4.tcp_syncookies", "0");
        sysctl("net.ipv4.tcp_abort_on_overflow", "1");
        let mut watcher = Watcher::start(only("obs-abort", 7423));
        let (_listener, clients) = overflow_by_ack("127.0.0.1:7423", "127.0.0.1:7423");
        // One fits; each other is reset by its first segment.
        let (kernel, ours) = settled(&mut watcher, "ListenOverflows", 7);
        assert_eq!((kernel, ours.listen_overflow_ack, ours.listen_overflow_syn), (7, 7, 0));
        watcher.until("a verdict for each", |watcher| (watcher.verdicts().len() >= 7).then_some(()));
        for verdict in watcher.verdicts() {
            let found = (verdict.cause, verdict.because, verdict.status);
            assert_eq!(found, ("accept-queue-overflow", Some("abort-on-overflow"), Some(502)), "{verdict:?}");
        }
        let kernel = (kernel_counter("OutRsts"), kernel_counter("EmbryonicRsts"));
        let (counters, _) = watcher.finish();
        assert_eq!((counters.resets_sent, counters.resets_received, kernel), (7, 7, (7, 7)));
        drop(clients);
    });
}
