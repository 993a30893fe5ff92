//! How it went over time, in slots of one width that grows with the trace.

use std::collections::BTreeMap;

use super::gauge::{Followed, Gauge, Level, follow, fullest};
use crate::{
    addr::{Endpoint, NetNs},
    event::{Body, Counters, Event, ListenOverflow, NamespaceSample, OverflowPath},
    model::UpstreamKey,
    time::{Time, WallClock},
};

/// Slots kept. A longer trace gets wider ones.
const MAX_SLOTS: usize = 360;
/// What happened in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Failures by cause.
    pub failures: BTreeMap<&'static str, u64>,
    /// By how much the kernel's counters rose.
    pub connections: u64,
    /// The same of answers in plain HTTP.
    pub answers: u64,
    /// The same of those that were a 502 or 504.
    pub answers_failed: u64,
    /// The same of segments sent again by proxies.
    pub retransmits: u64,
    /// The same of RSTs that this host sent.
    pub resets_sent: u64,
    /// The same of RSTs that proxies received from upstreams.
    pub resets_received: u64,
    /// The same of overflows of accept queues.
    pub overflows: u64,
}

impl Slot {
    /// Failures of all causes.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// A part of a slot, and the counter of which it is the rise.
type Rise = (fn(&mut Slot) -> &mut u64, fn(&Counters) -> u64);

/// All of them.
const RISES: [Rise; 7] = [
    (|slot| &mut slot.connections, |counters| counters.connections_started),
    (|slot| &mut slot.answers, |counters| counters.answers),
    (|slot| &mut slot.answers_failed, |counters| counters.answers_failed),
    (|slot| &mut slot.retransmits, |counters| counters.retransmits),
    (|slot| &mut slot.resets_sent, |counters| counters.resets_sent),
    (|slot| &mut slot.resets_received, |counters| counters.resets_received),
    (|slot| &mut slot.overflows, |counters| counters.listen_overflow_syn + counters.listen_overflow_ack),
];

/// Something that is merged with what falls into the same slot.
pub(super) trait Merge: Clone + Default {
    fn merge(&mut self, other: &Self);
}

impl Merge for Slot {
    fn merge(&mut self, other: &Self) {
        for (cause, count) in &other.failures {
            *self.failures.entry(cause).or_default() += count;
        }
        self.connections += other.connections;
        self.answers += other.answers;
        self.answers_failed += other.answers_failed;
        self.retransmits += other.retransmits;
        self.resets_sent += other.resets_sent;
        self.resets_received += other.resets_received;
        self.overflows += other.overflows;
    }
}

/// The slots of a trace.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Width of a slot, in seconds.
    pub width: u64,
    /// Beginning of the first slot.
    pub from: Time,
    /// All slots, without a gap.
    pub slots: Vec<Slot>,
    /// Accept queues and unix sockets' backlogs, the fullest first.
    pub queues: Vec<Gauge>,
    /// TIME_WAIT sockets by destination against the ephemeral ports, the fullest first.
    pub ports: Vec<Gauge>,
}

impl Series {
    /// Beginning of a slot.
    pub fn begin_of(&self, slot: usize) -> Time {
        let seconds = self.width.saturating_mul(u64::try_from(slot).unwrap_or(u64::MAX));
        Time(self.from.0.saturating_add(seconds.saturating_mul(1_000_000_000)))
    }

    /// The slot with the most failures.
    pub fn peak(&self) -> Option<(Time, u64)> {
        let failed = self.slots.iter().map(Slot::failed).enumerate();
        // The first of several.
        let (index, count) = failed.rev().max_by_key(|(_, count)| *count)?;
        (count > 0).then(|| (self.begin_of(index), count))
    }
}

/// Builds [`Series`]. Slots begin at whole multiples of their width on the wall clock.
#[derive(Debug)]
pub(super) struct Builder {
    wall: WallClock,
    width: u64,
    /// Number of the first slot since the wall clock's zero.
    first: Option<u64>,
    slots: Vec<Slot>,
    queues: Vec<Followed>,
    ports: Vec<Followed>,
    counters: Option<Counters>,
    /// When they were last told.
    counted: Option<Time>,
}

impl Builder {
    /// `since_zero` says that the counters were zero at the trace's beginning.
    pub(super) fn new(wall: WallClock, since_zero: bool) -> Self {
        Self {
            wall,
            width: 1,
            first: None,
            slots: Vec::new(),
            queues: Vec::new(),
            ports: Vec::new(),
            counters: since_zero.then(Counters::default),
            counted: None,
        }
    }

    /// What the counters were before the first event.
    pub(super) fn counted_before(&mut self, counters: &Counters) {
        self.counters = Some(*counters);
    }

