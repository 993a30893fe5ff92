//! Listeners and their accept queues.

use crate::{
    event::{ListenerSample, Process, UnixListenerSample},
    time::Time,
};

/// A listener as last seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listener {
    /// Connections in the accept queue when last looked at.
    pub depth: u32,
    /// The queue's limit: full means deeper than that.
    pub limit: u32,
    /// The deepest that the queue was seen.
    pub high_water: u32,
    /// The process that holds it.
    pub process: Option<Process>,
    /// How many processes hold it; 0 when unknown.
    pub holders: u32,
    /// Overflows since observer attached, a lower bound when records were lost.
    pub overflows: u64,
    /// When it last overflowed.
    pub last_overflow: Option<Time>,
    /// What its SYN queue dropped.
    pub syn_queue: SynQueue,
    /// When it was opened, if that was seen.
    pub opened_at: Option<Time>,
    /// When it was closed, with how many connections in its queue.
    pub closed_at: Option<(Time, u32)>,
    /// When it was last looked at.
    pub seen: Time,
}

/// Handshakes under way at a listener, when they were too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynQueue {
    /// SYNs dropped since observer attached, a lower bound when records were lost.
    pub drops: u64,
    /// When the last was.
    pub last_drop: Option<Time>,
    /// How many handshakes were under way then.
    pub depth: u32,
}

impl Listener {
    /// Whether it listens, as far as is known.
    pub fn is_open(&self) -> bool {
        self.closed_at.is_none()
    }

    pub(super) fn opened(&mut self, now: Time, limit: u32, process: Process) {
        self.depth = 0;
        self.limit = limit;
        self.process = Some(process);
        self.holders = 0;
        self.opened_at = Some(now);
        self.closed_at = None;
        self.seen = now;
    }

    pub(super) fn closed(&mut self, now: Time, depth: u32) {
        self.depth = 0;
        self.closed_at = Some((now, depth));
        self.seen = now;
    }

    pub(super) fn sampled(&mut self, now: Time, sample: &ListenerSample) {
        self.measured(now, sample.depth, sample.limit);
        self.closed_at = None;
        if sample.process.is_some() {
            self.process.clone_from(&sample.process);
            self.holders = sample.holders;
        }
    }

    pub(super) fn sampled_unix(&mut self, now: Time, sample: &UnixListenerSample) {
        self.measured(now, sample.depth, sample.limit);
        if sample.process.is_some() {
            self.process.clone_from(&sample.process);
            self.holders = sample.holders;
        }
    }

    pub(super) fn overflowed(&mut self, now: Time, depth: u32, limit: u32) {
        self.measured(now, depth, limit);
        self.overflows += 1;
        self.last_overflow = Some(now);
    }

    pub(super) fn overflow_retracted(&mut self, now: Time) {
        self.overflows = self.overflows.saturating_sub(1);
        if self.overflows == 0 {
            self.last_overflow = None;
        }
        self.seen = now;
    }

    pub(super) fn syn_queue_dropped(&mut self, now: Time, depth: u32, limit: u32) {
        self.limit = limit;
        self.seen = now;
        self.syn_queue = SynQueue { drops: self.syn_queue.drops + 1, last_drop: Some(now), depth };
    }

    fn measured(&mut self, now: Time, depth: u32, limit: u32) {
        self.depth = depth;
        self.limit = limit;
        self.high_water = self.high_water.max(depth);
        self.seen = now;
    }
}
