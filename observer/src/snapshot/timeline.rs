//! A recording at a glance: how much failed when, and of what.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    diagnose::{Incident, Incidents, Said},
    time::Time,
};

/// Buckets kept. Full, two become one, and each spans twice as long.
pub const MAX_BUCKETS: usize = 512;
/// Beginnings of incidents kept; later ones are passed over.
pub const MAX_STARTS: usize = 1024;
/// Beginnings within this time are one.
const APART: Duration = Duration::from_secs(1);
/// What a bucket spans at first.
const FIRST_WIDTH: Duration = Duration::from_secs(1);

/// Failures by cause.
type Bucket = BTreeMap<&'static str, u64>;

/// See the module.
#[derive(Clone, Debug)]
pub struct Timeline {
    begin: Time,
    end: Time,
    whole: bool,
    width: Duration,
    buckets: Vec<Bucket>,
    starts: Vec<Time>,
}

/// A part of the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The most failures of any bucket in it.
    pub failures: u64,
    /// The cause of most of them.
    pub cause: Option<&'static str>,
}

impl Timeline {
    /// Of a recording that begins then.
    pub fn new(begin: Time) -> Self {
        Self { begin, end: begin, whole: false, width: FIRST_WIDTH, buckets: Vec::new(), starts: Vec::new() }
    }

    /// When the recording begins.
    pub fn begin(&self) -> Time {
        self.begin
    }

    /// How far it is known to go.
    pub fn end(&self) -> Time {
        self.end
    }

    /// Whether that is its end.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// The recording goes on up to `time` at least.
    pub fn reach(&mut self, time: Time) {
        self.end = self.end.max(time);
    }

    /// That was all.
    pub fn complete(&mut self) {
        self.whole = true;
    }

    /// Takes in what was said at `now`, which led to these incidents.
    pub fn note(&mut self, told: &[Said], incidents: &Incidents, now: Time) {
        for said in told {
            let Said::Verdict(verdict) = said else { continue };
            self.add(verdict.time, verdict.cause);
            let begins = |incident: &Incident| {
                (incident.cause, incident.upstream, incident.first) == (verdict.cause, verdict.upstream, verdict.time)
            };
            if incidents.iter().any(begins) {
                self.incident(now);
            }
        }
    }

    /// A try failed at `time`.
    fn add(&mut self, time: Time, cause: &'static str) {
        while self.index(time) >= MAX_BUCKETS {
            self.width *= 2;
            let mut buckets = std::mem::take(&mut self.buckets).into_iter();
            while let Some(mut bucket) = buckets.next() {
                for (cause, count) in buckets.next().unwrap_or_default() {
                    *bucket.entry(cause).or_default() += count;
                }
                self.buckets.push(bucket);
            }
        }
        let index = self.index(time);
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, Bucket::default);
        }
        *self.buckets[index].entry(cause).or_default() += 1;
    }

    /// The first failure of an incident became known at `time`, which is not before that of any other.
    fn incident(&mut self, time: Time) {
        if self.starts.len() < MAX_STARTS && self.starts.last().is_none_or(|last| time > *last + APART) {
            self.starts.push(time);
        }
    }

    /// The next beginning of an incident after `time`.
    pub fn next_incident(&self, time: Time) -> Option<Time> {
        self.starts.iter().copied().find(|start| *start > time)
    }

    /// The last beginning of an incident before `time`.
    pub fn previous_incident(&self, time: Time) -> Option<Time> {
        self.starts.iter().copied().rfind(|start| *start < time)
    }

    /// Failures by cause, the most first.
    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        let mut totals: Vec<_> = sum(&self.buckets).into_iter().collect();
        totals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        totals
    }

    /// The whole in so many parts of the same length.
    pub fn parts(&self, count: usize) -> Vec<Part> {
        let span = self.end.since(self.begin).as_nanos();
        let edge = |part: usize| span * part as u128 / count.max(1) as u128;
        let width = self.width.as_nanos();
        let bucket = |nanos: u128| usize::try_from(nanos / width).unwrap_or(usize::MAX).min(self.buckets.len());
        let parts = (0..count).map(|part| {
            let buckets = &self.buckets[bucket(edge(part))..bucket(edge(part + 1) + width - 1)];
            let failures = buckets.iter().map(|bucket| bucket.values().sum()).max().unwrap_or(0);
            Part { failures, cause: sum(buckets).into_iter().max_by_key(|(_, count)| *count).map(|(cause, _)| cause) }
        });
        parts.collect()
    }

    /// In which of so many parts that time lies; the nearest if in none.
    pub fn part_at(&self, time: Time, count: usize) -> usize {
        let (span, into) = (self.end.since(self.begin).as_nanos(), time.since(self.begin).as_nanos());
        let part = (into * count as u128).checked_div(span).unwrap_or(0);
        usize::try_from(part).unwrap_or(usize::MAX).min(count.saturating_sub(1))
    }

    fn index(&self, time: Time) -> usize {
        usize::try_from(time.since(self.begin).as_nanos() / self.width.as_nanos()).unwrap_or(usize::MAX)
    }
}

