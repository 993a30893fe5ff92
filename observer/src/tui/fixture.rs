//! Snapshots for the view's tests. Nothing in them is made up: events go through the real engine, as they would from
//! the kernel.

use std::{sync::Arc, time::Duration};

use crate::{
    addr::{Endpoint, NetNs},
    event::{
        Body, ConnectFailed, ConnectionEnded, Counters, Destination, Event, Flow, ListenOverflow, ListenerSample,
        NamespaceSample, OverflowPath, Process, Retransmit, State,
    },
    hooks::{Carrier, Hook, HookStatus, Hooks},
    snapshot::{Folded, Frame, Playback, Snapshot, Timeline, playback::Standing},
    testing::{NETNS, about, at, connection, endpoint, event, refused_connection},
    time::Speed,
    trace::About,
};

/// The upstreams' namespace.
const SERVERS: NetNs = NetNs(8);
/// How long everything goes on.
const SECONDS: u64 = 180;
/// Into which second incidents fall.
const BROKEN_FROM: u64 = 60;

const GUNICORN: &str = "10.0.0.2:8000";
const API: &str = "10.0.0.2:8081";
const REMOTE: &str = "192.0.2.10:9000";

/// Events being collected.
#[derive(Default)]
struct Stage {
    events: Vec<Event>,
    counters: Counters,
}

impl Stage {
    fn push(&mut self, ms: u64, body: Body) {
        self.events.push(event(ms, body));
    }

    /// The host as sampled every second, with so many TIME_WAIT sockets towards the remote upstream.
    fn host(&mut self, time_wait: u32, depth: u32) {
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
        }
    }

    /// Answered connections to `upstream`, so many a second.
    fn healthy(&mut self, upstream: &str, per_second: u64, one_shot: bool) {
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

    fn ended(&mut self, ms: u64, upstream: &str, index: u64, ended: ConnectionEnded) {
        self.counters.connections_started += 1;
        self.push(ms, Body::ConnectionEnded(Box::new(ConnectionEnded { flow: flow(upstream, index), ..ended })));
    }

    /// Handshakes that find the accept queue full, every so many milliseconds.
    fn overflows(&mut self, every_ms: u64, until: u64) {
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

    fn refused(&mut self, every_ms: u64) {
        for (index, ms) in (0_u64..).zip((BROKEN_FROM * 1000..SECONDS * 1000).step_by(step(every_ms))) {
            self.ended(ms, API, 10_000 + index, refused_connection());
        }
    }

    fn no_ports(&mut self, every_ms: u64) {
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

    fn events(mut self) -> Vec<Event> {
        self.push(SECONDS * 1000, Body::Counters(self.counters));
        self.push(SECONDS * 1000 + 100, Body::Tick);
        self.events.sort_by_key(|event| event.time);
        self.events
    }

    fn snapshot(self, hooks: Hooks) -> Arc<Snapshot> {
        let mut folded = Folded::default();
        for event in self.events() {
            folded.apply(&event, &mut |_| {});
        }
        Arc::new(Snapshot::take(&folded, &frame(hooks)))
    }
}

/// Events begin at 03:10:00 on 2 January 2026.
fn frame(hooks: Hooks) -> Frame {
    let About { since, wall, watching, .. } = about();
    Frame { since, wall, watching, hooks }
}

fn step(every_ms: u64) -> usize {
    usize::try_from(every_ms).unwrap()
}

fn flow(upstream: &str, index: u64) -> Flow {
    let port = 10_000 + u16::try_from(index % 50_000).unwrap();
    Flow { local: Endpoint { port, ..endpoint("10.0.0.1:0") }, remote: endpoint(upstream), netns: NETNS }
}

fn all_hooks() -> Hooks {
    Hooks(Hook::ALL.iter().map(|hook| (*hook, HookStatus::Full(Carrier::TpBtf))).collect())
}

/// All is well.
pub(super) fn quiet() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 2);
    stage.healthy(GUNICORN, 20, false);
    stage.healthy(API, 5, false);
    stage.snapshot(all_hooks())
}

