//! Programs that the kernel skips, because it has interrupted them.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use observer::event::Body;
use socket2::{Domain, SockFilter, Socket, Type};

use crate::common::{Watcher, connect, in_netns, listen, only, sysctl};

/// What a SYN that nobody answers comes to.
const TIMED_OUT: u16 = 110;

/// Has a socket open and close as a listener, over and over: on that CPU the program that sees state changes runs much of the
/// time, and timers that fire meanwhile find it running.
fn change_states(until: &AtomicBool) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    while !until.load(Ordering::Relaxed) {
        socket.listen(1).unwrap();
        socket.shutdown(std::net::Shutdown::Read).unwrap();
    }
}

#[test]
fn ends_that_programs_were_skipped_at_are_told_all_the_same() {
    const TRIES: usize = 200;
    in_netns("obs-skipped", || {
        sysctl("net.ipv4.tcp_syn_retries", "1");
        let listener = listen("127.0.0.1:7311", 16);
        // Takes nothing: every SYN is lost on it.
        listener.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
        let mut watcher = Watcher::start(only("obs-skipped", 7311));
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy: Vec<_> = (0..2).map(|_| scope.spawn(|| change_states(&ended))).collect();
            let clients: Vec<_> = (0..TRIES).map(|_| connect("127.0.0.1:7311")).collect();
            let timed_out = |body: &Body| matches!(body, Body::ConnectionEnded(ended) if ended.error == TIMED_OUT);
            // The kernel gives up; their process fetches the error, and closes.
            let mut clients: Vec<_> = clients.into_iter().map(Some).collect();
            watcher.until("every connection to be told to have timed out", |watcher| {
                for slot in &mut clients {
                    if slot.as_ref().is_some_and(|client| client.take_error().unwrap().is_some()) {
                        *slot = None;
                    }
                }
                (watcher.count(timed_out) >= TRIES).then_some(())
            });
            ended.store(true, Ordering::Relaxed);
            for thread in busy {
                thread.join().unwrap();
            }
        });
        let told = watcher.count(|body| matches!(body, Body::ConnectionEnded(_)));
        assert_eq!(told, TRIES, "each once");
    });
}
