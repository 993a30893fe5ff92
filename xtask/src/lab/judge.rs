//! Which verdict belongs to which failed request, and whether it is right. Pure: logs in, counts out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access_log::{Line, OWN_ERROR};
use super::scenario::Expect;
use super::verdict::{Logged, Verdict};

/// How far a verdict's time may be from the end of the request. Far more than the clocks differ, far less than what
/// separates phases of a load.
const WINDOW: u64 = 2_000_000;
/// The same where both name the same client's connection: a proxy's own clock stands still while it has events to handle, on an emulated
/// machine for seconds.
const OF_ONE_CLIENT: u64 = 10_000_000;

/// Of requests that end so close to each other, a verdict that names no client may be about any.
const TOGETHER: u64 = 50_000;

/// What may lie under anything on a machine on which others are busy, or on its host: true, though no scenario's doing.
const OF_THE_MACHINE: [&str; 2] = ["cpu-saturated", "cpu-steal"];

/// Every failed line is one of the first five; a verdict without a line is surplus.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) failed: usize,
    pub(super) right: usize,
    /// Not the cause, but as much as can be known of it without the proxy's log.
    pub(super) accepted: usize,
    pub(super) unknown: usize,
    pub(super) wrong: usize,
    pub(super) missing: usize,
    pub(super) surplus: usize,
}

impl Counts {
    pub(super) fn named(&self) -> [(&'static str, usize); 7] {
        let Self { failed, right, accepted, unknown, wrong, missing, surplus } = *self;
        [
            ("failed", failed),
            ("right", right),
            ("accepted", accepted),
            ("unknown", unknown),
            ("wrong", wrong),
            ("missing", missing),
            ("surplus", surplus),
        ]
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { failed, right, accepted, unknown, wrong, missing, surplus } = other;
        self.failed += failed;
        self.right += right;
        self.accepted += accepted;
        self.unknown += unknown;
        self.wrong += wrong;
        self.missing += missing;
        self.surplus += surplus;
    }
}

#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) counts: Counts,
    /// Of the right ones, those that name what is expected to lie under the cause.
    pub(super) because: usize,
    /// Whose status is not the one in the log although observer claims to have seen it.
    pub(super) misread: usize,
    /// Of the failed requests, those of which the proxy's log was rightly read.
    pub(super) logged: usize,
    /// Microseconds from the end of each request to the arrival of its verdict.
    pub(super) delays: Vec<u64>,
    /// Each way of not being right: how often, and the first log line and verdict that disagree.
    pub(super) remarks: BTreeMap<String, Remark>,
}

#[derive(Debug)]
pub(super) struct Remark {
    pub(super) count: usize,
    pub(super) first: String,
}

/// With `follows_log`, each verdict is to name its line of the proxy's log.
pub(super) fn judge(failed: &[&Line], verdicts: &[Verdict], expect: &Expect, follows_log: bool) -> Judgement {
    let (verdict_of, taken) = pair(failed, verdicts, expect);
    let mut judgement = Judgement::default();
    judgement.counts.failed = failed.len();
    for (line, verdict) in failed.iter().zip(verdict_of) {
        if let Some(verdict) = verdict {
            judgement.answered(line, verdict, expect);
            if follows_log {
                judgement.logged(line, verdict);
            }
        } else {
            judgement.counts.missing += 1;
            judgement.remark("missing".to_owned(), line.text.clone());
        }
    }
    for (verdict, _) in verdicts.iter().zip(taken).filter(|(_, taken)| !taken) {
        judgement.counts.surplus += 1;
        judgement.remark(format!("surplus {}", verdict.cause), verdict.text.clone());
    }
    judgement
}

