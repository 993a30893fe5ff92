//! What is written comes back as it was; what is damaged is noticed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    About, ReadError, Reader, RecordError, RecordOptions, Recorder, Said, Tail, Told, format, recorder::BATCH_EVERY,
};
use crate::{
    addr::{NetNs, UnixPath},
    event::{
        Application, ApplicationSample, Body, Configuration, Configured, ConnectFailed, ConnectionEnded, Counters,
        Death, Destination, Did, Event, FirstBytes, Handshake, Head, HostSample, Hurt, ListenOverflow, ListenerChanged,
        ListenerSample, LogLine, LogSample, Lost, NamespaceSample, Outcome, OverflowPath, Place, Process, ProxySample,
        Request, Retransmit, Server, Signal, Software, State, UnixListenerSample, Unserved,
    },
    hooks::{Carrier, Hook, HookStatus, Hooks},
    testing::{at, client_flow, connection, endpoint, event, refused_connection, reset_sent, server_flow},
    time::{Time, WallClock},
};

pub(crate) fn about() -> About {
    About {
        version: "0.1.0".into(),
        host: "edge-7".into(),
        kernel: "6.18.44".into(),
        machine: "x86_64".into(),
        wall: WallClock { offset: 1_795_000_000_000_000_000 },
        since: at(0),
        watching: "nginx; upstream port 8000".into(),
        hooks: Hooks(vec![
            (Hook::StateChanges, HookStatus::Full(Carrier::TpBtf)),
            (Hook::SynAckRetransmits, HookStatus::Partial(Carrier::KfreeSkb, "some".into())),
            (Hook::Connects, HookStatus::Missing("no".into())),
        ]),
        settings: vec![("net.core.somaxconn".into(), "4096".into())],
        segment: 1,
        joined: 0,
    }
}

fn process(pid: u32, comm: &str) -> Process {
    Process { pid, comm: comm.into() }
}

