//! The offset is found, as well as can be, and a few connections that mislead do no harm.

use super::*;
use crate::{
    addr::NetNs,
    event::{ListenOverflow, OverflowPath, ResetSent, Unserved},
    testing::{connection, endpoint, refused_connection, reset_sent},
};

const MS: u64 = 1_000_000;
/// The upstream's clock was this far ahead.
const AHEAD: u64 = 3_700 * MS;
/// What a packet takes from one host to the other.
const WAY: u64 = MS / 5;

/// The proxy's clock, in microseconds.
fn here(us: u64) -> Time {
    Time(1_000_000 * MS + us * 1_000)
}

/// The upstream's clock at that time of the proxy's.
fn there(us: u64) -> Time {
    Time(here(us).0 + AHEAD)
}

fn client(port: u16) -> Flow {
    Flow { local: Endpoint { port, ..endpoint("10.0.0.1:1") }, remote: endpoint("10.0.0.2:8000"), netns: NetNs(1) }
}

fn server(port: u16) -> Flow {
    let flow = client(port);
    Flow { local: flow.remote, remote: flow.local, netns: NetNs(1) }
}

struct Stage {
    seen: Seen,
    ended: Vec<Event>,
}

impl Stage {
    fn new() -> Self {
        Self { seen: Seen::default(), ended: Vec::new() }
    }

    fn ended(&mut self, us: u64, ended: ConnectionEnded) {
        self.ended.push(Event { time: here(us), body: Body::ConnectionEnded(Box::new(ended)) });
    }

    fn seen(&mut self, us: u64, body: Body) {
        self.seen.event(&Event { time: there(us), body });
    }

    /// SYN at `us`, dropped; given up after three seconds.
    fn dropped(&mut self, port: u16, us: u64) {
        let flow = server(port);
        for again in [0, 1_000_000] {
            let overflow = ListenOverflow { flow, path: OverflowPath::Syn, depth: 9, limit: 8 };
            self.seen(us + again + WAY / 1_000, Body::ListenOverflow(overflow));
        }
        let silent = ConnectionEnded { reset_received: false, ..refused_connection() };
        self.ended(us + 3_000_000, ConnectionEnded { flow: client(port), started: here(us), ..silent });
    }

    /// A connection that was well, with a handshake of two ways.
    fn well(&mut self, port: u16, us: u64) {
        let (started, established) = (here(us), Some(here(us + 2 * WAY / 1_000)));
        self.ended(us + 50_000, ConnectionEnded { flow: client(port), started, established, ..connection() });
    }

    /// Refused by a RST.
    fn refused(&mut self, port: u16, us: u64) {
        let reset = ResetSent { flow: server(port), answers_syn: true, ..reset_sent(None, "NO_SOCKET") };
        self.seen(us + WAY / 1_000, Body::ResetSent(reset));
        let refused = ConnectionEnded { flow: client(port), started: here(us), ..refused_connection() };
        self.ended(us + 2 * WAY / 1_000, refused);
    }

    fn offset(self) -> Option<Offset> {
        let mut both = Both::new(self.seen);
        for event in &self.ended {
            both.event(event);
        }
        both.offset(0)
    }
}

/// By how much the estimate is off, in nanoseconds; within what it says of itself.
fn error(offset: Offset) -> u128 {
    let error = (offset.nanos + i128::from(AHEAD)).unsigned_abs();
    assert!(error <= offset.uncertainty.as_nanos() + TOLD_LATE.unsigned_abs(), "{offset:?}");
    error
}

#[test]
fn a_refused_connection_alone_tells_it_within_its_own_time() {
    let mut stage = Stage::new();
    stage.refused(1, 100);
    let offset = stage.offset().unwrap();
    assert!(error(offset) <= u128::from(WAY), "{offset:?}");
    assert_eq!((offset.connections, offset.seen), (1, 1));
}

#[test]
fn where_only_the_way_there_is_seen_a_handshake_bounds_the_way_back() {
    let mut stage = Stage::new();
    (1..50).for_each(|n| stage.dropped(n, u64::from(n) * 20_000));
    stage.well(60, 5_000);
    let offset = stage.offset().unwrap();
    assert!(error(offset) <= u128::from(WAY), "{offset:?}");
    assert_eq!((offset.connections, offset.uncertainty), (49, Duration::from_nanos(WAY)));
}

#[test]
fn without_one_it_says_how_little_it_knows() {
    let mut stage = Stage::new();
    stage.dropped(1, 0);
    let offset = stage.offset().unwrap();
    assert!(offset.uncertainty > Duration::from_secs(1), "{offset:?}");
    error(offset);
}

#[test]
fn connections_that_mislead_are_outvoted() {
    let mut stage = Stage::new();
    (1..20).for_each(|n| stage.refused(n, u64::from(n) * 20_000));
    // Ports used again, of which each side saw another time.
    for n in 100..105 {
        let left = Unserved {
            flow: server(n),
            new: State::CloseWait,
            accepted: false,
            reset: false,
            bytes_received: 1,
            bytes_sent: 0,
            unacked: 0,
            waited: None,
        };
        stage.seen(u64::from(n) * 1_000_000, Body::Unserved(left));
        stage.well(n, u64::from(n) * 3_000);
    }
    let offset = stage.offset().unwrap();
    assert!(error(offset) <= u128::from(WAY), "{offset:?}");
    assert_eq!(offset.connections, 19);
}

#[test]
fn nothing_in_common_tells_nothing() {
    let mut stage = Stage::new();
    stage.well(1, 100);
    stage.seen(100, Body::ResetSent(ResetSent { flow: server(2), ..reset_sent(None, "NO_SOCKET") }));
    assert_eq!(stage.offset(), None);
}
