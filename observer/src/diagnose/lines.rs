//! Which line of a proxy's log is about which try. A worker writes its lines in the order in which its tries fail, so that of the tries
//! that a line can be about, by upstream and by what it says, it is about the first. Bounded; time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    answers::{Answers, Got},
    kept::{self, Key},
    logged::{Message, Words},
};
use crate::{
    event::{LogLine, LogSample},
    model::{Attempt, Ending, UpstreamKey},
    time::Time,
    untrusted::at_most,
};

/// How long a failed try waits for its line, once all else is known of it: much longer than it takes to read a log, on a host too busy
/// for anything.
pub const LINE_WITHIN: Duration = Duration::from_secs(1);
/// How long a line waits for its try: until any that it can be about has been judged without it, and while those that look well are still
/// known.
pub(super) const TRY_WITHIN: Duration = Duration::from_millis(1_500);
/// How long before its line's writing a try can have ended that the proxy itself ended: it writes, and closes.
const OWN_END_WITHIN: Duration = Duration::from_millis(100);
/// The same for one that the network ended: the proxy has to get to it first.
const END_WITHIN: Duration = Duration::from_millis(500);
/// How long after its line was read the end of a try may still be told: the line comes first, and the close behind it.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);
/// How long a try is remembered whose line has not come. Lines that come later still are nobody else's.
const REMEMBER: Duration = Duration::from_secs(4);
/// Lines of one client's connection that were read so close to each other are about one request: nginx says of a server that it failed,
/// and at once that none is left.
const ONE_REQUEST: Duration = Duration::from_millis(100);
/// What was written so long before its writer was known may be told of all the same: who writes is looked up a little later.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
/// Tries whose line is awaited at once. Beyond that the oldest is not.
const MAX_ENDS: usize = 16_384;
/// Lines whose try is awaited at once. Beyond that the oldest is not.
const MAX_LINES: usize = 4_096;
/// Lines of the last [`ONE_REQUEST`] that were about a try. Beyond that the oldest is forgotten.
const MAX_TOLD: usize = 4_096;
/// Logs of which it is remembered that they are followed.
const MAX_LOGS: usize = 256;

/// A try that failed, and whose line has not come.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct End {
    key: Key,
    upstream: UpstreamKey,
    ending: Ending,
    status: Option<u16>,
    /// There is a gap in its log, and its line may be in it: it can have none.
    in_gap: bool,
}

/// A line, and when it was read.
type Read = (Time, Arc<LogLine>);

/// A log, by device and inode.
type LogId = (u64, u64);

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lines {
    #[serde(deserialize_with = "at_most::<MAX_LOGS, _, _, _>")]
    logs: Vec<LogSample>,
    /// Processes whose log is followed, each with since when.
    followed: BTreeMap<u32, Time>,
    #[serde(deserialize_with = "at_most::<MAX_ENDS, _, _, _>")]
    ends: VecDeque<End>,
    #[serde(deserialize_with = "at_most::<MAX_LINES, _, _, _>")]
    unclaimed: VecDeque<Read>,
    /// Process and client's connection of lines that were about a try, each with when it was read.
    #[serde(deserialize_with = "at_most::<MAX_TOLD, _, _, _>")]
    told: VecDeque<(Time, u32, u64)>,
    answers: Answers,
    matched: u64,
    unmatched: u64,
    #[serde(skip)]
    words: Words,
}

