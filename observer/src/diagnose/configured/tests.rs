//! Each finding confirmed, refuted where it can be, and left open where too little is known.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    addr::{NetNs, UnixPath},
    diagnose::Said,
    event::{Body, ConnectionEnded, Did, Event, FirstBytes, Flow, LogLine, LogSample, Process, State},
    testing::{NETNS, at, client_flow, connection, endpoint, event, outcome, refused_connection},
};

const FIRST: &str = "10.0.0.2:8000";
const SECOND: &str = "10.0.0.3:8000";

fn engine(events: impl IntoIterator<Item = Event>) -> Engine {
    let mut engine = Engine::default();
    for event in events {
        engine.apply(&event, &mut |_: Said| {});
    }
    engine
}

fn of() -> Configuration {
    let process = |pid| Process { pid, comm: "nginx".into() };
    Configuration { master: process(41), netns: NETNS, workers: vec![process(42)], ..Configuration::default() }
}

fn finding(code: &str) -> Configured {
    Configured { code: code.into(), servers: vec![Server::At(endpoint(FIRST))], ..Configured::default() }
}

fn standing(code: &str, events: impl IntoIterator<Item = Event>) -> Standing {
    hold(&engine(events), &of(), &finding(code)).standing
}

fn ended(ms: u64, upstream: &str, ended: ConnectionEnded) -> Event {
    let flow = Flow { remote: endpoint(upstream), ..client_flow() };
    event(ms, Body::ConnectionEnded(Box::new(ConnectionEnded { flow, ..ended })))
}

/// Connections that were answered, of one request each or of many.
fn answered(count: u64, upstream: &'static str, one_shot: bool) -> impl Iterator<Item = Event> {
    let segments = if one_shot { 1 } else { 40 };
    let since_received = Some(Duration::from_millis(4));
    let one = ConnectionEnded { bytes_received: 150, since_received, data_segments_out: segments, ..connection() };
    (0..count).map(move |n| ended(n, upstream, one.clone()))
}

fn failed(count: u64, upstream: &'static str) -> impl Iterator<Item = Event> {
    (0..count).map(move |n| ended(n, upstream, refused_connection()))
}

#[test]
fn connections_tell_whether_they_are_kept() {
    let told = |one_shot, kept| {
        let events = answered(one_shot, FIRST, true).chain(answered(kept, FIRST, false));
        let held = hold(&engine(events), &of(), &finding("keepalive-not-in-effect"));
        (held.standing, held.seen)
    };
    assert_eq!(told(412, 0), (Standing::Confirmed, "412 of 412 connections carried a single request".into()));
    assert_eq!(told(10, 402).0, Standing::Refuted);
    assert_eq!(told(300, 112).0, Standing::Unsettled, "of both kinds");
    assert_eq!(told(19, 0).0, Standing::Unsettled, "too few");
    // Of another upstream, or of another proxy's at the same address.
    assert_eq!(standing("keepalive-absent", answered(400, SECOND, true)), Standing::Unsettled);
    let elsewhere = Configuration { netns: NetNs(99), ..of() };
    let held = hold(&engine(answered(400, FIRST, true)), &elsewhere, &finding("keepalive-absent"));
    assert_eq!(held.standing, Standing::Unsettled);
}

#[test]
fn servers_are_known_by_address_port_or_path() {
    let about = |server, key: UpstreamKey| {
        is_about(&of(), &Configured { servers: vec![server], ..Configured::default() }, &key, 42)
    };
    let tcp = |at: &str| UpstreamKey::tcp(NETNS, endpoint(at));
    assert!(about(Server::At(endpoint(FIRST)), tcp(FIRST)) && !about(Server::At(endpoint(FIRST)), tcp(SECOND)));
    assert!(about(Server::Port(8000), tcp(SECOND)) && !about(Server::Port(80), tcp(SECOND)));
    assert!(!about(Server::Port(8000), UpstreamKey::tcp(NetNs(99), endpoint(FIRST))));
    let path = UnixPath::new("/run/app.sock");
    assert!(about(Server::Unix(path), UpstreamKey::unix(path)) && !about(Server::Unix(path), tcp(FIRST)));
    // What is about the proxy is about all that its workers use.
    let whole = Configured::default();
    assert!(is_about(&of(), &whole, &tcp(FIRST), 42) && !is_about(&of(), &whole, &tcp(FIRST), 43));
}

#[test]
fn timers_that_are_long_are_seen_to_run_out_late() {
    let connect = |ms| {
        let gave_up = ConnectionEnded {
            established: None,
            old: State::SynSent,
            new: State::Close,
            bytes_sent: 0,
            since_sent: None,
            syn_retransmits: 3,
            ..connection()
        };
        standing("connect-timeout-long", [ended(ms, FIRST, gave_up)])
    };
    assert_eq!((connect(60_010), connect(10_010)), (Standing::Confirmed, Standing::Unsettled));
    let wait = |seconds| {
        let gave_up = ConnectionEnded { since_sent: Some(Duration::from_secs(seconds)), ..connection() };
        standing("read-timeout-long", [ended(seconds * 1000 + 2, FIRST, gave_up)])
    };
    // A timer of a minute is not longer than a minute.
    assert_eq!((wait(300), wait(60)), (Standing::Confirmed, Standing::Unsettled));
    let late = [first_bytes(1, FIRST, 120_000, 3)];
    assert_eq!(standing("read-timeout-long", late), Standing::Refuted, "it is needed");
}

fn first_bytes(ms: u64, upstream: &str, took_ms: u64, count: u32) -> Event {
    let within = vec![(took_ms * 1_000_000, count)];
    event(
        ms,
        Body::FirstBytes(Box::new(FirstBytes { netns: NETNS, upstream: endpoint(upstream), within, unmeasured: 0 })),
    )
}