/// One of every kind, and of what a kind can differ in.
#[expect(clippy::too_many_lines, reason = "a list of examples")]
pub(crate) fn every_kind() -> Vec<Event> {
    let ended = ConnectionEnded {
        started: Time(0),
        established: None,
        old: State::Other(5),
        new: State::CloseWait,
        error: 104,
        closed_by_proxy: false,
        reset_received: true,
        bytes_sent: u64::MAX,
        bytes_acked: 1,
        bytes_received: 2,
        unacked: 3,
        data_segments_out: 4,
        since_sent: None,
        since_received: Some(Duration::from_millis(8)),
        sent_last: true,
        written_since_read: Some(0),
        unread: 5,
        answer_status: Some(200),
        soft_error: 113,
        // Later than the row itself: clocks of other processors may be ahead.
        last_read: Some(at(90)),
        exchanges: 6,
        answers_visible: true,
        answers_unwatched: true,
        syn_retransmits: 7,
        data_retransmits: 8,
        ..connection()
    };
    let outcome = Outcome {
        proxy: process(42, "nginx"),
        told: Some(at(3)),
        did: Did::Answered(502),
        client: Some(endpoint("[2001:db8::1]:5000")),
        head: Head::Long,
        left_unread: 1,
        told_before: Some(at(2)),
        upstream_status: Some(200),
        unix: true,
    };
    let plain = Outcome {
        did: Did::Hidden,
        told: None,
        client: None,
        head: Head::Unseen,
        told_before: None,
        ..outcome.clone()
    };
    let namespace = NamespaceSample {
        netns: NetNs(7),
        time_wait: 12,
        time_wait_by_destination: vec![(endpoint("10.0.0.2:8000"), 11)],
        addresses: vec![[10, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()],
        port_range: Some((32768, 60999)),
        somaxconn: Some(128),
        listen_drops: Some(u64::MAX),
        ..NamespaceSample::default()
    };
    let listener = ListenerSample {
        at: endpoint("0.0.0.0:8000"),
        netns: NetNs(8),
        depth: 129,
        limit: 128,
        process: Some(process(9, "gunicorn: \\x1b")),
        holders: 9,
        stopped: 1,
        runnable: 2,
        accepted_open: 3,
        arrivals: Some(4),
    };
    let unix = UnixListenerSample {
        path: UnixPath::new("/run/app.sock"),
        netns: NetNs(8),
        depth: 1,
        limit: 2,
        process: None,
        holders: 0,
    };
    let mut lost = Lost { undecoded: 3, ..Lost::default() };
    lost.records[11] = 5;
    let failed = ConnectFailed {
        proxy: process(42, "nginx"),
        to: Destination::Tcp(client_flow()),
        error: 99,
        began: true,
        answers_visible: true,
    };
    let to_unix = ConnectFailed { to: Destination::Unix("@app".into()), began: false, ..failed.clone() };
    let unserved = Unserved {
        flow: server_flow(),
        new: State::Close,
        accepted: true,
        reset: true,
        bytes_received: 1,
        bytes_sent: 2,
        unacked: 3,
        waited: Some(Duration::from_secs(3)),
    };
    let hurt = Hurt {
        flow: server_flow(),
        process: process(9, "app"),
        death: Some(Death::Signal(9)),
        bytes_received: 1,
        bytes_sent: 2,
    };
    let signal = Signal { from: Some(process(1, "kill")), to: process(9, "app"), number: 19 };
    let overflow = |path| Body::ListenOverflow(ListenOverflow { flow: server_flow(), path, depth: 129, limit: 128 });
    let changed = ListenerChanged {
        at: endpoint("[::]:8000"),
        netns: NetNs(8),
        process: process(9, "app"),
        opened: false,
        depth: 3,
        limit: 128,
    };
    let line = LogLine {
        process: process(42, "nginx"),
        after: at(3),
        connection: 45,
        said: "connect() failed (111: Connection refused) while connecting to upstream".into(),
        at: Some(endpoint("10.0.0.2:8000")),
        path: None,
        request: Request { method: "GET".into(), target: "/cart".into(), client: Some([10, 0, 0, 9].into()) },
        port: Some(40_001),
        status: Some(502),
    };
    let bodies = vec![
        Body::HostSample(HostSample { ticks: 1, stolen: 2, waited_us: Some(3) }),
        Body::ConnectionEnded(Box::new(ended)),
        overflow(OverflowPath::Syn),
        Body::ConnectionEnded(Box::new(connection())),
        Body::ConnectionEnded(Box::new(refused_connection())),
        Body::Outcome(Box::new(outcome.clone())),
        Body::Outcome(Box::new(plain)),
        Body::Outcome(Box::new(Outcome { did: Did::Retried, head: Head::Begun, ..outcome.clone() })),
        Body::Outcome(Box::new(Outcome { did: Did::ClientGone, head: Head::Whole, unix: false, ..outcome })),
        overflow(OverflowPath::Ack),
        overflow(OverflowPath::SynQueue),
        Body::Unserved(unserved),
        Body::Unserved(Unserved { accepted: false, reset: false, waited: None, ..unserved }),
        Body::ConnectFailed(Box::new(failed)),
        Body::ConnectFailed(Box::new(to_unix)),
        Body::ListenerChanged(ListenerChanged { opened: true, ..changed.clone() }),
        Body::ListenerChanged(changed),
        Body::ResetSent(reset_sent(None, "NO_SOCKET")),
        Body::ResetSent(crate::event::ResetSent {
            process: Some(process(9, "app")),
            reason: None,
            answers_syn: true,
            owned: true,
            answered: true,
            unread: 1,
            depth: 2,
            limit: 3,
            no_handshake: true,
            retracts_overflow: true,
            death: Some(Death::Exit(1)),
            ..reset_sent(Some(State::Listen), "")
        }),
        Body::Retransmit(Retransmit { flow: client_flow(), syn: true }),
        Body::Retransmit(Retransmit { flow: client_flow(), syn: false }),
        Body::SynAckRetransmit(server_flow()),
        Body::Hurt(Box::new(hurt.clone())),
        Body::Hurt(Box::new(Hurt { death: None, ..hurt })),
        Body::Signal(Box::new(signal.clone())),
        Body::Signal(Box::new(Signal { from: None, ..signal })),
        Body::Handshake(Handshake { flow: client_flow(), syn_retransmits: 1 }),
        Body::ProxySample(Box::new(ProxySample {
            process: process(42, "nginx"),
            open_files: 1,
            open_files_limit: 1024,
        })),
        Body::ListenerSample(Box::new(listener.clone())),
        Body::ListenerSample(Box::new(ListenerSample { process: None, arrivals: None, ..listener })),
        Body::UnixListenerSample(Box::new(unix)),
        Body::NamespaceSample(Box::new(namespace)),
        Body::NamespaceSample(Box::default()),
        Body::Counters(Box::new(Counters {
            connections_started: 1,
            sees_syn_drops: true,
            lost,
            ..Counters::default()
        })),
        Body::HostSample(HostSample::default()),
        Body::FirstBytes(Box::new(FirstBytes {
            netns: NetNs(7),
            upstream: endpoint("10.0.0.2:8000"),
            within: vec![(1_048_576, 3), (1 << 45, u32::MAX)],
            unmeasured: 1,
        })),
        Body::LogLine(Arc::new(line.clone())),
        Body::LogLine(Arc::new(LogLine { at: None, path: Some(UnixPath::new("/run/a.sock")), ..line })),
        Body::LogLine(Arc::default()),
        Body::LogSample(Box::new(LogSample {
            device: 1,
            inode: 2,
            path: "/var/log/nginx/error.log".into(),
            writers: vec![process(42, "nginx")],
            requests: true,
            lines: 7,
            missed: 1,
            emptied: 2,
            left: true,
            trouble: Some("it cannot be read: denied".into()),
        })),
        Body::LogSample(Box::default()),
        Body::Configuration(Box::new(Configuration {
            master: process(41, "nginx"),
            netns: NetNs(7),
            workers: vec![process(42, "nginx")],
            file: "/etc/nginx/nginx.conf".into(),
            findings: vec![Configured {
                code: "keepalive-not-in-effect".into(),
                file: "/etc/nginx/conf.d/a.conf".into(),
                line: 7,
                what: "the upstream a keeps connections".into(),
                fix: vec!["proxy_http_version 1.1;".into()],
                servers: vec![
                    Server::At(endpoint("10.0.0.2:8000")),
                    Server::Port(80),
                    Server::Unix(UnixPath::new("/run/a.sock")),
                ],
                number: Some(512),
                only_if_seen: true,
            }],
            left_out: 1,
            gone: true,
            trouble: Some("cannot read it".into()),
        })),
        Body::Configuration(Box::default()),
        Body::ApplicationSample(Box::new(ApplicationSample {
            place: Place::At(endpoint("0.0.0.0:8000")),
            netns: NetNs(8),
            process: process(9, "gunicorn"),
            application: Some(Application {
                software: Software::Gunicorn,
                workers: Some(8),
                threads: Some(4),
                event_loop: false,
            }),
        })),
        Body::ApplicationSample(Box::new(ApplicationSample {
            place: Place::Path(UnixPath::new("/run/app.sock")),
            netns: NetNs(8),
            process: process(9, "node"),
            application: Some(Application { software: Software::Node, workers: None, threads: None, event_loop: true }),
        })),
        Body::ApplicationSample(Box::new(ApplicationSample {
            place: Place::At(endpoint("[::1]:8000")),
            netns: NetNs(8),
            process: process(9, "app"),
            application: None,
        })),
        Body::Tick,
    ];
    // Not in the order of time: events of several processors need not be.
    bodies.into_iter().enumerate().map(|(n, body)| event(50 - n as u64, body)).collect()
}

fn options(path: &Path) -> RecordOptions {
    RecordOptions { path: path.to_owned(), ring: None, level: None, force: false }
}

pub(crate) fn record(path: &Path, events: &[Event]) {
    let mut recorder = Recorder::start(options(path), about()).unwrap();
    for each in events {
        recorder.event(each.clone()).unwrap();
    }
    recorder.finish().unwrap();
}

/// Everything that can be read, and what then was wrong.
pub(crate) fn read(paths: &[PathBuf]) -> (Vec<Event>, Result<Tail, ReadError>) {
    let mut reader = Reader::open(paths).unwrap();
    let mut events = Vec::new();
    loop {
        match reader.next_batch(&mut events) {
            Ok(Some(_)) => {}
            Ok(None) => return (events, Ok(reader.tail())),
            Err(error) => return (events, Err(error)),
        }
    }
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    record(&path, &every_kind());
    let (events, tail) = read(std::slice::from_ref(&path));
    assert_eq!(events, every_kind());
    assert_eq!(tail.unwrap(), Tail::Whole);
    assert_eq!(Reader::open(&[path]).unwrap().about(), &about());
}

#[test]
fn what_was_said_is_there_for_others_and_not_for_replay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    let mut recorder = Recorder::start(options(&path), about()).unwrap();
    let verdict = Told::Verdict {
        confidence: "certain",
        status: Some(502),
        observed: true,
        client: Some(endpoint("10.0.0.9:5000")),
        proxy: process(42, "nginx"),
        endpoint: Some(endpoint("10.0.0.2:8000")),
        path: None,
        because: Some("worker-pool-undersized"),
        also: vec!["backlog-small"],
        request: Some(Box::new(Request { method: "GET".into(), target: "/".into(), client: None })),
    };
    let said = |what| Said { time: at(5), cause: "accept-queue-overflow", netns: NetNs(7), what };
    let sample = event(5, Body::HostSample(HostSample::default()));
    recorder.event(sample.clone()).unwrap();
    recorder.said(said(verdict)).unwrap();
    recorder.said(said(Told::Warning { subject: "10.0.0.2:8000".into(), summary: "80 %".into() })).unwrap();
    recorder.event(sample.clone()).unwrap();
    recorder.finish().unwrap();
    let mut reader = Reader::open(&[path]).unwrap();
    let mut events = Vec::new();
    let besides = reader.next_batch(&mut events).unwrap().unwrap();
    assert_eq!(events, [sample.clone(), sample]);
    assert_eq!(besides.verdicts.len(), 1);
    let given = &besides.verdicts[0];
    let expected = ("accept-queue-overflow", "certain", Some("worker-pool-undersized"));
    assert_eq!((given.cause.as_str(), given.confidence.as_str(), given.because.as_deref()), expected);
}

