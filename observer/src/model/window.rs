//! The last minute, second by second.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{time::Time, untrusted::at_most};

/// Seconds that a window remembers.
pub const SECONDS: u64 = 60;
const SLOTS: usize = 60;

/// What is counted per second and upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// Connections that ended, and connect() calls that failed.
    pub tries: u32,
    /// Tries that failed.
    pub failed: u32,
    /// Connections that carried one request and were closed at once.
    pub one_shot: u32,
    /// Segments sent again.
    pub retransmits: u32,
    /// Connections reset by the upstream.
    pub resets: u32,
}

impl Second {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            tries: self.tries.saturating_add(other.tries),
            failed: self.failed.saturating_add(other.failed),
            one_shot: self.one_shot.saturating_add(other.one_shot),
            retransmits: self.retransmits.saturating_add(other.retransmits),
            resets: self.resets.saturating_add(other.resets),
        }
    }
}

/// Seconds over which a [`Tally`] counts.
pub const TALLY_SECONDS: u64 = 10;
/// The running second has a slot besides.
const TALLY_SLOTS: usize = 11;

/// A count per second of the last [`TALLY_SECONDS`] seconds and the running one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally([(u64, u32); TALLY_SLOTS]);

impl Tally {
    /// Counts one.
    pub fn add(&mut self, now: Time) {
        let second = now.seconds();
        let slots = u64::try_from(TALLY_SLOTS).unwrap_or(1);
        let slot = &mut self.0[usize::try_from(second % slots).unwrap_or(0)];
        if slot.0 != second {
            *slot = (second, 0);
        }
        slot.1 = slot.1.saturating_add(1);
    }

    /// The count over the last [`TALLY_SECONDS`] whole seconds and the running one.
    pub fn so_far(&self, now: Time) -> u32 {
        let end = now.seconds();
        let begin = end.saturating_sub(TALLY_SECONDS);
        let within = self.0.iter().filter(|(second, _)| (begin..=end).contains(second));
        within.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The count over the last [`TALLY_SECONDS`] whole seconds.
    pub fn sum(&self, now: Time) -> u32 {
        let end = now.seconds();
        let begin = end.saturating_sub(TALLY_SECONDS);
        let within = self.0.iter().filter(|(second, _)| (begin..end).contains(second));
        within.fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// A ring of [`SECONDS`] seconds.
#[derive(Clone, Debug)]
pub struct Window {
    /// Each slot with the second that it stands for.
    slots: Box<[(u64, Second); SLOTS]>,
}

impl Default for Window {
    fn default() -> Self {
        Self { slots: Box::new([(0, Second::default()); SLOTS]) }
    }
}

impl Window {
    /// The counts of the second that `now` lies in.
    pub fn at(&mut self, now: Time) -> &mut Second {
        let second = now.seconds();
        let slot = &mut self.slots[slot(second)];
        if slot.0 != second {
            *slot = (second, Second::default());
        }
        &mut slot.1
    }

    /// The sum over the last `seconds` whole seconds before the one that `now` lies in, at most [`SECONDS`] - 1.
    pub fn sum(&self, now: Time, seconds: u64) -> Second {
        self.each(now, seconds).fold(Second::default(), Second::with)
    }

    /// The same second by second, oldest first.
    pub fn last(&self, now: Time, seconds: u64) -> Vec<Second> {
        self.each(now, seconds).collect()
    }

    /// As many as there are slots, the running second last.
    pub fn so_far(&self, now: Time) -> Vec<Second> {
        let mut seconds = self.last(now, SECONDS);
        let (stands_for, counts) = self.slots[slot(now.seconds())];
        seconds.push(if stands_for == now.seconds() { counts } else { Second::default() });
        seconds
    }

    fn each(&self, now: Time, seconds: u64) -> impl Iterator<Item = Second> {
        let end = now.seconds();
        let wanted = seconds.min(SECONDS - 1);
        (end.saturating_sub(wanted)..end).map(|second| {
            let (stands_for, counts) = self.slots[slot(second)];
            if stands_for == second { counts } else { Second::default() }
        })
    }
}

/// Only the seconds in which something was counted.
impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counted = self.slots.iter().filter(|(_, counts)| *counts != Second::default());
        counted.collect::<Vec<_>>().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counted: Vec<(u64, Second)> = at_most::<SLOTS, _, _, _>(deserializer)?;
        let mut window = Self::default();
        for (second, counts) in counted {
            window.slots[slot(second)] = (second, counts);
        }
        Ok(window)
    }
}

fn slot(second: u64) -> usize {
    usize::try_from(second % SECONDS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_seconds_within_reach_count() {
        let second = |n: u64| Time(n * 1_000_000_000);
        let mut window = Window::default();
        window.at(second(100)).tries = 5;
        window.at(second(101)).tries = 7;
        window.at(second(102)).tries = 9;
        assert_eq!(window.sum(second(102), 2).tries, 12, "the running second is left out");
        assert_eq!(window.sum(second(103), 1).tries, 9);
        assert_eq!(window.sum(second(160), 59).tries, 16, "101 and 102 are within reach, 100 is not");
        window.at(second(161)).tries = 1;
        assert_eq!(window.sum(second(162), 59).tries, 1, "slots are reused");
    }
}
