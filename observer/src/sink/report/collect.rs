//! From events to a [`Report`].

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use observer_common::Kind;

use super::{
    Failures, Listed, MAX_CHANGES_LISTED, MAX_LISTED, MAX_WARNINGS, Moment, MomentKind, Namespace, Report, Warned,
    bouts::Bouts,
    cause::{Cause, Tally},
    series::Builder,
    tables::{self, Before},
    words::{count_of, harmless},
};
use crate::{
    addr::NetNs,
    diagnose::{Engine, Said, Verdict, Warning},
    event::{Body, Counters, Event, ListenerChanged, NamespaceSample},
    model,
    time::Time,
    trace::About,
};

/// Upstreams whose failures are counted by cause; those at others are summed.
const MAX_UPSTREAMS: usize = model::MAX_UPSTREAMS;
/// The last changes of listeners and settings that are kept, each.
const MAX_CHANGES: usize = 256;

/// Folds a trace's events into a report. What it holds is bounded.
#[derive(Debug)]
pub struct Collector {
    about: About,
    remarks: Vec<String>,
    engine: Engine,
    series: Builder,
    first_event: Option<Time>,
    /// Tries that were told of.
    tries: u64,
    /// The counters at the trace's beginning.
    base: Option<Counters>,
    before: Before,
    count: u64,
    span: Option<(Time, Time)>,
    bouts: Bouts,
    observed: BTreeMap<u16, u64>,
    expected: BTreeMap<u16, u64>,
    causes: BTreeMap<&'static str, Tally>,
    /// Failures by upstream and cause.
    upstreams: tables::Failures,
    warnings: Vec<Warned>,
    warnings_left_out: u64,
    failures_left_out: u64,
    listeners_changed: VecDeque<(Time, ListenerChanged)>,
    settings_changed: VecDeque<Moment>,
    /// Each namespace as first and last sampled.
    namespaces: BTreeMap<NetNs, (NamespaceSample, NamespaceSample)>,
}

impl Collector {
    /// For a trace that says this of itself.
    pub fn new(about: &About) -> Self {
        // The kernel's counters are totals since observer attached: with that the first segment begins.
        let since_zero = about.segment <= 1;
        Self {
            about: about.clone().made_harmless(),
            remarks: Vec::new(),
            engine: Engine::default(),
            series: Builder::new(about.wall, since_zero),
            first_event: None,
            tries: 0,
            base: since_zero.then(Counters::default),
            before: Before::default(),
            count: 0,
            span: None,
            bouts: Bouts::default(),
            observed: BTreeMap::new(),
            expected: BTreeMap::new(),
            causes: BTreeMap::new(),
            upstreams: HashMap::new(),
            warnings: Vec::new(),
            warnings_left_out: 0,
            failures_left_out: 0,
            listeners_changed: VecDeque::new(),
            settings_changed: VecDeque::new(),
            namespaces: BTreeMap::new(),
        }
    }

    /// Goes on from the state that a trace begins with. To be called before any event is taken in.
    pub fn resume(&mut self, engine: Engine) {
        let counters = *engine.model().counters();
        self.base = Some(counters);
        self.series.counted_before(&counters);
        self.before = Before::of(&engine);
        self.engine = engine;
    }

    /// Takes in the next events, in their order.
    pub fn fold(&mut self, events: &[Event]) {
        let mut said = Vec::new();
        for event in events {
            self.first_event.get_or_insert(event.time);
            self.engine.apply(event, &mut |each| said.push(each));
            self.note(event);
            for each in said.drain(..) {
                self.said(each);
            }
        }
    }

    /// Adds to what readers should know: a sentence on how the trace could be read.
    pub fn remark(&mut self, sentence: &str) {
        self.remarks.push(harmless(sentence));
    }

