//! Listeners and their accept queues.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    event::{Application, ListenerSample, Process, UnixListenerSample},
    time::Time,
    untrusted::at_most,
};

/// Samples kept of each listener.
pub const MAX_SAMPLES: usize = 12;

/// The stretch over which arrivals and accepts are compared.
const SPAN: Duration = Duration::from_secs(10);
/// Shorter than this tells nothing of rates.
const LEAST: Duration = Duration::from_millis(2900);
/// More comes than can be done if it exceeds that by this factor; less may be chance.
const TOO_MUCH: f64 = 1.2;

/// A listener at one moment. Counts since observer attached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Sample {
    time: Time,
    arrivals: u64,
    turned_away: u64,
    depth: u32,
}

/// What came to a listener over a stretch of time, and what was taken from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flux {
    /// How long.
    pub over: Duration,
    /// Clients that came, those turned away among them.
    pub came: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// The queue was never found empty.
    pub never_empty: bool,
}

impl Flux {
    /// Clients that came per second.
    pub fn comes(&self) -> f64 {
        per_second(self.came, self.over)
    }

    /// Connections accepted per second.
    pub fn can_do(&self) -> f64 {
        per_second(self.accepted, self.over)
    }

    /// Clearly more comes than is accepted.
    pub fn too_much(&self) -> bool {
        self.comes() > TOO_MUCH * self.can_do()
    }

    /// Seconds for which one connection takes up a place, if so many places (workers by what each serves at once) were all taken
    /// (Little's law: what is under way is what comes in by how long it stays); `None` if nothing was accepted.
    pub fn service(&self, at_once: u32) -> Option<f64> {
        (self.accepted > 0).then(|| f64::from(at_once) / self.can_do())
    }

    /// Places that it would take to serve all that comes, if so many are all taken by what is accepted: arrivals per second by
    /// seconds each, rounded up.
    pub fn needed(&self, at_once: u32) -> Option<u32> {
        let work = self.came.saturating_mul(at_once.into());
        (self.accepted > 0).then(|| u32::try_from(work.div_ceil(self.accepted)).unwrap_or(u32::MAX))
    }
}

fn per_second(count: u64, over: Duration) -> f64 {
    let count = u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    if over.is_zero() { 0.0 } else { count / over.as_secs_f64() }
}

/// A listener as last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Connections in the accept queue when last looked at.
    pub depth: u32,
    /// The queue's limit: full means deeper than that.
    pub limit: u32,
    /// The deepest that the queue was seen.
    pub high_water: u32,
    /// The process that holds it.
    pub process: Option<Process>,
    /// How many processes hold it; 0 when unknown.
    pub holders: u32,
    /// Which server they are, if that is known.
    pub application: Option<Application>,
    /// How many of them were stopped when last looked at.
    pub stopped: u32,
    /// How many of them ran or wanted to.
    pub runnable: u32,
    /// When it was last looked whether they run.
    pub states_at: Time,
    /// Open connections that they had accepted.
    pub accepted_open: u32,
    /// Clients turned away since observer attached, each counted once however often it knocked.
    pub turned_away: u64,
    /// The last samples, oldest first, at most [`MAX_SAMPLES`].
    #[serde(deserialize_with = "at_most::<MAX_SAMPLES, _, _, _>")]
    samples: VecDeque<Sample>,
    /// Overflows since observer attached, a lower bound when records were lost.
    pub overflows: u64,
    /// When it last overflowed.
    pub last_overflow: Option<Time>,
    /// What its SYN queue dropped.
    pub syn_queue: SynQueue,
    /// When it was opened, if that was seen.
    pub opened_at: Option<Time>,
    /// When it was closed, with how many connections in its queue.
    pub closed_at: Option<(Time, u32)>,
    /// When it was last looked at.
    pub seen: Time,
}

/// Handshakes under way at a listener, when they were too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SynQueue {
    /// SYNs dropped since observer attached, a lower bound when records were lost.
    pub drops: u64,
    /// When the last was.
    pub last_drop: Option<Time>,
    /// How many handshakes were under way then.
    pub depth: u32,
}

impl Listener {
    /// Whether it listens, as far as is known.
    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    /// Processes that accept from it. Where they were not told apart and several hold it, the eldest is taken for their parent,
    /// which does not.
    pub fn workers(&self) -> Option<u32> {
        if let Some(workers) = self.application.and_then(|application| application.workers) {
            return Some(workers);
        }
        match self.holders {
            0 => None,
            1 => Some(1),
            several => Some(several - 1),
        }
    }

    /// Requests that each worker serves at once, where that is a known number.
    pub fn threads(&self) -> Option<u32> {
        self.application.and_then(|application| application.threads)
    }

    /// Its workers are event loops: their number does not bound how many requests are at hand.
    pub fn is_event_loop(&self) -> bool {
        self.application.is_some_and(|application| application.event_loop)
    }

    /// Requests that its workers serve at once; where it is not known of each, one. `None` for event loops, which have no bound.
    pub fn at_once(&self) -> Option<u32> {
        let each = self.threads().unwrap_or(1);
        self.workers().filter(|_| !self.is_event_loop()).map(|workers| workers.saturating_mul(each))
    }

    /// Workers that it would take for what comes, with as many threads each as they have now, if all are at work.
    pub fn workers_needed(&self, flux: &Flux) -> Option<u32> {
        let at_once = flux.needed(self.at_once()?)?;
        Some(at_once.div_ceil(self.threads().unwrap_or(1).max(1)))
    }

