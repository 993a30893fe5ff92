//! What proxies' logs say of tries that are not settled.

use std::sync::Arc;

use super::{GRACE, Open, Settled};
use crate::{
    addr::NetNs,
    diagnose::{
        answers::{ANSWER_WITHIN, Got},
        causes::no_live_upstreams,
        kept::{Key, Wait},
        lines::{LINE_WITHIN, TRY_WITHIN},
        logged,
    },
    event::{LogLine, LogSample},
    model::{Attempt, Ending, UpstreamKey},
    time::Time,
};

impl Open {
    /// A try that is to be judged, as soon as its line is there, and what its client got.
    pub(super) fn judge_with_line(&mut self, key: Key, now: Time) -> Option<Settled> {
        self.take_answer(key, false);
        let (_, attempt) = self.kept.get(&key)?;
        if self.awaits_log(attempt) {
            self.lines.awaits_answer(key, attempt);
            // Its line is only late on a busy host; what its client got may be in no line that can be told to be about it.
            let (wait, within) =
                if attempt.line.is_none() { (Wait::Line, LINE_WITHIN) } else { (Wait::Told, ANSWER_WITHIN) };
            self.kept.wait(key, wait, now + within);
            return None;
        }
        self.kept.remove(&key).map(Settled::judge)
    }

    /// A try that has waited for logs long enough.
    pub(super) fn without_more_lines(&mut self, key: Key) -> Option<Settled> {
        let (_, attempt) = self.kept.get_mut(&key)?;
        if attempt.line.is_none() {
            attempt.line = self.lines.otherwise(attempt);
        }
        self.take_answer(key, true);
        self.kept.remove(&key).map(Settled::judge)
    }

    /// Notes what the client got for whose request a try failed, if a log tells.
    pub(super) fn take_answer(&mut self, key: Key, last: bool) {
        let Some((_, attempt)) = self.kept.get_mut(&key) else { return };
        // A log of errors says more: its line is waited for first.
        let line_to_come = attempt.line.is_none() && self.lines.follows(attempt.proxy.pid) && !last;
        let is_known = attempt.logged_status.is_some() || attempt.status().is_some() && attempt.line.is_some();
        if line_to_come || is_known {
            return;
        }
        let status = match self.lines.answer(attempt, last) {
            None => return,
            Some(Got::Error(status)) => Some(status),
            Some(Got::Line(line)) => {
                let status = line.status;
                attempt.line.get_or_insert(line);
                status
            }
        };
        // What was seen counts.
        attempt.logged_status = status.filter(|_| attempt.status().is_none());
    }

    /// A line about a request has been read. Gives back the try that it is about, if that waited for nothing else.
    fn answer_logged(&mut self, now: Time, at: Time, line: &Arc<LogLine>) -> Option<Settled> {
        let key = self.lines.answer_read(now, at, line)?;
        self.kept.get(&key).filter(|(wait, _)| matches!(wait, Wait::Line | Wait::Told))?;
        self.take_answer(key, false);
        self.judge_if_read(key)
    }

    /// A try that waits for its logs, if there is nothing more to come.
    fn judge_if_read(&mut self, key: Key) -> Option<Settled> {
        let (_, attempt) = self.kept.get(&key)?;
        if self.awaits_log(attempt) { None } else { self.kept.remove(&key).map(Settled::judge) }
    }

    /// Whether something may still be read of a try that is to be judged: its line, or what its client got.
    fn awaits_log(&self, attempt: &Attempt) -> bool {
        let pid = attempt.proxy.pid;
        let no_line = attempt.line.is_none();
        let no_status = attempt.status().is_none() && attempt.logged_status.is_none();
        no_line && self.lines.follows(pid) || (no_line || no_status) && self.lines.tells_answers(pid)
    }

