//! Which line of a proxy's log is about which try. A worker writes its lines in the order in which its tries fail, so that of the tries
//! that a line can be about, by upstream and by what it says, it is about the first. Bounded; time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use foldhash::quality::RandomState;
use serde::{Deserialize, Serialize};

use super::{
    kept::{self, Key},
    logged::{self, Message},
};
use crate::{
    event::{LogLine, LogSample},
    model::{Attempt, Ending, UpstreamKey},
    time::Time,
    untrusted::at_most,
};

/// How long a failed try waits for its line, once all else is known of it, and a line for its try: much longer than it takes to read a
/// log, on a host too busy for anything.
pub const LINE_WITHIN: Duration = Duration::from_secs(1);
/// How long before its line's writing a try can have ended that the proxy itself ended: it writes, and closes.
const OWN_END_WITHIN: Duration = Duration::from_millis(100);
/// The same for one that the network ended: the proxy has to get to it first.
const END_WITHIN: Duration = Duration::from_millis(500);
/// How long after its line was read the end of a try may still be told: the line comes first, and the close behind it.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);
/// Tries whose line is awaited at once. Beyond that the oldest is not.
const MAX_ENDS: usize = 16_384;
/// Lines whose try is awaited at once. Beyond that the oldest is not.
const MAX_LINES: usize = 16_384;
/// Different words of lines of which it is remembered what they say. Full, all are forgotten.
const MAX_WORDS: usize = 256;
/// Logs of which it is remembered that they are followed.
const MAX_LOGS: usize = 256;

/// A try that failed, and whose line has not come.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct End {
    key: Key,
    upstream: UpstreamKey,
    ending: Ending,
}

/// A line, and when it was read.
type Read = (Time, Arc<LogLine>);

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lines {
    /// By path.
    logs: BTreeMap<String, LogSample>,
    /// Processes whose log is followed.
    followed: BTreeSet<u32>,
    #[serde(deserialize_with = "at_most::<MAX_ENDS, _, _, _>")]
    ends: VecDeque<End>,
    #[serde(deserialize_with = "at_most::<MAX_LINES, _, _, _>")]
    unclaimed: VecDeque<Read>,
    matched: u64,
    unmatched: u64,
    #[serde(skip)]
    words: Words,
}

/// Messages by the words that they were found in: logs repeat themselves.
#[derive(Clone, Debug, Default)]
struct Words(HashMap<String, Option<&'static Message>, RandomState>);

impl Words {
    fn known(&mut self, said: &str) -> Option<&'static Message> {
        if let Some(message) = self.0.get(said) {
            return *message;
        }
        if self.0.len() >= MAX_WORDS {
            self.0.clear();
        }
        let message = logged::known(said);
        self.0.insert(said.to_owned(), message);
        message
    }
}

impl Lines {
    /// Takes in how a log stands.
    pub(super) fn sampled(&mut self, sample: &LogSample) {
        if self.logs.len() >= MAX_LOGS && !self.logs.contains_key(&sample.path) {
            return;
        }
        let before = self.logs.insert(sample.path.clone(), sample.clone()).unwrap_or_default();
        if (before.missed, before.emptied) != (sample.missed, sample.emptied) {
            // The lines of these tries may be among those that were not read.
            self.ends.retain(|end| !sample.writers.iter().any(|writer| writer.pid == end.key.0));
        }
        let followed = self.logs.values().filter(|log| log.trouble.is_none());
        self.followed = followed.flat_map(|log| log.writers.iter().map(|writer| writer.pid)).collect();
    }

    /// Whether a process's log is followed.
    pub(super) fn follows(&self, pid: u32) -> bool {
        self.followed.contains(&pid)
    }

    /// A try has failed. Gives back its line, if that has come before.
    pub(super) fn ended(&mut self, now: Time, attempt: &Attempt) -> Option<Arc<LogLine>> {
        if !self.follows(attempt.proxy.pid) {
            return None;
        }
        self.forget(now);
        let end = End { key: kept::name(attempt), upstream: attempt.upstream, ending: attempt.ending };
        let Self { unclaimed, words, .. } = self;
        let about = |(time, line): &Read| {
            end.is_of(line) && words.known(&line.said).is_some_and(|said| end.fits(said, line, *time))
        };
        if let Some(at) = unclaimed.iter().position(about) {
            self.matched = self.matched.saturating_add(1);
            return self.unclaimed.remove(at).map(|(_, line)| line);
        }
        if self.ends.len() >= MAX_ENDS {
            self.ends.pop_front();
        }
        self.ends.push_back(end);
        None
    }

