//! Tables with a limit: what goes when they are full is a rule, and is counted. What they hold and the order in which they
//! tell it follow from what was done to them alone, so that the same events give the same verdicts again.

use std::{collections::HashMap, hash::Hash, iter, mem, time::Duration};

use foldhash::quality::RandomState;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{time::Time, untrusted::AtMost};

/// A small table. Full, it drops the entry that was touched longest ago.
#[derive(Clone, Debug)]
pub struct Recent<K, V, const LIMIT: usize> {
    /// Where each key's entry is.
    places: HashMap<K, usize, RandomState>,
    /// Linked to a ring by the order of their last touch.
    entries: Vec<Entry<K, V>>,
    /// The entry touched longest ago; the one before it in the ring was touched last.
    oldest: usize,
    evicted: u64,
}

#[derive(Clone, Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    older: usize,
    newer: usize,
}

impl<K, V, const LIMIT: usize> Default for Recent<K, V, LIMIT> {
    fn default() -> Self {
        Self { places: HashMap::default(), entries: Vec::new(), oldest: 0, evicted: 0 }
    }
}

impl<K: Hash + Eq + Copy, V, const LIMIT: usize> Recent<K, V, LIMIT> {
    /// The entry of `key`, made if there is none, touched.
    pub fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => self.insert(key, make()),
        };
        self.touch(place);
        &mut self.entries[place].value
    }

    /// Replaces the entry of `key`, touched.
    pub fn put(&mut self, key: K, value: V) {
        match self.places.get(&key) {
            Some(place) => {
                let place = *place;
                self.entries[place].value = value;
                self.touch(place);
            }
            None => {
                self.insert(key, value);
            }
        }
    }

    /// Makes a new entry the newest.
    fn insert(&mut self, key: K, value: V) -> usize {
        let place = if self.entries.len() < LIMIT {
            let place = self.entries.len();
            self.entries.push(Entry { key, value, older: place, newer: place });
            self.link(place);
            place
        } else {
            let place = self.oldest;
            let entry = &mut self.entries[place];
            self.places.remove(&entry.key);
            (entry.key, entry.value) = (key, value);
            self.touch(place);
            self.evicted = self.evicted.saturating_add(1);
            place
        };
        self.places.insert(key, place);
        place
    }

    /// Makes the entry the newest.
    fn touch(&mut self, place: usize) {
        if place == self.oldest {
            self.oldest = self.entries[place].newer;
            return;
        }
        let Entry { older, newer, .. } = self.entries[place];
        self.entries[older].newer = newer;
        self.entries[newer].older = older;
        self.link(place);
    }

    /// Puts an entry that is in no ring between the newest and the oldest.
    fn link(&mut self, place: usize) {
        let oldest = self.oldest;
        let newest = self.entries[oldest].older;
        self.entries[newest].newer = place;
        self.entries[oldest].older = place;
        (self.entries[place].older, self.entries[place].newer) = (newest, oldest);
    }

    /// The entry of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.places.get(key).map(|place| &self.entries[*place].value)
    }

    /// All entries, the one touched longest ago first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let first = self.entries.get(self.oldest);
        let in_order = iter::successors(first, |entry| self.entries.get(entry.newer));
        in_order.take(self.entries.len()).map(|entry| (&entry.key, &entry.value))
    }

    /// All entries in no order that means anything, not touched.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|entry| (&entry.key, &mut entry.value))
    }

    /// Entries dropped because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// A large table of short-lived entries, in two generations: when the young one is half the limit or old enough, the
/// old one is dropped whole and the young one becomes old. Touching an entry makes it young. Constant time, and an
/// entry lives for `SECONDS` at least unless the table is full.
#[derive(Clone, Debug)]
pub struct Generations<K, V, const LIMIT: usize, const SECONDS: u64> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
    turned: Time,
    evicted: u64,
}

impl<K, V, const LIMIT: usize, const SECONDS: u64> Default for Generations<K, V, LIMIT, SECONDS> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), turned: Time::default(), evicted: 0 }
    }
}

impl<K: Hash + Eq, V: Default, const LIMIT: usize, const SECONDS: u64> Generations<K, V, LIMIT, SECONDS> {
    /// The entry of `key`, made if there is none.
    pub fn entry(&mut self, key: K, now: Time) -> &mut V {
        let full = self.young.len() >= LIMIT / 2;
        let aged = now.since(self.turned) >= Duration::from_secs(SECONDS);
        if full || aged {
            let dropped = mem::replace(&mut self.old, mem::take(&mut self.young));
            // By age nothing is lost that was promised; by want of room it is.
            if !aged {
                self.evicted = self.evicted.saturating_add(dropped.len() as u64);
            }
            self.turned = now;
        }
        let before = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| before.unwrap_or_default())
    }

    /// The entry of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Takes the entry of `key` out.
    pub fn remove(&mut self, key: &K) {
        if self.young.remove(key).is_none() {
            self.old.remove(key);
        }
    }

    /// Entries dropped before their time.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// The entries in their order: it is all there is to know of the ring.
