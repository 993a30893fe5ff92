//! Stretches of time in which tries failed.

use std::time::Duration;

use crate::time::Time;

/// Failures further apart than this are of two stretches.
const APART: Duration = Duration::from_mins(1);
/// Stretches told apart. Of more, the two that are closest become one.
const MAX_BOUTS: usize = 16;

/// A stretch in which tries failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bout {
    /// The first failure.
    pub from: Time,
    /// The last.
    pub to: Time,
    /// How many there were.
    pub count: u64,
}

/// All of them, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Bouts(Vec<Bout>);

impl Bouts {
    /// Takes in a failure. Verdicts come nearly in the order of their times: one that is late extends the last stretch.
    pub(super) fn add(&mut self, time: Time) {
        if let Some(last) = self.0.last_mut().filter(|last| time.since(last.to) <= APART) {
            last.from = last.from.min(time);
            last.to = last.to.max(time);
            last.count += 1;
            return;
        }
        self.0.push(Bout { from: time, to: time, count: 1 });
        if self.0.len() > MAX_BOUTS {
            self.join_closest();
        }
    }

    fn join_closest(&mut self) {
        let gap = |index: &usize| self.0[index + 1].from.since(self.0[*index].to);
        if let Some(index) = (0..self.0.len() - 1).min_by_key(gap) {
            let later = self.0.remove(index + 1);
            self.0[index].to = later.to;
            self.0[index].count += later.count;
        }
    }

    pub(super) fn into_vec(self) -> Vec<Bout> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Time {
        Time(number * 1_000_000_000)
    }

    #[test]
    fn a_silence_of_more_than_a_minute_divides() {
        let mut bouts = Bouts::default();
        for number in [10, 15, 75, 136] {
            bouts.add(second(number));
        }
        let expected = [
            Bout { from: second(10), to: second(75), count: 3 },
            Bout { from: second(136), to: second(136), count: 1 },
        ];
        assert_eq!(bouts.into_vec(), expected);
    }

    #[test]
    fn too_many_become_one_where_they_are_closest() {
        let mut bouts = Bouts::default();
        for number in 0..100 {
            bouts.add(second(number * 1000));
        }
        bouts.add(second(99_000 + 61));
        let bouts = bouts.into_vec();
        assert_eq!(bouts.len(), MAX_BOUTS);
        assert_eq!(bouts.iter().map(|bout| bout.count).sum::<u64>(), 101);
        assert_eq!(bouts.last().map(|bout| bout.to), Some(second(99_061)));
    }
}
