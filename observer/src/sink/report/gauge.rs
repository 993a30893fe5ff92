//! What fills, against what it can hold: accept queues, and the ephemeral ports of a destination.

use super::{series::Merge, words::harmless};
use crate::{addr::NetNs, model::UpstreamKey};

/// Queues, and destinations with TIME_WAIT sockets, that are followed. Full, the one that was least full gives way to one
/// that is fuller.
const MAX_FOLLOWED: usize = 64;
/// The gauges of each kind that a report gets.
pub(super) const MAX_SHOWN: usize = 3;

/// Something that fills, against what it can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The most seen in the slot.
    pub value: u32,
    /// Its limit.
    pub limit: u32,
}

impl Level {
    /// How full, in percent; a queue holds one more than its limit.
    pub fn percent(self) -> u64 {
        u64::from(self.value) * 100 / u64::from(self.limit.max(1))
    }
}

/// A gauge over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What it is of: a listener, or the destination of connections in TIME_WAIT.
    pub name: String,
    /// The namespace of the listener, or of the proxy.
    pub netns: u32,
    /// The fullest that it was.
    pub peak: Level,
    /// A level for each slot in which it was looked at.
    pub levels: Vec<Option<Level>>,
}

impl Merge for Option<Level> {
    fn merge(&mut self, other: &Self) {
        let Some(other) = other else { return };
        let level = self.get_or_insert(*other);
        *level = Level { value: level.value.max(other.value), limit: level.limit.max(other.limit) };
    }
}

/// What a gauge is of, and its namespace.
pub(super) type Key = (NetNs, UpstreamKey);

/// A gauge that is followed.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) key: Key,
    peak: Level,
    pub(super) levels: Vec<Option<Level>>,
}

/// Notes a level. What was never anything but empty is not followed.
pub(super) fn follow(all: &mut Vec<Followed>, key: Key, index: usize, level: Level) {
    let position = match all.iter().position(|followed| followed.key == key) {
        Some(position) => position,
        None if level.value == 0 => return,
        None => {
            if all.len() >= MAX_FOLLOWED {
                let least = all.iter().enumerate().min_by_key(|(_, followed)| followed.peak.percent());
                match least {
                    Some((least, followed)) if followed.peak.percent() < level.percent() => all.swap_remove(least),
                    _ => return,
                };
            }
            all.push(Followed { key, peak: level, levels: Vec::new() });
            all.len() - 1
        }
    };
    let followed = &mut all[position];
    if level.percent() > followed.peak.percent() {
        followed.peak = level;
    }
    if index >= followed.levels.len() {
        followed.levels.resize(index + 1, None);
    }
    followed.levels[index].merge(&Some(level));
}

/// Those to show, the fullest first.
pub(super) fn fullest(mut followed: Vec<Followed>, length: usize) -> Vec<Gauge> {
    followed.sort_by_key(|each| (std::cmp::Reverse(each.peak.percent()), each.key.1));
    followed.truncate(MAX_SHOWN);
    let gauges = followed.into_iter().map(|Followed { key: (netns, at), peak, mut levels }| {
        levels.resize(length, None);
        Gauge { name: harmless(&at.to_string()), netns: netns.0, peak, levels }
    });
    gauges.collect()
}
