//! When there is no room: what is counted stays exact, and what is lost is counted by kind.

use std::{
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::resource::{Resource, setrlimit};
use observer::{
    diagnose::{Confidence, Value},
    event::{Body, Counters, Event},
};
use observer_common::Kind;
use socket2::Socket;

use crate::{
    common::{
        Watcher, all_but_skipped, connect, eventually, here, in_netns, kernel_counter, listen, lost, only,
        preempts_tracepoints,
    },
    overflow::{crowd, overflows},
};

/// Set where the whole machine is the tests' own, and emulated, as in `cargo xtask vm`.
const OWN_MACHINE: &str = "OBSERVER_OWN_MACHINE";

fn on_own_machine() -> bool {
    std::env::var_os(OWN_MACHINE).is_some()
}

#[test]
fn connections_are_counted_exactly_though_the_ring_overflows() {
    // A tenth fills the ring as often as there is to be learned from; the rest would take an emulated machine minutes.
    let connections: u64 = if on_own_machine() { 10_000 } else { 100_000 };
    in_netns("obs-flood", || {
        let mut options = only("obs-flood", 7150);
        // Small, and not read meanwhile: most records must find it full.
        options.ring = 64 << 10;
        let mut watcher = Watcher::start(options);
        // Room for those that wait: a SYN that found none would be sent again after a second.
        let listener: TcpListener = listen("127.0.0.1:7150", 4096).into();
        let opened = kernel_counter("ActiveOpens");
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..connections {
                    drop(listener.accept().unwrap());
                }
            });
            for _ in 0..connections {
                let client = TcpStream::connect("127.0.0.1:7150").unwrap();
                Socket::from(client).set_linger(Some(Duration::ZERO)).unwrap();
            }
        });
        let opened = kernel_counter("ActiveOpens") - opened;
        assert_eq!(opened, connections);
        watcher.until("the counters to have it all", |watcher| {
            let ours = watcher.engine.model().counters();
            all_but_skipped(ours.connections_started, connections, ours).then_some(())
        });
        let (counters, events) = watcher.finish();
        assert!(all_but_skipped(counters.connections_started, opened, &counters), "{opened}: {counters:?}");
        assert!(all_but_skipped(counters.connections_ended, connections, &counters), "{connections}: {counters:?}");
        let told = events.iter().filter(|event| matches!(event.body, Body::ConnectionEnded(_))).count() as u64;
        let lost = counters.lost.records[0];
        assert!(lost > 0, "the ring was meant to overflow");
        assert_eq!(told + lost, counters.connections_ended, "{told} told, {lost} lost");
        assert_eq!(counters.lost.undecoded, 0);
    });
}

/// A kind of record, how many were made, and whether an event is one.
type Told = (Kind, fn(&Counters) -> u64, fn(&Body) -> bool);

#[test]
fn of_each_kind_what_was_not_told_is_counted_as_lost() {
    in_netns("obs-kinds", || {
        // Room for a few records, and nobody reads.
        let mut watcher = Watcher::start(observer::kernel::Options { ring: 4096, ..here("obs-kinds") });
        let full = listen("127.0.0.1:7440", 0);
        // It is full with one, who stays: of those that leave at once, whoever left before the answer would make room again.
        let queued = crowd("127.0.0.1:7440", 1);
        for _ in 0..100 {
            TcpStream::connect("127.0.0.1:7441").unwrap_err();
            TcpStream::connect("192.0.2.1:7441").unwrap_err();
            drop(listen("127.0.0.1:7442", 1));
            connect("127.0.0.1:7440");
        }
        eventually("SYNs that found the queue full", || (kernel_counter("ListenOverflows") >= 100).then_some(()));
        watcher.until("all of them to be counted", |watcher| {
            let ours = watcher.engine.model().counters();
            (overflows(ours) == kernel_counter("ListenOverflows") && ours.listener_changes >= 200).then_some(())
        });
        drop((full, queued));
        let overflowed = kernel_counter("ListenOverflows");
        let (counters, events) = watcher.finish();
        assert!(all_but_skipped(counters.connects_failed, 100, &counters), "{counters:?}");
        assert_eq!(overflows(&counters), overflowed);
        // The full listener opened, too, and closed.
        assert_eq!((counters.listener_changes, counters.connections_started), (202, 201));
        let kinds: [Told; 5] = [
            (Kind::ConnectionEnded, |it| it.connections_ended, |body| matches!(body, Body::ConnectionEnded(_))),
            (Kind::ConnectFailed, |it| it.connects_failed, |body| matches!(body, Body::ConnectFailed(_))),
            (Kind::ListenOverflow, overflows, |body| matches!(body, Body::ListenOverflow(_))),
            (Kind::ListenerChanged, |it| it.listener_changes, |body| matches!(body, Body::ListenerChanged(_))),
            (Kind::ResetSent, |it| it.resets_sent, |body| matches!(body, Body::ResetSent(_))),
        ];
        for (kind, made, is) in kinds {
            let told = events.iter().filter(|event| is(&event.body)).count() as u64;
            assert_eq!(told + counters.lost.of(kind), made(&counters), "{kind:?}: {told} told");
        }
        assert!(counters.lost.of(Kind::ConnectFailed) > 50, "the ring was meant to overflow");
        assert_eq!((counters.lost.undecoded, counters.lost.tries_untracked), (0, 0));
    });
}

