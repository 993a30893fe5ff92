//! Sequences of events of every kind that the engine heeds, in whatever order.

use std::{sync::Arc, time::Duration};

use super::{client_flow, connection, endpoint, event, refused_connection, reset_sent, server_flow};
use crate::{
    addr::{NetNs, UnixPath},
    event::{
        Application, ApplicationSample, Body, Configuration, Configured, ConnectFailed, ConnectionEnded, Counters,
        Death, Destination, Did, Event, FirstBytes, Flow, Handshake, Head, HostSample, Hurt, ListenOverflow,
        ListenerChanged, ListenerSample, LogLine, LogSample, Lost, NamespaceSample, Outcome, OverflowPath, Place,
        Process, ProxySample, Request, ResetSent, Retransmit, Server, Signal, Software, State, UnixListenerSample,
        Unserved,
    },
    time::Time,
};

/// Numbers from a seed (xorshift, G. Marsaglia, 2003).
pub(crate) struct Dice(u64);

impl Dice {
    /// The numbers of a seed other than 0.
    pub(crate) fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed))
    }

    /// The next, below the limit.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// The same for smaller numbers.
    pub(crate) fn small(&mut self, limit: u16) -> u16 {
        u16::try_from(self.below(limit.into())).unwrap()
    }

    /// Tails.
    pub(crate) fn tails(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// Tries, answers, evidence and samples, a few milliseconds apart, with stretches of silence.
pub(crate) fn any_sequence(dice: &mut Dice) -> Vec<Event> {
    let mut ms = 0;
    let mut told = Vec::new();
    let mut events = Vec::new();
    let comm = ["nginx", "nginx", "haproxy", "caddy"][usize::from(dice.small(4))];
    for _ in 0..60 {
        ms += if dice.below(12) == 0 { 1_000 + dice.below(90_000) } else { dice.below(40) };
        let body = match dice.below(15) {
            0..=3 => ended(dice, comm),
            4..=6 => outcome(dice, comm, &told),
            7 | 8 => evidence(dice),
            9 => sample(dice),
            10 => failed_at_once(dice, comm),
            11..=13 => logged(dice, comm, ms),
            _ => rarity(dice),
        };
        let event = event(ms, body);
        told.push(event.time);
        events.push(event);
    }
    events
}

/// One of a few connections.
fn connection_of(dice: &mut Dice, flow: Flow) -> Flow {
    let (local, remote) = (flow.local, flow.remote);
    let more = dice.small(3);
    if local.port == 40_000 {
        Flow { local: crate::addr::Endpoint { port: local.port + more, ..local }, ..flow }
    } else {
        Flow { remote: crate::addr::Endpoint { port: remote.port + more, ..remote }, ..flow }
    }
}

fn proxy(dice: &mut Dice, comm: &str) -> Process {
    Process { pid: 42 + u32::from(dice.small(2)), comm: comm.into() }
}

fn ended(dice: &mut Dice, comm: &str) -> Body {
    let base = match dice.below(6) {
        0 => refused_connection(),
        1 => ConnectionEnded { new: State::CloseWait, ..connection() },
        2 => ConnectionEnded { bytes_received: 90, since_received: Some(Duration::ZERO), ..connection() },
        3 => ConnectionEnded { error: 0, reset_received: false, syn_retransmits: 3, ..refused_connection() },
        4 => ConnectionEnded { new: State::Close, error: 104, reset_received: true, exchanges: 3, ..connection() },
        _ => ConnectionEnded { bytes_acked: 0, unacked: 80, data_retransmits: 3, ..connection() },
    };
    let (answers_visible, flow) = (dice.tails(), connection_of(dice, client_flow()));
    let answers_unwatched = !answers_visible && dice.below(4) == 0;
    let proxy = proxy(dice, comm);
    Body::ConnectionEnded(Box::new(ConnectionEnded { flow, proxy, answers_visible, answers_unwatched, ..base }))
}

fn outcome(dice: &mut Dice, comm: &str, told: &[Time]) -> Body {
    let named = if dice.below(4) > 0 { told.iter().rev().nth(usize::from(dice.small(3))).copied() } else { None };
    let did = match dice.below(5) {
        0 => Did::Answered(200),
        1 => Did::Hidden,
        2 => Did::Retried,
        3 => Did::ClientGone,
        _ => Did::Answered(502),
    };
    Body::Outcome(Box::new(Outcome {
        proxy: proxy(dice, comm),
        told: named,
        did,
        client: dice.tails().then(|| endpoint("192.0.2.7:5555")),
        head: if dice.tails() { Head::Whole } else { Head::Unseen },
        left_unread: 0,
        told_before: if named.is_some() && dice.below(4) == 0 { told.last().copied() } else { None },
        upstream_status: dice.tails().then_some(200),
        unix: dice.tails(),
    }))
}

fn evidence(dice: &mut Dice) -> Body {
    let flow = connection_of(dice, server_flow());
    let process = Process { pid: 9, comm: "gunicorn".into() };
    match dice.below(6) {
        0 | 1 => {
            let path = [OverflowPath::Syn, OverflowPath::Ack, OverflowPath::SynQueue][usize::from(dice.small(3))];
            Body::ListenOverflow(ListenOverflow { flow, path, depth: 129, limit: 128 })
        }
        2 => {
            let process = dice.tails().then_some(process);
            let owned = dice.tails();
            Body::ResetSent(ResetSent { flow, process, owned, ..reset_sent(Some(State::Close), "TCP_STATE") })
        }
        3 => Body::SynAckRetransmit(flow),
        4 => {
            let death = dice.tails().then_some(Death::Signal(9));
            Body::Hurt(Box::new(Hurt { flow, process, death, bytes_received: 80, bytes_sent: 0 }))
        }
        _ => Body::Unserved(Unserved {
            flow,
            new: State::CloseWait,
            accepted: dice.tails(),
            reset: dice.tails(),
            bytes_received: 80,
            bytes_sent: 0,
            unacked: u32::from(dice.small(2)),
            waited: Some(Duration::from_secs(2)),
        }),
    }
}

fn sample(dice: &mut Dice) -> Body {
    let (at, netns) = (server_flow().local, server_flow().netns);
    let process = Some(Process { pid: 9, comm: "gunicorn".into() });
    match dice.below(8) {
        0 | 1 => Body::ListenerSample(Box::new(ListenerSample {
            at,
            netns: if dice.tails() { netns } else { client_flow().netns },
            depth: u32::from(dice.small(140)),
            limit: 128,
            process,
            holders: u32::from(dice.small(9)),
            stopped: u32::from(dice.small(2)),
            runnable: 1,
            accepted_open: u32::from(dice.small(9)),
            arrivals: dice.tails().then(|| dice.below(1_000)),
        })),
        2 => Body::NamespaceSample(Box::new(NamespaceSample {
            netns,
            time_wait: 90,
            time_wait_by_destination: vec![(at, u32::from(dice.small(100)))],
            addresses: vec![at.ip],
            port_range: Some((40_000, 40_099)),
            somaxconn: Some(128),
            listen_drops: Some(dice.below(3)),
            ..NamespaceSample::default()
        })),
        3 => Body::ApplicationSample(Box::new(ApplicationSample {
            place: if dice.tails() { Place::At(at) } else { Place::Path(UnixPath::new("/run/app.sock")) },
            netns: if dice.tails() { netns } else { NetNs(8) },
            process: Process { pid: 9, comm: "gunicorn".into() },
            application: (dice.below(4) > 0).then(|| Application {
                software: Software::Gunicorn,
                workers: dice.tails().then(|| 1 + u32::from(dice.small(8))),
                threads: dice.tails().then(|| 1 + u32::from(dice.small(4))),
                event_loop: dice.below(8) == 0,
            }),
        })),
        4 => Body::HostSample(HostSample {
            ticks: 1_000 + dice.below(1_000),
            stolen: dice.below(500),
            waited_us: Some(dice.below(90_000_000)),
        }),
        5 => Body::FirstBytes(Box::new(FirstBytes {
            netns: client_flow().netns,
            upstream: client_flow().remote,
            within: vec![(1 << 20, 1 + u32::from(dice.small(90))), (1 << 37, u32::from(dice.small(3)))],
            unmeasured: 0,
        })),
        6 => Body::Configuration(Box::new(configuration(dice))),
        _ => Body::UnixListenerSample(Box::new(UnixListenerSample {
            path: UnixPath::new("/run/app.sock"),
            netns: NetNs(8),
            depth: u32::from(dice.small(40)),
            limit: 32,
            process,
            holders: 2,
        })),
    }
}

fn failed_at_once(dice: &mut Dice, comm: &str) -> Body {
    let flow = client_flow();
    let local = crate::addr::Endpoint { port: 0, ..flow.local };
    let (to, error) = match dice.below(3) {
        0 => (Destination::Unix("/run/app.sock".into()), [2, 11, 13, 111][usize::from(dice.small(4))]),
        1 => (Destination::Tcp(Flow { local, ..flow }), 99),
        _ => (Destination::Tcp(flow), 101),
    };
    let (proxy, began, answers_visible) = (proxy(dice, comm), dice.tails(), dice.tails());
    Body::ConnectFailed(Box::new(ConnectFailed { proxy, to, error, began, answers_visible }))
}

/// What stands in logs, and now and then that one is followed.
fn logged(dice: &mut Dice, comm: &str, ms: u64) -> Body {
    if dice.below(5) == 0 {
        let writers = vec![Process { pid: 42, comm: comm.into() }];
        let trouble = (dice.below(4) == 0).then(|| "it is no file".to_owned());
        return Body::LogSample(Box::new(LogSample { writers, trouble, ..LogSample::default() }));
    }
    let said = [
        "connect() failed (111: Connection refused) while connecting to upstream",
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
        "upstream timed out (110: Connection timed out) while connecting to upstream",
        "upstream prematurely closed connection while reading response header from upstream",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "upstream sent too big header while reading response header from upstream",
        "no live upstreams while connecting to upstream",
        "connect() to unix:/run/app.sock failed (2: No such file or directory) while connecting to upstream",
    ];
    let said = said[usize::from(dice.small(8))];
    let path = said.contains("unix:").then(|| UnixPath::new("/run/app.sock"));
    let at = path.is_none().then(|| client_flow().remote);
    let after = event(ms.saturating_sub(dice.below(60)), Body::Tick).time;
    let request = Request { method: "GET".into(), target: "/".into(), client: None };
    Body::LogLine(Arc::new(LogLine {
        process: proxy(dice, comm),
        after,
        connection: dice.below(3),
        said: said.into(),
        at,
        path,
        request,
        port: None,
        status: None,
    }))
}

fn configuration(dice: &mut Dice) -> Configuration {
    let finding = |code: &str| Configured {
        code: code.into(),
        file: "/etc/nginx/nginx.conf".into(),
        line: 7,
        servers: vec![Server::At(client_flow().remote), Server::Port(80), Server::Unix(UnixPath::new("/run/app.sock"))],
        number: Some(100),
        ..Configured::default()
    };
    let codes = crate::proxy::nginx::findings::CODES;
    Configuration {
        master: Process { pid: 41, comm: "nginx".into() },
        netns: if dice.tails() { client_flow().netns } else { NetNs(0) },
        workers: vec![proxy(dice, "nginx")],
        findings: codes[usize::from(dice.small(4))..].iter().map(|code| finding(code)).collect(),
        gone: dice.below(9) == 0,
        ..Configuration::default()
    }
}

fn rarity(dice: &mut Dice) -> Body {
    let process = Process { pid: 9, comm: "gunicorn".into() };
    match dice.below(6) {
        0 => Body::ListenerChanged(ListenerChanged {
            at: server_flow().local,
            netns: server_flow().netns,
            process,
            opened: dice.tails(),
            depth: 3,
            limit: 128,
        }),
        1 => Body::Signal(Box::new(Signal {
            from: Some(process.clone()),
            to: process,
            number: 18 + u32::from(dice.tails()),
        })),
        2 => Body::ProxySample(Box::new(ProxySample {
            process: proxy(dice, "nginx"),
            open_files: 80 + dice.below(20),
            open_files_limit: 100,
        })),
        3 => Body::Handshake(Handshake { flow: client_flow(), syn_retransmits: dice.small(2) }),
        4 => Body::Retransmit(Retransmit { flow: client_flow(), syn: dice.tails() }),
        _ => {
            let lost = Lost { undecoded: u64::from(dice.below(20) == 0), ..Lost::default() };
            Body::Counters(Box::new(Counters { sees_syn_drops: dice.tails(), lost, ..Counters::default() }))
        }
    }
}

/// The same event with numbers as large as a file can have them.
pub(crate) fn exaggerated(dice: &mut Dice, mut event: Event) -> Event {
    let (long, count) = (dice.tails().then_some(Duration::MAX), if dice.tails() { u32::MAX } else { 0 });
    match &mut event.body {
        Body::ConnectionEnded(ended) => {
            (ended.bytes_sent, ended.bytes_acked, ended.bytes_received) = (u64::MAX, count.into(), count.into());
            (ended.unacked, ended.unread, ended.exchanges, ended.data_segments_out) = (count, count, count, count);
            (ended.syn_retransmits, ended.data_retransmits) = (u16::MAX, u16::MAX);
            (ended.since_sent, ended.since_received) = (long, long);
            ended.written_since_read = Some(count);
            ended.last_read = Some(Time(u64::from(count)));
            ended.established = Some(Time(u64::MAX));
        }
        Body::ListenerSample(sample) => {
            (sample.depth, sample.limit, sample.holders) = (count, u32::MAX, u32::MAX);
            (sample.arrivals, sample.accepted_open) = (Some(u64::MAX), u32::MAX);
        }
        Body::ApplicationSample(sample) => {
            if let Some(application) = &mut sample.application {
                (application.workers, application.threads) = (Some(u32::MAX), Some(count));
            }
        }
        Body::NamespaceSample(sample) => {
            sample.time_wait_by_destination = vec![(server_flow().local, count)];
            sample.port_range = Some(if dice.tails() { (0, u16::MAX) } else { (u16::MAX, 0) });
            (sample.listen_drops, sample.somaxconn) = (Some(count.into()), Some(u32::MAX));
        }
        Body::HostSample(sample) => {
            *sample = HostSample { ticks: u64::MAX, stolen: u64::MAX, waited_us: Some(u64::MAX) }
        }
        Body::ProxySample(sample) => (sample.open_files, sample.open_files_limit) = (u64::MAX, u64::from(count)),
        Body::Unserved(unserved) => (unserved.unacked, unserved.waited) = (count, long),
        Body::ListenOverflow(overflow) => (overflow.depth, overflow.limit) = (u32::MAX, u32::MAX),
        Body::Counters(counters) => counters.lost.records = [u64::MAX; observer_common::Kind::ALL.len()],
        Body::Outcome(outcome) => outcome.left_unread = u32::MAX,
        Body::LogLine(line) => Arc::make_mut(line).after = Time(u64::from(count)),
        _ => {}
    }
    event
}
