//! When records were lost: what is judged of such a time may lack evidence.

use observer_common::Kind;
use serde::{Deserialize, Serialize};

use crate::{event::Lost, time::Time, untrusted::at_most};

/// Stretches of time that are kept apart; when full, the two oldest become one with what lies between them, so that no loss is
/// forgotten.
pub const MAX_HOLES: usize = 64;
/// Losses that follow one another are one stretch up to this long, in seconds, so that what a try is told to lack is of its time.
const STRETCH_SECONDS: u64 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Holes {
    /// When the counters were last told, and how much was lost by then: nothing before they were first.
    told: (Time, u64),
    #[serde(deserialize_with = "at_most::<MAX_HOLES, _, _, _>")]
    spans: Vec<Hole>,
    /// The last one reaches to when the counters are next told.
    open: bool,
    /// Outcomes lost, and when the last was told to be.
    outcomes: (u64, Option<Time>),
}

/// A stretch of time within which records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hole {
    from: Time,
    to: Time,
    records: u64,
}

impl Holes {
    /// Takes in what has been lost. The live source tells of it as soon as it knows, ahead of the records that came after; so
    /// what is new was lost between the telling before and the one that follows.
    pub fn told(&mut self, time: Time, lost: &Lost) {
        let total = evidence(lost);
        let ((from, before), outcomes) = (self.told, lost.of(Kind::Outcome));
        if self.open
            && let Some(last) = self.spans.last_mut()
        {
            last.to = last.to.max(time);
        }
        self.open = total > before;
        if self.open {
            self.add(Hole { from, to: time.max(from), records: total - before });
        }
        if outcomes > self.outcomes.0 {
            self.outcomes.1 = Some(time);
        }
        self.outcomes.0 = outcomes;
        self.told = (time, total);
    }

    /// When outcomes were last told to be lost.
    pub fn outcomes_lost(&self) -> Option<Time> {
        self.outcomes.1
    }

    /// Records lost in the stretches that touch this time: at most so many of that time itself.
    pub fn within(&self, from: Time, to: Time) -> u64 {
        let last = self.spans.len().wrapping_sub(1);
        let reaches = |index: usize, hole: &Hole| hole.to >= from || (self.open && index == last);
        let touched = self.spans.iter().enumerate().filter(|(index, hole)| hole.from <= to && reaches(*index, hole));
        touched.fold(0, |records, (_, hole)| records.saturating_add(hole.records))
    }

    fn add(&mut self, hole: Hole) {
        if let Some(last) = self.spans.last_mut()
            && last.to >= hole.from
            && hole.to.since(last.from).as_secs() < STRETCH_SECONDS
        {
            *last = last.with(hole);
            return;
        }
        if self.spans.len() == MAX_HOLES {
            let oldest = self.spans.remove(0);
            self.spans[0] = oldest.with(self.spans[0]);
        }
        self.spans.push(hole);
    }
}

impl Hole {
    fn with(self, later: Self) -> Self {
        Self { from: self.from, to: later.to, records: self.records.saturating_add(later.records) }
    }
}

/// What may have been evidence. Connections that are not followed have no verdict that could lack it.
fn evidence(lost: &Lost) -> u64 {
    lost.records.iter().fold(lost.undecoded, |total, count| total.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn lost(records: u64) -> Lost {
        let mut lost = Lost::default();
        lost.records[3] = records;
        lost
    }

    #[test]
    fn what_was_lost_belongs_to_the_time_between_the_tellings_around_it() {
        let mut holes = Holes::default();
        for (ms, records) in [(0, 5), (500, 5), (1_000, 5), (2_000, 8)] {
            holes.told(at(ms), &lost(records));
        }
        assert_eq!(holes.within(at(0), at(400)), 5, "before the first telling, or soon after");
        assert_eq!(holes.within(at(501), at(999)), 0);
        assert_eq!(holes.within(at(600), at(1_500)), 3);
        assert_eq!(holes.within(at(1_400), at(1_500)), 3);
        assert_eq!(holes.within(at(9_000), at(9_500)), 3, "it may go on");
        holes.told(at(3_000), &lost(8));
        assert_eq!(holes.within(at(2_999), at(9_000)), 3);
        assert_eq!(holes.within(at(3_001), at(9_000)), 0);
    }

    #[test]
    fn losses_that_go_on_are_kept_by_the_second_and_none_is_forgotten() {
        let mut holes = Holes::default();
        for ms in 0..=100_000 {
            holes.told(at(ms), &lost(ms));
        }
        assert!(holes.spans.len() <= MAX_HOLES);
        assert_eq!(holes.within(at(0), at(100_000)), 100_000);
        let late = holes.within(at(99_000), at(99_001));
        assert!((1..=2_000).contains(&late), "{late}");
    }
}
