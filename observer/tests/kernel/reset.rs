//! RSTs: what is counted as sent is what the kernel counts as OutRsts, what as received was staged. Each once.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use observer::{
    event::Body,
    hooks::{Carrier, Hook},
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::{
    common::{Watcher, eventually, here, in_netns, kernel_counter, kernel_knows, listen, lost, sysctl},
    ladder::tracepoints_by,
};

/// A client's socket of the address's own family: a mapped address makes it an IPv6 socket that speaks IPv4.
fn client(to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// A client and the listener's end of its connection.
fn pair(listener: &Socket, to: SocketAddr) -> (TcpStream, TcpStream) {
    let client = client(to);
    (client, listener.accept().unwrap().0.into())
}

/// What a read of a connection that was reset gives.
fn is_reset(client: &mut TcpStream) {
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().raw_os_error(), Some(104));
}

/// Whether a socket of this thread's namespace waits for its FIN to be acknowledged.
fn in_fin_wait_1() -> bool {
    ["tcp", "tcp6"].into_iter().any(|file| {
        let sockets = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
        sockets.lines().any(|line| line.split_whitespace().nth(3) == Some("04"))
    })
}

/// Five RSTs that a proxy receives: two of them from no socket of the sender's, or from one in TIME_WAIT.
fn resets_received(bound: &str, to: SocketAddr) {
    let listener = listen(bound, 8);
    // Closed with SO_LINGER 0.
    let (mut proxy, upstream) = pair(&listener, to);
    Socket::from(upstream).set_linger(Some(Duration::ZERO)).unwrap();
    is_reset(&mut proxy);
    // Closed with a request unread.
    let (mut proxy, upstream) = pair(&listener, to);
    proxy.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    eventually("the request to be there", || (upstream.peek(&mut [0; 18]).unwrap() == 18).then_some(()));
    drop(upstream);
    is_reset(&mut proxy);
    // Closed before: by then what the kernel keeps of it is no socket. One that is closed before its FIN was acknowledged may
    // stay one (tcp_rcv_state_process, net/ipv4/tcp_input.c).
    let (mut proxy, upstream) = pair(&listener, to);
    upstream.shutdown(Shutdown::Write).unwrap();
    eventually("the FIN to be acknowledged", || (!in_fin_wait_1()).then_some(()));
    drop(upstream);
    assert_eq!(proxy.read(&mut [0; 8]).unwrap(), 0);
    proxy.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    eventually("the RST", || proxy.write_all(b"again").is_err().then_some(()));
    // Closed with its listener, before anybody accepted it.
    let mut proxy = client(to);
    drop(listener);
    is_reset(&mut proxy);
    // No listener any more.
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    assert_eq!(socket.connect(&SockAddr::from(to)).unwrap_err().raw_os_error(), Some(111));
}

/// One that a proxy sends.
fn reset_by_proxy(bound: &str, to: SocketAddr) {
    let listener = listen(bound, 8);
    let (proxy, mut upstream) = pair(&listener, to);
    Socket::from(proxy).set_linger(Some(Duration::ZERO)).unwrap();
    is_reset(&mut upstream);
}

#[test]
fn resets_equal_what_the_kernel_sent_and_what_was_staged() {
    all_resets_are_told(Carrier::TpBtf);
}

#[test]
fn resets_by_raw_tracepoints_equal_what_the_kernel_sent_and_what_was_staged() {
    all_resets_are_told(Carrier::RawTp);
}

fn all_resets_are_told(carrier: Carrier) {
    const RECEIVED: u64 = 5;
    const WITHOUT_SOCKET: u64 = 2;
    let comm = format!("obs-rst-{carrier}");
    in_netns(&comm, || {
        // A port in TIME_WAIT is not used again, so that each connection is a new one.
        sysctl("net.ipv4.tcp_tw_reuse", "0");
        let mut watcher = Watcher::start(tracepoints_by(carrier, here(&comm)));
        let families = [
            ("127.0.0.1:7400", "127.0.0.1:7400"),
            ("[::1]:7401", "[::1]:7401"),
            ("[::]:7402", "127.0.0.1:7402"),
            ("[::]:7403", "[::ffff:127.0.0.1]:7403"),
        ];
        for (bound, to) in families {
            let to = to.parse().unwrap();
            resets_received(bound, to);
            reset_by_proxy(bound, to);
        }
        let families = families.len() as u64;
        let kernel = kernel_counter("OutRsts");
        assert_eq!(kernel, families * (RECEIVED + 1), "staged");
        // Before 6.10 the tracepoint does not tell of those that no socket sends (tcp_v4_send_reset, net/ipv4/tcp_ipv4.c).
        let told = kernel_knows("SK_RST_REASON_NO_SOCKET")
            || watcher.live.hooks().status(Hook::ResetsWithoutSocket).unwrap().carrier().is_some();
        let untold = if told { 0 } else { families * WITHOUT_SOCKET };
        watcher.until("all of them", |watcher| {
            let ours = watcher.engine.model().counters();
            (ours.resets_sent >= kernel - untold && ours.resets_received >= families * RECEIVED).then_some(())
        });
        let (ours, events) = watcher.finish();
        assert_eq!(kernel_counter("OutRsts"), kernel);
        assert_eq!((ours.resets_sent, ours.resets_received), (kernel - untold, families * RECEIVED));
        let told = events.iter().filter(|event| matches!(event.body, Body::ResetSent(_))).count() as u64;
        assert_eq!((told, lost(&ours)), (kernel - untold, 0), "each is told once");
    });
}
