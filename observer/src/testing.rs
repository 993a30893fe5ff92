//! Hand-made events for the tests of the pure stages.

pub(crate) mod sequence;
pub(crate) mod stage;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    addr::{Endpoint, NetNs},
    event::{
        Body, ConnectionEnded, Did, Event, Flow, Head, HostSample, ListenOverflow, NamespaceSample, Outcome,
        OverflowPath, Process, ResetSent, State,
    },
    hooks::{Carrier, Hook, HookStatus, Hooks},
    model::{Attempt, Model},
    time::{Time, WallClock},
    trace::{About, RecordOptions, Recorder, recorder::BATCH_EVERY},
};

/// The proxy's namespace in tests.
pub(crate) const NETNS: NetNs = NetNs(7);

/// An endpoint from text.
pub(crate) fn endpoint(text: &str) -> Endpoint {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { ip: address.ip(), port: address.port() }
}

/// A time in milliseconds, far enough from zero.
pub(crate) fn at(ms: u64) -> Time {
    Time((1_000_000 + ms) * 1_000_000)
}

/// An event.
pub(crate) fn event(ms: u64, body: Body) -> Event {
    Event { time: at(ms), body }
}

/// From the proxy's side: 10.0.0.1:40000 to 10.0.0.2:8000.
pub(crate) fn client_flow() -> Flow {
    Flow { local: endpoint("10.0.0.1:40000"), remote: endpoint("10.0.0.2:8000"), netns: NETNS }
}

/// The same from the upstream's side.
pub(crate) fn server_flow() -> Flow {
    let flow = client_flow();
    Flow { local: flow.remote, remote: flow.local, netns: NetNs(8) }
}

/// A connection that carried a request, closed by the proxy; tests change what they are about.
pub(crate) fn connection() -> ConnectionEnded {
    ConnectionEnded {
        flow: client_flow(),
        proxy: Process { pid: 42, comm: "nginx".into() },
        started: at(0),
        established: Some(at(1)),
        old: State::Established,
        new: State::FinWait1,
        error: 0,
        closed_by_proxy: true,
        reset_received: false,
        bytes_sent: 80,
        bytes_acked: 80,
        bytes_received: 0,
        unacked: 0,
        data_segments_out: 1,
        since_sent: Some(Duration::from_secs(2)),
        since_received: None,
        sent_last: false,
        syn_retransmits: 0,
        data_retransmits: 0,
        written_since_read: None,
        unread: 0,
        answer_status: None,
        soft_error: 0,
        last_read: None,
        exchanges: 0,
        answers_visible: false,
        answers_unwatched: false,
    }
}

/// A connection whose SYN was answered with a RST.
pub(crate) fn refused_connection() -> ConnectionEnded {
    ConnectionEnded {
        established: None,
        old: State::SynSent,
        new: State::Close,
        error: 111,
        closed_by_proxy: false,
        reset_received: true,
        bytes_sent: 0,
        data_segments_out: 0,
        since_sent: None,
        ..connection()
    }
}

/// What the proxy of that name, process 42, did; `told`: when its try was told to have ended, in milliseconds.
pub(crate) fn outcome(comm: &str, told: Option<u64>, did: Did) -> Outcome {
    Outcome {
        proxy: Process { pid: 42, comm: comm.into() },
        told: told.map(at),
        did,
        client: None,
        head: Head::Unseen,
        left_unread: 0,
        told_before: None,
        upstream_status: None,
        unix: false,
    }
}

/// A 502 that nginx[42] answered without trying anything.
pub(crate) fn answered_without_try(ms: u64) -> Attempt {
    Attempt::without_try(at(ms), &outcome("nginx", None, Did::Answered(502)))
}

/// A RST from the upstream's socket in that state.
pub(crate) fn reset_sent(state: Option<State>, reason: &str) -> ResetSent {
    ResetSent {
        flow: server_flow(),
        process: None,
        reason: Some(reason.into()),
        state,
        answers_syn: false,
        owned: false,
        answered: false,
        unread: 0,
        depth: 0,
        limit: 0,
        no_handshake: false,
        retracts_overflow: false,
        death: None,
    }
}

