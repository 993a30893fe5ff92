//! What a reader sees: an immutable copy of model and verdicts at one moment. Views hold one for as long as they like
//! and lock nothing.

pub mod desk;
mod facts;
mod lately;
pub mod playback;
pub mod quantiles;
pub mod timeline;
pub mod upstream;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    addr::{NetNs, UnixPath},
    diagnose::{Engine, Incident, Said, Verdict, Warning},
    event::{Counters, Event},
    hooks::Hooks,
    time::{Time, WallClock},
    trace::Recorded,
};
pub use desk::{Cost, Desk, Look, ProgramCost, Tail};
use lately::Lately;
pub use playback::Playback;
pub use quantiles::Quantiles;
pub use timeline::Timeline;
pub use upstream::{Pool, UpstreamRow};

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
    /// The last events, while somebody looks at them.
    pub tail: Option<Arc<Tail>>,
    /// What watching costs, while somebody looks at it; never in a replay.
    pub cost: Option<Arc<Cost>>,
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

/// All that follows from the events so far.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// Model and rules.
    pub engine: Engine,
    /// The last verdicts, the latest last, at most [`RECENT_VERDICTS`].
    pub recent: VecDeque<Verdict>,
    /// The last minute of each upstream.
    lately: Lately,
}

impl Folded {
    /// What follows upon an engine whose events are not known: nothing is recent.
    pub fn upon(engine: Engine) -> Self {
        Self { engine, ..Self::default() }
    }

    /// Takes in one event and hands what follows from it to `say`, in order.
    pub fn apply(&mut self, event: &Event, say: &mut impl FnMut(Said)) {
        let Self { engine, recent, lately } = self;
        engine.apply(event, &mut |said| {
            remember(recent, lately, &said);
            say(said);
        });
        lately.event(event);
    }

    /// Judges whatever still waits: the stream has ended.
    pub fn finish(&mut self, say: &mut impl FnMut(Said)) {
        let Self { engine, recent, lately } = self;
        engine.finish(&mut |said| {
            remember(recent, lately, &said);
            say(said);
        });
    }
}

fn remember(recent: &mut VecDeque<Verdict>, lately: &mut Lately, said: &Said) {
    if let Said::Verdict(verdict) = said {
        lately.verdict(verdict);
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
        let Folded { engine, recent, lately } = folded;
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
                upstream::row(*key, upstream, folded, listener, frame.since)
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
            evicted: model.evicted().saturating_add(engine.hurried()).saturating_add(lately.evicted()),
            hooks: frame.hooks.clone(),
            recording: Recording::Off,
            playback: None,
            tail: None,
            cost: None,
        }
    }
}