impl<K: Hash + Eq + Copy + Serialize, V: Serialize, const LIMIT: usize> Serialize for Recent<K, V, LIMIT> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.evicted, self.iter().collect::<Vec<_>>()).serialize(serializer)
    }
}

impl<'de, K, V, const LIMIT: usize> Deserialize<'de> for Recent<K, V, LIMIT>
where
    K: Hash + Eq + Copy + Deserialize<'de>,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (evicted, AtMost(entries)) = <(u64, AtMost<(K, V), LIMIT>)>::deserialize(deserializer)?;
        let mut table = Self { evicted, ..Self::default() };
        for (key, value) in entries {
            if table.get(&key).is_some() {
                return Err(D::Error::custom("a key occurs twice"));
            }
            table.put(key, value);
        }
        Ok(table)
    }
}

/// Sorted, so that equal tables make equal bytes.
impl<K, V, const LIMIT: usize, const SECONDS: u64> Serialize for Generations<K, V, LIMIT, SECONDS>
where
    K: Ord + Serialize,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [young, old] = [&self.young, &self.old].map(|generation| {
            let mut entries: Vec<_> = generation.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            entries
        });
        (self.evicted, self.turned, young, old).serialize(serializer)
    }
}

impl<'de, K, V, const LIMIT: usize, const SECONDS: u64> Deserialize<'de> for Generations<K, V, LIMIT, SECONDS>
where
    K: Hash + Eq + Deserialize<'de>,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Entries<K, V, const LIMIT: usize> = AtMost<(K, V), LIMIT>;
        let (evicted, turned, AtMost(young), AtMost(old)) =
            <(u64, Time, Entries<K, V, LIMIT>, Entries<K, V, LIMIT>)>::deserialize(deserializer)?;
        let count = young.len() + old.len();
        let table = Self { young: young.into_iter().collect(), old: old.into_iter().collect(), turned, evicted };
        let twice = table.old.keys().any(|key| table.young.contains_key(key));
        if twice || table.young.len() + table.old.len() != count {
            return Err(D::Error::custom("a key occurs twice"));
        }
        if table.young.len().max(table.old.len()) > LIMIT / 2 {
            return Err(D::Error::custom("a generation is larger than half the limit"));
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_drops_what_was_idle_longest() {
        let mut table = Recent::<_, _, 2>::default();
        table.entry(1, || "a");
        table.entry(2, || "b");
        table.entry(1, || "never made");
        table.entry(3, || "c");
        assert_eq!((table.get(&1), table.get(&2), table.get(&3)), (Some(&"a"), None, Some(&"c")));
        assert_eq!(table.evicted(), 1);
    }

    #[test]
    fn entries_come_in_the_order_of_their_last_touch() {
        let mut table = Recent::<u32, u32, 4>::default();
        let mut expected = Vec::new();
        // Keys in an order without a pattern, more of them than there is room for.
        for n in 0..200_u32 {
            let key = n * n % 7 + n % 3;
            expected.retain(|other| *other != key);
            expected.push(key);
            if expected.len() > 4 {
                expected.remove(0);
            }
            if n % 2 == 0 {
                table.put(key, key);
            } else {
                table.entry(key, || key);
            }
            assert!(table.iter().map(|(key, _)| key).eq(&expected), "{n}");
            assert!(expected.iter().all(|key| table.get(key) == Some(key)));
        }
    }

    #[test]
    fn generations_keep_entries_for_their_memory() {
        let mut table = Generations::<u32, u32, 1000, 10>::default();
        let second = |n: u64| Time(n * 1_000_000_000);
        *table.entry(1, second(10)) = 7;
        table.entry(2, second(21));
        assert_eq!(table.get(&1), Some(&7), "one turn later it is old, not gone");
        table.entry(3, second(32));
        assert_eq!(table.get(&1), None);
        assert_eq!(table.evicted(), 0, "age is no eviction");
    }

    #[test]
    fn generations_count_what_they_drop_for_want_of_room() {
        let mut table = Generations::<u32, u32, 8, 1000>::default();
        for key in 0..20 {
            table.entry(key, Time(1_000_000_000_000));
        }
        assert!(table.get(&0).is_none() && table.get(&19).is_some());
        assert_eq!(table.evicted(), 8 + 4);
    }
}