impl Lines {
    /// Takes in how a log stands.
    pub(super) fn sampled(&mut self, now: Time, sample: &LogSample) {
        let id = |log: &LogSample| -> LogId { (log.device, log.inode) };
        let before = match self.logs.iter().position(|log| id(log) == id(sample)) {
            Some(at) => std::mem::replace(&mut self.logs[at], sample.clone()),
            None if self.logs.len() >= MAX_LOGS => return,
            None => {
                self.logs.push(sample.clone());
                LogSample::default()
            }
        };
        if (before.missed, before.emptied) != (sample.missed, sample.emptied) {
            // The lines of these tries may be among those that were not read.
            for end in &mut self.ends {
                end.in_gap |= sample.writers.iter().any(|writer| writer.pid == end.key.0);
            }
        }
        if sample.left {
            self.logs.retain(|log| id(log) != id(sample));
        }
        self.answers.followed(self.logs.iter());
        let followed = self.logs.iter().filter(|log| log.trouble.is_none() && !log.requests);
        let pids: BTreeSet<u32> = followed.flat_map(|log| log.writers.iter().map(|writer| writer.pid)).collect();
        self.followed.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            self.followed.entry(pid).or_insert(now);
        }
    }

    /// Whether a process's log of errors is followed.
    pub(super) fn follows(&self, pid: u32) -> bool {
        self.followed.contains_key(&pid)
    }

    /// Whether its log of requests is.
    pub(super) fn tells_answers(&self, pid: u32) -> bool {
        self.answers.of(pid)
    }

    /// A line about a request has been read. Gives back the try that waits for it, if one is known to.
    pub(super) fn answer_read(&mut self, now: Time, time: Time, line: &Arc<LogLine>) -> Option<Key> {
        self.answers.read(now, time, line)
    }

    /// A try begins to wait for what its client got.
    pub(super) fn awaits_answer(&mut self, key: Key, attempt: &Attempt) {
        self.answers.waits(key, attempt);
    }

    /// What the client got for whose request this try failed, as a log of requests has it. `last` says that no more is waited for.
    pub(super) fn answer(&mut self, attempt: &Attempt, last: bool) -> Option<Got> {
        let got = self.answers.to(attempt, last)?;
        if matches!(got, Got::Line(_)) && attempt.line.is_none() {
            self.matched = self.matched.saturating_add(1);
        }
        Some(got)
    }

    /// A try has failed. Gives back its line, if that has come before.
    pub(super) fn ended(&mut self, now: Time, attempt: &Attempt) -> Option<Arc<LogLine>> {
        if !self.follows(attempt.proxy.pid) {
            return None;
        }
        self.forget(now);
        let end = End::of(attempt);
        // One that the proxy gave up soon may turn out to have failed.
        self.unwritten(end.key);
        let Self { unclaimed, words, .. } = self;
        let about = |(time, line): &Read| {
            end.is_of(line) && words.known(&line.said).is_some_and(|said| end.fits(said, line, *time))
        };
        if let Some(at) = unclaimed.iter().position(about) {
            let (time, line) = unclaimed.remove(at)?;
            self.matched(time, &line);
            return Some(line);
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
        if said.is_without_try() && self.is_told(time, line) {
            self.matched = self.matched.saturating_add(1);
            return None;
        }
        if let Some(at) = self.ends.iter().position(|end| end.is_of(line) && end.fits(said, line, time)) {
            self.matched(time, line);
            return self.ends.remove(at).map(|end| end.key);
        }
        if !self.follows(line.process.pid) {
            self.unmatched = self.unmatched.saturating_add(1);
            return None;
        }
        if self.unclaimed.len() >= MAX_LINES {
            self.unclaimed.pop_front();
            self.unmatched = self.unmatched.saturating_add(1);
        }
        self.unclaimed.push_back((time, Arc::clone(line)));
        None
    }

    /// The one line that can only be about a try that is to be judged now, though it says what the try itself does not.
    pub(super) fn otherwise(&mut self, attempt: &Attempt) -> Option<Arc<LogLine>> {
        let key = kept::name(attempt);
        let end = self.ends.iter().find(|end| end.key == key && end.ending != Ending::NoTry && !end.in_gap)?.clone();
        let may_be = |(time, line): &Read| end.is_of(line) && end.is_at(line, *time);
        let mut lines = self.unclaimed.iter().enumerate().filter(|(_, read)| may_be(read));
        let (at, (_, line)) = lines.next()?;
        let another = |other: &End| other.key != end.key && other.is_of(line);
        if lines.next().is_some() || self.ends.iter().any(another) {
            return None;
        }
        let (time, line) = self.unclaimed.remove(at)?;
        self.unwritten(end.key);
        self.matched(time, &line);
        Some(line)
    }

    /// When the first of the lines that wait has waited long enough, if it has by `now`.
    pub(super) fn first_due(&self, now: Time) -> Option<Time> {
        self.unclaimed.front().map(|(time, _)| *time + TRY_WITHIN).filter(|due| *due <= now)
    }

    /// Takes out the first of the lines that wait. Gives it back if it tells by itself of a request that failed: of none that any try
    /// may have been about, and of none of which another line told.
    pub(super) fn alone(&mut self) -> Option<Read> {
        let (time, line) = self.unclaimed.pop_front()?;
        let pid = line.process.pid;
        let by_itself = self.words.known(&line.said).is_some_and(|said| said.tells_by_itself(&line.said));
        // Of what was written before its writer was known, tries may have been judged already.
        let since = self.followed.get(&pid).copied();
        let known = since.is_some_and(|since| line.after + KNOWN_WITHIN >= since);
        let may_be_about = |end: &End| end.key.0 == pid && end.is_at(&line, time);
        if self.is_told(time, &line) {
            self.matched = self.matched.saturating_add(1);
            return None;
        }
        if by_itself && known && !self.ends.iter().any(may_be_about) {
            self.matched(time, &line);
            return Some((time, line));
        }
        self.unmatched = self.unmatched.saturating_add(1);
        None
    }

    /// Whether another line told of the same request.
    fn is_told(&self, time: Time, line: &LogLine) -> bool {
        let same = |(when, pid, connection): &(Time, u32, u64)| {
            let apart = time.since(*when).max(when.since(time));
            (*pid, *connection) == (line.process.pid, line.connection) && apart <= ONE_REQUEST
        };
        line.connection != 0 && self.told.iter().rev().any(same)
    }

    fn matched(&mut self, time: Time, line: &LogLine) {
        self.matched = self.matched.saturating_add(1);
        if line.connection == 0 {
            return;
        }
        if self.told.len() >= MAX_TOLD {
            self.told.pop_front();
        }
        self.told.push_back((time, line.process.pid, line.connection));
    }

    /// What is too long ago to matter.
    fn forget(&mut self, now: Time) {
        while self.ends.pop_front_if(|end| now.since(end.key.1) > REMEMBER).is_some() {}
        while self.told.pop_front_if(|(time, ..)| now.since(*time) > REMEMBER).is_some() {}
    }

    /// The logs that are known of.
    pub fn logs(&self) -> impl Iterator<Item = &LogSample> {
        self.logs.iter()
    }

    /// Lines that were about a failure and could be told apart from others.
    pub fn matched_count(&self) -> u64 {
        self.matched
    }

    /// Lines that were about a failure of which nothing else was seen.
    pub fn unmatched(&self) -> u64 {
        self.unmatched.saturating_add(self.answers.dropped())
    }
}