#[test]
fn of_ticks_the_last_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    let sample = event(2, Body::HostSample(HostSample::default()));
    record(&path, &[event(1, Body::Tick), sample.clone(), event(3, Body::Tick), event(4, Body::Tick)]);
    assert_eq!(read(&[path]).0, [sample, event(4, Body::Tick)]);
}

#[test]
fn nothing_is_overwritten_unless_forced_and_only_the_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    record(&path, &every_kind());
    let before = fs::read(&path).unwrap();
    assert!(matches!(Recorder::start(options(&path), about()), Err(RecordError::Exists(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let forced = RecordOptions { force: true, ..options(&path) };
    Recorder::start(forced, about()).unwrap().finish().unwrap();
    assert!(read(&[path]).0.is_empty());
}

#[test]
fn a_full_disk_is_said_and_a_missing_folder_too() {
    let folder = tempfile::tempdir().unwrap();
    let missing = options(&folder.path().join("no/such/a.arrows.zst"));
    assert!(matches!(Recorder::start(missing, about()), Err(RecordError::Create { .. })));
}

/// Bytes of a segment in these tests: a beginning and some batches.
const SEGMENT: u64 = 5_000;

/// A ring of segments, with the paths of those that are left and the events of each cut.
fn ring(folder: &Path, files: u32, batches: u64) -> Vec<PathBuf> {
    let ring = Some((SEGMENT, files));
    let options = RecordOptions { ring, ..options(&folder.join("r.arrows.zst")) };
    let mut recorder = Recorder::start(options, about()).unwrap();
    let start = Instant::now();
    for batch in 0..batches {
        for each in every_kind() {
            recorder.event(each).unwrap();
        }
        // The clock is an argument: no time passes here.
        let now = start + BATCH_EVERY * 2 * u32::try_from(batch).unwrap();
        recorder.turn(now, || Some(b"state".to_vec())).unwrap();
        recorder.turn(now + BATCH_EVERY, || Some(b"state".to_vec())).unwrap();
    }
    recorder.finish().unwrap();
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_ring_keeps_the_latest_segments_within_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ring(folder.path(), 3, 40);
    assert_eq!(paths.len(), 3);
    for path in &paths {
        assert!(fs::metadata(path).unwrap().len() <= SEGMENT, "{} is too large", path.display());
    }
    let mut reader = Reader::open(&paths).unwrap();
    assert!(reader.about().segment > 1, "the oldest are gone");
    let mut events = Vec::new();
    let first = reader.next_batch(&mut events).unwrap().unwrap();
    assert_eq!(first.checkpoint.as_deref(), Some(&b"state"[..]));
    while reader.next_batch(&mut events).unwrap().is_some() {}
    assert_eq!(events.len() % every_kind().len(), 0, "whole batches");
    assert!(!events.is_empty());
}

#[test]
fn a_missing_or_foreign_segment_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = ring(folder.path(), 3, 40);
    paths.remove(1);
    assert!(matches!(Reader::open(&paths), Err(ReadError::Gap { .. })));
    let other = folder.path().join("other.arrows.zst");
    let elsewhere = About { host: "edge-8".into(), ..about() };
    Recorder::start(options(&other), elsewhere).unwrap().finish().unwrap();
    assert!(matches!(Reader::open(&[paths[0].clone(), other]), Err(ReadError::Mixed { .. })));
}

#[test]
fn one_can_go_back_to_where_one_was() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ring(folder.path(), 3, 40);
    let mut reader = Reader::open(&paths).unwrap();
    let mut places = Vec::new();
    loop {
        let (position, mut events) = (reader.position(), Vec::new());
        if reader.next_batch(&mut events).unwrap().is_none() {
            break;
        }
        places.push((position, events));
    }
    for (position, expected) in places.into_iter().rev() {
        reader.seek(position).unwrap();
        let mut events = Vec::new();
        reader.next_batch(&mut events).unwrap();
        assert_eq!(events, expected);
    }
}

#[test]
fn a_trace_cut_anywhere_yields_its_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    let mut recorder = Recorder::start(options(&path), about()).unwrap();
    let start = Instant::now();
    let mut ends = vec![recorder.recorded().bytes];
    for batch in 0..3_u32 {
        for each in every_kind() {
            recorder.event(each).unwrap();
        }
        let now = start + BATCH_EVERY * 2 * batch;
        recorder.turn(now, || None).unwrap();
        recorder.turn(now + BATCH_EVERY, || None).unwrap();
        ends.push(recorder.recorded().bytes);
    }
    recorder.finish().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for length in (0..file.metadata().unwrap().len()).rev() {
        file.set_len(length).unwrap();
        let Some(batches) = ends.iter().rposition(|end| *end <= length) else {
            assert!(matches!(Reader::open(std::slice::from_ref(&path)), Err(ReadError::NoTrace { .. })), "{length}");
            continue;
        };
        let (events, tail) = read(std::slice::from_ref(&path));
        assert_eq!(events.len(), batches * every_kind().len(), "{length}");
        // All that ends a whole trace is its mark, and zstd's.
        let marked = batches + 1 == ends.len() && matches!(tail, Ok(Tail::Whole));
        assert!(marked || matches!(tail, Ok(Tail::Unfinished) | Err(ReadError::Damaged { .. })), "{length}: {tail:?}");
        if ends.contains(&length) {
            assert_eq!(tail.unwrap(), Tail::Unfinished);
        }
    }
}