    /// A try had a reason that no line is written for: its client left.
    pub(super) fn unwritten(&mut self, key: Key) {
        if let Some(at) = self.ends.iter().position(|end| end.key == key) {
            self.ends.remove(at);
        }
    }

    /// A line has been read. Gives back the try that it is about; else it waits for it.
    pub(super) fn read(&mut self, now: Time, time: Time, line: &Arc<LogLine>) -> Option<Key> {
        let said = self.words.known(&line.said).filter(|said| said.is_failure())?;
        self.forget(now);
        if let Some(at) = self.ends.iter().position(|end| end.fits(said, line, time)) {
            self.matched = self.matched.saturating_add(1);
            return self.ends.remove(at).map(|end| end.key);
        }
        if self.unclaimed.len() >= MAX_LINES {
            self.unclaimed.pop_front();
            self.unmatched = self.unmatched.saturating_add(1);
        }
        self.unclaimed.push_back((time, Arc::clone(line)));
        None
    }

    /// The line about a try that is to be judged now, though it says what the try itself does not.
    pub(super) fn otherwise(&mut self, attempt: &Attempt) -> Option<Arc<LogLine>> {
        let end = End { key: kept::name(attempt), upstream: attempt.upstream, ending: attempt.ending };
        self.unwritten(end.key);
        let at = self.unclaimed.iter().position(|(time, line)| end.is_of(line) && end.is_at(line, *time))?;
        self.matched = self.matched.saturating_add(1);
        self.unclaimed.remove(at).map(|(_, line)| line)
    }

    /// When the first of the lines that wait has waited long enough, if it has by `now`.
    pub(super) fn first_due(&self, now: Time) -> Option<Time> {
        self.unclaimed.front().map(|(time, _)| *time + LINE_WITHIN).filter(|due| *due <= now)
    }

    /// Takes out the first of the lines that wait. Gives it back if it tells by itself of a request that failed: of none that any try
    /// may have been about.
    pub(super) fn alone(&mut self) -> Option<(Time, Arc<LogLine>)> {
        let (time, line) = self.unclaimed.pop_front()?;
        let by_itself = self.words.known(&line.said).is_some_and(Message::tells_by_itself);
        let may_be_about = |end: &End| end.key.0 == line.process.pid && end.is_at(&line, time);
        if by_itself && !self.ends.iter().any(may_be_about) {
            self.matched = self.matched.saturating_add(1);
            return Some((time, line));
        }
        self.unmatched = self.unmatched.saturating_add(1);
        None
    }

    /// Whose line would have come by now.
    fn forget(&mut self, now: Time) {
        let over = LINE_WITHIN + END_WITHIN;
        while self.ends.pop_front_if(|end| now.since(end.key.1) > over).is_some() {}
    }

    /// The logs that are known of.
    pub fn logs(&self) -> impl Iterator<Item = &LogSample> {
        self.logs.values()
    }

    /// Lines that were about a failure and could be told apart from others.
    pub fn matched(&self) -> u64 {
        self.matched
    }

    /// Lines that were about a failure of which nothing else was seen.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }
}

impl End {
    fn fits(&self, said: &Message, line: &LogLine, read: Time) -> bool {
        self.is_of(line) && said.fits(self.ending) && self.is_at(line, read)
    }

    /// The same worker and the same upstream. One without a try has none.
    fn is_of(&self, line: &LogLine) -> bool {
        let UpstreamKey { endpoint, path, netns: _ } = self.upstream;
        self.key.0 == line.process.pid && (self.ending == Ending::NoTry || (endpoint, path) == (line.at, line.path))
    }

    fn is_at(&self, line: &LogLine, read: Time) -> bool {
        let (_, told) = self.key;
        let within = if self.ending.by_network() { END_WITHIN } else { OWN_END_WITHIN };
        told >= line.after - within && told <= read + CLOSED_WITHIN
    }
}
