//! Tries that are kept, each in one queue by what it waits for.

use std::collections::{HashMap, VecDeque};

use foldhash::quality::RandomState;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    model::{Attempt, Ending, FlowKey},
    time::Time,
    untrusted::AtMost,
};

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
    /// It is to be judged, and its line in the proxy's log may still come.
    Line,
    /// The same, and what its client got may still be read in another.
    Told,
    /// It failed, its evidence is in, and its answer is to come.
    Answer,
    /// It looks well, until an answer says otherwise.
    Nothing,
}

impl Wait {
    /// All of them, in the order of the queues.
    const ALL: [Self; 6] = [Self::Evidence, Self::Try, Self::Line, Self::Told, Self::Answer, Self::Nothing];
}

/// What is looked at most of a try, apart from the rest, so that it is at hand.
#[derive(Clone, Debug)]
struct Head {
    key: Key,
    wait: Wait,
    /// The place that holds; earlier ones are out of date. 0 once the try was taken out.
    place: u64,
    over: Over,
}

/// What is to be known of a try that is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Over {
    /// Where the server's side of it is noted.
    pub(super) flow: Option<FlowKey>,
    /// When it ended.
    pub(super) time: Time,
    /// How, by the proxy's socket alone.
    pub(super) ending: Ending,
}

impl Over {
    /// Of this try.
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self { flow: attempt.flow, time: attempt.time, ending: attempt.ending }
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    due: Time,
    slot: usize,
    number: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// Where each try is: its index in both of the next.
    names: HashMap<Key, usize, RandomState>,
    heads: Vec<Head>,
    /// What is left where there is no try any more stays until another takes its place.
    attempts: Vec<Attempt>,
    /// Where there is none, the longest first: tries that come one after another lie so.
    free: VecDeque<usize>,
    /// One for each [`Wait`], in the order in which something is due.
    queues: [VecDeque<Place>; Wait::ALL.len()],
    /// Places given so far.
    places: u64,
    /// How many tries wait for what, in the order of the queues.
    waiting: [usize; Wait::ALL.len()],
}

impl Kept {
    /// Whether another try needs one to go.
    pub(super) fn is_full(&self) -> bool {
        self.names.len() >= MAX_OPEN
    }

    /// How many wait for this.
    pub(super) fn waiting(&self, wait: Wait) -> usize {
        self.waiting[wait as usize]
    }

    /// Keeps a try. Gives back the one that had its name.
    pub(super) fn insert(&mut self, wait: Wait, due: Time, attempt: Attempt) -> Option<(Wait, Attempt)> {
        let key = name(&attempt);
        let head = Head { key, wait, place: 0, over: Over::of(&attempt) };
        let slot = self.free.pop_front().unwrap_or(self.heads.len());
        if slot < self.heads.len() {
            (self.heads[slot], self.attempts[slot]) = (head, attempt);
        } else {
            self.heads.push(head);
            self.attempts.push(attempt);
        }
        let before = self.names.insert(key, slot);
        self.place(slot, wait, due);
        before.map(|slot| {
            self.vacate(slot);
            (self.heads[slot].wait, self.attempts[slot].clone())
        })
    }

    /// Has a try wait for something else.
    pub(super) fn wait(&mut self, key: Key, wait: Wait, due: Time) {
        if let Some(slot) = self.names.get(&key) {
            self.place(*slot, wait, due);
        }
    }

    fn place(&mut self, slot: usize, wait: Wait, due: Time) {
        let Self { heads, queues, places, waiting, .. } = self;
        let queue = &mut queues[wait as usize];
        if queue.len() >= MAX_PLACES {
            queue.retain(|place| holds(heads, place));
        }
        if heads[slot].place != 0 {
            waiting[heads[slot].wait as usize] -= 1;
        }
        waiting[wait as usize] += 1;
        *places += 1;
        queue.push_back(Place { due, slot, number: *places });
        (heads[slot].wait, heads[slot].place) = (wait, *places);
    }

    /// A try, with what it waits for.
    pub(super) fn get(&self, key: &Key) -> Option<(Wait, &Attempt)> {
        let slot = *self.names.get(key)?;
        Some((self.heads[slot].wait, &self.attempts[slot]))
    }

    /// The same to change it.
    pub(super) fn get_mut(&mut self, key: &Key) -> Option<(Wait, &mut Attempt)> {
        let slot = *self.names.get(key)?;
        Some((self.heads[slot].wait, &mut self.attempts[slot]))
    }

    /// Takes a try out.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Attempt> {
        let slot = self.names.remove(key)?;
        self.vacate(slot);
        Some(self.attempts[slot].clone())
    }

    fn vacate(&mut self, slot: usize) {
        self.waiting[self.heads[slot].wait as usize] -= 1;
        self.heads[slot].place = 0;
        self.free.push_back(slot);
    }

    /// When something is due in a queue first, if it is by `now`.
    pub(super) fn first_due(&mut self, wait: Wait, now: Time) -> Option<Time> {
        let Self { heads, queues, .. } = self;
        let queue = &mut queues[wait as usize];
        loop {
            let place = queue.front().filter(|place| place.due <= now)?;
            if holds(heads, place) {
                return Some(place.due);
            }
            queue.pop_front();
        }
    }

    /// The first of a queue, if something is due about it by `now`. It is still kept, and in no queue.
    pub(super) fn next(&mut self, wait: Wait, now: Time) -> Option<(Time, Key)> {
        let due = self.first_due(wait, now)?;
        let place = self.queues[wait as usize].pop_front()?;
        Some((due, self.heads[place.slot].key))
    }

    /// Takes out the first of a queue, if it is due by `now`, as it was when it was kept.
    pub(super) fn over(&mut self, wait: Wait, now: Time) -> Option<(Time, Over)> {
        let due = self.first_due(wait, now)?;
        let slot = self.queues[wait as usize].pop_front()?.slot;
        self.names.remove(&self.heads[slot].key);
        self.vacate(slot);
        Some((due, self.heads[slot].over))
    }

    /// All tries of a queue with when something is due about each, in that order.
    pub(super) fn of(&self, wait: Wait) -> impl DoubleEndedIterator<Item = (Time, Key, &Attempt)> {
        let holding = self.queues[wait as usize].iter().filter(|place| holds(&self.heads, place));
        holding.map(|place| (place.due, self.heads[place.slot].key, &self.attempts[place.slot]))
    }
}

fn holds(heads: &[Head], place: &Place) -> bool {
    heads[place.slot].place == place.number
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
