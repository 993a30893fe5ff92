//! Tables with a limit: what goes when they are full is a rule, and is counted.

use std::{collections::HashMap, hash::Hash, mem, time::Duration};

use crate::time::Time;

/// A small table. Full, it drops the entry that was touched longest ago.
#[derive(Debug)]
pub struct Recent<K, V> {
    limit: usize,
    entries: HashMap<K, (V, Time)>,
    evicted: u64,
}

impl<K: Hash + Eq + Copy, V> Recent<K, V> {
    /// An empty table for at most `limit` entries.
    pub fn new(limit: usize) -> Self {
        Self { limit, entries: HashMap::new(), evicted: 0 }
    }

    /// The entry of `key`, made if there is none, touched now.
    pub fn entry(&mut self, key: K, now: Time, make: impl FnOnce() -> V) -> &mut V {
        if self.entries.len() >= self.limit && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, touched))| *touched).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
                self.evicted += 1;
            }
        }
        let (value, touched) = self.entries.entry(key).or_insert_with(|| (make(), now));
        *touched = now;
        value
    }

    /// Replaces the entry of `key`, touched now.
    pub fn put(&mut self, key: K, now: Time, value: V) {
        self.entries.remove(&key);
        self.entry(key, now, || value);
    }

    /// The entry of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// All keys, unordered.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    /// All entries, unordered.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }

    /// All entries, unordered and not touched.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, (value, _))| (key, value))
    }

    /// Entries dropped because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// A large table of short-lived entries, in two generations: when the young one is half the limit or old enough, the
/// old one is dropped whole and the young one becomes old. Touching an entry makes it young. Constant time, and an
/// entry lives for `memory` at least unless the table is full.
#[derive(Debug)]
pub struct Generations<K, V> {
    limit: usize,
    memory: Duration,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    turned: Time,
    evicted: u64,
}

impl<K: Hash + Eq, V: Default> Generations<K, V> {
    /// An empty table for at most `limit` entries.
    pub fn new(limit: usize, memory: Duration) -> Self {
        Self { limit, memory, young: HashMap::new(), old: HashMap::new(), turned: Time::default(), evicted: 0 }
    }

    /// The entry of `key`, made if there is none.
    pub fn entry(&mut self, key: K, now: Time) -> &mut V {
        let full = self.young.len() >= self.limit / 2;
        let aged = now.since(self.turned) >= self.memory;
        if full || aged {
            let dropped = mem::replace(&mut self.old, mem::take(&mut self.young));
            // By age nothing is lost that was promised; by want of room it is.
            if !aged {
                self.evicted += dropped.len() as u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_drops_what_was_idle_longest() {
        let mut table = Recent::new(2);
        table.entry(1, Time(1), || "a");
        table.entry(2, Time(2), || "b");
        table.entry(1, Time(3), || "never made");
        table.entry(3, Time(4), || "c");
        assert_eq!((table.get(&1), table.get(&2), table.get(&3)), (Some(&"a"), None, Some(&"c")));
        assert_eq!(table.evicted(), 1);
    }

    #[test]
    fn generations_keep_entries_for_their_memory() {
        let mut table: Generations<u32, u32> = Generations::new(1000, Duration::from_secs(10));
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
        let mut table: Generations<u32, u32> = Generations::new(8, Duration::from_secs(1000));
        for key in 0..20 {
            table.entry(key, Time(1_000_000_000_000));
        }
        assert!(table.get(&0).is_none() && table.get(&19).is_some());
        assert_eq!(table.evicted(), 8 + 4);
    }
}