/// The nearest pairs find each other first, so that one verdict too many or too few does not shift all that follow.
fn pair<'a>(failed: &[&Line], verdicts: &'a [Verdict], expect: &Expect) -> (Vec<Option<&'a Verdict>>, Vec<bool>) {
    let mut pairs = Vec::new();
    for (l, line) in failed.iter().enumerate() {
        for (v, verdict) in verdicts.iter().enumerate() {
            let distance = line.end.abs_diff(verdict.time);
            let window = if verdict.client.is_some() { OF_ONE_CLIENT } else { WINDOW };
            if distance <= window && fits(line, verdict) {
                let another = verdict.client.is_none() && !is_right(line, verdict, expect);
                pairs.push((if another { distance.max(TOGETHER) } else { distance }, l, v));
            }
        }
    }
    pairs.sort_unstable();
    let mut verdict_of = vec![None; failed.len()];
    let mut taken = vec![false; verdicts.len()];
    for (_, l, v) in pairs {
        if verdict_of[l].is_none() && !taken[v] {
            verdict_of[l] = Some(&verdicts[v]);
            taken[v] = true;
        }
    }
    (verdict_of, taken)
}

/// As far as both name them: some logs have no process, some verdicts no client, and of an answer without any try there
/// is no upstream.
fn fits(line: &Line, verdict: &Verdict) -> bool {
    line.pid.is_none_or(|pid| pid == verdict.pid)
        && verdict.client.as_ref().is_none_or(|client| *client == line.client)
        && (line.upstream.is_none() || line.upstream == verdict.upstream)
}

/// Whether both are about one request, as far as they tell.
fn is_of(line: &Line, log: &Logged) -> bool {
    let path = line.path.split('?').next().unwrap_or_default();
    let client = line.client.rsplit_once(':').map_or("", |(address, _)| address);
    log.path == path && log.client.as_deref().is_none_or(|logged| logged == client)
}

/// Whether a verdict names the cause that is expected of this very line.
fn is_right(line: &Line, verdict: &Verdict, expect: &Expect) -> bool {
    let tried = expect.tried.as_ref().filter(|_| line.upstream.is_some());
    let by_log = expect.by_log.as_ref().filter(|_| line.status == OWN_ERROR);
    let cause = by_log.or(expect.paths.get(&line.path)).or(tried).or(expect.cause.as_ref());
    cause == Some(&verdict.cause) || expect.also.contains(&verdict.cause)
}

impl Judgement {
    fn remark(&mut self, kind: String, text: String) {
        self.remarks.entry(kind).or_insert(Remark { count: 0, first: text }).count += 1;
    }

    fn logged(&mut self, line: &Line, verdict: &Verdict) {
        let wrong = match &verdict.log {
            None => "nothing of the proxy's log",
            Some(log) if !log.agrees => "the proxy's log says otherwise",
            Some(log) if !is_of(line, log) => "another line of the proxy's log",
            Some(_) => {
                self.logged += 1;
                return;
            }
        };
        self.remark(wrong.to_owned(), format!("{} {}", line.text, verdict.text));
    }