    fn note(&mut self, event: &Event) {
        self.series.event(event);
        match &event.body {
            Body::Counters(counters) => {
                self.base.get_or_insert(**counters);
            }
            Body::ConnectionEnded(_) => self.tries += 1,
            // A resolver or a logger that is not there is no upstream.
            Body::ConnectFailed(failed) => self.tries += u64::from(failed.to.is_upstream()),
            Body::ListenerChanged(changed) => {
                push_bounded(&mut self.listeners_changed, (event.time, changed.clone()));
            }
            Body::NamespaceSample(sample) => self.namespace_sampled(event.time, sample),
            _ => {}
        }
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Verdict(verdict) => self.failed(&verdict),
            Said::Warning(warning) => self.warned(&warning),
        }
    }

    fn failed(&mut self, verdict: &Verdict) {
        let time = verdict.time;
        self.count += 1;
        let (first, last) = self.span.get_or_insert((time, time));
        (*first, *last) = ((*first).min(time), (*last).max(time));
        self.bouts.add(time);
        self.series.failed(time, verdict.cause);
        if let Some(status) = verdict.status {
            let counts = if verdict.observed { &mut self.observed } else { &mut self.expected };
            *counts.entry(status).or_default() += 1;
        }
        self.causes.entry(verdict.cause).or_insert_with(|| Tally::new(verdict)).add(verdict);
        let known = self.upstreams.len() < MAX_UPSTREAMS || self.upstreams.contains_key(&verdict.upstream);
        if known {
            *self.upstreams.entry(verdict.upstream).or_default().entry(verdict.cause).or_default() += 1;
        } else {
            self.failures_left_out += 1;
        }
    }

    fn warned(&mut self, warning: &Warning) {
        let Warning { time, cause, subject, netns: _, summary, evidence: _, advice } = warning;
        let (subject, summary) = (harmless(subject), harmless(summary));
        let advice = advice.iter().map(|each| harmless(each)).collect();
        let same = |warned: &&mut Warned| warned.cause == *cause && warned.subject == subject;
        if let Some(warned) = self.warnings.iter_mut().find(same) {
            warned.span.1 = *time;
            warned.said += 1;
            (warned.summary, warned.advice) = (summary, advice);
        } else if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(Warned { cause, subject, span: (*time, *time), said: 1, summary, advice });
        } else {
            self.warnings_left_out += 1;
        }
    }

    fn namespace_sampled(&mut self, time: Time, sample: &NamespaceSample) {
        if !self.namespaces.contains_key(&sample.netns) && self.namespaces.len() >= model::MAX_NAMESPACES {
            return;
        }
        // Addresses and destinations are the model's and the series' concern.
        let sample = NamespaceSample {
            addresses: Vec::new(),
            time_wait_by_destination: Vec::new(),
            ..NamespaceSample::clone(sample)
        };
        let (_, last) = self.namespaces.entry(sample.netns).or_insert_with(|| (sample.clone(), sample.clone()));
        for ((name, before), (_, now)) in settings(last).into_iter().zip(settings(&sample)) {
            if let (Some(before), Some(now)) = (before, now)
                && before != now
            {
                let text = format!("{name} of network namespace {} changed from {before} to {now}", sample.netns.0);
                push_bounded(&mut self.settings_changed, Moment { time, kind: MomentKind::Setting, cause: None, text });
            }
        }
        *last = sample;
    }

    /// The report; the trace has ended.
    pub fn finish(mut self) -> Report {
        let mut said = Vec::new();
        self.engine.finish(&mut |each| said.push(each));
        for each in said {
            self.said(each);
        }
        let model = self.engine.model();
        let to = model.now();
        // A trace without any event ends as it begins.
        let first = self.first_event.unwrap_or(self.about.since);
        let to = to.max(first);
        let from = if self.about.segment <= 1 { self.about.since.min(first) } else { first };
        let causes = tables::causes(std::mem::take(&mut self.causes), &self.upstreams);
        let series = std::mem::replace(&mut self.series, Builder::new(self.about.wall, true)).finish(to);
        let failures = Failures {
            count: self.count,
            span: self.span,
            peak: series.peak(),
            bouts: std::mem::take(&mut self.bouts).into_vec(),
            observed: std::mem::take(&mut self.observed),
            expected: std::mem::take(&mut self.expected),
        };
        let moments = self.moments(&causes, from, to);
        let model = self.engine.model();
        let counters = model.counters().since(&self.base.unwrap_or_default());
        Report {
            // What was lost is counted by kind. The kernel's totals are no measure: a connect() that finds no port is
            // among the connections that ended too, and one to a resolver among those that failed.
            tries: self.tries + counters.lost.of(Kind::ConnectionEnded) + counters.lost.of(Kind::ConnectFailed),
            from,
            to,
            events: model.events().saturating_sub(self.before.events),
            upstreams: tables::upstreams(&self.upstreams, model, &self.before),
            listeners: tables::listeners(model, &self.before),
            queues: tables::queues(model),
            namespaces: self.namespaces(),
            harmless: tables::since(self.engine.harmless(), self.before.harmless),
            counters,
            evicted: (model.evicted() + self.engine.hurried()).saturating_sub(self.before.evicted)
                + self.failures_left_out,
            warnings: Listed { items: self.warnings, others: self.warnings_left_out },
            about: self.about,
            remarks: self.remarks,
            failures,
            causes,
            moments,
            series,
        }
    }

    fn moments(&self, causes: &[Cause], from: Time, to: Time) -> Listed<Moment> {
        let mut all = vec![Moment {
            time: from,
            kind: MomentKind::Watching,
            cause: None,
            text: "observer begins to watch".to_owned(),
        }];
        for cause in causes {
            let (first, last) = cause.span;
            let moment = |time, text| Moment { time, kind: MomentKind::Failure, cause: Some(cause.code), text };
            if cause.count == 1 {
                all.push(moment(first, format!("the only failure of this cause: {}", cause.summary)));
            } else {
                all.push(moment(first, format!("the first of {}", count_of(cause.count, "failure", "failures"))));
                all.push(moment(last, format!("the last of {}", count_of(cause.count, "failure", "failures"))));
            }
        }
        all.extend(self.warnings.iter().map(|warned| Moment {
            time: warned.span.0,
            kind: MomentKind::Warning,
            cause: Some(warned.cause),
            text: format!("first warning about {}", warned.subject),
        }));
        let ports: HashSet<u16> =
            self.engine.model().upstreams().filter_map(|(key, _)| Some(key.endpoint?.port)).collect();
        let concerned = self.listeners_changed.iter().filter(|(_, changed)| ports.contains(&changed.at.port));
        let changes = concerned.map(|(time, changed)| listener_changed(*time, changed));
        let mut changes: Vec<_> = changes.chain(self.settings_changed.iter().cloned()).collect();
        changes.sort_by_key(|moment| moment.time);
        // Of many, how it began and how it ended tell the most.
        let others = changes.len().saturating_sub(MAX_CHANGES_LISTED);
        if others > 0 {
            changes.drain(MAX_CHANGES_LISTED / 2..MAX_CHANGES_LISTED / 2 + others);
        }
        all.extend(changes);
        all.sort_by_key(|moment| (moment.time, moment.kind));
        let text = "the recording ends".to_owned();
        all.push(Moment { time: to, kind: MomentKind::Watching, cause: None, text });
        Listed { items: all, others: u64::try_from(others).unwrap_or(u64::MAX) }
    }

    fn namespaces(&self) -> Listed<Namespace> {
        let model = self.engine.model();
        let mut concerned: HashSet<NetNs> = HashSet::new();
        for (key, _) in model.upstreams() {
            concerned.insert(key.netns);
            concerned.extend(model.listener_behind(key, NetNs::default()).map(|(netns, _, _)| netns));
        }
        let rise = |first: Option<u64>, last: Option<u64>| Some(last?.saturating_sub(first?));
        let mut all: Vec<_> = self
            .namespaces
            .iter()
            .map(|(netns, (first, last))| Namespace {
                netns: netns.0,
                concerned: concerned.contains(netns),
                somaxconn: last.somaxconn,
                port_range: last.port_range,
                tw_reuse: last.tw_reuse,
                abort_on_overflow: last.abort_on_overflow,
                listen_overflows: rise(first.listen_overflows, last.listen_overflows),
                listen_drops: rise(first.listen_drops, last.listen_drops),
            })
            .collect();
        all.sort_by_key(|namespace| !namespace.concerned);
        Listed::first(all, MAX_LISTED)
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() >= MAX_CHANGES {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn listener_changed(time: Time, changed: &ListenerChanged) -> Moment {
    let ListenerChanged { at, netns: _, process, opened, depth, limit } = changed;
    let who = tables::named(process);
    let text = match (opened, depth) {
        (true, _) => format!("{who} begins to listen on {at}, queue limit {limit}"),
        (false, 0) => format!("{who} stops listening on {at}"),
        (false, depth) => {
            format!("{who} stops listening on {at} with {depth} connections in the queue, which are reset")
        }
    };
    Moment { time, kind: MomentKind::Listener, cause: None, text }
}

/// The settings of a namespace that a sample tells, by name.
fn settings(sample: &NamespaceSample) -> [(&'static str, Option<String>); 4] {
    let plain = |value: Option<u32>| value.map(|value| value.to_string());
    [
        ("net.core.somaxconn", plain(sample.somaxconn)),
        ("net.ipv4.ip_local_port_range", sample.port_range.map(|(low, high)| format!("{low}-{high}"))),
        ("net.ipv4.tcp_tw_reuse", plain(sample.tw_reuse)),
        ("net.ipv4.tcp_abort_on_overflow", plain(sample.abort_on_overflow)),
    ]
}