/// For tests that hold thousands of sockets open: a process may have 1024 files by default.
fn have_many_files() {
    setrlimit(Resource::RLIMIT_NOFILE, 16_384, 16_384).unwrap();
}

#[test]
fn connections_for_which_there_is_no_room_are_counted() {
    // Of the second table; the first has 256.
    const ROOM: u32 = 16;
    const CONNECTIONS: u64 = 600;
    have_many_files();
    in_netns("obs-room", || {
        let mut watcher = Watcher::start(observer::kernel::Options { tries: ROOM, ..here("obs-room") });
        let listener = listen("127.0.0.1:7443", 1024);
        let open: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect("127.0.0.1:7443").unwrap()).collect();
        watcher.until("all of them", |watcher| {
            (watcher.engine.model().counters().connections_started >= CONNECTIONS).then_some(())
        });
        let counters = *watcher.engine.model().counters();
        assert_eq!(counters.connections_started, CONNECTIONS);
        let untracked = counters.lost.tries_untracked;
        assert!(untracked >= CONNECTIONS - 256 - u64::from(ROOM), "{untracked} of {CONNECTIONS} had no room");
        drop(open);
        // Where many were there is room for one.
        drop((TcpStream::connect("127.0.0.1:7443").unwrap(), listener));
        let (counters, events) = watcher.finish();
        assert_eq!(counters.connections_started, CONNECTIONS + 1);
        assert_eq!(
            (counters.connections_ended, counters.lost.tries_untracked),
            (CONNECTIONS + 1 - untracked, untracked)
        );
        let told = |event: &&Event| matches!(event.body, Body::ConnectionEnded(_));
        assert_eq!(
            events.iter().filter(told).count() as u64,
            counters.connections_ended,
            "nothing is told of the others"
        );
    });
}

#[test]
fn each_of_thousands_of_connections_open_at_once_is_followed_to_its_end() {
    const CONNECTIONS: usize = 1600;
    have_many_files();
    in_netns("obs-crowd", || {
        let mut watcher = Watcher::start(here("obs-crowd"));
        let listener = listen("127.0.0.1:7445", 4000);
        let open: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect("127.0.0.1:7445").unwrap()).collect();
        let mut ports: Vec<_> = open.iter().map(|stream| stream.local_addr().unwrap().port()).collect();
        // Not in the order in which they came, and others in their places meanwhile.
        let (odd, even): (Vec<_>, Vec<_>) = open.into_iter().enumerate().partition(|(number, _)| number % 2 == 1);
        drop(even);
        let again: Vec<_> = (0..CONNECTIONS / 2).map(|_| TcpStream::connect("127.0.0.1:7445").unwrap()).collect();
        ports.extend(again.iter().map(|stream| stream.local_addr().unwrap().port()));
        drop((odd, again));
        let all = ports.len() as u64;
        watcher.until("the counters to have it all", |watcher| {
            (watcher.engine.model().counters().connections_ended >= all).then_some(())
        });
        drop(listener);
        let (counters, events) = watcher.finish();
        assert_eq!((counters.connections_started, counters.connections_ended), (all, all));
        // Ends come in bursts, in the middle of the program that sees to others: hundreds at which the kernel skips it. Where another task
        // may come in the middle, too, as from 7.0 on, it may skip both of two programs, but of these ends none was missed.
        let lost = counters.lost.total() - if preempts_tracepoints() { counters.lost.skipped } else { 0 };
        assert_eq!(lost, 0, "{:?}", counters.lost);
        let ended = events.iter().filter_map(|event| match &event.body {
            Body::ConnectionEnded(ended) => Some(ended.flow.local.port),
            _ => None,
        });
        let mut told: Vec<_> = ended.collect();
        told.sort_unstable();
        ports.sort_unstable();
        assert_eq!(told, ports, "each once");
    });
}

