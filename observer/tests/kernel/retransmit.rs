//! What is sent again, against the kernel's own RetransSegs.

use std::{net::TcpStream, time::Duration};

use observer::{
    event::{Body, Counters},
    hooks::Carrier,
};
use socket2::{SockFilter, Socket};

use crate::{
    common::{Watcher, connect, here, in_netns, kernel_counter, listen, lost, nft},
    ladder::tracepoints_by,
    overflow::overflow_by_ack,
};

/// Has a socket take nothing.
fn deafen(socket: &Socket) {
    const RETURN: u16 = 0x06;
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]).unwrap();
}

/// The kernel counts what it tried to send, SYN-ACKs too; those that did not leave it counts once more apart
/// (`__tcp_retransmit_skb`, net/ipv4/tcp_output.c).
fn sent_again() -> u64 {
    kernel_counter("RetransSegs") - kernel_counter("TCPRetransFail")
}

fn ours(counters: &Counters) -> u64 {
    counters.retransmits + counters.synack_retransmits
}

#[test]
fn retransmits_equal_the_kernels_count() {
    each_is_told(Carrier::TpBtf);
}

#[test]
fn retransmits_by_raw_tracepoints_equal_the_kernels_count() {
    each_is_told(Carrier::RawTp);
}

fn each_is_told(carrier: Carrier) {
    let comm = format!("obs-seg-{carrier}");
    in_netns(&comm, || {
        nft("add table ip t; add chain ip t c { type filter hook output priority 0; }; \
             add rule ip t c tcp dport 7412 drop");
        let mut watcher = Watcher::start(tracepoints_by(carrier, here(&comm)));
        // SYNs, over both protocols: nobody hears them. The third does not even leave.
        let deaf = [listen("127.0.0.1:7410", 8), listen("[::1]:7411", 8)];
        deaf.iter().for_each(deafen);
        let mut clients: Vec<_> = ["127.0.0.1:7410", "[::1]:7411", "127.0.0.1:7412"].map(connect).into();
        // Data: its probes (TLP) and what follows when the timer runs out.
        let listener = listen("127.0.0.1:7413", 8);
        let client = Socket::from(TcpStream::connect("127.0.0.1:7413").unwrap());
        let (upstream, _) = listener.accept().unwrap();
        // An answer tells how long the way is, without which there is no probe.
        upstream.send(b"hello").unwrap();
        client.recv(&mut [std::mem::MaybeUninit::uninit(); 5]).unwrap();
        deafen(&upstream);
        client.send(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        clients.push(client);
        // SYN-ACKs, to clients that have answered but find the queue full, and the clients' data.
        let (full, overflowed) = overflow_by_ack("127.0.0.1:7414", "127.0.0.1:7414");
        clients.extend(overflowed);

        watcher.until("some of each, and a moment in which the kernel's count stands still", |watcher| {
            let each = [
                kernel_counter("TCPSynRetrans") >= 5,
                kernel_counter("TCPLossProbes") >= 1,
                kernel_counter("TCPTimeouts") >= 20,
                kernel_counter("TCPRetransFail") >= 1,
                watcher.engine.model().counters().synack_retransmits >= 7,
            ];
            let before = sent_again();
            let read = *watcher.engine.model().counters();
            (each == [true; 5] && ours(&read) == before && sent_again() == before).then_some(())
        });
        // Ended at once, so that nothing more is sent.
        for client in clients {
            client.set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(full);
        let kernel = sent_again();
        let (counters, events) = watcher.finish();
        assert_eq!(sent_again(), kernel);
        assert_eq!(ours(&counters), kernel);
        let told = |is: fn(&Body) -> bool| events.iter().filter(|event| is(&event.body)).count() as u64;
        assert_eq!(told(|body| matches!(body, Body::Retransmit(_))), counters.retransmits, "each is told once");
        assert_eq!(told(|body| matches!(body, Body::SynAckRetransmit(_))), counters.synack_retransmits);
        assert_eq!(lost(&counters), 0);
    });
}
