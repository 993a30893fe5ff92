//! TIME_WAIT as it is shown, against the kernel's own gauge.

use std::{
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    sync::mpsc::channel,
    thread,
};

use observer::addr::Endpoint;

use crate::common::{Watcher, all_but_skipped, eventually, in_netns, netns, only, sysctl};

/// Connections whose proxy closes first, so that it is the proxy's end that waits. The upstream has seen it when it closes: else
/// both would have closed first, and both wait.
fn leave(bound: &str, to: &str, count: u32) {
    let listener = TcpListener::bind(bound).unwrap();
    for _ in 0..count {
        let client = TcpStream::connect(to).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        drop(client);
        assert_eq!(served.read(&mut [0; 8]).unwrap(), 0);
    }
}

/// The gauge of this thread's namespace.
fn sockstat() -> u32 {
    let text = std::fs::read_to_string("/proc/thread-self/net/sockstat").unwrap();
    let after = text.split(" tw ").nth(1).unwrap();
    after.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn time_wait_shown_equals_the_kernels_own() {
    in_netns("obs-tw", || {
        let mut watcher = Watcher::start(only("obs-tw", 7140));
        leave("127.0.0.1:7140", "127.0.0.1:7140", 500);
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
fn time_wait_of_several_namespaces_is_each_ones_own() {
    const COUNTS: [u32; 3] = [10, 25, 40];
    /// The last by a socket for IPv6 that speaks IPv4.
    const ENDS: [(&str, &str); 3] = [
        ("127.0.0.1:7141", "127.0.0.1:7141"),
        ("[::1]:7141", "[::1]:7141"),
        ("127.0.0.1:7141", "[::ffff:127.0.0.1]:7141"),
    ];
    let mut watcher = Watcher::start(only("obs-tws", 7141));
    thread::scope(|scope| {
        let (tell, ready) = channel();
        // What a thread waits for comes, or the test has failed and its channel is gone.
        let starts = COUNTS.map(|count| {
            let tell = tell.clone();
            let (start, started) = channel::<()>();
            scope.spawn(move || {
                in_netns("obs-tws", move || {
                    // None is used again, so that all stay for a minute.
                    sysctl("net.ipv4.tcp_tw_reuse", "0");
                    tell.send((netns(), count)).unwrap();
                    if started.recv().is_err() {
                        return;
                    }
                    for (bound, to) in ENDS {
                        leave(bound, to, count);
                    }
                    let count = 3 * count;
                    eventually("all of them to wait", || (sockstat() == count).then_some(()));
                    // Until the test has seen what it waits for, which is sooner than they are over.
                    let _ = started.recv();
                    assert_eq!(sockstat(), count, "as long as it took");
                });
            });
            start
        });
        drop(tell);
        let namespaces: Vec<_> = ready.iter().take(COUNTS.len()).collect();
        assert_eq!(namespaces.len(), COUNTS.len(), "a thread failed");
        // All at once, so that their minutes are the same.
        for start in &starts {
            start.send(()).unwrap();
        }
        watcher.until("each to be told", |watcher| {
            let told = |netns, count| {
                let sample = watcher.namespace(netns)?;
                let to = |ip: IpAddr| {
                    let to_it = |(to, _): &&(_, _)| *to == Endpoint { ip, port: 7141 };
                    sample.time_wait_by_destination.iter().find(to_it).map(|(_, count)| *count)
                };
                let expected = (3 * count, 2, Some(2 * count), Some(count));
                let destinations = sample.time_wait_by_destination.len();
                let (v4, v6) = (to(Ipv4Addr::LOCALHOST.into()), to(Ipv6Addr::LOCALHOST.into()));
                Some((sample.time_wait, destinations, v4, v6) == expected)
            };
            namespaces.iter().all(|(netns, count)| told(*netns, *count) == Some(true)).then_some(())
        });
    });
    let (counters, _) = watcher.finish();
    let staged = COUNTS.iter().map(|count| 3 * u64::from(*count)).sum::<u64>();
    assert!(all_but_skipped(counters.time_waits_entered, staged, &counters), "{staged}: {counters:?}");
}
