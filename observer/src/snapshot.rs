//! What a reader sees: an immutable copy of model and verdicts at one moment. Views hold one for as long as they like
//! and lock nothing.

mod configured;
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
    diagnose::{Engine, Harmless, Incident, Said, Verdict, Warning},
    event::{Counters, Event, LogSample},
    hooks::Hooks,
    model::window::TALLY_SECONDS,
    time::{Time, WallClock},
    trace::Recorded,
};
pub use configured::ConfiguredRow;
pub use desk::{Cost, Desk, Look, ProgramCost, Tail};
use lately::Lately;
pub use playback::Playback;
pub use quantiles::Quantiles;
pub use timeline::Timeline;
pub use upstream::{Pool, UpstreamRow};

/// Verdicts kept for looking back at.
pub const RECENT_VERDICTS: usize = 200;
/// Whole seconds that rates are taken over, and the running one besides.
pub const RATE_SECONDS: u64 = TALLY_SECONDS;

/// One moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which moment.
    pub now: Time,
    /// Seconds that rates are taken over, at least one.
    pub rate_seconds: f64,
    /// Tries that failed and were no client's 502 or 504.
    pub harmless: Harmless,
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
    /// The proxies' logs that were found.
    pub logs: Vec<LogSample>,
    /// What the proxies' configurations have in them that is better changed: what is confirmed first.
    pub configured: Vec<ConfiguredRow>,
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

/// [`RATE_SECONDS`] and what has passed of the running second, or all that has been watched if that is less; one at least.
fn rate_seconds(now: Time, since: Time) -> f64 {
    let begin = Time(now.seconds().saturating_sub(RATE_SECONDS).saturating_mul(1_000_000_000));
    now.since(begin.max(since)).as_secs_f64().max(1.0)
}

impl Snapshot {
    /// Failures of an incident per second.
    pub fn rate(&self, incident: &Incident) -> f64 {
        f64::from(incident.lately(self.now)) / self.rate_seconds
    }

    /// A copy of what has been folded.
    pub fn take(folded: &Folded, frame: &Frame) -> Self {
        let Folded { engine, recent, lately } = folded;
        let model = engine.model();
        let now = model.now();
        let rate_seconds = rate_seconds(now, frame.since);
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
                upstream::row(*key, upstream, folded, listener, rate_seconds)
            })
            .collect();
        upstreams.sort_by(|a, b| {
            let order = |row: &UpstreamRow| (row.failed_per_second, row.tries_per_second);
            order(b).partial_cmp(&order(a)).unwrap_or(std::cmp::Ordering::Equal).then(a.key.cmp(&b.key))
        });
        let mut incidents: Vec<_> = engine.incidents().iter().cloned().collect();
        incidents.sort_by(|a, b| {
            let order = |incident: &Incident| {
                // What cannot be told, or only follows from another, is less use to read first.
                let last = matches!(incident.cause, "unknown" | "no-live-upstreams");
                (incident.active(now), !last, incident.lately(now), incident.latest.time)
            };
            order(b).cmp(&order(a))
        });
        let mut warnings: Vec<_> = engine.warnings().map(|(warning, since)| (warning.clone(), since)).collect();
        // What is only wasteful comes after what is about to fail.
        warnings.sort_by_key(|(warning, _)| warning.cause == "keepalive-off");
        Self {
            rate_seconds,
            harmless: engine.harmless(),
            now,
            since: frame.since,
            wall: frame.wall,
            watching: frame.watching.clone(),
            incidents,
            warnings,
            recent: recent.iter().rev().cloned().collect(),
            totals: engine.incidents().totals().clone(),
            counters: *model.counters(),
            events: model.events(),
            evicted: model.evicted().saturating_add(engine.hurried()).saturating_add(lately.evicted()),
            logs: engine.lines().logs().cloned().collect(),
            configured: configured::rows(engine, &upstreams),
            upstreams,
            hooks: frame.hooks.clone(),
            recording: Recording::Off,
            playback: None,
            tail: None,
            cost: None,
        }
    }
}
