//! Tries that are kept, each in one queue by what it waits for.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{model::Attempt, time::Time, untrusted::AtMost};

/// Tries that may be kept at once. Beyond that the oldest is settled early, and counted.
pub(super) const MAX_OPEN: usize = 131_072;
/// Places in a queue may be out of date, for tries are taken out of its middle; with more than this it is tidied up.
const MAX_PLACES: usize = 2 * MAX_OPEN;

/// A try by the name that its outcome uses: the process, and when its end was told.
pub(super) type Key = (u32, Time);

/// The name of a try.
pub(super) fn name(attempt: &Attempt) -> Key {
    (attempt.proxy.pid, attempt.told)
}

/// What a try waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It failed, and its evidence may still come.
    Evidence,
    /// It is an answer that came before its try was let go of.
    Try,
    /// It failed, its evidence is in, and its answer is to come.
    Answer,
    /// It looks well, until an answer says otherwise.
    Nothing,
}

impl Wait {
    /// All of them, in the order of the queues.
    const ALL: [Self; 4] = [Self::Evidence, Self::Try, Self::Answer, Self::Nothing];
}

#[derive(Clone, Debug)]
struct Try {
    wait: Wait,
    /// The place that holds; earlier ones are out of date.
    place: u64,
    attempt: Box<Attempt>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    due: Time,
    key: Key,
    number: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    tries: HashMap<Key, Try>,
    /// One for each [`Wait`], in the order in which something is due.
    queues: [VecDeque<Place>; Wait::ALL.len()],
    /// Places given so far.
    places: u64,
}

impl Kept {
    /// Whether another try needs one to go.
    pub(super) fn is_full(&self) -> bool {
        self.tries.len() >= MAX_OPEN
    }

    /// Keeps a try. Gives back the one that had its name.
    pub(super) fn insert(&mut self, wait: Wait, due: Time, attempt: Attempt) -> Option<(Wait, Box<Attempt>)> {
        let key = name(&attempt);
        let place = self.place(key, wait, due);
        let before = self.tries.insert(key, Try { wait, place, attempt: Box::new(attempt) })?;
        Some((before.wait, before.attempt))
    }

    /// Has a try wait for something else.
    pub(super) fn wait(&mut self, key: Key, wait: Wait, due: Time) {
        let place = self.place(key, wait, due);
        if let Some(kept) = self.tries.get_mut(&key) {
            (kept.wait, kept.place) = (wait, place);
        }
    }

    fn place(&mut self, key: Key, wait: Wait, due: Time) -> u64 {
        let Self { tries, queues, places } = self;
        let queue = &mut queues[wait as usize];
        if queue.len() >= MAX_PLACES {
            queue.retain(|place| holds(tries, place));
        }
        *places += 1;
        queue.push_back(Place { due, key, number: *places });
        *places
    }

    /// A try, with what it waits for.
    pub(super) fn get(&self, key: &Key) -> Option<(Wait, &Attempt)> {
        self.tries.get(key).map(|kept| (kept.wait, &*kept.attempt))
    }

    /// The same to change it.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<(Wait, &mut Attempt)> {
        self.tries.get_mut(key).map(|kept| (kept.wait, &mut *kept.attempt))
    }

    /// Takes a try out.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Box<Attempt>> {
        self.tries.remove(key).map(|kept| kept.attempt)
    }

    /// When something is due in a queue first.
    pub(super) fn first_due(&mut self, wait: Wait) -> Option<Time> {
        let Self { tries, queues, .. } = self;
        let queue = &mut queues[wait as usize];
        while queue.pop_front_if(|place| !holds(tries, place)).is_some() {}
        queue.front().map(|place| place.due)
    }

    /// The first of a queue, if something is due about it by `now`. It is still kept, and in no queue.
    pub(super) fn next(&mut self, wait: Wait, now: Time) -> Option<(Time, Key)> {
        if self.first_due(wait)? > now {
            return None;
        }
        self.queues[wait as usize].pop_front().map(|place| (place.due, place.key))
    }

    /// All tries of a queue with when something is due about each, in that order.
    pub(super) fn of(&self, wait: Wait) -> impl DoubleEndedIterator<Item = (Time, Key, &Attempt)> {
        let holding = self.queues[wait as usize].iter().filter(|place| holds(&self.tries, place));
        holding.filter_map(|place| Some((place.due, place.key, &*self.tries.get(&place.key)?.attempt)))
    }
}

/// The tries of each queue in its order: names and places follow from them.
impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let queues = Wait::ALL.map(|wait| self.of(wait).map(|(due, _, attempt)| (due, attempt)).collect::<Vec<_>>());
        queues.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let queues = <[AtMost<(Time, Attempt), MAX_OPEN>; Wait::ALL.len()]>::deserialize(deserializer)?;
        let mut kept = Self::default();
        for (wait, AtMost(tries)) in Wait::ALL.into_iter().zip(queues) {
            if !tries.is_sorted_by_key(|(due, _)| *due) {
                return Err(D::Error::custom("a queue is out of order"));
            }
            for (due, attempt) in tries {
                if kept.is_full() || kept.insert(wait, due, attempt).is_some() {
                    return Err(D::Error::custom("too many tries, or two of one name"));
                }
            }
        }
        Ok(kept)
    }
}

fn holds(tries: &HashMap<Key, Try>, place: &Place) -> bool {
    tries.get(&place.key).is_some_and(|kept| kept.place == place.number)
}