fn sum(buckets: &[Bucket]) -> Bucket {
    let mut sum = Bucket::default();
    for (cause, count) in buckets.iter().flatten() {
        *sum.entry(cause).or_default() += count;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time((100 + seconds) * 1_000_000_000)
    }

    fn failures(parts: &[Part]) -> Vec<u64> {
        parts.iter().map(|part| part.failures).collect()
    }

    #[test]
    fn what_failed_when_is_told_in_as_many_parts_as_asked_for() {
        let mut timeline = Timeline::new(at(0));
        timeline.reach(at(8));
        for second in [2, 2, 2, 3, 7] {
            timeline.add(at(second), if second == 3 { "b" } else { "a" });
        }
        let parts = timeline.parts(8);
        assert_eq!(failures(&parts), [0, 0, 3, 1, 0, 0, 0, 1]);
        assert_eq!((parts[0].cause, parts[2].cause, parts[3].cause), (None, Some("a"), Some("b")));
        assert_eq!(failures(&timeline.parts(4)), [0, 3, 0, 1], "a peak is not flattened");
        assert_eq!(failures(&timeline.parts(16))[4..8], [3, 3, 1, 1]);
        assert_eq!(timeline.totals(), [("a", 4), ("b", 1)]);
        assert_eq!([0, 2, 8, 99].map(|second| timeline.part_at(at(second), 8)), [0, 2, 7, 7]);
    }

    #[test]
    fn a_long_recording_takes_no_more_room() {
        let mut timeline = Timeline::new(at(0));
        for second in 0..100_000 {
            timeline.add(at(second), "a");
        }
        timeline.reach(at(100_000));
        assert!(timeline.buckets.len() <= MAX_BUCKETS);
        assert_eq!(timeline.totals(), [("a", 100_000)]);
        for second in 0..5_000 {
            timeline.incident(at(second * 5));
        }
        assert_eq!(timeline.starts.len(), MAX_STARTS);
    }

    #[test]
    fn an_empty_one_can_be_looked_at() {
        let timeline = Timeline::new(at(5));
        assert_eq!((timeline.parts(3), timeline.parts(0).len()), (vec![Part::default(); 3], 0));
        assert_eq!((timeline.part_at(at(9), 3), timeline.part_at(at(9), 0)), (0, 0));
        assert_eq!((timeline.next_incident(at(0)), timeline.previous_incident(at(9))), (None, None));
    }

    #[test]
    fn one_goes_from_incident_to_incident() {
        let mut timeline = Timeline::new(at(0));
        for second in [10, 10, 11, 50] {
            timeline.incident(at(second));
        }
        assert_eq!(timeline.next_incident(at(0)), Some(at(10)));
        assert_eq!(timeline.next_incident(at(10)), Some(at(50)), "those of one second are one");
        assert_eq!(timeline.previous_incident(at(50)), Some(at(10)));
        assert_eq!(timeline.next_incident(at(50)), None);
    }
}