    /// Takes in an event that is a measure.
    pub(super) fn event(&mut self, event: &Event) {
        let index = self.locate(event.time);
        match &event.body {
            Body::Counters(counters) => self.counted(event.time, counters),
            Body::ListenerSample(sample) => {
                let key = (sample.netns, UpstreamKey::tcp(sample.netns, sample.at));
                follow(&mut self.queues, key, index, Level { value: sample.depth, limit: sample.limit });
            }
            Body::UnixListenerSample(sample) => {
                let key = (sample.netns, UpstreamKey::unix(sample.path));
                follow(&mut self.queues, key, index, Level { value: sample.depth, limit: sample.limit });
            }
            Body::ListenOverflow(ListenOverflow {
                flow,
                path: OverflowPath::Syn | OverflowPath::Ack,
                depth,
                limit,
            }) => {
                let at = self.bound(flow.netns, flow.local);
                follow(&mut self.queues, (flow.netns, at), index, Level { value: *depth, limit: *limit });
            }
            Body::NamespaceSample(sample) => self.sampled(index, sample),
            _ => {}
        }
    }

    /// Takes in a failure.
    pub(super) fn failed(&mut self, time: Time, cause: &'static str) {
        let index = self.locate(time);
        *self.slots[index].failures.entry(cause).or_default() += 1;
    }

    /// The listener that is followed for this address: it may be bound to any.
    fn bound(&self, netns: NetNs, at: Endpoint) -> UpstreamKey {
        let exact = UpstreamKey::tcp(netns, at);
        let covering = self.queues.iter().map(|followed| followed.key.1).filter(|key| key.netns == netns);
        let mut covering = covering.filter(|key| key.endpoint.is_some_and(|bound| bound.covers(at)));
        let any = covering.next();
        if any == Some(exact) || covering.any(|key| key == exact) { exact } else { any.unwrap_or(exact) }
    }

    /// Spreads what rose since they were last told over that time.
    fn counted(&mut self, time: Time, now: &Counters) {
        let begin = self.counted.replace(time).unwrap_or(time);
        let Some(before) = self.counters.replace(*now) else { return };
        let rise = now.since(&before);
        let last = self.locate(time);
        let first = self.locate(begin).min(last);
        let length = u128::from(time.0.saturating_sub(begin.0));
        for (field, counter) in RISES {
            let rise = counter(&rise);
            let mut told = 0;
            for index in first..=last {
                // All up to the slot's end, less what the slots before have: nothing is lost by rounding.
                let passed = u128::from(self.end_of(index).saturating_sub(begin.0));
                let by_then = if passed < length { u128::from(rise) * passed / length } else { rise.into() };
                let by_then = u64::try_from(by_then).unwrap_or(rise);
                *field(&mut self.slots[index]) += by_then - told;
                told = by_then;
            }
        }
    }

    /// End of a slot by the kernel's clock, in nanoseconds.
    fn end_of(&self, index: usize) -> u64 {
        let number = self.first.unwrap_or(0).saturating_add(u64::try_from(index).unwrap_or(u64::MAX)).saturating_add(1);
        number.saturating_mul(self.width).saturating_mul(1_000_000_000).saturating_sub(self.wall.offset)
    }

    fn sampled(&mut self, index: usize, sample: &NamespaceSample) {
        let Some((low, high)) = sample.port_range else { return };
        let limit = u32::from(high.saturating_sub(low)) + 1;
        for (to, count) in &sample.time_wait_by_destination {
            let key = (sample.netns, UpstreamKey::tcp(sample.netns, *to));
            follow(&mut self.ports, key, index, Level { value: *count, limit });
        }
    }

    /// The slot that `time` falls into, made if need be; what came before the first falls into that.
    fn locate(&mut self, time: Time) -> usize {
        let second = self.wall.offset.saturating_add(time.0) / 1_000_000_000;
        let first = *self.first.get_or_insert(second / self.width);
        let mut index = (second / self.width).saturating_sub(first);
        if index >= MAX_SLOTS as u64 {
            self.widen(second);
            index = (second / self.width).saturating_sub(self.first.unwrap_or(first));
        }
        let index = usize::try_from(index).unwrap_or(0);
        if index >= self.slots.len() {
            self.slots.resize(index + 1, Slot::default());
        }
        index
    }

    /// Widens the slots until this second has one.
    fn widen(&mut self, second: u64) {
        let (before, first) = (self.width, self.first.unwrap_or(0));
        while second / self.width - first * before / self.width >= MAX_SLOTS as u64 {
            self.width = wider(self.width);
        }
        let factor = self.width / before;
        merge(&mut self.slots, first, factor);
        for followed in self.queues.iter_mut().chain(&mut self.ports) {
            merge(&mut followed.levels, first, factor);
        }
        self.first = Some(first / factor);
    }

