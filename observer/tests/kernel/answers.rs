//! What a proxy answers, joined to what it tried: this thread stands in for the proxy, its client and its upstream.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    time::Duration,
};

use observer::{
    addr::NetNs,
    diagnose::{Harmless, Verdict},
    host,
    kernel::Options,
};
use observer_common::look::SETTLED;

use crate::common::{Watcher, eventually, in_netns, netns, nobody_starts, only, start};

const REQUEST: &[u8] = b"GET /some/where HTTP/1.1\r\nHost: upstream.example\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
const BAD_GATEWAY: &[u8] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";

/// A proxy with one client, on ports of its own.
struct Stage {
    watcher: Watcher,
    upstream: TcpListener,
    at: String,
    client: TcpStream,
    /// The proxy's end of the client's connection.
    front: TcpStream,
}

/// Runs `test` on a stage whose upstream listens on `port`; the proxy's own front is on the next one.
fn staged(comm: &str, port: u16, test: impl FnOnce(&mut Stage) + Send) {
    in_netns(comm, || {
        let at = format!("127.0.0.1:{port}");
        let upstream = TcpListener::bind(&at).unwrap();
        let front = TcpListener::bind(("127.0.0.1", port + 1)).unwrap();
        let watcher = Watcher::start(Options { answers: true, netns: Some(NetNs(netns())), ..only(comm, port) });
        let client = TcpStream::connect(front.local_addr().unwrap()).unwrap();
        let (front, _) = front.accept().unwrap();
        let mut stage = Stage { watcher, upstream, at, client, front };
        // A proxy is known to answer in plain text once it has.
        let mut connection = stage.connect();
        stage.exchange(&mut connection, OK);
        let settled = host::now() + Duration::from_nanos(SETTLED);
        eventually("answers without a try to be believed", || (host::now() >= settled).then_some(()));
        test(&mut stage);
    });
}

impl Stage {
    /// A connection to the upstream, with the upstream's end.
    fn connect(&mut self) -> (TcpStream, TcpStream) {
        let ours = TcpStream::connect(&self.at).unwrap();
        (ours, self.upstream.accept().unwrap().0)
    }

    /// A request over a kept connection, and its answer passed on.
    fn exchange(&mut self, (ours, theirs): &mut (TcpStream, TcpStream), answer: &[u8]) {
        ask((ours, theirs));
        // By another process: what this one writes, the proxy does.
        let end = OwnedFd::from(theirs.try_clone().unwrap());
        let mut upstream = start(Command::new("cat").stdin(Stdio::piped()).stdout(end));
        upstream.stdin.take().unwrap().write_all(answer).unwrap();
        assert!(upstream.wait().unwrap().success());
        ours.read_exact(&mut vec![0; answer.len()]).unwrap();
        self.answer(answer);
    }

    fn answer(&mut self, answer: &[u8]) {
        self.front.write_all(answer).unwrap();
        self.client.read_exact(&mut vec![0; answer.len()]).unwrap();
    }

    /// What came of it all, after as many outcomes.
    fn result(&mut self, outcomes: u64) -> (Vec<Verdict>, Harmless) {
        self.watcher.until("what the proxy did to be settled", |watcher| {
            let Harmless { retried, clients_gone, answered_otherwise, .. } = watcher.engine.harmless();
            let settled = watcher.verdicts().len() as u64 + retried + clients_gone + answered_otherwise;
            (settled >= outcomes).then_some(())
        });
        // Whatever else there is to say is said within this time.
        let end = std::time::Instant::now() + 4 * observer::diagnose::open::GRACE;
        self.watcher.until("the rest", |_| (std::time::Instant::now() > end).then_some(()));
        let verdicts = self.watcher.verdicts().into_iter().cloned().collect();
        (verdicts, self.watcher.engine.harmless())
    }
}

fn ask((ours, theirs): (&mut TcpStream, &mut TcpStream)) {
    ours.write_all(REQUEST).unwrap();
    theirs.read_exact(&mut [0; REQUEST.len()]).unwrap();
}

/// Has the upstream close without an answer, and the proxy notice.
fn close_early((mut ours, mut theirs): (TcpStream, TcpStream)) {
    ask((&mut ours, &mut theirs));
    let _here = nobody_starts();
    drop(theirs);
    assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
    drop(ours);
}

