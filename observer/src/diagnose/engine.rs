//! From events to verdicts: folds each event into the model, holds a failed try until the other side's evidence is
//! in, and has the rules judge it. Time is the events' own.

use std::time::Duration;

use super::{
    incident::Incidents,
    kept::Over,
    lines::Lines,
    open::{GRACE, HOLD, Harmless, Open, Settled},
    registry::CAUSES,
    rule::{Case, Finding, Judgement},
    verdict::{Confidence, Logged, Said, Verdict, Warning},
};
use observer_common::answer::THREADS_SHARED;
use serde::{Deserialize, Serialize};

use crate::{
    diagnose::causes::unknown,
    event::{Body, Event},
    model::{Attempt, Model},
    proxy,
    time::Time,
    untrusted::at_most,
};

/// A warning that goes on is said again after this long.
pub const REMIND_AFTER: Duration = Duration::from_secs(30);
/// Seconds without any event that are looked at one by one; of a longer gap only the last of them. The host is sampled every
/// second, so that a longer one means a machine that slept.
const CATCH_UP: u64 = 3600;
/// Warnings that may hold at once; further ones wait for a place.
const MAX_WARNINGS: usize = 256;

/// The rules at work on the model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Engine {
    model: Model,
    open: Open,
    unanswered: u64,
    incidents: Incidents,
    #[serde(deserialize_with = "at_most::<MAX_WARNINGS, _, _, _>")]
    warnings: Vec<Active>,
}

/// A warning that holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Active {
    warning: Warning,
    said: Time,
    since: Time,
    /// The last second in which it held.
    held: u64,
}

impl Engine {
    /// Takes in one event and hands what follows from it to `say`, in order.
    pub fn apply(&mut self, event: &Event, say: &mut impl FnMut(Said)) {
        // What is due is judged before the event is known, so that a tick in between changes nothing.
        self.advance(event.time, say);
        let attempt = self.model.apply(event);
        let now = self.model.now();
        if let Some(attempt) = attempt {
            let hurried = self.open.ended(now, attempt);
            self.settle(hurried, say);
        }
        if let Body::Outcome(outcome) = &event.body {
            let shared = proxy::threading(&outcome.proxy.comm) == THREADS_SHARED;
            let settled = self.open.outcome(now, event.time, outcome, shared);
            self.settle(settled, say);
        }
        match &event.body {
            Body::LogLine(line) => {
                let settled = self.open.logged(now, event.time, line);
                self.settle(settled, say);
            }
            Body::LogSample(sample) => self.open.log_sampled(now, sample),
            _ => {}
        }
    }

