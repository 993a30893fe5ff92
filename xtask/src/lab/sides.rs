//! What observer can tell from one side only: on the proxy's host, where the upstream's queues and processes are out of
//! sight, and on the upstream's, where no proxy is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access_log::Line;
use super::judge::{Counts, Remark, judge};
use super::scenario::Expect;
use super::verdict::Verdict;
use super::watch::Warning;

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sides {
    /// Verdicts on the proxy's side.
    #[serde(flatten)]
    pub(super) proxy: Counts,
    /// Of these, those that are certain of what cannot be known there.
    pub(super) overconfident: usize,
    /// Verdicts on the upstream's side.
    pub(super) upstream_verdicts: usize,
    pub(super) upstream_warnings: BTreeMap<String, usize>,
    #[serde(skip)]
    pub(super) remarks: BTreeMap<String, Remark>,
}

impl Sides {
    pub(super) fn new(
        failed: &[&Line],
        at_proxy: &[Verdict],
        at_upstream: &[Verdict],
        warnings: &[Warning],
        expect: &Expect,
    ) -> Self {
        let judgement = judge(failed, at_proxy, &expect.seen_from_the_proxy(), false);
        let certain = |verdict: &&Verdict| verdict.confidence == "certain" && !expect.also.contains(&verdict.cause);
        let overconfident = if expect.proxy_side.is_some() { at_proxy.iter().filter(certain).count() } else { 0 };
        let mut upstream_warnings = BTreeMap::new();
        for warning in warnings {
            *upstream_warnings.entry(warning.cause.clone()).or_default() += 1;
        }
        let remarks =
            judgement.remarks.into_iter().map(|(kind, remark)| (format!("{kind} on the proxy's side"), remark));
        Self {
            proxy: judgement.counts,
            overconfident,
            upstream_verdicts: at_upstream.len(),
            upstream_warnings,
            remarks: remarks.collect(),
        }
    }

    /// Where it misses the bar.
    pub(super) fn problems(&self, expect: &Expect) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let Counts { failed, right, accepted, surplus, .. } = self.proxy;
        require(
            right + accepted == failed,
            format!("the proxy's side: {right} of {failed} right and {accepted} accepted"),
        );
        require(surplus == 0, format!("the proxy's side: {surplus} verdicts without a failed request"));
        require(
            self.overconfident == 0,
            format!("the proxy's side: {} certain of what it cannot know", self.overconfident),
        );
        require(self.upstream_verdicts == 0, format!("the upstream's side: {} verdicts", self.upstream_verdicts));
        if let Some(code) = &expect.upstream_side {
            require(self.upstream_warnings.contains_key(code), format!("the upstream's side: no warning {code}"));
        }
        let foreseen =
            |code: &&String| expect.upstream_side.as_ref() == Some(*code) || expect.upstream_also.contains(code);
        for code in self.upstream_warnings.keys().filter(|code| !foreseen(code)) {
            require(false, format!("the upstream's side: a warning {code}"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(expect: &Expect, cause: &str, confidence: &str) -> Vec<String> {
        let upstream = Some("10.77.0.2:9000".to_owned());
        let line = Line {
            status: "504".into(),
            client: "127.0.0.1:5000".into(),
            path: "/".into(),
            upstream: upstream.clone(),
            passed_on: false,
            end: 1,
            pid: Some(1),
            text: String::new(),
        };
        let verdict = Verdict {
            cause: cause.into(),
            because: Vec::new(),
            confidence: confidence.into(),
            time: 1,
            arrived: 2,
            pid: 1,
            client: None,
            upstream,
            log: None,
            observed_status: None,
            text: String::new(),
        };
        Sides::new(&[&line], &[verdict], &[], &[], expect).problems(expect)
    }

    #[test]
    fn the_cause_or_unknown_will_do_where_nothing_is_said() {
        let expect = Expect { cause: Some("upstream-reset".into()), ..Expect::default() };
        assert!(sides(&expect, "upstream-reset", "certain").is_empty());
        assert!(sides(&expect, "unknown", "possible").is_empty());
        assert_eq!(sides(&expect, "upstream-refused", "likely").len(), 1);
    }

    #[test]
    fn nobody_is_certain_of_what_cannot_be_known() {
        let expect = Expect {
            cause: Some("accept-queue-overflow".into()),
            proxy_side: Some(vec!["connect-timeout".into()]),
            ..Expect::default()
        };
        assert!(sides(&expect, "connect-timeout", "likely").is_empty());
        assert_eq!(sides(&expect, "accept-queue-overflow", "certain").len(), 1);
        assert_eq!(sides(&expect, "unknown", "possible").len(), 1);
    }

    #[test]
    fn the_upstreams_side_has_its_warning_and_no_other() {
        let expect = Expect { upstream_side: Some("accept-queue-overflow".into()), ..Expect::default() };
        let mut found = Sides::new(&[], &[], &[], &[], &expect);
        assert_eq!(found.problems(&expect).len(), 1);
        found.upstream_warnings.insert("accept-queue-overflow".to_owned(), 1);
        assert!(found.problems(&expect).is_empty());
        found.upstream_warnings.insert("keepalive-off".to_owned(), 1);
        assert_eq!(found.problems(&expect).len(), 1);
    }
}
