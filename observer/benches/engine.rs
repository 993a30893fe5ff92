//! How fast the engine takes in what a busy proxy's host tells: `cargo bench -p observer --bench engine`.
//!
//! Processor time of one thread. Fifty upstreams on five hundred listeners, 20,000 events in a second of their own time, three tries in a hundred failed.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

use observer::{
    addr::{Endpoint, NetNs},
    diagnose::Engine,
    event::{
        Body, ConnectionEnded, Did, Event, Flow, Handshake, Head, HostSample, Hurt, ListenOverflow, ListenerSample,
        NamespaceSample, Outcome, OverflowPath, Process, ResetSent, Retransmit, State, Unserved,
    },
    time::Time,
};

const EVENTS: usize = 2_000_000;
/// Made together and timed together, about as many as a trace is read by at once.
const CHUNK: usize = 10_000;
const PER_SECOND: u64 = 20_000;
const QUIET_SECONDS: u32 = 3_600;
const UPSTREAMS: u16 = 50;
const LISTENERS: u16 = 500;
const PROXY: NetNs = NetNs(7);
const HOST: NetNs = NetNs(8);

fn main() {
    let (time, said, engine) = whole();
    let nanos = nanos_each(time, EVENTS);
    println!("{EVENTS} events, {said} verdicts and warnings: {nanos:.0} ns each, {:.2} million a second", 1e3 / nanos);
    checkpoint(&engine);
    quiet(engine);
}

fn whole() -> (Duration, usize, Engine) {
    let mut traffic = Traffic::default();
    let mut engine = Engine::default();
    let (mut time, mut said) = (Duration::ZERO, 0);
    for _ in 0..EVENTS / CHUNK {
        let events: Vec<_> = traffic.by_ref().take(CHUNK).collect();
        let began = processor_time();
        for event in &events {
            engine.apply(event, &mut |_| said += 1);
        }
        time += processor_time().saturating_sub(began);
    }
    (time, said, engine)
}

fn checkpoint(engine: &Engine) {
    let began = processor_time();
    let bytes = engine.checkpoint().expect("a state can be written");
    let wrote = processor_time().saturating_sub(began);
    let began = processor_time();
    let restored = Engine::restore(&bytes).expect("what was written can be read");
    let read = processor_time().saturating_sub(began);
    assert_eq!(restored.model().events(), engine.model().events());
    println!("its checkpoint: {} KiB, written in {wrote:.1?}, read in {read:.1?}", bytes.len() / 1024);
}

/// Spent by this thread, whatever else the machine is busy with.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock").into()
}

/// What rules cost that look at the whole model once a second.
fn quiet(mut engine: Engine) {
    let now = engine.model().now();
    let began = processor_time();
    for second in 1..=QUIET_SECONDS {
        let time = now + Duration::from_secs(second.into());
        engine.apply(&Event { time, body: Body::Tick }, &mut |_| {});
    }
    println!("a second without events: {:.1?}", processor_time().saturating_sub(began) / QUIET_SECONDS);
}

fn nanos_each(time: Duration, count: usize) -> f64 {
    let count = u32::try_from(count).expect("a small number");
    time.as_secs_f64() * 1e9 / f64::from(count)
}

/// What happens on the host, without end.
#[derive(Default)]
struct Traffic {
    count: u64,
    /// To come before anything else.
    next: Vec<Body>,
}

impl Iterator for Traffic {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.count += 1;
        let time = Time(1_000_000_000_000 + self.count * (1_000_000_000 / PER_SECOND));
        let body = self.next.pop().unwrap_or_else(|| self.body(time));
        Some(Event { time, body })
    }
}

impl Traffic {
    /// A number that is as good as random (D. Lehmer's generator, one step).
    fn dice(&self, salt: u64, limit: u16) -> u16 {
        let mixed = (self.count + salt).wrapping_mul(0xd134_2543_de82_ef95) ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u16::try_from((mixed >> 33) % u64::from(limit)).expect("below the limit")
    }

    fn body(&mut self, now: Time) -> Body {
        let of_second = self.count % PER_SECOND;
        match of_second {
            0 => {
                self.next = (0..4).map(namespace).collect();
                return Body::HostSample(HostSample {
                    ticks: now.0 / 10_000_000,
                    stolen: 0,
                    waited_us: Some(now.0 / 9_000),
                });
            }
            1 => return Body::Counters(Box::default()),
            _ => {}
        }
        let flow = self.flow();
        match self.dice(1, 1000) {
            0..30 => self.failure(now, flow),
            30..60 => self.answered(now, flow),
            60..160 => Body::Handshake(Handshake { flow, syn_retransmits: 0 }),
            160..200 => Body::Retransmit(Retransmit { flow, syn: false }),
            200..300 => listener(self.dice(2, LISTENERS), self.dice(3, 20), now),
            300..310 => Body::Tick,
            _ => Body::ConnectionEnded(Box::new(ended(now, flow))),
        }
    }

