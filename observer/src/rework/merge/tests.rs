//! Two sides together say what neither can alone.

use std::{fs::File, path::Path};

use super::*;
use crate::{
    diagnose::{Engine, Said},
    event::{ConnectionEnded, HostSample, ListenOverflow, ListenerSample, NamespaceSample, OverflowPath, ProxySample},
    hooks::{Carrier, Hook, HookStatus, Hooks},
    testing::{client_flow, endpoint, event, refused_connection, server_flow},
    time::WallClock,
    trace::{
        RecordOptions, Recorder,
        tests::{about, read},
    },
};

/// What the upstream's clock is ahead, in milliseconds, and how long before its host booted.
const AHEAD: u64 = 3_700;
const BOOTED: u64 = 86_400_000;

fn record(path: &Path, about: About, events: &[Event]) {
    let options = RecordOptions { path: path.to_owned(), ring: None, level: None, force: false };
    let mut recorder = Recorder::start(options, about).unwrap();
    for each in events {
        recorder.event(each.clone()).unwrap();
    }
    recorder.finish().unwrap();
}

/// A SYN at 1 s, again at 2 s, given up at 3.5 s.
fn proxy_side() -> Vec<Event> {
    let silent = ConnectionEnded {
        started: event(1_000, Body::Tick).time,
        error: 0,
        closed_by_proxy: true,
        reset_received: false,
        syn_retransmits: 1,
        ..refused_connection()
    };
    let counters = Counters { connections_ended: 1, sees_syn_drops: true, ..Counters::default() };
    vec![
        event(0, Body::Counters(Box::new(counters))),
        event(500, Body::HostSample(HostSample { ticks: 1, stolen: 0, waited_us: None })),
        event(3_500, Body::ConnectionEnded(Box::new(silent))),
        event(4_000, Body::Counters(Box::new(Counters { connections_ended: 2, ..counters }))),
    ]
}

/// The same by the upstream's clock, a tenth of a millisecond later; in the very namespace, by number, of the proxy.
fn upstream_side() -> Vec<Event> {
    let flow = crate::event::Flow { netns: client_flow().netns, ..server_flow() };
    let overflow = ListenOverflow { flow, path: OverflowPath::Syn, depth: 9, limit: 8 };
    let sample = ListenerSample {
        at: endpoint("0.0.0.0:8000"),
        netns: flow.netns,
        depth: 9,
        limit: 8,
        process: Some(Process { pid: 42, comm: "gunicorn".into() }),
        holders: 5,
        stopped: 0,
        runnable: 0,
        accepted_open: 4,
        arrivals: Some(9),
    };
    let namespace = NamespaceSample { netns: flow.netns, addresses: vec![flow.local.ip], ..NamespaceSample::default() };
    let counters = Counters { listen_overflow_syn: 2, sees_syn_drops: true, ..Counters::default() };
    let process = Process { pid: 43, comm: "nginx".into() };
    let events = [
        event(100, Body::NamespaceSample(Box::new(namespace))),
        event(600, Body::HostSample(HostSample { ticks: 2, stolen: 0, waited_us: None })),
        event(700, Body::ProxySample(Box::new(ProxySample { process, open_files: 1, open_files_limit: 9 }))),
        event(900, Body::ListenerSample(Box::new(sample))),
        event(1_000, Body::ListenOverflow(overflow)),
        event(2_000, Body::ListenOverflow(overflow)),
        event(3_800, Body::Counters(Box::new(counters))),
    ];
    let shifted = |Event { time, body }| Event { time: Time(time.0 + (AHEAD + BOOTED) * 1_000_000 + 100_000), body };
    events.into_iter().map(shifted).collect()
}

fn upstream_about() -> About {
    let wall = WallClock { offset: about().wall.offset - BOOTED * 1_000_000 };
    let hooks = Hooks(vec![
        (Hook::StateChanges, HookStatus::Missing("no".into())),
        (Hook::SynAckRetransmits, HookStatus::Full(Carrier::TpBtf)),
        (Hook::Connects, HookStatus::Full(Carrier::TpBtf)),
    ]);
    About { host: "db-1".into(), wall, hooks, ..about() }
}

/// The new recording: its events and what it says of itself.
fn merged(ahead: Option<i128>, swapped: bool) -> (Result<Merged, MergeError>, Vec<Event>, About) {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, out] = ["a", "b", "out"].map(|name| folder.path().join(name));
    record(&a, about(), &proxy_side());
    record(&b, upstream_about(), &upstream_side());
    let files = if swapped { [b, a] } else { [a, b] };
    let merged = merge(&files, ahead, File::create(&out).unwrap());
    let about = Reader::open(std::slice::from_ref(&out)).unwrap().about().clone();
    (merged, read(&[out]).0, about)
}

