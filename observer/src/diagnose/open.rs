//! Tries that have ended and are not settled: those that wait for evidence, those whose answer is still to come, and those
//! that look well until an answer says otherwise. Bounded; time is an argument.

mod written;

use std::{collections::VecDeque, time::Duration};

use observer_common::answer::ANSWERS_FIRST;
use serde::{Deserialize, Serialize};

use super::{
    kept::{self, Kept, Key, Over, Wait},
    lines::{LINE_WITHIN, Lines},
};
use crate::{
    event::{Did, Outcome},
    model::{Answer, Attempt, Ending, UpstreamKey},
    proxy::{self, haproxy},
    time::Time,
    untrusted::at_most,
};
use written::is_for_want_of_a_server;

/// How long a failed try waits for what the server's side of it tells: on one host the two sides are microseconds
/// apart, in either order (tcp_send_active_reset, net/ipv4/tcp_output.c, traces a RST when it has been delivered).
pub const GRACE: Duration = Duration::from_millis(50);
/// A proxy that answers first lets go of its try within this time.
const LET_GO_WITHIN: Duration = Duration::from_millis(150);
/// How long before such an answer a try can have failed that another thread let go of, or the same one too early: what it
/// takes the proxy to get to it on a busy host.
const ANOTHER_THREADS_WITHIN: Duration = Duration::from_millis(100);
/// How long a failed try is kept whose answer is to be expected. A proxy that is itself stopped or busy answers late.
pub const HOLD: Duration = Duration::from_mins(1);
/// How long a try that looks well is kept: its answer follows at once, or as soon as its proxy gets to it.
pub const REMEMBER: Duration = Duration::from_secs(2);
/// A verdict comes within this time after its try has ended: all waits of a try, one after another.
pub const MAX_DELAY: Duration = Duration::from_secs(HOLD.as_secs() + REMEMBER.as_secs() + LINE_WITHIN.as_secs() + 1);
/// Where a proxy's threads share requests, an error is taken for the answer to the only try that failed this shortly before.
const SHARED_WITHIN: Duration = Duration::from_millis(500);
/// The same for one that looks well.
const SHARED_AT_ONCE: Duration = Duration::from_millis(20);
/// Tries that look well and are kept at once. Beyond that the oldest is not kept any longer; an answer that comes for it all the same is
/// counted.
const MAX_WELL: usize = 24_576;
/// Tries that went well unwatched of which it is remembered that the other side's evidence is of no use. Beyond that the oldest's, should
/// it still come, is kept like any other.
const MAX_UNWATCHED: usize = 16_384;

/// What HAProxy answers if it has no server to ask, or cannot connect to it.
const UNAVAILABLE: u16 = 503;
/// What to do with a try.
#[derive(Debug, PartialEq)]
pub(super) enum Settled {
    /// To be judged.
    Judge(Box<Attempt>),
    /// It failed, and no answer to a client was seen.
    Unanswered(Over),
    /// It was no failure, or nobody's.
    Harmless(Over),
    /// The same, for its request was tried again.
    Retried(UpstreamKey, Over),
}

impl Settled {
    fn judge(attempt: Attempt) -> Self {
        // Only its log tells whether a proxy's own 503 is for want of a server, or meant.
        if attempt.ending == Ending::NoTry
            && attempt.status() == Some(UNAVAILABLE)
            && !is_for_want_of_a_server(&attempt)
        {
            return Self::Harmless(Over::of(&attempt));
        }
        Self::Judge(Box::new(attempt))
    }

