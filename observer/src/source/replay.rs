//! The replaying source: a recording's events in their order, at a pace.

mod pace;

use std::{collections::VecDeque, path::PathBuf};

use super::{Polled, Source};
use crate::{
    event::Event,
    host,
    snapshot::{Folded, Frame},
    time::{Moment, Speed, Time},
    trace::{About, ReadError, Reader, Tail},
};
use pace::Pace;

/// Events given out at a time, so that whoever looks on need not wait for more.
const MAX_BATCH: usize = 8192;

const UNFINISHED: &str =
    "the recording was not ended: it is still being written, or its recorder was killed, and up to a second is missing";

/// A recording being replayed.
pub struct Replay {
    reader: Reader,
    pace: Pace,
    /// The kernel's clock, which alone says how much time has passed between two polls.
    clock: fn() -> Time,
    /// Read and not yet given out.
    waiting: VecDeque<Event>,
    /// Time of the first event.
    begin: Time,
    /// The latest time of an event that has been given out.
    newest: Time,
    ended: bool,
    trouble: Option<String>,
}

impl Replay {
    /// Opens a recording: the files of all its segments, or of some in a row. It begins at once, at that speed.
    pub fn open(files: &[PathBuf], speed: Speed) -> Result<Self, ReadError> {
        Ok(Self::of(Reader::open(files)?, speed, host::now))
    }

    fn of(reader: Reader, speed: Speed, clock: fn() -> Time) -> Self {
        let since = reader.about().since;
        let mut replay = Self {
            reader,
            pace: Pace::new(speed, since),
            clock,
            waiting: VecDeque::new(),
            begin: since,
            newest: since,
            ended: false,
            trouble: None,
        };
        if replay.read_on()
            && let Some(first) = replay.waiting.front()
        {
            replay.begin = first.time;
            replay.newest = first.time;
            replay.pace = Pace::new(speed, first.time);
        }
        replay
    }

    /// What the recording says of itself.
    pub fn about(&self) -> &About {
        self.reader.about()
    }

    /// What to show around it.
    pub fn frame(&self) -> Frame {
        let About { since, wall, watching, hooks, .. } = self.about();
        Frame { since: *since, wall: *wall, watching: watching.clone(), hooks: hooks.clone() }
    }

    /// What its events follow upon.
    pub fn folded(&self) -> Folded {
        Folded::default()
    }

    /// That time in this recording.
    pub fn time_of(&self, moment: Moment) -> Time {
        moment.resolve(self.begin, self.about().wall)
    }

    /// Gives out everything up to that time as fast as it can.
    pub fn run_to(&mut self, time: Time) {
        self.pace.run_to(time);
    }

    /// Ends there: nothing later is given out.
    pub fn stop_at(&mut self, time: Time) {
        self.pace.stop_at(time);
    }

    /// Reads on until there is an event to give out; false at the end.
    fn read_on(&mut self) -> bool {
        let mut batch = Vec::new();
        while self.waiting.is_empty() && !self.ended {
            match self.reader.next_batch(&mut batch) {
                Ok(Some(_)) => self.waiting.extend(batch.drain(..)),
                Ok(None) => {
                    self.ended = true;
                    if self.reader.tail() == Tail::Unfinished {
                        self.trouble = Some(UNFINISHED.to_owned());
                    }
                }
                Err(error) => {
                    self.ended = true;
                    self.trouble = Some(error.to_string());
                }
            }
        }
        !self.waiting.is_empty()
    }
}

impl Source for Replay {
    /// An event waits while any before it in the recording does: the order is that of the live run.
    fn poll(&mut self, batch: &mut Vec<Event>) -> Polled {
        let due = self.pace.due((self.clock)());
        for _ in 0..MAX_BATCH {
            if !self.read_on() {
                self.pace.arrived(self.newest);
                return Polled::Ended;
            }
            let Some(event) = self.waiting.pop_front_if(|event| event.time <= due) else {
                self.pace.arrived(due);
                return if self.pace.at_limit() { Polled::Ended } else { Polled::Idle };
            };
            self.newest = self.newest.max(event.time);
            batch.push(event);
        }
        self.pace.behind(self.newest);
        Polled::More
    }

    fn last(&mut self) -> Vec<Event> {
        Vec::new()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }
}

#[cfg(test)]
mod tests;
