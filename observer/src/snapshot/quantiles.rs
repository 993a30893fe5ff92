//! How times of the last minute are spread, in little room: a count for each width of time, told by its upper end.

use std::{collections::BTreeMap, time::Duration};

use observer_common::latency::{bucket, upper_end};

use crate::time::Time;

/// How times are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// At least half of them took no longer. Too high by an eighth at most.
    pub p50: Duration,
    /// At least 99 in 100 took no longer. Likewise.
    pub p99: Duration,
}

/// Seconds of a slot. The last minute is the running slot and those before it: 50 to 60 seconds.
const SLOT_SECONDS: u64 = 10;
const SLOTS: usize = 6;
/// Times of the last minute. Takes room for the buckets that are used.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// Each with the time that it stands for, in slots since the clock's zero; counts by bucket.
    slots: [(u64, BTreeMap<u8, u32>); SLOTS],
}

impl Histogram {
    /// Something took so long, and was over at `time`.
    pub(super) fn add(&mut self, time: Time, took: Duration) {
        self.count(time, bucket(nanos(took)), 1);
    }

    /// So many things took less than that, but not much less, and were over at `time`.
    pub(super) fn add_within(&mut self, time: Time, nanos: u64, count: u32) {
        self.count(time, bucket(nanos.saturating_sub(1)), count);
    }

    fn count(&mut self, time: Time, bucket: u8, more: u32) {
        let stands_for = slot(time);
        let slot = &mut self.slots[place(stands_for)];
        if slot.0 < stands_for {
            *slot = (stands_for, BTreeMap::new());
        }
        // One from longer ago than the slots reach has no place any more.
        if slot.0 == stands_for {
            let count = slot.1.entry(bucket).or_default();
            *count = count.saturating_add(more);
        }
    }

    /// How they are spread; `None` if there are none.
    pub(super) fn quantiles(&self, now: Time) -> Option<Quantiles> {
        let running = slot(now);
        let reach = SLOTS as u64;
        let within = self.slots.iter().filter(|(stands_for, _)| *stands_for + reach > running);
        let mut counts = BTreeMap::new();
        for (bucket, count) in within.flat_map(|(_, counts)| counts) {
            *counts.entry(*bucket).or_insert(0_u64) += u64::from(*count);
        }
        let count: u64 = counts.values().sum();
        let at = |percent: u64| {
            let rank = (count * percent).div_ceil(100);
            let mut below = 0;
            let found = counts.iter().find(|(_, count)| {
                below += **count;
                below >= rank
            });
            found.map(|(bucket, _)| Duration::from_nanos(upper_end(*bucket)))
        };
        Some(Quantiles { count, p50: at(50)?, p99: at(99)? })
    }
}

fn slot(time: Time) -> u64 {
    time.seconds() / SLOT_SECONDS
}

fn place(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or(0)
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Time {
        Time(second * 1_000_000_000)
    }

    #[test]
    fn every_time_is_within_an_eighth_of_what_is_told() {
        let mut nanos: u64 = 1 << 13;
        while nanos < 1 << 44 {
            let told = upper_end(bucket(nanos));
            assert!(told > nanos && told - nanos <= nanos / 8 + 1, "{nanos}: {told}");
            assert_eq!(bucket(told - 1), bucket(nanos), "a bucket is found again by its end");
            assert_eq!(bucket(told), bucket(nanos) + 1);
            nanos += nanos / 37;
        }
        assert_eq!((bucket(0), upper_end(0)), (0, 9 << 10));
        assert_eq!((bucket(u64::MAX), upper_end(u8::MAX)), (u8::MAX, 1 << 45));
    }

    #[test]
    fn half_and_all_but_one_in_a_hundred() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantiles(second(100)), None);
        for _ in 0..98 {
            histogram.add(second(100), Duration::from_millis(1));
        }
        histogram.add(second(101), Duration::from_millis(200));
        histogram.add(second(112), Duration::from_secs(30));
        let Quantiles { count, p50, p99 } = histogram.quantiles(second(120)).unwrap();
        assert_eq!(count, 100);
        assert_eq!(p50.as_millis(), 1);
        assert!((200..226).contains(&p99.as_millis()), "{p99:?}");
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut histogram = Histogram::default();
        histogram.add(second(100), Duration::from_secs(1));
        assert_eq!(histogram.quantiles(second(159)).map(|found| found.count), Some(1));
        assert_eq!(histogram.quantiles(second(160)), None);
        histogram.add(second(160), Duration::from_secs(1));
        histogram.add(second(99), Duration::from_secs(1));
        histogram.add(second(100), Duration::from_secs(1));
        assert_eq!(histogram.quantiles(second(160)).map(|found| found.count), Some(1), "told too late");
    }
}