    fn flow(&self) -> Flow {
        let local = Endpoint { ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), port: 20_000 + self.dice(4, 40_000) };
        Flow { local, remote: upstream(self.dice(5, UPSTREAMS)), netns: PROXY }
    }

    /// A try that failed, with what the upstream's side tells before or after, and its answer.
    fn failure(&mut self, now: Time, flow: Flow) -> Body {
        let server = Flow { local: flow.remote, remote: flow.local, netns: HOST };
        let process = Process { pid: 900, comm: "gunicorn".into() };
        let unanswered = ConnectionEnded { bytes_received: 0, since_received: None, ..ended(now, flow) };
        let told = now + Duration::from_nanos(1_000_000_000 / PER_SECOND);
        let (evidence, ended) = match self.dice(6, 5) {
            0 => (
                Body::ListenOverflow(ListenOverflow { flow: server, path: OverflowPath::Syn, depth: 129, limit: 128 }),
                ConnectionEnded {
                    old: State::SynSent,
                    established: None,
                    syn_retransmits: 2,
                    bytes_sent: 0,
                    bytes_acked: 0,
                    ..unanswered
                },
            ),
            1 => (
                Body::ResetSent(ResetSent {
                    flow: server,
                    process: Some(process),
                    reason: Some("TCP_STATE".into()),
                    state: Some(State::Close),
                    answers_syn: false,
                    owned: true,
                    answered: false,
                    unread: 80,
                    depth: 0,
                    limit: 0,
                    no_handshake: false,
                    retracts_overflow: false,
                    death: None,
                }),
                ConnectionEnded { new: State::Close, error: 104, reset_received: true, ..unanswered },
            ),
            2 => (
                Body::Hurt(Box::new(Hurt { flow: server, process, death: None, bytes_received: 80, bytes_sent: 0 })),
                ConnectionEnded { new: State::CloseWait, ..unanswered },
            ),
            3 => (
                Body::Unserved(Unserved {
                    flow: server,
                    new: State::CloseWait,
                    accepted: true,
                    reset: false,
                    bytes_received: 80,
                    bytes_sent: 0,
                    unacked: 0,
                    waited: Some(Duration::from_secs(2)),
                }),
                ConnectionEnded { since_sent: Some(Duration::from_secs(2)), ..unanswered },
            ),
            _ => (
                Body::ResetSent(ResetSent {
                    flow: server,
                    process: None,
                    reason: Some("NO_SOCKET".into()),
                    state: None,
                    answers_syn: true,
                    owned: false,
                    answered: false,
                    unread: 0,
                    depth: 0,
                    limit: 0,
                    no_handshake: false,
                    retracts_overflow: false,
                    death: None,
                }),
                ConnectionEnded {
                    old: State::SynSent,
                    new: State::Close,
                    error: 111,
                    reset_received: true,
                    established: None,
                    bytes_sent: 0,
                    ..unanswered
                },
            ),
        };
        let answer = Body::Outcome(Box::new(outcome(&ended.proxy, told, Did::Answered(502))));
        // Told from the last to the first.
        self.next = vec![answer, Body::ConnectionEnded(Box::new(ended))];
        evidence
    }

    /// A try that went well for its proxy, and whose answer is told.
    fn answered(&mut self, now: Time, flow: Flow) -> Body {
        let ended = ended(now, flow);
        self.next = vec![Body::Outcome(Box::new(outcome(&ended.proxy, now, Did::Hidden)))];
        Body::ConnectionEnded(Box::new(ended))
    }
}

fn upstream(number: u16) -> Endpoint {
    Endpoint { ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), port: 8_000 + number }
}

fn ended(now: Time, flow: Flow) -> ConnectionEnded {
    ConnectionEnded {
        flow,
        proxy: Process { pid: 40 + u32::from(flow.local.port % 8), comm: "nginx".into() },
        started: now - Duration::from_secs(2),
        established: Some(now - Duration::from_millis(1_999)),
        old: State::Established,
        new: State::FinWait1,
        error: 0,
        closed_by_proxy: true,
        reset_received: false,
        bytes_sent: 400,
        bytes_acked: 400,
        bytes_received: 9_000,
        unacked: 0,
        data_segments_out: 1,
        since_sent: Some(Duration::from_millis(40)),
        since_received: Some(Duration::from_millis(4)),
        sent_last: false,
        written_since_read: Some(0),
        unread: 0,
        answer_status: Some(200),
        soft_error: 0,
        last_read: Some(now - Duration::from_millis(3)),
        exchanges: 1,
        answers_visible: true,
        answers_unwatched: false,
        syn_retransmits: 0,
        data_retransmits: 0,
    }
}

fn outcome(proxy: &Process, told: Time, did: Did) -> Outcome {
    Outcome {
        proxy: proxy.clone(),
        told: Some(told),
        did,
        client: Some(Endpoint { ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), port: 5_000 }),
        head: Head::Unseen,
        left_unread: 0,
        told_before: None,
        upstream_status: None,
        unix: false,
    }
}

fn listener(number: u16, depth: u16, now: Time) -> Body {
    Body::ListenerSample(Box::new(ListenerSample {
        at: upstream(number),
        netns: HOST,
        depth: depth.into(),
        limit: 128,
        process: Some(Process { pid: 900, comm: "gunicorn".into() }),
        holders: 9,
        stopped: 0,
        runnable: 1,
        accepted_open: 8,
        arrivals: Some(now.0 / 1_000_000),
    }))
}

fn namespace(number: u8) -> Body {
    let (netns, ip) = match number {
        0 => (HOST, upstream(0).ip),
        1 => (PROXY, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))),
        other => (NetNs(u32::from(other) + 100), IpAddr::V4(Ipv4Addr::new(10, 0, 1, other))),
    };
    Body::NamespaceSample(Box::new(NamespaceSample {
        netns,
        time_wait: 5_000,
        time_wait_by_destination: (0..UPSTREAMS).map(|to| (upstream(to), 100)).collect(),
        addresses: vec![ip],
        port_range: Some((32_768, 60_999)),
        somaxconn: Some(4_096),
        tw_reuse: Some(2),
        abort_on_overflow: Some(0),
        listen_overflows: Some(0),
        listen_drops: Some(0),
    }))
}