impl End {
    fn of(attempt: &Attempt) -> Self {
        Self {
            key: kept::name(attempt),
            upstream: attempt.upstream,
            ending: attempt.ending,
            status: attempt.status(),
            in_gap: false,
        }
    }

    fn fits(&self, said: &Message, line: &LogLine, read: Time) -> bool {
        !self.in_gap && said.fits(self.ending, self.status) && self.is_at(line, read)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Process, Request},
        testing::{answered_without_try, at, connection, refused_connection},
    };

    const REFUSED: &str = "connect() failed (111: Connection refused) while connecting to upstream";
    const NO_LIVE: &str = "no live upstreams while connecting to upstream";

    fn line(said: &str, path: &str, connection: u64, after: u64) -> Arc<LogLine> {
        Arc::new(LogLine {
            process: Process { pid: 42, comm: "nginx".into() },
            after: at(after),
            connection,
            said: said.into(),
            at: (said != NO_LIVE).then(|| refused_connection().flow.remote),
            path: None,
            request: Request { method: "GET".into(), target: path.into(), client: None },
            ..LogLine::default()
        })
    }

    fn following() -> Lines {
        let mut lines = Lines::default();
        let writers = vec![Process { pid: 42, comm: "nginx".into() }];
        lines.sampled(at(0), &LogSample { writers, inode: 1, ..LogSample::default() });
        lines
    }

    fn refused(ms: u64) -> Attempt {
        Attempt::from_connection(at(ms), at(ms), &refused_connection())
    }

    #[test]
    fn of_several_tries_each_has_its_own_line_in_order() {
        let mut lines = following();
        for ms in [1_000, 1_001, 1_002] {
            assert_eq!(lines.ended(at(ms), &refused(ms)), None);
        }
        let mut read = |n| lines.read(at(1_010), at(1_010), &line(REFUSED, "/", n, 995));
        assert_eq!(
            [read(1), read(2), read(3), read(4)],
            [Some((42, at(1_000))), Some((42, at(1_001))), Some((42, at(1_002))), None]
        );
    }

    #[test]
    fn one_that_turns_out_to_have_failed_has_one_line() {
        let mut lines = following();
        // Given up soon, and then answered with a 504; twice.
        let timed_out =
            |ms| Attempt { ending: Ending::NoAnswer, ..Attempt::from_connection(at(ms), at(ms), &connection()) };
        for ms in [1_000, 1_001] {
            let soon = Attempt { ending: Ending::Abandoned, ..timed_out(ms) };
            assert_eq!(lines.ended(at(ms), &soon), None);
            assert_eq!(lines.ended(at(ms), &timed_out(ms)), None);
        }
        let said = "upstream timed out (110: Connection timed out) while reading response header from upstream";
        let mut read = |n| lines.read(at(1_010), at(1_010), &line(said, "/", n, 995));
        assert_eq!([read(1), read(2), read(3)], [Some((42, at(1_000))), Some((42, at(1_001))), None]);
    }

    #[test]
    fn another_upstream_another_worker_and_another_time_are_not_meant() {
        let mut lines = following();
        let read = |lines: &mut Lines, line: LogLine| lines.read(at(1_010), at(1_010), &Arc::new(line));
        lines.ended(at(1_000), &refused(1_000));
        let ours = LogLine::clone(&line(REFUSED, "/", 1, 995));
        let elsewhere = crate::testing::endpoint("10.0.0.9:1");
        assert_eq!(read(&mut lines, LogLine { at: Some(elsewhere), ..ours.clone() }), None);
        assert_eq!(
            read(&mut lines, LogLine { process: Process { pid: 43, comm: "nginx".into() }, ..ours.clone() }),
            None
        );
        assert_eq!(read(&mut lines, LogLine { after: at(1_600), ..ours.clone() }), None, "it was written later");
        assert_eq!(read(&mut lines, ours), Some((42, at(1_000))));
    }

    #[test]
    fn that_no_server_is_left_is_not_told_of_a_request_of_which_another_line_told() {
        let mut lines = following();
        lines.ended(at(1_000), &refused(1_000));
        assert!(lines.read(at(1_010), at(1_010), &line(REFUSED, "/a", 7, 995)).is_some());
        assert_eq!(lines.read(at(1_010), at(1_010), &line(NO_LIVE, "/a", 7, 995)), None);
        assert_eq!(lines.read(at(1_011), at(1_011), &line(NO_LIVE, "/b", 8, 995)), None);
        assert_eq!(lines.first_due(at(3_100)), Some(at(2_511)), "the first is told of already");
        let told: Vec<_> = (0..2).map(|_| lines.alone().map(|(_, line)| line.request.target.clone())).collect();
        assert_eq!(told, [Some("/b".to_owned()), None]);
        assert_eq!((lines.matched_count(), lines.unmatched()), (3, 0));
    }

    #[test]
    fn what_was_written_before_its_writer_was_known_is_not_told() {
        let mut lines = following();
        let writers = vec![Process { pid: 42, comm: "nginx".into() }, Process { pid: 50, comm: "nginx".into() }];
        lines.sampled(at(9_000), &LogSample { writers, inode: 1, ..LogSample::default() });
        let early = LogLine {
            process: Process { pid: 50, comm: "nginx".into() },
            ..LogLine::clone(&line(NO_LIVE, "/", 1, 2_000))
        };
        lines.read(at(9_010), at(9_010), &Arc::new(early));
        assert_eq!((lines.alone(), lines.unmatched()), (None, 1));
    }

    #[test]
    fn an_answer_without_a_try_has_the_line_that_says_its_status() {
        let mut lines = following();
        lines.ended(at(1_000), &answered_without_try(1_000));
        let full = "64 worker_connections are not enough while connecting to upstream";
        assert_eq!(lines.read(at(1_005), at(1_005), &line(full, "/a", 1, 995)), None, "its client got a 500");
        assert_eq!(lines.read(at(1_005), at(1_005), &line(NO_LIVE, "/b", 2, 995)), Some((42, at(1_000))));
    }

    #[test]
    fn words_that_do_not_fit_are_told_of_the_only_try_that_they_can_be_about() {
        let said = "upstream prematurely closed connection while reading response header from upstream";
        let mut lines = following();
        lines.ended(at(1_000), &refused(1_000));
        assert_eq!(lines.read(at(1_010), at(1_010), &line(said, "/a", 1, 995)), None);
        let found = lines.otherwise(&refused(1_000)).unwrap();
        assert_eq!(found.request.target, "/a");
        // With another try that it may be about, nobody knows.
        lines.ended(at(1_100), &refused(1_100));
        lines.ended(at(1_101), &refused(1_101));
        lines.read(at(1_110), at(1_110), &line(said, "/b", 2, 1_095));
        assert_eq!(lines.otherwise(&refused(1_100)), None);
    }

    #[test]
    fn a_gap_in_the_log_makes_nobody_elses_line_theirs() {
        let mut lines = following();
        lines.ended(at(1_000), &refused(1_000));
        let writers = vec![Process { pid: 42, comm: "nginx".into() }];
        lines.sampled(at(1_005), &LogSample { writers, inode: 1, emptied: 1, ..LogSample::default() });
        assert_eq!(lines.read(at(1_010), at(1_010), &line(REFUSED, "/other", 1, 995)), None);
    }
}