    /// What comes and goes of late; `None` before it has been watched for long enough to tell rates.
    pub fn rates(&self, now: Time) -> Option<Flux> {
        self.flux(now, SPAN).filter(|flux| flux.over >= LEAST)
    }

    /// Every worker has as many connections at hand as it serves at once. Not told of a single process of which that is not known:
    /// it may serve many.
    pub fn all_taken(&self) -> bool {
        let known = |at_once: u32| at_once > 1 || self.threads().is_some();
        self.at_once().is_some_and(|at_once| known(at_once) && self.accepted_open >= at_once)
    }

    /// Whether workers accept at the pace at which they finish: there was always somebody waiting, or more comes than they
    /// take while each has a connection at hand.
    pub fn at_capacity(&self, flux: &Flux) -> bool {
        (flux.never_empty && flux.accepted > 0) || (self.all_taken() && flux.too_much())
    }

    /// What came and went between the samples of the last `span`; `None` before there are two.
    pub fn flux(&self, now: Time, span: Duration) -> Option<Flux> {
        let within: Vec<_> = self.samples.iter().filter(|sample| now.since(sample.time) <= span).collect();
        let (first, last) = (within.first()?, within.last()?);
        if first.time == last.time {
            return None;
        }
        let queued = last.arrivals.saturating_sub(first.arrivals);
        Some(Flux {
            over: last.time.since(first.time),
            came: queued.saturating_add(last.turned_away.saturating_sub(first.turned_away)),
            accepted: queued.saturating_add(first.depth.into()).saturating_sub(last.depth.into()),
            never_empty: within.iter().all(|sample| sample.depth > 0),
        })
    }

    /// Whether its queue was found empty after that time, having let something through since the sample before.
    pub fn empty_after(&self, time: Time) -> bool {
        let newest_first: Vec<_> = self.samples.iter().rev().take_while(|sample| sample.time >= time).collect();
        newest_first.iter().any(|sample| sample.depth == 0 && sample.arrivals > 0)
    }

    /// How long nothing has been accepted while connections waited, by the samples; zero if something was of late.
    pub fn stalled_for(&self) -> Duration {
        let mut begin = None;
        let newest_first: Vec<_> = self.samples.iter().rev().collect();
        for pair in newest_first.windows(2) {
            let (later, earlier) = (pair[0], pair[1]);
            let queued = later.arrivals.saturating_sub(earlier.arrivals);
            let accepted = queued.saturating_add(earlier.depth.into());
            if earlier.depth == 0 || accepted > u64::from(later.depth) {
                break;
            }
            begin = Some(earlier.time);
        }
        begin.zip(self.samples.back()).map_or(Duration::ZERO, |(begin, last)| last.time.since(begin))
    }

    pub(super) fn opened(&mut self, now: Time, limit: u32, process: Process) {
        self.depth = 0;
        self.limit = limit;
        self.samples.clear();
        self.process = Some(process);
        self.holders = 0;
        self.application = None;
        self.opened_at = Some(now);
        self.closed_at = None;
        self.seen = now;
    }

    pub(super) fn closed(&mut self, now: Time, depth: u32) {
        self.depth = 0;
        self.closed_at = Some((now, depth));
        self.seen = now;
    }

    pub(super) fn sampled(&mut self, now: Time, sample: &ListenerSample) {
        self.measured(now, sample.depth, sample.limit);
        self.closed_at = None;
        (self.stopped, self.runnable, self.accepted_open) = (sample.stopped, sample.runnable, sample.accepted_open);
        // Their states are looked at only while connections wait.
        if sample.depth > 0 {
            self.states_at = now;
        }
        if self.samples.len() >= MAX_SAMPLES {
            self.samples.pop_front();
        }
        let (arrivals, turned_away) = (sample.arrivals.unwrap_or(0), self.turned_away);
        self.samples.push_back(Sample { time: now, arrivals, turned_away, depth: sample.depth });
        if sample.process.is_some() {
            self.process.clone_from(&sample.process);
            self.holders = sample.holders;
        }
    }

    pub(super) fn sampled_unix(&mut self, now: Time, sample: &UnixListenerSample) {
        self.measured(now, sample.depth, sample.limit);
        if sample.process.is_some() {
            self.process.clone_from(&sample.process);
            self.holders = sample.holders;
        }
    }

    pub(super) fn overflowed(&mut self, now: Time, depth: u32, limit: u32, first_of_client: bool) {
        self.measured(now, depth, limit);
        self.turned_away = self.turned_away.saturating_add(first_of_client.into());
        self.overflows = self.overflows.saturating_add(1);
        self.last_overflow = Some(now);
    }

    pub(super) fn overflow_retracted(&mut self, now: Time) {
        self.overflows = self.overflows.saturating_sub(1);
        if self.overflows == 0 {
            self.last_overflow = None;
        }
        self.seen = now;
    }

    pub(super) fn syn_queue_dropped(&mut self, now: Time, depth: u32, limit: u32) {
        self.limit = limit;
        self.seen = now;
        self.syn_queue = SynQueue { drops: self.syn_queue.drops.saturating_add(1), last_drop: Some(now), depth };
    }

    fn measured(&mut self, now: Time, depth: u32, limit: u32) {
        self.depth = depth;
        self.limit = limit;
        self.high_water = self.high_water.max(depth);
        self.seen = now;
    }
}
