//! Hand-made events for the tests of the pure stages.

pub(crate) mod sequence;
pub(crate) mod stage;

use std::time::Duration;

use crate::{
    addr::{Endpoint, NetNs},
    event::{Body, ConnectionEnded, Event, Flow, NamespaceSample, Process, ResetSent, State},
    model::{Attempt, Model},
    time::Time,
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

/// The model after these events and the end of that connection, and the try that it was.
pub(crate) fn ended_with(events: impl IntoIterator<Item = Event>, ended: ConnectionEnded) -> (Model, Attempt) {
    let mut model = Model::default();
    for event in events {
        assert_eq!(model.apply(&event), None);
    }
    let attempt = model.apply(&event(2_000, Body::ConnectionEnded(Box::new(ended)))).unwrap();
    (model, attempt)
}
