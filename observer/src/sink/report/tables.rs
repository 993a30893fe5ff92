//! What a report lists, from the engine's state at the end.

use std::collections::{BTreeMap, HashMap};

use super::{
    Listed, Listener, MAX_LISTED, Queue, Upstream,
    cause::{Cause, Tally},
    words::harmless,
};
use crate::{
    addr::{Endpoint, NetNs},
    diagnose::{Engine, Harmless},
    event::Process,
    model::{Model, UpstreamKey},
    sink::Overflowed,
};

/// Failures by upstream and cause.
pub(super) type Failures = HashMap<UpstreamKey, BTreeMap<&'static str, u64>>;

/// What an engine had counted before the trace begins, where that begins with a later segment.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub(super) harmless: Harmless,
    pub(super) evicted: u64,
    pub(super) events: u64,
    tries: HashMap<UpstreamKey, u64>,
    overflows: HashMap<(NetNs, Endpoint), u64>,
}

impl Before {
    pub(super) fn of(engine: &Engine) -> Self {
        let model = engine.model();
        Self {
            harmless: engine.harmless(),
            evicted: model.evicted() + engine.hurried(),
            events: model.events(),
            tries: model.upstreams().map(|(key, upstream)| (*key, upstream.tries)).collect(),
            overflows: model.listeners().map(|(at, listener)| (*at, listener.overflows)).collect(),
        }
    }
}

/// The causes, the most frequent first.
pub(super) fn causes(tallies: BTreeMap<&'static str, Tally>, upstreams: &Failures) -> Vec<Cause> {
    let mut causes: Vec<_> = tallies
        .into_iter()
        .map(|(code, tally)| {
            let concerned = upstreams.iter().filter_map(|(key, causes)| Some((key, *causes.get(code)?)));
            // The same upstream of proxies in several namespaces is one here.
            let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
            for (key, count) in concerned {
                *by_name.entry(harmless(&key.to_string())).or_default() += count;
            }
            tally.finish(by_name.into_iter().collect())
        })
        .collect();
    causes.sort_by_key(|cause| (std::cmp::Reverse(cause.count), cause.code));
    causes
}

/// The upstreams, the most failures first, then the busiest.
pub(super) fn upstreams(failures: &Failures, model: &Model, before: &Before) -> Listed<Upstream> {
    let mut all: BTreeMap<UpstreamKey, Upstream> = BTreeMap::new();
    for (key, known) in model.upstreams() {
        if before.tries.get(key).is_some_and(|tries| *tries == known.tries) {
            continue;
        }
        let upstream = all.entry(*key).or_default();
        let tries = known.tries.saturating_sub(before.tries.get(key).copied().unwrap_or(0));
        (upstream.proxy, upstream.tries) = (named(&known.proxy), tries);
    }
    for (key, causes) in failures {
        let failures = &mut all.entry(*key).or_default().failures;
        failures.extend(causes.iter().map(|(code, count)| (*code, *count)));
        failures.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    }
    let named = all.into_iter().map(|(key, upstream)| Upstream {
        name: harmless(&key.to_string()),
        netns: key.netns.0,
        ..upstream
    });
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|upstream| {
        let failed: u64 = upstream.failures.iter().map(|(_, count)| count).sum();
        std::cmp::Reverse((failed, upstream.tries))
    });
    Listed::first(named, MAX_LISTED)
}

/// The listeners whose accept queue overflowed, the worst first.
pub(super) fn listeners(model: &Model, before: &Before) -> Listed<Listener> {
    let overflowed = Overflowed::all(model).into_iter().map(|Overflowed { at, netns, listener }| Listener {
        name: at.to_string(),
        netns: netns.0,
        owner: listener.process.as_ref().map(named).unwrap_or_default(),
        overflows: listener.overflows.saturating_sub(before.overflows.get(&(netns, at)).copied().unwrap_or(0)),
        high_water: listener.high_water,
        limit: listener.limit,
    });
    Listed::first(overflowed.filter(|listener| listener.overflows > 0).collect(), MAX_LISTED)
}

/// The accept queues of upstreams on this host that still take connections, at most [`MAX_LISTED`].
pub(super) fn queues(model: &Model) -> Vec<Queue> {
    let open = |key| model.listener_behind(key, NetNs::default()).filter(|(_, _, listener)| listener.is_open());
    let mut queues: Vec<_> = model
        .upstreams()
        .filter_map(|(key, _)| open(key))
        .map(|(_, at, listener)| Queue {
            name: at.to_string(),
            limit: listener.limit,
            holders: listener.holders,
            application: listener.application.map(|application| application.to_string()),
        })
        .collect();
    queues.sort();
    queues.dedup();
    queues.truncate(MAX_LISTED);
    queues
}

/// By how much they rose.
pub(super) fn since(last: Harmless, first: Harmless) -> Harmless {
    let Harmless { retried, clients_gone, answered_otherwise, abandoned, unanswered } = last;
    Harmless {
        retried: retried.saturating_sub(first.retried),
        clients_gone: clients_gone.saturating_sub(first.clients_gone),
        answered_otherwise: answered_otherwise.saturating_sub(first.answered_otherwise),
        abandoned: abandoned.saturating_sub(first.abandoned),
        unanswered: unanswered.saturating_sub(first.unanswered),
    }
}

/// `gunicorn[412]`, empty when unknown.
pub(super) fn named(process: &Process) -> String {
    if process.pid == 0 { String::new() } else { format!("{}[{}]", harmless(&process.comm), process.pid) }
}
