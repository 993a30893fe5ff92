//! What a reader sees: an immutable copy of model and verdicts at one moment. Views hold one for as long as they like
//! and lock nothing.

pub mod playback;
pub mod timeline;

use std::collections::{BTreeMap, VecDeque};

use crate::{
    addr::{NetNs, UnixPath},
    diagnose::{Engine, Incident, Said, Verdict, Warning},
    event::{Counters, Event, Process},
    hooks::Hooks,
    model::{Listener, Model, Namespace, Upstream, UpstreamKey, window::Second},
    time::{Time, WallClock},
    trace::Recorded,
};
pub use playback::Playback;
pub use timeline::Timeline;

/// Verdicts kept for looking back at.
pub const RECENT_VERDICTS: usize = 200;
/// Seconds that rates are taken over.
pub const RATE_SECONDS: u32 = 10;

/// One moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which moment.
    pub now: Time,
    /// When observer began to watch.
    pub since: Time,
    /// Turns times into times of day.
    pub wall: WallClock,
    /// What is watched, in words (`nginx, haproxy…; ports 8000`).
    pub watching: String,
    /// Incidents, those that go on first, the fastest first among them.
    pub incidents: Vec<Incident>,
    /// Warnings that hold, with since when.
    pub warnings: Vec<(Warning, Time)>,
    /// Upstreams, the most failures first, then the busiest.
    pub upstreams: Vec<UpstreamRow>,
    /// The last verdicts, the latest first.
    pub recent: Vec<Verdict>,
    /// Verdicts by cause since the start.
    pub totals: BTreeMap<&'static str, u64>,
    /// The kernel's own counters.
    pub counters: Counters,
    /// Events taken in.
    pub events: u64,
    /// Entries that full tables dropped, and tries judged early for want of room.
    pub evicted: u64,
    /// How each hook stands.
    pub hooks: Hooks,
    /// What is recorded.
    pub recording: Recording,
    /// Where the replay stands, if it is one.
    pub playback: Option<Playback>,
}

/// How a recording stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Recording {
    /// Nothing is recorded.
    #[default]
    Off,
    /// It goes on.
    On(Recorded),
    /// It ended in good order.
    Done(Recorded),
    /// It broke off, for this reason.
    Failed(String),
}

/// An upstream for a table.
#[derive(Clone, Debug)]
pub struct UpstreamRow {
    /// Which.
    pub key: UpstreamKey,
    /// Who uses it.
    pub proxy: Process,
    /// Tries that ended since the start.
    pub tries: u64,
    /// Tries that failed since the start.
    pub failed: u64,
    /// Tries per second of late.
    pub tries_per_second: f64,
    /// Failures per second of late.
    pub failed_per_second: f64,
    /// The last minute, second by second, oldest first.
    pub minute: Vec<Second>,
    /// Its address is this host's.
    pub local: bool,
    /// Its listener, if on this host, with namespace and bound address or path.
    pub listener: Option<(NetNs, String, Listener)>,
    /// TIME_WAIT sockets of the proxy's namespace towards it.
    pub time_wait: u32,
    /// Ephemeral ports in that namespace's range, if known.
    pub ports: Option<u32>,
}

/// All that follows from the events so far.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// Model and rules.
    pub engine: Engine,
    /// The last verdicts, the latest last, at most [`RECENT_VERDICTS`].
    pub recent: VecDeque<Verdict>,
}

impl Folded {
    /// Takes in one event and hands what follows from it to `say`, in order.
    pub fn apply(&mut self, event: &Event, say: &mut impl FnMut(Said)) {
        let Self { engine, recent } = self;
        engine.apply(event, &mut |said| {
            remember(recent, &said);
            say(said);
        });
    }

    /// Judges whatever still waits: the stream has ended.
    pub fn finish(&mut self, say: &mut impl FnMut(Said)) {
        let Self { engine, recent } = self;
        engine.finish(&mut |said| {
            remember(recent, &said);
            say(said);
        });
    }
}

fn remember(recent: &mut VecDeque<Verdict>, said: &Said) {
    if let Said::Verdict(verdict) = said {
        if recent.len() >= RECENT_VERDICTS {
            recent.pop_front();
        }
        recent.push_back(Verdict::clone(verdict));
    }
}

/// What a snapshot needs besides what has been folded.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When observer began to watch.
    pub since: Time,
    /// Turns times into times of day.
    pub wall: WallClock,
    /// What is watched, in words.
    pub watching: String,
    /// How each hook stands.
    pub hooks: Hooks,
}

impl Snapshot {
    /// A copy of what has been folded.
    pub fn take(folded: &Folded, frame: &Frame) -> Self {
        let Folded { engine, recent } = folded;
        let model = engine.model();
        let now = model.now();
        let mut upstreams: Vec<_> = model
            .upstreams()
            .map(|(key, upstream)| {
                let tcp = model
                    .listener_behind(key, NetNs::default())
                    .map(|(netns, at, listener)| (netns, at.to_string(), listener.clone()));
                let unix = |path: &UnixPath| {
                    model.unix_listener(path, now).map(|(netns, listener)| (netns, path.to_string(), listener.clone()))
                };
                let listener = tcp.or_else(|| key.path.as_ref().and_then(unix));
                row(*key, upstream, model, listener, frame.since)
            })
            .collect();
        upstreams.sort_by(|a, b| {
            let order = |row: &UpstreamRow| (row.failed_per_second, row.tries_per_second);
            order(b).partial_cmp(&order(a)).unwrap_or(std::cmp::Ordering::Equal).then(a.key.cmp(&b.key))
        });
        let mut incidents: Vec<_> = engine.incidents().iter().cloned().collect();
        incidents.sort_by(|a, b| {
            let order = |incident: &Incident| (incident.active(now), incident.rate(now), incident.latest.time);
            order(b).partial_cmp(&order(a)).unwrap_or(std::cmp::Ordering::Equal)
        });
        Self {
            now,
            since: frame.since,
            wall: frame.wall,
            watching: frame.watching.clone(),
            incidents,
            warnings: engine.warnings().map(|(warning, since)| (warning.clone(), since)).collect(),
            upstreams,
            recent: recent.iter().rev().cloned().collect(),
            totals: engine.incidents().totals().clone(),
            counters: *model.counters(),
            events: model.events(),
            evicted: model.evicted().saturating_add(engine.hurried()),
            hooks: frame.hooks.clone(),
            recording: Recording::Off,
            playback: None,
        }
    }
}

fn row(
    key: UpstreamKey,
    upstream: &Upstream,
    model: &Model,
    listener: Option<(NetNs, String, Listener)>,
    since: Time,
) -> UpstreamRow {
    let now = model.now();
    let late = upstream.window.sum(now, u64::from(RATE_SECONDS));
    // Whole seconds that have been watched: at the start there are fewer.
    let watched = u32::try_from(now.seconds().saturating_sub(since.seconds())).unwrap_or(u32::MAX);
    let per_second = |count: u32| f64::from(count) / f64::from(watched.clamp(1, RATE_SECONDS));
    UpstreamRow {
        key,
        proxy: upstream.proxy.clone(),
        tries: upstream.tries,
        failed: upstream.failed,
        tries_per_second: per_second(late.tries),
        failed_per_second: per_second(late.failed),
        minute: upstream.window.last(now, crate::model::window::SECONDS),
        local: key.endpoint.is_none_or(|at| model.is_local(at.ip)),
        listener,
        time_wait: upstream.time_wait_estimate(),
        ports: model.namespace(key.netns).and_then(Namespace::ports),
    }
}
