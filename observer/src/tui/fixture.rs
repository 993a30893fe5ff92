//! Snapshots for the view's tests. Nothing in them is made up: events go through the real engine, as they would from
//! the kernel.

use std::sync::Arc;

use crate::{
    event::{Body, Configuration, Configured, ConnectionEnded, Event, Process, Server},
    hooks::{Carrier, HookStatus, Hooks},
    snapshot::{Cost, Folded, Frame, Playback, ProgramCost, Snapshot, Tail, Timeline, playback::Standing},
    testing::{
        NETNS, about, at, endpoint, refused_connection,
        stage::{API, GUNICORN, REMOTE, SECONDS, Stage, all_hooks},
    },
    time::Speed,
    trace::About,
};

/// Events kept of each stage, as the pipeline would.
const TAIL: usize = 300;

fn snapshot(stage: Stage, hooks: Hooks) -> Arc<Snapshot> {
    let mut folded = Folded::default();
    let events = stage.events();
    for event in &events {
        folded.apply(event, &mut |_| {});
    }
    Arc::new(Snapshot {
        tail: Some(Arc::new(tail(&events))),
        cost: Some(Arc::new(cost())),
        ..Snapshot::take(&folded, &frame(hooks))
    })
}

fn tail(events: &[Event]) -> Tail {
    let first = events.len().saturating_sub(TAIL);
    let count = |count: usize| u64::try_from(count).unwrap();
    Tail { first: count(first), events: events[first..].to_vec(), passed: count(events.len()) }
}

fn cost() -> Cost {
    let program = |name: &str, runs_per_second, nanos_per_run| ProgramCost {
        name: name.to_owned(),
        runs_per_second,
        nanos_per_run,
    };
    Cost {
        programs: vec![program("inet_sock_set_state", 212.4, 640.0), program("tcp_retransmit_skb", 12.1, 410.0)],
        own_cpu_share: 0.012,
        memory_bytes: 36 << 20,
        events_per_second: 84.2,
    }
}

/// Events begin at 03:10:00 on 2 January 2026.
fn frame(hooks: Hooks) -> Frame {
    let About { since, wall, watching, .. } = about();
    Frame { since, wall, watching, hooks }
}

/// All is well.
pub(super) fn quiet() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 2);
    stage.healthy(GUNICORN, 20, false);
    stage.healthy(API, 5, false);
    snapshot(stage, all_hooks())
}

/// One upstream's accept queue is full, and the proxy's configuration has in it what makes that worse.
pub(crate) fn configured() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 129);
    stage.healthy(GUNICORN, 20, true);
    stage.healthy(API, 5, false);
    stage.overflows(81, SECONDS);
    let finding = |code: &str, line, fix: &[&str]| Configured {
        code: code.into(),
        file: "/etc/nginx/conf.d/app.conf".into(),
        line,
        what:
            "the upstream app keeps connections, but requests are passed to it as HTTP/1.0: each opens one of its own"
                .into(),
        fix: fix.iter().map(|&line| line.to_owned()).collect(),
        servers: vec![Server::At(endpoint(GUNICORN))],
        ..Configured::default()
    };
    let told = Configuration {
        master: Process { pid: 41, comm: "nginx".into() },
        netns: NETNS,
        workers: vec![Process { pid: 42, comm: "nginx".into() }],
        file: "/etc/nginx/nginx.conf".into(),
        findings: vec![
            finding("connect-timeout-long", 8, &["proxy_connect_timeout 3s;"]),
            finding(
                "keepalive-not-in-effect",
                12,
                &[
                    "proxy_http_version 1.1;",
                    "proxy_set_header Connection \"\";  beside the other headers, /etc/nginx/nginx.conf:20",
                ],
            ),
            Configured { only_if_seen: true, ..finding("unequal-upstreams", 3, &["least_conn;"]) },
        ],
        ..Configuration::default()
    };
    stage.push(0, Body::Configuration(Box::new(told)));
    snapshot(stage, all_hooks())
}

/// Nothing has happened at all.
pub(crate) fn idle() -> Arc<Snapshot> {
    snapshot(Stage::default(), all_hooks())
}

/// One upstream's accept queue is full.
pub(super) fn one() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 129);
    stage.healthy(GUNICORN, 20, false);
    stage.healthy(API, 5, false);
    stage.overflows(81, SECONDS);
    snapshot(stage, all_hooks())
}

/// The same, over since a minute.
pub(super) fn over() -> Arc<Snapshot> {
    let mut stage = Stage::default();
    stage.host(310, 2);
    stage.healthy(GUNICORN, 20, false);
    stage.overflows(81, SECONDS - 60);
    snapshot(stage, all_hooks())
}

/// A full accept queue and nobody listening; then, a minute before the end, the queue is no longer full: as it was at that moment, and a
/// minute later.
pub(crate) fn changed() -> [Arc<Snapshot>; 2] {
    let mut stage = Stage::default();
    stage.host(310, 2);
    stage.healthy(GUNICORN, 20, false);
    stage.healthy(API, 2, false);
    stage.overflows(81, SECONDS - 60);
    stage.refused(700);
    let (mut folded, frame) = (Folded::default(), frame(all_hooks()));
    let mut before = None;
    for event in stage.events() {
        if before.is_none() && event.time >= at((SECONDS - 59) * 1000) {
            before = Some(Arc::new(Snapshot::take(&folded, &frame)));
        }
        folded.apply(&event, &mut |_| {});
    }
    [before.unwrap(), Arc::new(Snapshot::take(&folded, &frame))]
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
pub(crate) fn three() -> Arc<Snapshot> {
    snapshot(three_at_once(), all_hooks())
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
    snapshot(stage, hooks)
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
    snapshot(stage, all_hooks())
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
    let so_far: Vec<_> = events.into_iter().take_while(|event| event.time <= at(second * 1000)).collect();
    Arc::new(Snapshot {
        playback: Some(playback),
        tail: Some(Arc::new(tail(&so_far))),
        ..Snapshot::take(&shown, &frame(all_hooks()))
    })
}
