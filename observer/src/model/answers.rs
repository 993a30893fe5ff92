//! How long answers took to begin since the start, in little room: a count for each width of time.

use std::{collections::BTreeMap, time::Duration};

use observer_common::latency::{bucket, upper_end};
use serde::{Deserialize, Serialize};

/// See the module. There are only so many widths ([`observer_common::latency::BUCKETS`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers(BTreeMap<u8, u64>);

impl Answers {
    /// So many took less than that, but not much less ([`crate::event::FirstBytes::within`]).
    pub(super) fn add_within(&mut self, nanos: u64, count: u32) {
        let sum = self.0.entry(bucket(nanos.saturating_sub(1))).or_default();
        *sum = sum.saturating_add(count.into());
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// At least half took no longer; too high by an eighth at most. `None` if there were none.
    pub fn median(&self) -> Option<Duration> {
        let half = self.count().div_ceil(2);
        let mut below = 0_u64;
        let found = self.0.iter().find(|(_, count)| {
            below = below.saturating_add(**count);
            below >= half
        });
        found.map(|(bucket, _)| Duration::from_nanos(upper_end(*bucket)))
    }

    /// How many surely took longer than that.
    pub fn longer_than(&self, least: Duration) -> u64 {
        // Where the bucket before it ends.
        let begins = |bucket: u8| bucket.checked_sub(1).map_or(0, upper_end);
        let longer = self.0.iter().filter(|(bucket, _)| u128::from(begins(**bucket)) >= least.as_nanos());
        longer.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_them_and_those_that_took_long() {
        let mut answers = Answers::default();
        assert_eq!((answers.count(), answers.median(), answers.longer_than(Duration::ZERO)), (0, None, 0));
        let within = |answers: &mut Answers, ms: u64, count| {
            answers.add_within(upper_end(bucket(ms * 1_000_000)), count);
        };
        within(&mut answers, 10, 60);
        within(&mut answers, 70_000, 40);
        let median = answers.median().unwrap();
        assert!((10..12).contains(&median.as_millis()), "{median:?}");
        assert_eq!((answers.count(), answers.longer_than(Duration::from_mins(1))), (100, 40));
        // Its width may reach down to less.
        assert_eq!(answers.longer_than(Duration::from_secs(70)), 0);
        within(&mut answers, 70_000, u32::MAX);
        assert_eq!(answers.median().map(|median| median.as_secs() / 10), Some(7));
    }
}