/// A sample that gives the upstream's address to this host.
pub(crate) fn local_namespace() -> Event {
    let netns = server_flow().netns;
    let addresses = vec![server_flow().local.ip];
    event(0, Body::NamespaceSample(Box::new(NamespaceSample { netns, addresses, ..NamespaceSample::default() })))
}

/// What a recording says of itself whose events begin at 03:10:00 on 2 January 2026.
pub(crate) fn about() -> About {
    About {
        version: "0.1.0".into(),
        host: "edge-7".into(),
        kernel: "6.18.44".into(),
        machine: "x86_64".into(),
        wall: WallClock { offset: 1_767_323_400_000_000_000 - at(0).0 },
        since: at(0),
        watching: "nginx, haproxy, envoy, caddy, traefik".into(),
        hooks: Hooks(Hook::ALL.iter().map(|hook| (*hook, HookStatus::Full(Carrier::TpBtf))).collect()),
        settings: Vec::new(),
        segment: 1,
        joined: 0,
    }
}

/// The model after these events and the end of that connection, and the try that it was.
pub(crate) fn ended_with(events: impl IntoIterator<Item = Event>, ended: ConnectionEnded) -> (Model, Attempt) {
    let mut model = Model::default();
    for event in events {
        assert_eq!(model.apply(&event), None);
    }
    let attempt = model.apply(&event(2_000, Body::ConnectionEnded(Box::new(ended)))).unwrap();
    (model, attempt)
}

/// How long the [`incident`] is, in seconds.
pub(crate) const INCIDENT_SECONDS: u64 = 90;

/// Tries that fail in various ways, some with evidence that comes later, or before in time but after in the stream.
pub(crate) fn incident() -> Vec<Event> {
    let ended = |ms, ended| event(ms, Body::ConnectionEnded(Box::new(ended)));
    let overflow = ListenOverflow { flow: server_flow(), path: OverflowPath::Ack, depth: 129, limit: 128 };
    let reset = ConnectionEnded { new: State::Close, error: 104, reset_received: true, ..connection() };
    let mut events = Vec::new();
    for second in 0..INCIDENT_SECONDS {
        let ms = second * 1000;
        events.push(event(ms, Body::HostSample(HostSample { ticks: second, ..HostSample::default() })));
        match second % 5 {
            0 => events.push(ended(ms + 300, refused_connection())),
            1 => {
                let sent = ResetSent { owned: true, ..reset_sent(Some(State::Close), "TCP_STATE") };
                events.extend([ended(ms + 100, reset.clone()), event(ms + 101, Body::ResetSent(sent))]);
            }
            2 => {
                let gave_up = ConnectionEnded { bytes_acked: 0, unacked: 80, data_retransmits: 3, ..connection() };
                events.extend([ended(ms + 990, gave_up), event(ms + 950, Body::ListenOverflow(overflow))]);
            }
            3 => events.push(ended(ms, ConnectionEnded { answers_visible: true, ..refused_connection() })),
            _ => events.push(ended(ms + 999, ConnectionEnded { new: State::CloseWait, ..connection() })),
        }
    }
    events
}

/// Those events as a recording of many batches.
pub(crate) fn recorded(folder: &Path, events: &[Event]) -> PathBuf {
    let path = folder.join("a.arrows");
    let options = RecordOptions { path: path.clone(), ring: None, level: None, force: false };
    let mut recorder = Recorder::start(options, about()).unwrap();
    let mut now = Instant::now();
    for (index, each) in events.iter().enumerate() {
        recorder.event(each.clone()).unwrap();
        if index % 3 == 0 {
            recorder.turn(now, || None).unwrap();
            now += BATCH_EVERY;
        }
    }
    recorder.finish().unwrap();
    path
}