/// Numbers from a seed (xorshift, G. Marsaglia, 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn damage_is_noticed_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    record(&path, &every_kind());
    let whole = fs::read(&path).unwrap();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..10_000 {
        let mut bytes = whole.clone();
        for _ in 0..=dice.below(4) {
            let at = dice.below(bytes.len());
            bytes[at] ^= u8::try_from(1 + dice.below(255)).unwrap();
        }
        fs::write(&path, &bytes).unwrap();
        let Ok(mut reader) = Reader::open(std::slice::from_ref(&path)) else { continue };
        let mut events = Vec::new();
        match reader.next_batch(&mut events) {
            Ok(Some(_)) => {
                // The checksum covers all but its own metadata: what comes through is what was written.
                assert_eq!(events, every_kind(), "round {round}");
            }
            Ok(None) | Err(_) => assert!(events.is_empty()),
        }
    }
}

#[test]
fn what_is_forged_is_no_panic_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    record(&path, &every_kind());
    let whole = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
    let mut dice = Dice(0x0123_4567_89ab_cdef);
    super::frames::tests::BELIEVING.set(true);
    let mut read_through = 0;
    for _ in 0..10_000 {
        let mut bytes = whole.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            bytes[at] = u8::try_from(dice.below(256)).unwrap();
        }
        fs::write(&path, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
        let Ok(mut reader) = Reader::open(std::slice::from_ref(&path)) else { continue };
        let mut events = Vec::new();
        read_through += u32::from(reader.next_batch(&mut events).is_ok());
        // What numbers there are may be anything now.
        let mut engine = crate::diagnose::Engine::default();
        for event in &events {
            engine.apply(event, &mut |_| {});
        }
        engine.finish(&mut |_| {});
    }
    super::frames::tests::BELIEVING.set(false);
    assert!(read_through > 1_000, "{read_through}");
}

#[test]
fn a_newer_format_is_told_from_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows.zst");
    record(&path, &every_kind());
    let mut bytes = zstd::decode_all(fs::File::open(&path).unwrap()).unwrap();
    let key = format::VERSION_KEY.as_bytes();
    let found = bytes.windows(key.len()).position(|window| window == key).unwrap();
    // The version is the only lone digit near its key.
    let digit =
        (found.saturating_sub(64)..found + 64).find(|at| bytes[*at] == b'1' && bytes[at - 4..*at] == [1, 0, 0, 0]);
    bytes[digit.unwrap()] = b'9';
    fs::write(&path, zstd::encode_all(&bytes[..], 1).unwrap()).unwrap();
    let error = Reader::open(std::slice::from_ref(&path)).err().unwrap();
    assert!(matches!(error, ReadError::Newer { found: 9, .. }), "{error}");
    fs::write(&path, "timestamp,host\n").unwrap();
    let error = Reader::open(&[path]).err().unwrap().to_string();
    assert!(error.contains("is no trace"), "{error}");
}