#[test]
fn an_answer_is_joined_to_its_try_and_names_the_client() {
    staged("obs-answer", 7300, |stage| {
        let connection = stage.connect();
        close_early(connection);
        stage.answer(BAD_GATEWAY);
        let client = stage.client.local_addr().unwrap().to_string();
        let (verdicts, _) = stage.result(1);
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        let verdict = &verdicts[0];
        assert_eq!((verdict.cause, verdict.status, verdict.observed), ("upstream-closed-early", Some(502), true));
        assert_eq!(verdict.client.map(|client| client.to_string()), Some(client));
    });
}

#[test]
fn each_request_of_a_kept_connection_counts_for_itself() {
    staged("obs-kept", 7310, |stage| {
        for _ in 0..5 {
            let mut connection = stage.connect();
            // Faster than the kernel's own stamps can tell.
            for _ in 0..3 {
                stage.exchange(&mut connection, OK);
            }
            close_early(connection);
            stage.answer(BAD_GATEWAY);
        }
        let (verdicts, _) = stage.result(5);
        let causes: Vec<_> = verdicts.iter().map(|verdict| verdict.cause).collect();
        assert_eq!(causes, ["upstream-closed-early"; 5]);
    });
}

#[test]
fn a_try_that_is_made_again_is_no_verdict() {
    staged("obs-again", 7320, |stage| {
        let connection = stage.connect();
        close_early(connection);
        let mut second = stage.connect();
        stage.exchange(&mut second, OK);
        let (verdicts, harmless) = stage.result(1);
        assert_eq!((verdicts, harmless.retried), (vec![], 1));
    });
}

#[test]
fn a_client_that_left_is_no_verdict() {
    staged("obs-left", 7330, |stage| {
        let (mut ours, mut theirs) = stage.connect();
        ask((&mut ours, &mut theirs));
        stage.client.shutdown(Shutdown::Both).unwrap();
        let here = nobody_starts();
        drop(ours);
        stage.front.shutdown(Shutdown::Both).unwrap();
        drop(here);
        let (verdicts, harmless) = stage.result(1);
        assert_eq!((verdicts, harmless.clients_gone), (vec![], 1));
    });
}

#[test]
fn the_applications_own_errors_are_counted_apart() {
    staged("obs-own", 7340, |stage| {
        let mut connection = stage.connect();
        stage.exchange(&mut connection, BAD_GATEWAY);
        stage.watcher.until("the counters", |watcher| {
            let counters = watcher.engine.model().counters();
            (counters.answers_failed == 1 && counters.application_errors == 1).then_some(())
        });
        let (verdicts, _) = stage.result(0);
        assert_eq!(verdicts, vec![]);
    });
}

#[test]
fn an_error_without_a_try_is_the_proxys_own() {
    staged("obs-none", 7350, |stage| {
        stage.answer(BAD_GATEWAY);
        let (verdicts, _) = stage.result(1);
        assert_eq!((verdicts.len(), verdicts[0].cause, verdicts[0].observed), (1, "unknown", true));
        assert!(verdicts[0].summary.contains("without a try"), "{}", verdicts[0].summary);
    });
}

#[test]
fn an_answer_that_cannot_be_read_leaves_the_status_to_be_expected() {
    staged("obs-cipher", 7360, |stage| {
        let connection = stage.connect();
        close_early(connection);
        // A TLS record of application data.
        stage.answer(&[&[0x17, 3, 3, 0, 115][..], &[0xa5; 115]].concat());
        let (verdicts, _) = stage.result(1);
        assert_eq!((verdicts.len(), verdicts[0].status, verdicts[0].observed), (1, Some(502), false));
    });
}

#[test]
fn an_idle_connection_that_is_closed_is_none_of_a_clients_business() {
    staged("obs-idle", 7370, |stage| {
        let mut connection = stage.connect();
        stage.exchange(&mut connection, OK);
        let (mut ours, theirs) = connection;
        let here = nobody_starts();
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        drop((ours, here));
        let mut next = stage.connect();
        stage.exchange(&mut next, OK);
        let (verdicts, _) = stage.result(0);
        assert_eq!(verdicts, vec![]);
    });
}