#[test]
fn a_verdict_says_that_its_evidence_may_have_been_lost() {
    in_netns("obs-hole", || {
        let mut watcher = Watcher::start(observer::kernel::Options { ring: 4096, ..here("obs-hole") });
        let refused = |times| (0..times).for_each(|_| drop(TcpStream::connect("127.0.0.1:7444").unwrap_err()));
        refused(1);
        watcher.until("a verdict", |watcher| (watcher.verdicts().len() == 1).then_some(()));
        // Nobody reads meanwhile.
        refused(200);
        watcher.until("verdicts on those that were told", |watcher| (watcher.verdicts().len() > 1).then_some(()));
        watcher.until("counters from after the loss", |watcher| {
            let counters = watcher.events.iter().filter_map(|event| match &event.body {
                Body::Counters(counters) => Some(counters.lost.total()),
                _ => None,
            });
            (counters.rev().take_while(|lost| *lost > 0).count() >= 3).then_some(())
        });
        let count = watcher.verdicts().len();
        refused(1);
        watcher.until("another verdict", |watcher| (watcher.verdicts().len() > count).then_some(()));
        let lost = watcher.engine.model().counters().lost;
        assert!(lost.total() > 100, "{lost:?}");
        let verdicts = watcher.verdicts();
        assert!(verdicts.iter().all(|verdict| verdict.cause == "upstream-refused"), "{verdicts:?}");
        let doubts: Vec<_> =
            verdicts.iter().map(|it| (it.confidence, it.evidence.get("records_lost").cloned())).collect();
        let sure = (Confidence::Certain, None);
        // What is skipped can have become more since, for the sake of other tests' sockets.
        let doubted = |doubt: &(Confidence, Option<Value>)| {
            let known = (lost.total() - lost.skipped)..=lost.total();
            doubt.0 == Confidence::Likely && known.map(Value::from).any(|lost| doubt.1.as_ref() == Some(&lost))
        };
        let [before, meanwhile @ .., after] = &doubts[..] else { panic!("{doubts:?}") };
        assert_eq!((before, after), (&sure, &sure));
        assert!(meanwhile.iter().all(doubted), "{lost:?}: {meanwhile:?}");
    });
}

#[test]
fn processors_that_come_and_go_change_no_count() {
    /// Each there and back.
    const SWITCHED: u32 = 4;
    /// If switching goes wrong, the load ends with this.
    const MOST: u64 = 500_000;
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";
    if !on_own_machine() || !std::path::Path::new(SWITCH).exists() {
        println!("skipped: takes a machine of its own ({OWN_MACHINE}) with a second processor that can be switched");
        return;
    }
    in_netns("obs-cpus", || {
        let mut watcher = Watcher::start(here("obs-cpus"));
        let done = AtomicBool::new(false);
        let tries = thread::scope(|scope| {
            let load = [7445_u16, 7446].map(|port| {
                let done = &done;
                scope.spawn(move || {
                    let mut tries = 0_u64;
                    while !done.load(Ordering::Relaxed) && tries < MOST {
                        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
                        tries += 1;
                    }
                    tries
                })
            });
            let as_it_was = std::fs::read_to_string(SWITCH).unwrap();
            let other = if as_it_was.trim() == "0" { "1" } else { "0" };
            for _ in 0..SWITCHED {
                for state in [other, as_it_was.trim()] {
                    std::fs::write(SWITCH, state).unwrap();
                    watcher.poll();
                }
            }
            done.store(true, Ordering::Relaxed);
            load.into_iter().map(|load| load.join().unwrap()).sum::<u64>()
        });
        assert!(tries > 0);
        let (counters, events) = watcher.finish();
        let told = events.iter().filter(|event| matches!(event.body, Body::ConnectionEnded(_))).count() as u64;
        assert_eq!((told, lost(&counters)), (counters.connections_ended, 0), "{tries} tries");
        for counted in [counters.connections_started, counters.connections_ended, counters.resets_received] {
            assert!(all_but_skipped(counted, tries, &counters), "{tries} tries: {counters:?}");
        }
    });
}
