//! The last minute of each upstream, as far as views alone need it: what fails by cause, and how long things take. No verdict
//! rests on it, so it is in no checkpoint: after one it fills again within a minute.

use std::collections::BTreeMap;

use super::quantiles::{Histogram, Quantiles};
use crate::{
    diagnose::Verdict,
    event::{Body, Event},
    model::{MAX_UPSTREAMS, UpstreamKey, bounded::Recent, window::SECONDS},
    time::Time,
};

/// See the module. The upstream untouched longest goes first, as in the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Lately {
    failures: Recent<UpstreamKey, Causes, MAX_UPSTREAMS>,
    connects: Recent<UpstreamKey, Histogram, MAX_UPSTREAMS>,
    answers: Recent<UpstreamKey, Histogram, MAX_UPSTREAMS>,
    unmeasured: u64,
}

/// Failures by cause and second. There are only so many causes, and of each no more than [`SECONDS`] seconds are kept.
type Causes = BTreeMap<&'static str, BTreeMap<u64, u32>>;

impl Lately {
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        let seconds = self.failures.entry(verdict.upstream, Causes::default).entry(verdict.cause).or_default();
        let count = seconds.entry(verdict.time.seconds()).or_default();
        *count = count.saturating_add(1);
        while seconds.len() as u64 > SECONDS {
            seconds.pop_first();
        }
    }

    pub(super) fn event(&mut self, event: &Event) {
        match &event.body {
            // One that was there before observer began at a time that is not known.
            Body::ConnectionEnded(ended) if ended.started > Time(0) => {
                if let Some(established) = ended.established {
                    let key = UpstreamKey::tcp(ended.flow.netns, ended.flow.remote);
                    let took = established.since(ended.started);
                    self.connects.entry(key, Histogram::default).add(established, took);
                }
            }
            Body::FirstBytes(told) => {
                let key = UpstreamKey::tcp(told.netns, told.upstream);
                let answers = self.answers.entry(key, Histogram::default);
                for (nanos, count) in &told.within {
                    answers.add_within(event.time, *nanos, *count);
                }
                self.unmeasured = self.unmeasured.max(told.unmeasured);
            }
            _ => {}
        }
    }

    /// What failed in the seconds that [`crate::model::window::Window::so_far`] tells.
    pub(super) fn by_cause(&self, key: &UpstreamKey, now: Time) -> Vec<(&'static str, Vec<u32>)> {
        let end = now.seconds() + 1;
        let begin = end.saturating_sub(SECONDS);
        let causes = self.failures.get(key).into_iter().flatten();
        let failed = causes.filter(|(_, seconds)| seconds.range(begin..end).next().is_some());
        let each = |seconds: &BTreeMap<u64, u32>| {
            (begin..end).map(|second| seconds.get(&second).copied().unwrap_or(0)).collect::<Vec<_>>()
        };
        let mut found: Vec<_> = failed.map(|(cause, seconds)| (*cause, each(seconds))).collect();
        let total = |counts: &[u32]| counts.iter().fold(0, |sum: u64, count| sum.saturating_add(u64::from(*count)));
        found.sort_by_key(|(_, counts)| std::cmp::Reverse(total(counts)));
        found
    }

    /// How long handshakes took.
    pub(super) fn connect(&self, key: &UpstreamKey, now: Time) -> Option<Quantiles> {
        self.connects.get(key)?.quantiles(now)
    }

    /// How long answers took to begin.
    pub(super) fn first_byte(&self, key: &UpstreamKey, now: Time) -> Option<Quantiles> {
        self.answers.get(key)?.quantiles(now)
    }

    /// Upstreams dropped because a table was full, and answers that were not measured for that reason.
    pub(super) fn evicted(&self) -> u64 {
        let dropped = [self.failures.evicted(), self.connects.evicted(), self.answers.evicted(), self.unmeasured];
        dropped.into_iter().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use observer_common::latency::{bucket, upper_end};

    use super::*;
    use crate::{
        diagnose::Engine,
        event::{ConnectionEnded, FirstBytes},
        snapshot::Folded,
        testing::{at, client_flow, connection, event, refused_connection},
    };

    fn folded(events: &[Event]) -> Folded {
        let mut folded = Folded::upon(Engine::default());
        for event in events {
            folded.apply(event, &mut |_| {});
        }
        folded
    }

    fn ended(ms: u64, ended: ConnectionEnded) -> Event {
        event(ms, Body::ConnectionEnded(Box::new(ended)))
    }

    fn upstream() -> UpstreamKey {
        UpstreamKey::tcp(client_flow().netns, client_flow().remote)
    }

    #[test]
    fn failures_are_told_by_cause_and_second() {
        let refused = |ms| ended(ms, refused_connection());
        let closed = ConnectionEnded { new: crate::event::State::CloseWait, bytes_received: 0, ..connection() };
        let mut events = vec![refused(100), refused(58_000), refused(58_900), ended(59_500, closed)];
        events.push(event(62_000, Body::Tick));
        let folded = folded(&events);
        let causes = folded.lately.by_cause(&upstream(), at(60_500));
        let names: Vec<_> = causes.iter().map(|(cause, _)| *cause).collect();
        assert_eq!(names, ["upstream-refused", "upstream-closed-early"]);
        assert_eq!(causes[0].1.len(), 60);
        assert_eq!(causes[0].1[57..], [2, 0, 0], "58 is the last whole second but one, 60 still runs");
        assert_eq!(causes[1].1[57..], [0, 1, 0]);
        assert_eq!(causes[0].1.iter().sum::<u32>(), 2, "0 is out of reach");
        assert!(folded.lately.by_cause(&upstream(), at(200_000)).is_empty());
    }

    #[test]
    fn answers_are_measured_by_the_kernel() {
        let told = |ms, within: &[(u64, u32)]| {
            let (netns, upstream) = (client_flow().netns, client_flow().remote);
            event(
                ms,
                Body::FirstBytes(Box::new(FirstBytes { netns, upstream, within: within.to_vec(), unmeasured: 2 })),
            )
        };
        let ms = |ms: u64| upper_end(bucket(ms * 1_000_000));
        let folded = folded(&[told(1_000, &[(ms(2), 90), (ms(900), 3)]), told(2_000, &[(ms(2), 7)])]);
        let found = folded.lately.first_byte(&upstream(), at(3_000)).unwrap();
        assert_eq!((found.count, found.p50.as_millis()), (100, 2));
        assert!((900..1_013).contains(&found.p99.as_millis()), "{found:?}");
        assert_eq!((folded.lately.evicted(), folded.lately.connect(&upstream(), at(3_000))), (2, None));
    }

    #[test]
    fn handshakes_are_measured_where_both_ends_were_seen() {
        let made = |started, established| ConnectionEnded {
            started: at(started),
            established: Some(at(established)),
            bytes_received: 900,
            ..connection()
        };
        let adopted = ConnectionEnded { started: Time(0), ..made(0, 50) };
        let long_ago = made(1_000, 1_004);
        let events = [
            ended(100_000, made(99_000, 99_002)),
            ended(100_001, made(99_000, 99_002)),
            ended(100_002, refused_connection()),
            ended(100_003, adopted),
            ended(100_004, long_ago),
        ];
        let found = folded(&events).lately.connect(&upstream(), at(101_000)).unwrap();
        assert_eq!(found.count, 2);
        assert!(found.p50 == found.p99 && (2_000..2_250).contains(&found.p99.as_micros()), "{found:?}");
    }
}