fn causes(events: &[Event]) -> Vec<(&'static str, &'static str)> {
    let mut engine = Engine::default();
    let mut causes = Vec::new();
    let mut say = |said| {
        if let Said::Verdict(verdict) = said {
            causes.push((verdict.cause, verdict.confidence.name()));
        }
    };
    for event in events {
        engine.apply(event, &mut say);
    }
    engine.finish(&mut say);
    causes
}

#[test]
fn what_was_open_becomes_certain() {
    assert_eq!(causes(&proxy_side()), [("unknown", "possible")]);
    let (one, events, _) = merged(None, false);
    assert_eq!(causes(&events), [("accept-queue-overflow", "certain")]);
    let (other, swapped, _) = merged(None, true);
    assert_eq!(events, swapped, "the order of arguments says nothing");
    for merged in [one.unwrap(), other.unwrap()] {
        assert_eq!((merged.proxy.as_str(), merged.upstream.as_str()), ("edge-7", "db-1"));
        let offset = merged.offset.unwrap();
        assert_eq!((offset.connections, offset.seen), (1, 1));
        // One connection that nobody answered tells little, and it says so.
        let off = merged.ahead.abs_diff(i128::from(AHEAD) * 1_000_000);
        assert!(off <= offset.uncertainty.as_nanos(), "{merged:?}");
    }
}

#[test]
fn both_sides_are_told_apart_and_in_order() {
    let (merged, events, about) = merged(Some(i128::from(AHEAD) * 1_000_000), false);
    assert_eq!(merged.unwrap().offset, None);
    assert!(events.is_sorted_by_key(|event| event.time));
    let overflow = events.iter().find_map(|event| match &event.body {
        Body::ListenOverflow(overflow) => Some((event.time, overflow.flow.netns)),
        _ => None,
    });
    assert_eq!(overflow, Some((Time(event(1_000, Body::Tick).time.0 + 100_000), NetNs(1 << NETNS_SHIFT | 7))));
    let listener = events.iter().find_map(|event| match &event.body {
        Body::ListenerSample(sample) => sample.process.clone(),
        _ => None,
    });
    assert_eq!(listener.unwrap().pid, PID_SHIFT + 42);
    let hosts: Vec<_> = events.iter().filter(|event| matches!(event.body, Body::HostSample(_))).collect();
    assert!(matches!(hosts[..], [Event { body: Body::HostSample(HostSample { ticks: 2, .. }), .. }]));
    let last = events.iter().rev().find_map(|event| match &event.body {
        Body::Counters(counters) => Some(**counters),
        _ => None,
    });
    let last = last.unwrap();
    assert_eq!((last.connections_ended, last.listen_overflow_syn, last.sees_syn_drops), (2, 2, true));
    assert_eq!((about.host.as_str(), about.joined), ("edge-7 + db-1", 1));
    assert_eq!(about.hooks.status(Hook::StateChanges), Some(&HookStatus::Missing("on db-1: no".into())));
    assert_eq!(about.hooks.status(Hook::Connects), Some(&HookStatus::Missing("on edge-7: no".into())));
    let partial = HookStatus::Partial(Carrier::KfreeSkb, "on edge-7: some".into());
    assert_eq!(about.hooks.status(Hook::SynAckRetransmits), Some(&partial));
}

#[test]
fn what_cannot_be_joined_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
    record(&a, about(), &proxy_side());
    record(&b, upstream_about(), &proxy_side());
    record(&c, About { host: "db-2".into(), ..about() }, &upstream_side()[..3]);
    let merge = |files: &[&PathBuf]| {
        let files: Vec<_> = files.iter().copied().cloned().collect();
        merge(&files, None, Vec::new()).unwrap_err()
    };
    assert!(matches!(merge(&[&a, &b]), MergeError::BothProxies));
    assert!(matches!(merge(&[&a]), MergeError::NotTwo(1)));
    assert!(matches!(merge(&[&a, &b, &c]), MergeError::NotTwo(3)));
    assert!(matches!(merge(&[&a, &c]), MergeError::NothingInCommon));
}

#[test]
fn an_offset_may_be_negative() {
    assert_eq!((parse_ahead("3s 700ms"), parse_ahead("-200ms")), (Ok(3_700_000_000), Ok(-200_000_000)));
    assert!(parse_ahead("soon").is_err());
}