    /// Has the line of a try that failed, or that its proxy gave up soon, found when it comes, or finds it.
    pub(super) fn await_line(&mut self, now: Time, attempt: &mut Attempt) {
        if (attempt.ending.failed() || attempt.ending == Ending::Abandoned)
            && let Some(line) = self.lines.ended(now, attempt)
        {
            written(attempt, line);
        }
    }

    /// Takes in how a log stands.
    pub(in crate::diagnose) fn log_sampled(&mut self, now: Time, sample: &LogSample) {
        self.lines.sampled(now, sample);
    }

    /// Takes in what a proxy's log says. Gives back the try that it is about, if that waited for nothing else.
    pub(in crate::diagnose) fn logged(&mut self, now: Time, at: Time, line: &Arc<LogLine>) -> Option<Settled> {
        if line.status.is_some() {
            return self.answer_logged(now, at, line);
        }
        let key = self.lines.read(now, at, line)?;
        // One that was judged, or turned out to be harmless, has no use for it.
        let (wait, attempt) = self.kept.get_mut(&key).filter(|(_, attempt)| attempt.line.is_none())?;
        let failed = attempt.ending.failed();
        written(attempt, Arc::clone(line));
        match wait {
            Wait::Line => {
                self.take_answer(key, false);
                let (_, attempt) = self.kept.get(&key)?;
                if self.awaits_log(attempt) {
                    self.lines.awaits_answer(key, attempt);
                    self.kept.wait(key, Wait::Told, now + ANSWER_WITHIN);
                    return None;
                }
                self.kept.remove(&key).map(Settled::judge)
            }
            Wait::Nothing if !failed && attempt.ending.failed() => {
                self.kept.wait(key, Wait::Evidence, now + GRACE);
                None
            }
            Wait::Evidence | Wait::Try | Wait::Told | Wait::Answer | Wait::Nothing => None,
        }
    }

    /// The line that has waited longest for its try is not about any that was seen: what it says by itself is all there is.
    pub(super) fn told_by_line_alone(&mut self) -> Option<Settled> {
        let (time, line) = self.lines.alone()?;
        let said = logged::known(&line.said)?;
        let ending = said.ending();
        // Where the proxy's answers are seen, one that looks well may have been tried again: no client got an error for it. By what was known
        // when the line's time was up, whenever that is looked at.
        let due = time + TRY_WITHIN;
        let mut well = self.kept.of(Wait::Nothing).rev().take_while(|(known_until, ..)| *known_until >= due);
        let same = |(_, (pid, _), attempt): &(Time, Key, &Attempt)| {
            *pid == line.process.pid && (attempt.upstream.endpoint, attempt.upstream.path) == (line.at, line.path)
        };
        if !said.is_without_try()
            && let Some((.., attempt)) = well.find(same)
            && attempt.answers_visible
            && !attempt.connection.as_ref().is_some_and(|it| it.answers_unwatched)
        {
            return None;
        }
        let upstream = match (line.at, line.path) {
            (Some(at), _) => UpstreamKey::tcp(NetNs::default(), at),
            (None, Some(path)) => UpstreamKey::unix(path),
            (None, None) => UpstreamKey::NONE,
        };
        Some(Settled::judge(Attempt::from_line(time, upstream, ending, line)))
    }
}

/// Whether the proxy's log says that there was no server to be asked.
pub(super) fn is_for_want_of_a_server(attempt: &Attempt) -> bool {
    let said = attempt.line.as_ref().and_then(|line| logged::known(&line.said));
    attempt.ending == Ending::NoTry && said.is_some_and(|said| said.causes() == [no_live_upstreams::RULE.code])
}

/// Takes in what the proxy wrote of a try. That it failed, its socket alone may not show: the proxy gave it up soon.
fn written(attempt: &mut Attempt, line: Arc<LogLine>) {
    if attempt.ending == Ending::Abandoned
        && let Some(said) = logged::known(&line.said)
    {
        attempt.ending = said.ending();
    }
    attempt.line = Some(line);
}