#[test]
fn what_is_tried_again_is_seen() {
    let failed = ended(100, FIRST, ConnectionEnded { answers_visible: true, ..refused_connection() });
    let retried = outcome("nginx", Some(100), Did::Retried);
    let events = [failed.clone(), event(101, Body::Outcome(Box::new(retried)))];
    assert_eq!(standing("retries-unlimited", events), Standing::Confirmed);
    assert_eq!(standing("retries-unlimited", [failed]), Standing::Unsettled);
}

/// A request for which the proxy's log says that no server was left.
fn nobody_left(worker: u32) -> Vec<Event> {
    let process = Process { pid: worker, comm: "nginx".into() };
    let sample = LogSample { writers: vec![process.clone()], ..LogSample::default() };
    let said = "no live upstreams while connecting to upstream".to_owned();
    let line = LogLine { process, after: at(4_990), said, ..LogLine::default() };
    vec![
        event(1, Body::LogSample(Box::new(sample))),
        event(5_000, Body::LogLine(Arc::new(line))),
        event(9_000, Body::Tick),
    ]
}

#[test]
fn that_all_servers_were_left_out_is_told_by_the_log_and_their_failures() {
    let both = Configured {
        servers: vec![Server::At(endpoint(FIRST)), Server::At(endpoint(SECOND))],
        ..finding("max-fails-default")
    };
    let standing = |failing: &[&'static str], worker| {
        let failures = failing.iter().flat_map(|upstream| failed(1, upstream)).collect::<Vec<_>>();
        hold(&engine(failures.into_iter().chain(nobody_left(worker))), &of(), &both).standing
    };
    assert_eq!(standing(&[FIRST, SECOND], 42), Standing::Confirmed);
    assert_eq!(standing(&[FIRST], 42), Standing::Unsettled, "another pool's, for one of these has not failed");
    assert_eq!(standing(&[FIRST, SECOND], 43), Standing::Unsettled, "another proxy's");
}

fn sampled(pid: u32, open_files: u64, open_files_limit: u64) -> Event {
    let process = Process { pid, comm: "nginx".into() };
    event(1, Body::ProxySample(Box::new(ProxySample { process, open_files, open_files_limit })))
}

#[test]
fn the_kernel_knows_the_limit_in_effect() {
    let files = |event| {
        let finding = Configured { servers: Vec::new(), number: Some(4096), ..finding("files-below-connections") };
        hold(&engine([event]), &of(), &finding).standing
    };
    assert_eq!(files(sampled(42, 900, 1024)), Standing::Confirmed);
    assert_eq!(files(sampled(42, 90, 1024)), Standing::Unsettled);
    assert_eq!(files(sampled(42, 900, 65_536)), Standing::Refuted);
    assert_eq!(files(sampled(43, 900, 1024)), Standing::Unsettled, "no worker of this master");
}

#[test]
fn connections_near_what_a_worker_may_have_are_seen_by_its_files() {
    let near = |open| {
        let finding = Configured { servers: Vec::new(), number: Some(512), ..finding("worker-connections-near") };
        hold(&engine([sampled(42, open, 65_536)]), &of(), &finding)
    };
    assert_eq!((near(480).standing, near(100).standing), (Standing::Confirmed, Standing::Unsettled));
    assert!(near(480).seen.contains("480 files open") && near(480).seen.contains("512 connections"));
}

fn unequal(events: impl IntoIterator<Item = Event>) -> Held {
    let servers = vec![Server::At(endpoint(FIRST)), Server::At(endpoint(SECOND))];
    hold(&engine(events), &of(), &Configured { servers, ..finding("unequal-upstreams") })
}

#[test]
fn servers_that_are_not_equal_are_told_apart_by_their_answers() {
    let times = |first, second, count| {
        unequal([first_bytes(1, FIRST, first, count), first_bytes(2, SECOND, second, 200)]).standing
    };
    assert_eq!(times(900, 20, 200), Standing::Confirmed);
    assert_eq!(times(40, 20, 200), Standing::Unsettled, "no more than twice as long");
    assert_eq!(times(900, 20, 49), Standing::Unsettled, "too few");
    assert_eq!(times(4, 1, 200), Standing::Unsettled, "both are fast");
    assert_eq!(unequal([first_bytes(1, FIRST, 900, 200)]).standing, Standing::Unsettled, "only one was seen");
}

#[test]
fn servers_that_are_not_equal_are_told_apart_by_their_failures() {
    let well = || answered(40, FIRST, true).chain(answered(40, SECOND, true));
    let held = unequal(well().chain(failed(30, FIRST)));
    assert_eq!(held.to_string(), "confirmed: 30 of 30 failed tries were at 10.0.0.2:8000");
    assert_eq!(unequal(well().chain(failed(30, FIRST)).chain(failed(9, SECOND))).standing, Standing::Unsettled);
    assert_eq!(unequal(well().chain(failed(19, FIRST))).standing, Standing::Unsettled, "too few");
    let unasked = failed(30, FIRST).chain(answered(1, SECOND, true));
    assert_eq!(unequal(unasked).standing, Standing::Unsettled, "the other was hardly asked");
}

#[test]
fn what_cannot_be_measured_is_never_confirmed() {
    for code in ["buffering-off", "max-fails-in-vain", "of-another-version"] {
        let events = answered(400, FIRST, true).chain(failed(30, FIRST));
        assert_eq!(standing(code, events), Standing::Unmeasurable, "{code}");
    }
}

#[test]
fn every_code_is_known() {
    let unknown = hold(&engine([]), &of(), &finding("of-another-version")).seen;
    for code in crate::proxy::nginx::findings::CODES {
        assert_ne!(hold(&engine([]), &of(), &finding(code)).seen, unknown, "{code}");
    }
}
