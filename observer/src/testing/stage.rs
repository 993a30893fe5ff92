//! Minutes of events, staged by hand: what goes well, and what fails from a certain second on.

use std::time::Duration;

use super::{NETNS, at, connection, endpoint, event, refused_connection};
use crate::{
    addr::{Endpoint, NetNs},
    event::{
        Application, ApplicationSample, Body, ConnectFailed, ConnectionEnded, Counters, Destination, Event, Flow,
        ListenOverflow, ListenerSample, NamespaceSample, OverflowPath, Place, Process, Retransmit, Software, State,
    },
    hooks::{Carrier, Hook, HookStatus, Hooks},
    time::WallClock,
};

/// Events begin at 03:10:00 on 2 January 2026.
pub(crate) fn wall() -> WallClock {
    WallClock { offset: 1_767_323_400_000_000_000 - at(0).0 }
}

/// The upstreams' namespace.
pub(crate) const SERVERS: NetNs = NetNs(8);
/// How long everything goes on.
pub(crate) const SECONDS: u64 = 180;
/// Into which second incidents fall.
pub(crate) const BROKEN_FROM: u64 = 60;

pub(crate) const GUNICORN: &str = "10.0.0.2:8000";
pub(crate) const API: &str = "10.0.0.2:8081";
pub(crate) const REMOTE: &str = "192.0.2.10:9000";

/// The application behind [`GUNICORN`], as its processes show it.
fn gunicorn() -> Body {
    Body::ApplicationSample(Box::new(ApplicationSample {
        place: Place::At(endpoint("0.0.0.0:8000")),
        netns: SERVERS,
        process: Process { pid: 4711, comm: "gunicorn".into() },
        application: Some(Application {
            software: Software::Gunicorn,
            workers: Some(8),
            threads: Some(1),
            event_loop: false,
        }),
    }))
}

/// Events being collected.
#[derive(Default)]
pub(crate) struct Stage {
    events: Vec<Event>,
    pub(crate) counters: Counters,
}

impl Stage {
    pub(crate) fn push(&mut self, ms: u64, body: Body) {
        self.events.push(event(ms, body));
    }

    /// The host as sampled every second, with so many TIME_WAIT sockets towards the remote upstream.
    pub(crate) fn host(&mut self, time_wait: u32, depth: u32) {
        for ms in (0..SECONDS * 1000).step_by(1000) {
            self.push(
                ms,
                Body::NamespaceSample(Box::new(NamespaceSample {
                    netns: NETNS,
                    time_wait,
                    time_wait_by_destination: vec![(endpoint(REMOTE), time_wait), (endpoint(GUNICORN), 412)],
                    addresses: vec![endpoint("10.0.0.1:0").ip],
                    port_range: Some((32_768, 60_999)),
                    ..NamespaceSample::default()
                })),
            );
            self.push(
                ms,
                Body::NamespaceSample(Box::new(NamespaceSample {
                    netns: SERVERS,
                    addresses: vec![endpoint("10.0.0.2:0").ip],
                    somaxconn: Some(4096),
                    ..NamespaceSample::default()
                })),
            );
            self.push(
                ms,
                Body::ListenerSample(Box::new(ListenerSample {
                    at: endpoint("0.0.0.0:8000"),
                    netns: SERVERS,
                    depth,
                    limit: 128,
                    process: Some(Process { pid: 4711, comm: "gunicorn".into() }),
                    holders: 9,
                    stopped: 0,
                    runnable: 0,
                    accepted_open: 8,
                    arrivals: Some(ms / 50),
                })),
            );
            if ms == 0 {
                self.push(ms, gunicorn());
            }
        }
    }

    /// Answered connections to `upstream`, so many a second.
    pub(crate) fn healthy(&mut self, upstream: &str, per_second: u64, one_shot: bool) {
        for index in 0..SECONDS * per_second {
            let answered = ConnectionEnded {
                bytes_received: 900,
                data_segments_out: if one_shot { 1 } else { 40 },
                since_received: Some(Duration::from_millis(4)),
                ..connection()
            };
            self.ended(index * 1000 / per_second, upstream, index, answered);
        }
    }

    pub(crate) fn ended(&mut self, ms: u64, upstream: &str, index: u64, ended: ConnectionEnded) {
        self.counters.connections_started += 1;
        self.push(ms, Body::ConnectionEnded(Box::new(ConnectionEnded { flow: flow(upstream, index), ..ended })));
    }

    /// Handshakes that find the accept queue full, every so many milliseconds.
    pub(crate) fn overflows(&mut self, every_ms: u64, until: u64) {
        for (index, ms) in (0_u64..).zip((BROKEN_FROM * 1000..until * 1000).step_by(step(every_ms))) {
            let client = flow(GUNICORN, 20_000 + index);
            let server = Flow { local: client.remote, remote: client.local, netns: SERVERS };
            let overflow = ListenOverflow { flow: server, path: OverflowPath::Ack, depth: 129, limit: 128 };
            self.push(ms, Body::ListenOverflow(overflow));
            self.push(ms + 250, Body::Retransmit(Retransmit { flow: client, syn: false }));
            let gave_up = ConnectionEnded {
                started: at(ms),
                established: Some(at(ms)),
                bytes_acked: 0,
                unacked: 80,
                data_retransmits: 3,
                new: State::FinWait1,
                ..connection()
            };
            self.ended(ms + 900, GUNICORN, 20_000 + index, gave_up);
        }
    }

    pub(crate) fn refused(&mut self, every_ms: u64) {
        for (index, ms) in (0_u64..).zip((BROKEN_FROM * 1000..SECONDS * 1000).step_by(step(every_ms))) {
            self.ended(ms, API, 10_000 + index, refused_connection());
        }
    }

    pub(crate) fn no_ports(&mut self, every_ms: u64) {
        for ms in (BROKEN_FROM * 1000..SECONDS * 1000).step_by(step(every_ms)) {
            let client = flow(REMOTE, 0);
            let to = Destination::Tcp(Flow { local: Endpoint { port: 0, ..client.local }, ..client });
            let failed = ConnectFailed {
                proxy: Process { pid: 43, comm: "haproxy".into() },
                to,
                error: 99,
                began: true,
                answers_visible: false,
            };
            self.push(ms, Body::ConnectFailed(Box::new(failed)));
        }
    }

    /// Everything, in the order of its times.
    pub(crate) fn events(mut self) -> Vec<Event> {
        self.push(SECONDS * 1000, Body::Counters(Box::new(self.counters)));
        self.push(SECONDS * 1000 + 100, Body::Tick);
        self.events.sort_by_key(|event| event.time);
        self.events
    }
}

fn step(every_ms: u64) -> usize {
    usize::try_from(every_ms).unwrap()
}

pub(crate) fn flow(upstream: &str, index: u64) -> Flow {
    let port = 10_000 + u16::try_from(index % 50_000).unwrap();
    Flow { local: Endpoint { port, ..endpoint("10.0.0.1:0") }, remote: endpoint(upstream), netns: NETNS }
}

pub(crate) fn all_hooks() -> Hooks {
    Hooks(Hook::ALL.iter().map(|hook| (*hook, HookStatus::Full(Carrier::TpBtf))).collect())
}