    fn answered(&mut self, line: &Line, verdict: &Verdict, expect: &Expect) {
        let both = format!("{} {}", line.text, verdict.text);
        self.delays.push(verdict.arrived.saturating_sub(line.end));
        if verdict.observed_status.is_some_and(|status| status.to_string() != line.status) {
            self.misread += 1;
            self.remark("another status".to_owned(), both.clone());
        }
        if is_right(line, verdict, expect) {
            self.counts.right += 1;
            let meant = verdict.because.iter().any(|because| expect.because.contains(because));
            let true_here = verdict.because.iter().any(|because| OF_THE_MACHINE.contains(&because.as_str()));
            self.because += usize::from(meant || true_here);
            if !meant && !expect.because.is_empty() {
                self.remark(format!("{} because of {:?}", verdict.cause, verdict.because), both);
            }
        } else if expect.accept.contains(&verdict.cause) {
            self.counts.accepted += 1;
        } else if verdict.cause == "unknown" {
            self.counts.unknown += 1;
            self.remark("unknown".to_owned(), both);
        } else {
            self.counts.wrong += 1;
            self.remark(format!("wrong {}", verdict.cause), both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(end: u64, pid: u32) -> Line {
        let upstream = Some("127.0.0.1:9000".to_owned());
        Line {
            status: "502".into(),
            client: "127.0.0.1:5000".into(),
            path: "/".into(),
            upstream,
            passed_on: false,
            end,
            pid: Some(pid),
            text: "a line".into(),
        }
    }

    fn verdict(cause: &str, time: u64, pid: u32) -> Verdict {
        Verdict {
            cause: cause.into(),
            because: Vec::new(),
            confidence: "likely".into(),
            time,
            arrived: time + 5,
            pid,
            client: None,
            upstream: Some("127.0.0.1:9000".into()),
            log: None,
            observed_status: Some(502),
            text: "a verdict".into(),
        }
    }

    fn reset() -> Expect {
        Expect { cause: Some("upstream-reset".into()), ..Expect::default() }
    }

    /// right, accepted, unknown, wrong, missing, surplus
    fn counts(lines: &[Line], verdicts: &[Verdict], expect: &Expect) -> [usize; 6] {
        let counts = judge(&lines.iter().collect::<Vec<_>>(), verdicts, expect, false).counts;
        [counts.right, counts.accepted, counts.unknown, counts.wrong, counts.missing, counts.surplus]
    }

    #[test]
    fn each_kind_is_counted() {
        let lines = [line(1_000_000, 1), line(1_100_000, 1), line(1_200_000, 1), line(9_000_000, 1)];
        let verdicts = [
            verdict("upstream-reset", 1_000_100, 1),
            verdict("unknown", 1_100_100, 1),
            verdict("upstream-refused", 1_200_100, 1),
            verdict("upstream-reset", 20_000_000, 1),
        ];
        assert_eq!(counts(&lines, &verdicts, &reset()), [1, 0, 1, 1, 1, 1]);
        let accepting = Expect { accept: vec!["unknown".into()], ..reset() };
        assert_eq!(counts(&lines, &verdicts, &accepting), [1, 1, 0, 1, 1, 1]);
        let either = Expect { also: vec!["upstream-refused".into()], ..reset() };
        assert_eq!(counts(&lines, &verdicts, &either), [2, 0, 1, 0, 1, 1]);
    }

    #[test]
    fn the_nearest_verdict_is_taken_whatever_the_order() {
        let lines = [line(1_000_000, 1), line(1_500_000, 1)];
        let verdicts = [verdict("upstream-reset", 1_499_000, 1), verdict("unknown", 1_001_000, 1)];
        assert_eq!(counts(&lines, &verdicts, &reset()), [1, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_verdict_serves_one_line_only() {
        let lines = [line(1_000_000, 1), line(1_000_000, 1)];
        assert_eq!(counts(&lines, &[verdict("upstream-reset", 1_000_000, 1)], &reset()), [1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn another_worker_or_upstream_does_not_match() {
        let elsewhere = Verdict { upstream: Some("10.77.0.2:9000".into()), ..verdict("upstream-reset", 1_000_000, 1) };
        let verdicts = [verdict("upstream-reset", 1_000_000, 2), elsewhere];
        assert_eq!(counts(&[line(1_000_000, 1)], &verdicts, &reset()), [0, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_verdict_that_names_a_client_is_about_that_one() {
        let named = Verdict { client: Some("127.0.0.1:5001".into()), ..verdict("upstream-reset", 1_000_000, 1) };
        let later = Line { client: "127.0.0.1:5001".into(), ..line(1_900_000, 1) };
        assert_eq!(counts(&[line(1_000_000, 1)], std::slice::from_ref(&named), &reset()), [0, 0, 0, 0, 1, 1]);
        assert_eq!(counts(&[later], &[named], &reset()), [1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn an_answer_without_a_try_matches_by_process_and_time() {
        let expect = Expect {
            cause: Some("no-live-upstreams".into()),
            tried: Some("upstream-refused".into()),
            ..Expect::default()
        };
        let lines = [line(1_000_000, 1), Line { upstream: None, ..line(1_100_000, 1) }];
        let internal = Verdict { upstream: None, ..verdict("no-live-upstreams", 1_100_000, 1) };
        let verdicts = [verdict("upstream-refused", 1_000_000, 1), internal];
        assert_eq!(counts(&lines, &verdicts, &expect), [2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_path_may_have_a_cause_of_its_own() {
        let paths = [("/fin".to_owned(), "upstream-closed-early".to_owned())].into();
        let expect = Expect { paths, ..reset() };
        let lines = [line(1_000_000, 1), Line { path: "/fin".into(), ..line(1_100_000, 1) }];
        let verdicts = [verdict("upstream-reset", 1_000_000, 1), verdict("upstream-reset", 1_100_000, 1)];
        assert_eq!(counts(&lines, &verdicts, &expect), [1, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn of_requests_that_end_together_a_verdict_without_a_client_is_about_any() {
        let paths = [("/fin".to_owned(), "upstream-closed-early".to_owned())].into();
        let expect = Expect { paths, ..reset() };
        let lines = [line(1_000_000, 1), Line { path: "/fin".into(), ..line(1_000_400, 1) }];
        let verdicts = [verdict("upstream-closed-early", 1_000_000, 1), verdict("upstream-reset", 1_000_400, 1)];
        assert_eq!(counts(&lines, &verdicts, &expect), [2, 0, 0, 0, 0, 0]);
        let named = verdicts.map(|it| Verdict { client: Some("127.0.0.1:5000".into()), ..it });
        assert_eq!(counts(&lines, &named, &expect), [0, 0, 0, 2, 0, 0]);
    }

    #[test]
    fn a_busy_machine_is_a_reason_of_its_own() {
        let expect = Expect { because: vec!["worker-pool-undersized".into()], ..reset() };
        let busy = Verdict { because: vec!["cpu-saturated".to_owned()], ..verdict("upstream-reset", 1_000_000, 1) };
        let found = judge(&[&line(1_000_000, 1)], &[busy], &expect, false);
        assert_eq!((found.because, found.remarks.len()), (1, 1), "counted, and said");
    }

    #[test]
    fn what_lies_under_the_cause_is_counted_apart() {
        let expect = Expect { because: vec!["listener-restarted".into()], ..reset() };
        let because = vec!["listener-restarted".to_owned()];
        let verdicts =
            [verdict("upstream-reset", 1_000_000, 1), Verdict { because, ..verdict("upstream-reset", 1_100_000, 1) }];
        let (first, second) = (line(1_000_000, 1), line(1_100_000, 1));
        let found = judge(&[&first, &second], &verdicts, &expect, false);
        assert_eq!((found.counts.right, found.because, found.remarks.len()), (2, 1, 1));
    }

    #[test]
    fn a_status_seen_must_be_the_one_in_the_log() {
        let other = Verdict { observed_status: Some(504), ..verdict("upstream-reset", 1_000_000, 1) };
        assert_eq!(judge(&[&line(1_000_000, 1)], &[other], &reset(), false).misread, 1);
    }

    #[test]
    fn the_delay_is_from_the_end_of_the_request_to_the_arrival() {
        let found = judge(&[&line(1_000_000, 1)], &[verdict("upstream-reset", 1_000_100, 1)], &reset(), false);
        assert_eq!(found.delays, [105]);
    }

    #[test]
    fn the_proxys_log_is_to_be_read_for_each_request() {
        let log = |path: &str, client: &str, agrees| {
            let log = Logged { path: path.to_owned(), client: Some(client.to_owned()), agrees };
            Verdict { log: Some(log), ..verdict("upstream-reset", 1_000_000, 1) }
        };
        let asked = Line { path: "/?a=b".into(), ..line(1_000_000, 1) };
        let logged = |verdict| judge(&[&asked], &[verdict], &reset(), true).logged;
        assert_eq!(logged(log("/", "127.0.0.1", true)), 1);
        for wrong in [log("/other", "127.0.0.1", true), log("/", "10.0.0.1", true), log("/", "127.0.0.1", false)] {
            assert_eq!(logged(wrong), 0);
        }
        assert_eq!(logged(verdict("upstream-reset", 1_000_000, 1)), 0);
    }

    #[test]
    fn a_healthy_scenario_has_nothing_right() {
        let found = judge(&[], &[verdict("unknown", 1, 1)], &Expect::default(), false);
        assert_eq!((found.counts.surplus, found.remarks.len()), (1, 1));
    }
}