    /// The series as they stand, up to `to`.
    pub(super) fn finish(mut self, to: Time) -> Series {
        self.locate(to);
        let length = self.slots.len();
        let from = self.first.unwrap_or(0).saturating_mul(self.width).saturating_mul(1_000_000_000);
        Series {
            width: self.width,
            from: Time(from.saturating_sub(self.wall.offset)),
            slots: self.slots,
            queues: fullest(self.queues, length),
            ports: fullest(self.ports, length),
        }
    }
}

/// The next width, a multiple of this one that reads well on a clock.
fn wider(width: u64) -> u64 {
    const WIDTHS: [u64; 10] = [1, 2, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400];
    WIDTHS.into_iter().find(|each| *each > width).unwrap_or(width * 2)
}

/// Merges slots that fall into one that is `factor` times as wide; `first` is the first one's number.
fn merge<T: Merge>(slots: &mut Vec<T>, first: u64, factor: u64) {
    let mut merged: Vec<T> = Vec::new();
    for (number, slot) in (first..).zip(slots.iter()) {
        let index = usize::try_from(number / factor - first / factor).unwrap_or(0);
        if index >= merged.len() {
            merged.resize(index + 1, T::default());
        }
        merged[index].merge(slot);
    }
    *slots = merged;
}

#[cfg(test)]
mod tests {
    use super::{super::gauge::MAX_SHOWN, *};
    use crate::testing::{at, endpoint, event};

    fn builder() -> Builder {
        Builder::new(WallClock { offset: 0 }, true)
    }

    #[test]
    fn a_long_trace_gets_wider_slots_and_loses_no_count() {
        let mut series = builder();
        let days = 9 * 86_400;
        for second in (0..days).step_by(7) {
            series.failed(at(second * 1000), "unknown");
        }
        let series = series.finish(at(days * 1000));
        assert_eq!(series.width, 3_600);
        assert!(series.slots.len() <= MAX_SLOTS);
        assert_eq!(series.slots.iter().map(Slot::failed).sum::<u64>(), days.div_ceil(7));
        assert_eq!(series.from.0 % 3_600_000_000_000, 0, "slots begin on the hour");
        assert!(series.from <= at(0));
    }

    #[test]
    fn counters_are_told_by_their_rise() {
        let counters =
            |ms, retransmits| event(ms, Body::Counters(Box::new(Counters { retransmits, ..Counters::default() })));
        let mut series = builder();
        for each in [counters(0, 5), counters(1000, 5), counters(2000, 9)] {
            series.event(&each);
        }
        let rises: Vec<_> = series.finish(at(2000)).slots.iter().map(|slot| slot.retransmits).collect();
        assert_eq!(rises, [5, 4, 0], "what rose from one second to the next did so in between");

        let mut late = builder();
        for each in [counters(300, 0), counters(1300, 7), counters(4300, 97)] {
            late.event(&each);
        }
        let rises: Vec<_> = late.finish(at(4300)).slots.iter().map(|slot| slot.retransmits).collect();
        assert_eq!(rises, [4, 24, 30, 30, 9], "spread over the time in between, and none lost");

        let mut later = Builder::new(WallClock { offset: 0 }, false);
        later.event(&counters(0, 5));
        assert_eq!(later.finish(at(0)).slots[0].retransmits, 0, "a later segment does not begin at zero");
    }

    #[test]
    fn the_fullest_queues_are_kept_whatever_their_number() {
        let mut series = builder();
        for index in 0..200_u16 {
            let sample = crate::event::ListenerSample {
                at: Endpoint { port: 1 + index, ..endpoint("0.0.0.0:0") },
                netns: NetNs(1),
                depth: u32::from(index),
                limit: 128,
                process: None,
                holders: 0,
                stopped: 0,
                runnable: 0,
                accepted_open: 0,
                arrivals: None,
            };
            series.event(&event(u64::from(index) * 10, Body::ListenerSample(Box::new(sample))));
        }
        let queues = series.finish(at(5_000)).queues;
        assert_eq!(queues.len(), MAX_SHOWN);
        assert_eq!((queues[0].name.as_str(), queues[0].peak), ("0.0.0.0:200", Level { value: 199, limit: 128 }));
        assert!(queues.iter().all(|queue| queue.levels.len() == 6));
    }

    #[test]
    fn a_time_far_away_does_no_harm() {
        let mut series = builder();
        series.failed(at(0), "unknown");
        series.failed(Time(u64::MAX), "unknown");
        series.failed(Time(0), "unknown");
        let series = series.finish(at(0));
        assert_eq!(series.slots.iter().map(Slot::failed).sum::<u64>(), 3);
        assert!(series.slots.len() <= MAX_SLOTS);
    }
}