    /// What becomes of a try that cannot be kept any longer.
    fn early(wait: Wait, attempt: Attempt) -> Self {
        match wait {
            Wait::Evidence | Wait::Try | Wait::Line | Wait::Told => Self::judge(attempt),
            Wait::Answer => Self::Unanswered(Over::of(&attempt)),
            Wait::Nothing => Self::Harmless(Over::of(&attempt)),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Open {
    kept: Kept,
    lines: Lines,
    /// Those that went well while nobody looked at answers, each with when nothing more comes of it.
    #[serde(deserialize_with = "at_most::<MAX_UNWATCHED, _, _, _>")]
    unwatched: VecDeque<(Time, Over)>,
    /// When the last try ended that looked well and is not kept any more.
    well_before: Time,
    /// When the last try ended that looked well and is kept no longer, so that an answer that names one may come for nothing.
    forgotten: Time,
    hurried: u64,
    retried: u64,
    clients_gone: u64,
    answered_otherwise: u64,
    abandoned: u64,
}

impl Open {
    /// Takes in a try that has ended.
    pub(super) fn ended(&mut self, now: Time, attempt: Attempt) -> Option<Settled> {
        // Nothing will name it.
        if !attempt.ending.failed() && attempt.connection.as_ref().is_some_and(|it| it.answers_unwatched) {
            return self.went_well_unwatched(now, &attempt);
        }
        self.keep(now, attempt, GRACE)
    }

    fn went_well_unwatched(&mut self, now: Time, attempt: &Attempt) -> Option<Settled> {
        // Should a close look begin before the proxy lets go of it, an answer may name it after all.
        (self.well_before, self.forgotten) = (now, now);
        let first = if self.unwatched.len() < MAX_UNWATCHED { None } else { self.unwatched.pop_front() };
        self.unwatched.push_back((now + GRACE, Over::of(attempt)));
        first.map(|(_, over)| self.harmless_after_all(over))
    }

    /// Lets go of the oldest of those that look well.
    fn forget_well(&mut self) -> Option<Settled> {
        let (due, over) = self.kept.over(Wait::Nothing, Time(u64::MAX))?;
        self.forgotten = due - REMEMBER;
        self.well_before = self.well_before.max(self.forgotten);
        Some(self.harmless_after_all(over))
    }

    fn harmless_after_all(&mut self, over: Over) -> Settled {
        self.abandoned = self.abandoned.saturating_add((over.ending == Ending::Abandoned).into());
        Settled::Harmless(over)
    }

    fn keep(&mut self, now: Time, mut attempt: Attempt, evidence_within: Duration) -> Option<Settled> {
        self.await_line(now, &mut attempt);
        let (wait, span) = match attempt.ending.failed() {
            false => (Wait::Nothing, REMEMBER),
            true if evidence_within > GRACE => (Wait::Try, evidence_within),
            true => (Wait::Evidence, GRACE),
        };
        let hurried = if wait == Wait::Nothing && self.kept.waiting(wait) >= MAX_WELL {
            self.forget_well()
        } else if self.kept.is_full() && self.kept.get(&kept::name(&attempt)).is_none() {
            self.hurry()
        } else {
            None
        };
        // Two ends of one process in the same nanosecond, on two processors: the first can be told no answer any more.
        match self.kept.insert(wait, now + span, attempt) {
            Some((wait, first)) => Some(Settled::early(wait, first)),
            None => hurried,
        }
    }

    /// Takes in what a proxy did, at a time that may lie before what is known already: a sample is told sooner than what came
    /// through the ring. Gives back a try that is to be judged at once; `shared` says that the proxy's threads share requests,
    /// so that an answer does not name its try.
    pub(super) fn outcome(&mut self, now: Time, at: Time, outcome: &Outcome, shared: bool) -> Option<Settled> {
        let pid = outcome.proxy.pid;
        if let Some(before) = outcome.told_before {
            return self.answered_before(now, (pid, before), outcome);
        }
        let told = match outcome.told {
            None if shared => match self.only_one_of(pid, at) {
                Ok(told) => told,
                // Which of them was answered for cannot be told: each speaks for itself.
                Err(()) => return None,
            },
            told => told,
        };
        let Some(told) = told else {
            return self.without_try(now, at, outcome);
        };
        let key = (pid, told);
        match outcome.did {
            Did::Answered(500..) | Did::Hidden => return self.answered(now, key, outcome),
            _ => {}
        }
        let attempt = self.take_failed(key)?;
        if outcome.did == Did::ClientGone {
            self.lines.unwritten(key);
        }
        let count = match outcome.did {
            Did::Retried => &mut self.retried,
            Did::ClientGone => &mut self.clients_gone,
            // A page that says sorry with another status: no 502 or 504, but the client's answer all the same.
            Did::Answered(_) | Did::Hidden => &mut self.answered_otherwise,
        };
        *count = count.saturating_add(1);
        let over = Over::of(&attempt);
        Some(if outcome.did == Did::Retried {
            Settled::Retried(attempt.upstream, over)
        } else {
            Settled::Harmless(over)
        })
    }

    /// An answer that was told of without its try, and this is the try: the proxy let go of it afterwards.
    fn answered_before(&mut self, now: Time, before: Key, outcome: &Outcome) -> Option<Settled> {
        // One that was judged on its own already was let go of too late.
        let first = self.kept.remove(&before);
        if first.is_none() && matches!(outcome.did, Did::Answered(502 | 504)) {
            return None;
        }
        let client = first.and_then(|attempt| attempt.answer?.client);
        self.answered(now, (outcome.proxy.pid, outcome.told?), &Outcome { client, ..outcome.clone() })
    }

    fn without_try(&mut self, now: Time, at: Time, outcome: &Outcome) -> Option<Settled> {
        // Where answers come first, its try may be let go of later than evidence takes to come.
        let first = proxy::threading(&outcome.proxy.comm) == ANSWERS_FIRST;
        match outcome.did {
            Did::Answered(502 | 504) => {}
            Did::Answered(UNAVAILABLE) if first && self.lines.tells_answers(outcome.proxy.pid) => {}
            _ => return None,
        }
        self.keep(now, Attempt::without_try(at, outcome), if first { LET_GO_WITHIN } else { GRACE })
    }

    fn answered(&mut self, now: Time, key: Key, outcome: &Outcome) -> Option<Settled> {
        let answer = Answer::of(outcome)?;
        let (_, told) = key;
        let Some((wait, attempt)) = self.kept.get_mut(&key) else {
            let forgotten = answer.status.is_some() && told <= self.forgotten && now.since(told) < REMEMBER;
            self.hurried = self.hurried.saturating_add(forgotten.into());
            return None;
        };
        match wait {
            Wait::Evidence | Wait::Try | Wait::Line | Wait::Told => attempt.answered(answer),
            Wait::Answer => {
                attempt.answered(answer);
                return self.judge_with_line(key, now);
            }
            // An answer that cannot be read says nothing against it.
            Wait::Nothing if answer.status.is_none() => {}
            Wait::Nothing => {
                attempt.answered(answer);
                if attempt.ending.failed() {
                    if let Some(line) = self.lines.ended(now, attempt) {
                        attempt.line = Some(line);
                    }
                    self.kept.wait(key, Wait::Evidence, now + GRACE);
                }
            }
        }
        None
    }

    /// The one try of a process that an error of its can be about: that failed just now, or if none did looks well and ended
    /// just now, or is held since nothing went well. `Err` if several failed.
    fn only_one_of(&self, pid: u32, at: Time) -> Result<Option<Time>, ()> {
        let unanswered = |(_, key, attempt): &(Time, Key, &Attempt)| key.0 == pid && attempt.answer.is_none();
        let waiting = self.kept.of(Wait::Evidence).filter(unanswered).map(|(_, (_, told), _)| told);
        let mut failed = waiting.filter(|told| at.since(*told) <= SHARED_WITHIN);
        match (failed.next(), failed.next()) {
            (Some(_), Some(_)) => return Err(()),
            (Some(only), None) => return Ok(Some(only)),
            (None, _) => {}
        }
        let just_now = |due: Time| at.since(due - REMEMBER) <= SHARED_AT_ONCE;
        let well = || self.kept.of(Wait::Nothing).rev();
        let kept = well().find(|(due, ..)| !just_now(*due)).map(|(due, ..)| due - REMEMBER);
        let since = self.well_before.max(kept.unwrap_or_default());
        let held = self.kept.of(Wait::Answer).rev().take_while(|(due, ..)| *due - HOLD > since);
        let mut meant = well().take_while(|(due, ..)| just_now(*due)).chain(held).filter(unanswered);
        let first = meant.next().map(|(_, (_, told), _)| told);
        Ok(first.filter(|_| meant.next().is_none()))
    }

    /// Takes out a try that failed, or was given up soon.
    fn take_failed(&mut self, key: Key) -> Option<Attempt> {
        let (wait, attempt) = self.kept.get(&key)?;
        if wait == Wait::Nothing && attempt.ending != Ending::Abandoned {
            return None;
        }
        self.kept.remove(&key)
    }

    /// What is due by `now`, one at a time, in the order in which it is due. `answers_lost` says that answers cannot be relied
    /// on any more.
    pub(super) fn due(&mut self, now: Time, answers_lost: bool) -> Option<Settled> {
        // What it forgets may be evidence on another of the same ends: none is judged after it that was due before.
        let forgets = self.unwatched.front().map(|(due, _)| *due).filter(|due| *due <= now);
        let until = forgets.unwrap_or(now);
        loop {
            let next = self.next_wait(until);
            if let Some(due) = self.lines.first_due(until)
                && next.is_none_or(|(first, _)| due <= first)
            {
                if let Some(settled) = self.told_by_line_alone() {
                    return Some(settled);
                }
                continue;
            }
            let Some((due, key)) = next.and_then(|(_, wait)| self.kept.next(wait, until)) else { break };
            if let Some(settled) = self.settle_due(due, key, answers_lost) {
                return Some(settled);
            }
        }
        if let Some((_, over)) = self.unwatched.pop_front_if(|(due, _)| *due <= now) {
            return Some(self.harmless_after_all(over));
        }
        self.due_later(now)
    }

    /// A try for which evidence, or a line, was waited for until now.
    fn settle_due(&mut self, due: Time, key: Key, answers_lost: bool) -> Option<Settled> {
        let (wait, _) = self.kept.get(&key)?;
        if matches!(wait, Wait::Line | Wait::Told) {
            return self.without_more_lines(key);
        }
        if let Some(settled) = self.answered_on_another_thread(key) {
            return Some(settled);
        }
        let (_, attempt) = self.kept.get(&key)?;
        if attempt.answer.is_none() && attempt.answers_visible && !answers_lost {
            self.kept.wait(key, Wait::Answer, due + HOLD);
            return None;
        }
        self.judge_with_line(key, due)
    }

    /// The logs, and what became of their lines.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// A try whose time is up without an answer.
    fn due_later(&mut self, now: Time) -> Option<Settled> {
        if let Some((_, over)) = self.kept.over(Wait::Answer, now) {
            return Some(Settled::Unanswered(over));
        }
        let (due, over) = self.kept.over(Wait::Nothing, now)?;
        self.well_before = self.well_before.max(due - REMEMBER);
        Some(self.harmless_after_all(over))
    }

    /// An error without a try, of a proxy that answers first: if one try of its process, and only one, failed at that moment
    /// and was not answered for, a thread answered for what another let go of.
    fn answered_on_another_thread(&mut self, key: Key) -> Option<Settled> {
        let (only, answer) = self.meant_by_another_thread(key)?;
        self.kept.remove(&key);
        let mut attempt = self.kept.remove(&only)?;
        attempt.answered(answer);
        Some(Settled::judge(attempt))
    }

    fn meant_by_another_thread(&mut self, key: Key) -> Option<(Key, Answer)> {
        let (_, error) = self.kept.get(&key)?;
        if error.ending != Ending::NoTry || proxy::threading(&error.proxy.comm) != ANSWERS_FIRST {
            return None;
        }
        // Its log may say by now that no server was asked: for want of one, or because the configuration says so.
        self.take_answer(key, false);
        let (_, error) = self.kept.get(&key)?;
        if error.line.as_ref().is_some_and(|line| haproxy::had_no_server(&line.said)) {
            return None;
        }
        let (answer, told) = (error.answer?, error.told);
        let recent = |when: Time| told.since(when) <= ANOTHER_THREADS_WITHIN;
        let only = |close: &dyn Fn(Time) -> bool| {
            // One that is held had waited for its evidence before.
            let held = self.kept.of(Wait::Answer).rev().take_while(|(due, ..)| recent(*due - HOLD - GRACE));
            let unanswered = |(_, (of, when), attempt): &(Time, Key, &Attempt)| {
                *of == key.0 && close(*when) && attempt.answer.is_none() && attempt.ending != Ending::NoTry
            };
            let mut found = self.kept.of(Wait::Evidence).chain(held).filter(unanswered);
            let first = found.next().map(|(_, key, _)| key);
            (first, found.next().is_some())
        };
        // What the network ended had ended before the answer. Only where there is none of these it may be one that was let go
        // of since: such as fail later may have their own answers still to come.
        let only = match only(&|when| when <= told && recent(when)) {
            (None, _) => only(&|when| when > told && when.since(told) <= LET_GO_WITHIN),
            before => before,
        };
        match only {
            (Some(only), false) => Some((only, answer)),
            _ => None,
        }
    }

    /// What is to be judged first of what waits for evidence or for a line, if it is due by `now`.
    fn next_wait(&mut self, now: Time) -> Option<(Time, Wait)> {
        let waits = [Wait::Evidence, Wait::Try, Wait::Line, Wait::Told].into_iter();
        waits.filter_map(|wait| Some((self.kept.first_due(wait, now)?, wait))).min_by_key(|(due, _)| *due)
    }

    /// The stream has ended: what is left, one at a time.
    pub(super) fn last(&mut self, answers_lost: bool) -> Option<Settled> {
        let end = Time(u64::MAX);
        let Some((_, key)) = self.next_wait(end).and_then(|(_, wait)| self.kept.next(wait, end)) else {
            while self.lines.first_due(end).is_some() {
                if let Some(settled) = self.told_by_line_alone() {
                    return Some(settled);
                }
            }
            let unwatched = self.unwatched.pop_front().map(|(_, over)| self.harmless_after_all(over));
            return unwatched.or_else(|| self.due_later(end));
        };
        let (_, attempt) = self.kept.get(&key)?;
        // Its answer may have been a moment away.
        if attempt.answer.is_none() && attempt.answers_visible && !answers_lost {
            return self.kept.remove(&key).map(|attempt| Settled::Unanswered(Over::of(&attempt)));
        }
        self.without_more_lines(key)
    }

    /// Makes room: what was to be done next is done now.
    fn hurry(&mut self) -> Option<Settled> {
        let end = Time(u64::MAX);
        self.hurried = self.hurried.saturating_add(1);
        let long = [(Wait::Answer, HOLD), (Wait::Nothing, REMEMBER)].into_iter();
        let since = long.filter_map(|(wait, span)| Some((self.kept.first_due(wait, end)? - span, wait)));
        let oldest = since.min_by_key(|(since, _)| *since).map(|(_, wait)| wait);
        let wait = oldest.or_else(|| self.next_wait(end).map(|(_, wait)| wait)).unwrap_or(Wait::Try);
        let (_, key) = self.kept.next(wait, end)?;
        Some(Settled::early(wait, self.kept.remove(&key)?))
    }

    /// Tries settled early for want of room, of those that looked well only such as an answer came for.
    pub(super) fn hurried(&self) -> u64 {
        self.hurried
    }

    /// What became of failed tries whose client got no 502 or 504.
    pub(super) fn harmless(&self) -> Harmless {
        Harmless {
            retried: self.retried,
            clients_gone: self.clients_gone,
            answered_otherwise: self.answered_otherwise,
            abandoned: self.abandoned,
            unanswered: 0,
        }
    }
}

/// Tries that failed and were no client's 502 or 504.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Harmless {
    /// The proxy tried again.
    pub retried: u64,
    /// The client had left.
    pub clients_gone: u64,
    /// The proxy answered with a status below 500.
    pub answered_otherwise: u64,
    /// The proxy gave up within a second without a sign of trouble, and no answer was seen: its client left, most likely.
    pub abandoned: u64,
    /// No answer was seen from a proxy whose answers are: tried again later, or the client left without a word.
    pub unanswered: u64,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        addr::Endpoint,
        diagnose::kept::MAX_OPEN,
        event::{ConnectionEnded, LogLine, LogSample, Process, Request, State as Tcp},
        testing::{at, connection, outcome, refused_connection},
    };

    fn failed(ms: u64, answers_visible: bool) -> Attempt {
        Attempt::from_connection(at(ms), at(ms), &ConnectionEnded { answers_visible, ..refused_connection() })
    }

    fn well(ms: u64) -> Attempt {
        let answered = ConnectionEnded { bytes_received: 90, new: Tcp::CloseWait, ..connection() };
        Attempt::from_connection(at(ms), at(ms), &ConnectionEnded { answers_visible: true, ..answered })
    }

    /// What is settled up to that moment: the statuses of what is to be judged, 0 where none was seen, and how much is not.
    fn settled(open: &mut Open, ms: u64) -> (Vec<u16>, usize) {
        let (mut judged, mut others) = (Vec::new(), 0);
        while let Some(settled) = open.due(at(ms), false) {
            match settled {
                Settled::Judge(attempt) => judged.push(attempt.status().unwrap_or(0)),
                Settled::Unanswered(_) | Settled::Harmless(_) | Settled::Retried(..) => others += 1,
            }
        }
        (judged, others)
    }

    #[test]
    fn a_proxy_that_cannot_be_seen_to_answer_is_judged_when_the_evidence_is_in() {
        let mut open = Open::default();
        assert_eq!(open.ended(at(0), failed(0, false)), None);
        assert_eq!(settled(&mut open, 49), (vec![], 0));
        assert_eq!(settled(&mut open, 50), (vec![0], 0));
    }

    #[test]
    fn what_goes_well_while_nobody_looks_at_answers_is_over_at_once_and_bounded() {
        let mut open = Open::default();
        let unwatched = |ms| {
            let answered = ConnectionEnded { bytes_received: 90, new: Tcp::CloseWait, ..connection() };
            Attempt::from_connection(at(ms), at(ms), &ConnectionEnded { answers_unwatched: true, ..answered })
        };
        let failing = ConnectionEnded { answers_unwatched: true, ..refused_connection() };
        assert_eq!(open.ended(at(0), unwatched(0)), None);
        assert_eq!(open.ended(at(10), Attempt::from_connection(at(10), at(10), &failing)), None);
        assert_eq!(settled(&mut open, 49), (vec![], 0), "evidence may still come, and is to be forgotten then");
        assert_eq!(settled(&mut open, 50), (vec![], 1));
        // A close look that began meanwhile.
        assert_eq!(open.outcome(at(55), at(55), &outcome("nginx", Some(0), Did::Answered(502)), false), None);
        assert_eq!(open.hurried(), 1, "an answer for it is not forgotten silently");
        assert_eq!(settled(&mut open, 60), (vec![0], 0), "what fails is judged like any other");
        let early: Vec<_> = (0..=MAX_UNWATCHED).map(|_| open.ended(at(70), unwatched(70))).collect();
        assert_eq!(early.iter().flatten().count(), 1, "the oldest goes when there is one too many");
        assert_eq!(settled(&mut open, 120), (vec![], MAX_UNWATCHED));
    }

    #[test]
    fn one_that_can_is_waited_for() {
        let mut open = Open::default();
        open.ended(at(0), failed(0, true));
        assert_eq!(settled(&mut open, 5_000), (vec![], 0), "no answer yet");
        let Some(Settled::Judge(attempt)) =
            open.outcome(at(5_001), at(5_001), &outcome("nginx", Some(0), Did::Answered(502)), false)
        else {
            panic!("an answer that comes late is judged at once")
        };
        assert_eq!(attempt.status(), Some(502));
        open.ended(at(6_000), failed(6_000, true));
        assert_eq!(settled(&mut open, 70_000), (vec![], 1), "none ever came");
    }

    #[test]
    fn an_error_that_names_no_try_is_about_the_one_that_had_failed_by_then() {
        let mut open = Open::default();
        open.ended(at(0), failed(0, true));
        open.outcome(at(30), at(30), &outcome("haproxy", None, Did::Answered(502)), false);
        // It fails soon after and is answered for later: on a busy host that takes a while.
        open.ended(at(140), failed(140, true));
        assert_eq!(settled(&mut open, 185), (vec![502], 0));
        open.outcome(at(200), at(200), &outcome("haproxy", Some(140), Did::Answered(504)), false);
        assert_eq!(settled(&mut open, 300), (vec![504], 0), "that answer was told with its try");
        // What is closed after the answer, by another thread.
        open.outcome(at(1_000), at(1_000), &outcome("haproxy", None, Did::Answered(504)), false);
        open.ended(at(1_010), failed(1_010, true));
        assert_eq!(settled(&mut open, 1_150), (vec![504], 0));
        // Of two that had failed it cannot be told which is meant.
        open.ended(at(2_000), failed(2_000, true));
        open.ended(at(2_001), failed(2_001, true));
        open.outcome(at(2_002), at(2_002), &outcome("haproxy", None, Did::Answered(502)), false);
        let Some(Settled::Judge(attempt)) = open.due(at(2_160), false) else { panic!("it is judged by itself") };
        assert_eq!(attempt.ending, Ending::NoTry);
    }

    #[test]
    fn an_answer_for_want_of_a_server_or_by_the_configuration_is_about_no_try() {
        let process = || Process { pid: 42, comm: "haproxy".into() };
        let client = Endpoint { ip: [10, 0, 0, 1].into(), port: 4_000 };
        let request = Request { client: Some(client.ip), ..Request::default() };
        for (state, verdicts) in [("SC--", vec![503]), ("LR--", vec![])] {
            let mut open = Open::default();
            let log = LogSample { requests: true, writers: vec![process()], ..LogSample::default() };
            open.log_sampled(at(0), &log);
            // One that failed just before, and is to be answered for later.
            open.ended(at(990), failed(990, true));
            let own = Outcome { client: Some(client), ..outcome("haproxy", None, Did::Answered(503)) };
            open.outcome(at(1_000), at(1_000), &own, false);
            let said = format!("termination state {state} (<NOSRV>)");
            let (port, status, request) = (Some(client.port), Some(503), request.clone());
            let line = LogLine { process: process(), said, port, status, request, ..LogLine::default() };
            assert_eq!(open.logged(at(1_010), at(1_010), &Arc::new(line)), None);
            assert_eq!(settled(&mut open, 3_000).0, verdicts, "{state}");
        }
    }

    #[test]
    fn an_error_shows_that_a_try_failed_though_its_socket_does_not() {
        let mut open = Open::default();
        open.ended(at(0), well(0));
        assert_eq!(open.outcome(at(1), at(1), &outcome("nginx", Some(0), Did::Answered(502)), false), None);
        assert_eq!(settled(&mut open, 51), (vec![502], 0));
        open.ended(at(100), well(100));
        assert_eq!(settled(&mut open, 5_000), (vec![], 1), "well to the end");
    }

    #[test]
    fn what_was_tried_again_or_left_is_harmless() {
        let mut open = Open::default();
        for (ms, did) in [(0, Did::Retried), (1, Did::ClientGone), (2, Did::Answered(200))] {
            open.ended(at(ms), failed(ms, true));
            assert!(matches!(
                open.outcome(at(ms), at(ms), &outcome("nginx", Some(ms), did), false),
                Some(Settled::Harmless(_) | Settled::Retried(..))
            ));
        }
        let Harmless { retried, clients_gone, answered_otherwise, .. } = open.harmless();
        assert_eq!((retried, clients_gone, answered_otherwise), (1, 1, 1));
        assert_eq!(settled(&mut open, 70_000), (vec![], 0));
    }

    #[test]
    fn where_threads_share_requests_the_process_names_the_try() {
        let mut open = Open::default();
        open.ended(at(0), failed(0, false));
        open.outcome(at(3), at(3), &outcome("caddy", None, Did::Answered(502)), true);
        assert_eq!(settled(&mut open, 60), (vec![502], 0));
        open.ended(at(100), failed(100, false));
        open.ended(at(101), failed(101, false));
        open.outcome(at(103), at(103), &outcome("caddy", None, Did::Answered(502)), true);
        assert_eq!(settled(&mut open, 160), (vec![0, 0], 0), "two could be meant: neither is said to be");
    }

    #[test]
    fn an_answer_that_comes_first_waits_for_its_try() {
        let mut open = Open::default();
        open.outcome(at(0), at(0), &outcome("haproxy", None, Did::Answered(502)), false);
        open.ended(at(1), failed(1, true));
        let joined = Outcome { told_before: Some(at(0)), ..outcome("haproxy", Some(1), Did::Answered(502)) };
        assert_eq!(open.outcome(at(1), at(1), &joined, false), None);
        assert_eq!(settled(&mut open, 500), (vec![502], 0), "one verdict, not two");
    }

    #[test]
    fn an_answer_from_before_what_is_known_already_still_finds_its_try() {
        let mut open = Open::default();
        // A sample of the 9th millisecond was told first.
        open.ended(at(9), failed(1, true));
        open.outcome(at(9), at(2), &outcome("haproxy", None, Did::Answered(502)), false);
        let joined = Outcome { told_before: Some(at(2)), ..outcome("haproxy", Some(1), Did::Answered(502)) };
        assert_eq!(open.outcome(at(9), at(3), &joined, false), None);
        assert_eq!(settled(&mut open, 500), (vec![502], 0), "one verdict, not two");
    }

    #[test]
    fn of_those_that_look_well_the_oldest_make_room_and_an_answer_for_one_is_counted() {
        let mut open = Open::default();
        let first = Attempt { told: at(1), ..well(0) };
        open.ended(at(1), first);
        let early: Vec<_> =
            (0..MAX_WELL).map(|n| open.ended(at(2), Attempt { told: Time(n as u64), ..well(2) })).collect();
        assert_eq!(early.iter().flatten().count(), 1);
        assert_eq!(open.hurried(), 0, "that nobody asks for is nothing lost");
        let failing = outcome("nginx", Some(1), Did::Answered(502));
        assert_eq!(open.outcome(at(5), at(5), &failing, false), None);
        assert_eq!(open.hurried(), 1);
        assert!(open.ended(at(6), failed(6, false)).is_none(), "there is room for what fails");
    }

    #[test]
    fn a_full_table_settles_the_oldest_early_and_counts_it() {
        let mut open = Open::default();
        for n in 0..u64::try_from(MAX_OPEN).unwrap() {
            assert_eq!(open.ended(at(0), Attempt { told: Time(n), ..failed(0, false) }), None);
        }
        assert!(matches!(open.ended(at(1), failed(1, false)), Some(Settled::Judge(_))));
        assert_eq!(open.hurried(), 1);
    }

    #[test]
    fn an_answer_that_was_refused_and_asked_for_again_is_no_failure() {
        let process = || Process { pid: 42, comm: "nginx".into() };
        let said = "SSL_do_handshake() failed (SSL: wrong version number) while SSL handshaking to upstream";
        for (visible, verdicts) in [(true, 0), (false, 1)] {
            let mut open = Open::default();
            open.log_sampled(at(0), &LogSample { writers: vec![process()], ..LogSample::default() });
            let try_ended = Attempt { answers_visible: visible, ..well(1_000) };
            let line = LogLine {
                process: process(),
                after: at(995),
                said: said.into(),
                at: try_ended.upstream.endpoint,
                ..LogLine::default()
            };
            assert_eq!(open.ended(at(1_000), try_ended), None);
            assert_eq!(open.logged(at(1_010), at(1_010), &Arc::new(line)), None);
            // However long nobody looked.
            assert_eq!(settled(&mut open, 9_000).0.len(), verdicts, "answers are seen: {visible}");
        }
    }
}