/// Nothing has happened at all.
pub(super) fn idle() -> Arc<Snapshot> {
    Stage::default().snapshot(all_hooks())
}

/// One upstream's accept queue is full.
pub(super) fn one() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 129);
    stage.healthy(GUNICORN, 20, false);
    stage.healthy(API, 5, false);
    stage.overflows(81, SECONDS);
    stage.snapshot(all_hooks())
}

/// The same, over since a minute.
pub(super) fn over() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 2);
    stage.healthy(GUNICORN, 20, false);
    stage.overflows(81, SECONDS - 60);
    stage.snapshot(all_hooks())
}

fn three_at_once() -> Stage {
    let mut stage = Stage::default();
    stage.host(28_100, 129);
    stage.healthy(GUNICORN, 20, true);
    stage.healthy(API, 2, false);
    stage.healthy(REMOTE, 30, true);
    stage.overflows(81, SECONDS);
    stage.refused(700);
    stage.no_ports(31);
    stage
}

/// A full accept queue, nobody listening, no port left; and keepalive in effect nowhere.
pub(super) fn three() -> Arc<Snapshot> {
    three_at_once().snapshot(all_hooks())
}

/// One incident seen through a keyhole.
pub(super) fn degraded() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 129);
    stage.healthy(GUNICORN, 20, false);
    stage.overflows(81, SECONDS);
    stage.counters.lost.records[3] = 1_200;
    stage.counters.lost.records[0] = 30;
    stage.counters.lost.skipped = 4;
    let mut hooks = all_hooks();
    let missing = "overflows by a SYN are inferred; cgroup-2 is not mounted".to_owned();
    hooks.0[6].1 = HookStatus::Partial(Carrier::KfreeSkb, missing);
    hooks.0[7].1 = HookStatus::Missing("this kernel has no iter/tcp (5.9)".to_owned());
    stage.snapshot(hooks)
}

/// More upstreams than rows, one with a name that would like to break the layout.
pub(super) fn crowded() -> Arc<Snapshot> {
    let mut stage = three_at_once();
    for index in 0..60 {
        let upstream = format!("[2001:db8:ffff:ffff:ffff:ffff:ffff:{index:04x}]:65535");
        let proxy = Process { pid: 1, comm: "日本語の名前です\u{1b}[2J".into() };
        for ms in [1_000, 175_000] {
            stage.ended(ms, &upstream, index, ConnectionEnded { proxy: proxy.clone(), ..refused_connection() });
        }
    }
    stage.snapshot(all_hooks())
}

/// A recording in which a queue is full for a while and an upstream is not there, replayed up to that second, and read ahead up
/// to the other.
pub(super) fn replay(second: u64, ahead: u64, standing: Standing, speed: Speed) -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 129);
    stage.healthy(GUNICORN, 20, false);
    stage.healthy(API, 5, false);
    stage.overflows(81, 110);
    stage.refused(700);
    let events = stage.events();
    let (mut shown, mut folded) = (Folded::default(), Folded::default());
    let mut timeline = Timeline::new(at(0));
    for event in events.iter().take_while(|event| event.time <= at(ahead * 1000)) {
        if event.time <= at(second * 1000) {
            shown.apply(event, &mut |_| {});
        }
        let mut told = Vec::new();
        folded.apply(event, &mut |said| told.push(said));
        timeline.note(&told, folded.engine.incidents(), event.time);
        timeline.reach(event.time);
    }
    if ahead >= SECONDS {
        timeline.complete();
    }
    let playback = Playback {
        host: "edge-7".into(),
        playhead: at(second * 1000),
        standing,
        speed,
        timeline: Arc::new(timeline),
        trouble: None,
    };
    Arc::new(Snapshot { playback: Some(playback), ..Snapshot::take(&shown, &frame(all_hooks())) })
}
