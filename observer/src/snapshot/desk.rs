//! What a view asks of the pipeline, and what it gets only while it asks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use crate::event::Event;

/// What somebody looks at now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The last events.
    pub tail: bool,
    /// What watching costs.
    pub cost: bool,
}

/// Where a view leaves what it wants. Clones are the same desk; nobody waits for it.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<Wishes>);

#[derive(Debug, Default)]
struct Wishes {
    tail: AtomicBool,
    cost: AtomicBool,
    /// How often somebody has asked to start or to stop recording.
    record: AtomicU32,
}

impl Desk {
    /// What is looked at from now on; the rest need not be gathered.
    pub fn look(&self, look: Look) {
        self.0.tail.store(look.tail, Ordering::Relaxed);
        self.0.cost.store(look.cost, Ordering::Relaxed);
    }

    /// Starts a recording into a new file in the current directory, or ends the one that runs. What comes of it shows in
    /// [`Snapshot::recording`](super::Snapshot::recording). Nothing in a replay.
    pub fn record(&self) {
        self.0.record.fetch_add(1, Ordering::Relaxed);
    }

    /// What is looked at.
    pub(crate) fn looked_at(&self) -> Look {
        Look { tail: self.0.tail.load(Ordering::Relaxed), cost: self.0.cost.load(Ordering::Relaxed) }
    }

    /// Whether recording is to start or to stop; asked twice in between, it is to stay as it is.
    pub(crate) fn take_record(&self) -> bool {
        self.0.record.swap(0, Ordering::Relaxed) % 2 == 1
    }
}

/// The last events, oldest first. Each keeps its number for good: what is read can be found again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tail {
    /// Number of the oldest.
    pub first: u64,
    /// They themselves.
    pub events: Vec<Event>,
    /// Events that have come since somebody looks, those that are not kept among them.
    pub passed: u64,
}

/// What watching costs, over the last second or so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Each kernel program, by the kernel's own statistics; the most expensive first.
    pub programs: Vec<ProgramCost>,
    /// Processor time that observer itself took, as a share of one processor.
    pub own_cpu_share: f64,
    /// Memory that observer occupies (resident), in bytes.
    pub memory_bytes: u64,
    /// Events taken in per second, ticks not counted.
    pub events_per_second: f64,
}

/// What one kernel program costs.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramCost {
    /// Its name.
    pub name: String,
    /// How often it ran per second.
    pub runs_per_second: f64,
    /// Nanoseconds that a run took on average; 0 if it did not run.
    pub nanos_per_run: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_ask_twice_is_not_to_ask() {
        let desk = Desk::default();
        assert!(!desk.take_record());
        desk.clone().record();
        assert!(desk.take_record() && !desk.take_record());
        desk.record();
        desk.record();
        assert!(!desk.take_record());
    }
}