    /// Judges whatever still waits, and has every rule look at the second that is not over yet: the stream has ended.
    pub fn finish(&mut self, say: &mut impl FnMut(Said)) {
        let now = self.model.now();
        let answers_lost = self.answers_lost(now);
        while let Some(settled) = self.open.last(answers_lost) {
            self.settle(Some(settled), say);
        }
        self.watch_at(now.seconds() + 1, now, say);
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What fails and failed, by cause and upstream.
    pub fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    /// The warnings that hold, each with since when.
    pub fn warnings(&self) -> impl Iterator<Item = (&Warning, Time)> {
        self.warnings.iter().map(|active| (&active.warning, active.since))
    }

    /// Tries judged before their evidence can have been complete.
    pub fn hurried(&self) -> u64 {
        self.open.hurried()
    }

    /// The logs that are followed, and what became of their lines.
    pub fn lines(&self) -> &Lines {
        self.open.lines()
    }

    /// Failed tries of which no client got a 502 or 504.
    pub fn harmless(&self) -> Harmless {
        Harmless { unanswered: self.unanswered, ..self.open.harmless() }
    }

    fn judge_due(&mut self, now: Time, say: &mut impl FnMut(Said)) {
        let answers_lost = self.answers_lost(now);
        while let Some(settled) = self.open.due(now, answers_lost) {
            self.settle(Some(settled), say);
        }
    }

    /// For as long as an answer is waited for, after some were lost, its absence says nothing.
    fn answers_lost(&self, now: Time) -> bool {
        self.model.holes().outcomes_lost().is_some_and(|lost| now.since(lost) <= HOLD)
    }

    fn settle(&mut self, settled: Option<Settled>, say: &mut impl FnMut(Said)) {
        let over = match settled {
            Some(Settled::Judge(mut attempt)) => {
                if attempt.line.is_some() {
                    attempt.upstream = self.model.known_as(attempt.upstream);
                }
                self.judge(&attempt, say);
                Over::of(&attempt)
            }
            Some(Settled::Unanswered(over)) => {
                self.unanswered = self.unanswered.saturating_add(1);
                over
            }
            Some(Settled::Harmless(over)) => over,
            Some(Settled::Retried(upstream, over)) => {
                self.model.retried(upstream);
                over
            }
            None => return,
        };
        if let Some(key) = &over.flow {
            self.model.forget_flow(key, over.time + GRACE);
        }
    }

    fn judge(&mut self, attempt: &Attempt, say: &mut impl FnMut(Said)) {
        let verdict = judge(attempt, &self.model);
        self.incidents.add(&verdict);
        say(Said::Verdict(Box::new(verdict)));
    }

    /// Lets the time pass: judges what is due, and at the turn of every second of event time has every rule look at the whole
    /// model, each at its moment. A stretch without events is caught up with, so that ticks make no difference.
    fn advance(&mut self, now: Time, say: &mut impl FnMut(Said)) {
        let second = now.seconds();
        let first = (self.model.now().seconds() + 1).max(second.saturating_sub(CATCH_UP));
        for turn in first..=second {
            self.judge_due(Time(turn * 1_000_000_000), say);
            self.watch_at(turn, Time(turn * 1_000_000_000), say);
        }
        self.judge_due(now, say);
    }

    /// Has every rule look at the model at the turn to this second, and says at `now` what it finds.
    fn watch_at(&mut self, second: u64, now: Time, say: &mut impl FnMut(Said)) {
        let turn = Time(second.saturating_mul(1_000_000_000));
        for mut warning in CAUSES.iter().filter_map(|rule| rule.watch).flat_map(|watch| watch(&self.model, turn)) {
            warning.time = now;
            let same = |active: &&mut Active| {
                (active.warning.cause, active.warning.netns, &active.warning.subject)
                    == (warning.cause, warning.netns, &warning.subject)
            };
            let Some(active) = self.warnings.iter_mut().find(same) else {
                if self.warnings.len() < MAX_WARNINGS {
                    self.warnings.push(Active { warning: warning.clone(), said: now, since: now, held: second });
                    say(Said::Warning(Box::new(warning)));
                }
                continue;
            };
            active.held = second;
            active.warning = warning;
            if now.since(active.said) >= REMIND_AFTER {
                active.said = now;
                say(Said::Warning(Box::new(active.warning.clone())));
            }
        }
        self.warnings.retain(|active| active.held == second);
    }
}

/// The verdict on one failed try: the surest finding, or what was missing for each that came near.
pub fn judge(attempt: &Attempt, model: &Model) -> Verdict {
    let flow = model.evidence(attempt);
    let case = Case { attempt, flow: &flow, model };
    let mut best: Option<(&'static str, Finding)> = None;
    let mut missing = Vec::new();
    for rule in CAUSES {
        match (rule.judge)(&case) {
            Judgement::No => {}
            Judgement::NotEnough(what) => missing.push((rule.code, what)),
            Judgement::Found(finding) => {
                if best.as_ref().is_none_or(|(_, found)| finding.confidence > found.confidence) {
                    best = Some((rule.code, finding));
                }
            }
        }
    }
    let (code, found) = best.unwrap_or_else(|| (unknown::RULE.code, unknown::finding(&case, &missing)));
    let Finding { confidence, status, because, also, summary, evidence, advice } = doubted(found, &case);
    Verdict {
        time: attempt.time,
        cause: code,
        confidence,
        log: attempt.line.as_deref().map(|line| Logged::about(line, code, attempt)),
        status: attempt.status().or(attempt.logged_status).or(status),
        observed: attempt.status().is_some(),
        client: attempt.answer.and_then(|answer| answer.client),
        proxy: attempt.proxy.clone(),
        upstream: attempt.upstream,
        because,
        also,
        summary,
        evidence,
        advice,
    }
}

/// A finding whose evidence may be incomplete says so, and is less sure: what was lost meanwhile may have told otherwise.
fn doubted(found: Finding, case: &Case<'_>) -> Finding {
    let (began, ended) = case.span();
    // Of a connection that had served, only what came after that is evidence.
    let served = case.attempt.connection.as_ref().and_then(|connection| connection.last_read);
    let lost = case.model.holes().within(began.max(served.unwrap_or_default()), ended + GRACE);
    if lost == 0 {
        return found;
    }
    Finding {
        confidence: match found.confidence {
            Confidence::Certain => Confidence::Likely,
            Confidence::Likely | Confidence::Possible => Confidence::Possible,
        },
        summary: format!("{}; {lost} records were lost meanwhile, evidence perhaps among them", found.summary),
        evidence: found.evidence.with("records_lost", lost),
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{ConnectionEnded, Counters, ListenOverflow, OverflowPath, State},
        testing::{
            connection, event, refused_connection, reset_sent,
            sequence::{Dice, any_sequence, exaggerated},
            server_flow,
        },
    };

    fn run(events: &[Event]) -> Vec<Said> {
        let mut engine = Engine::default();
        let mut said = Vec::new();
        for event in events {
            engine.apply(event, &mut |each| said.push(each));
        }
        engine.finish(&mut |each| said.push(each));
        said
    }

    fn incident() -> Vec<Event> {
        let ended = |ms, ended| event(ms, Body::ConnectionEnded(Box::new(ended)));
        let overflow = ListenOverflow { flow: server_flow(), path: OverflowPath::Ack, depth: 129, limit: 128 };
        let reset = ConnectionEnded { new: State::Close, error: 104, reset_received: true, ..connection() };
        vec![
            event(10, Body::ListenOverflow(overflow)),
            ended(900, ConnectionEnded { bytes_acked: 0, unacked: 80, data_retransmits: 3, ..connection() }),
            ended(2_000, refused_connection()),
            ended(2_100, reset),
            // The sender's side of an active reset is told after the receiver's.
            event(
                2_101,
                Body::ResetSent(crate::event::ResetSent { owned: true, ..reset_sent(Some(State::Close), "TCP_STATE") }),
            ),
            ended(7_000, ConnectionEnded { new: State::CloseWait, ..connection() }),
        ]
    }

    fn causes(said: &[Said]) -> Vec<&'static str> {
        let verdicts = said.iter().filter_map(|each| match each {
            Said::Verdict(verdict) => Some(verdict.cause),
            Said::Warning(_) => None,
        });
        verdicts.collect()
    }

    #[test]
    fn each_failed_try_gets_one_verdict_in_order() {
        let expected = ["accept-queue-overflow", "upstream-refused", "upstream-reset", "upstream-closed-early"];
        assert_eq!(causes(&run(&incident())), expected);
    }

    #[test]
    fn evidence_that_comes_just_after_the_end_counts() {
        let said = run(&incident());
        let reset = said.iter().find_map(|each| match each {
            Said::Verdict(verdict) if verdict.cause == "upstream-reset" => Some(verdict),
            _ => None,
        });
        assert!(reset.unwrap().summary.contains("SO_LINGER 0"));
    }

    #[test]
    fn ticks_change_nothing() {
        let plain = incident();
        let mut ticking = Vec::new();
        let mut next = plain[0].time;
        for each in &plain {
            while next < each.time {
                ticking.push(Event { time: next, body: Body::Tick });
                next = next + Duration::from_millis(7);
            }
            ticking.push(each.clone());
        }
        assert_eq!(run(&plain), run(&ticking));
    }

    /// A batch ends with a tick at the time up to which everything has been told.
    fn batched(dice: &mut Dice, events: &[Event]) -> Vec<Event> {
        let mut batched = Vec::new();
        for (index, event) in events.iter().enumerate() {
            batched.push(event.clone());
            let next = events.get(index + 1).map_or(event.time, |next| next.time);
            let gap = u64::try_from(next.since(event.time).as_nanos()).unwrap();
            for _ in 0..dice.below(4) {
                batched.push(Event { time: event.time + Duration::from_nanos(dice.below(gap + 1)), body: Body::Tick });
            }
        }
        batched
    }

    #[test]
    fn whatever_the_batches_the_verdicts_are_the_same() {
        for seed in 1..=300_u64 {
            let mut dice = Dice::new(seed);
            let plain = any_sequence(&mut dice);
            let whole = run(&plain);
            assert!(!whole.is_empty(), "seed {seed} says nothing");
            for _ in 0..3 {
                let split = batched(&mut dice, &plain);
                assert_eq!(whole, run(&split), "seed {seed}");
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_harm_nothing() {
        for seed in 1..=300 {
            let mut dice = Dice::new(seed);
            let events = any_sequence(&mut dice).into_iter();
            let mut events: Vec<_> = events.map(|event| exaggerated(&mut dice, event)).collect();
            if seed % 30 == 0 {
                events.push(Event { time: Time(u64::MAX), body: Body::Tick });
            }
            run(&events);
        }
    }

    /// Counters by which so many records of overflows have been lost.
    fn lost(ms: u64, records: u64) -> Event {
        let mut counters = Counters::default();
        counters.lost.records[3] = records;
        event(ms, Body::Counters(Box::new(counters)))
    }

    #[test]
    fn a_verdict_of_a_time_in_which_records_were_lost_says_so_and_is_less_sure() {
        let refused = |ms| {
            let refused = ConnectionEnded { started: crate::testing::at(ms), ..refused_connection() };
            event(ms, Body::ConnectionEnded(Box::new(refused)))
        };
        let told =
            [lost(0, 0), refused(500), lost(1_000, 0), refused(1_500), lost(1_510, 7), lost(2_000, 7), refused(2_500)];
        let verdicts: Vec<_> = run(&told)
            .into_iter()
            .filter_map(|said| match said {
                Said::Verdict(verdict) => Some(*verdict),
                Said::Warning(_) => None,
            })
            .collect();
        let doubts: Vec<_> = verdicts.iter().map(|it| it.evidence.get("records_lost").cloned()).collect();
        assert_eq!(doubts, [None, Some(7_u64.into()), None]);
        let [before, doubted, after] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert!(before.confidence > doubted.confidence, "{doubted:?}");
        assert!(
            doubted.summary.ends_with("; 7 records were lost meanwhile, evidence perhaps among them"),
            "{doubted:?}"
        );
        assert_eq!((doubted.cause, after.confidence), (before.cause, before.confidence));
    }

    #[test]
    fn an_answer_that_is_not_seen_says_nothing_until_a_while_after_answers_were_lost() {
        let failed = |ms| {
            let visible = ConnectionEnded { answers_visible: true, ..refused_connection() };
            event(ms, Body::ConnectionEnded(Box::new(visible)))
        };
        let mut counters = Counters::default();
        let before = event(0, Body::Counters(Box::new(counters)));
        counters.lost.records[8] = 1;
        let after = |ms| event(ms, Body::Counters(Box::new(counters)));
        assert_eq!(counters.lost.of(observer_common::Kind::Outcome), 1);
        let told = [before, failed(100), after(1_000), failed(2_000), after(2_100), after(70_000), failed(71_000)];
        // The first is waited for in vain, as is the last; the second may have been answered for.
        assert_eq!(causes(&run(&told)), ["upstream-refused"]);
    }

    #[test]
    fn a_warning_that_holds_is_said_once_and_again_after_a_while() {
        let overflow = ListenOverflow { flow: server_flow(), path: OverflowPath::Syn, depth: 129, limit: 128 };
        let steady: Vec<_> = (0..650).map(|n| event(n * 100, Body::ListenOverflow(overflow))).collect();
        let warnings = run(&steady).len();
        assert_eq!(warnings, 3, "at the start, after 30 s and after 60 s");
    }

    #[test]
    fn what_happened_in_the_last_second_is_warned_of_at_the_end() {
        let overflow = ListenOverflow { flow: server_flow(), path: OverflowPath::Syn, depth: 129, limit: 128 };
        let (before, at) = (event(1_100, Body::Tick), event(1_300, Body::ListenOverflow(overflow)));
        let said = run(&[before, at.clone(), at.clone()]);
        let [Said::Warning(warning)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(
            (warning.cause, warning.time),
            ("accept-queue-overflow", at.time),
            "no later than anything was told"
        );
    }
}
