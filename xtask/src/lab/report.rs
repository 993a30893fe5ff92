//! Outcomes, for people and for programs.

use std::fmt::Write as _;
use std::io::{Write as _, stderr, stdout};

use anyhow::{Context, Result};

use super::judge::{Counts, Remark};
use super::outcome::{Outcome, Overflows, percentile};
use super::scenario::Scenario;

/// How many trials passed, each scenario and topology being one; or whatever else passes or fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// With JSON, stdout is for programs and people read stderr.
pub(super) struct Reporter {
    json: bool,
    outcomes: Vec<Outcome>,
}

impl Reporter {
    pub(super) fn new(json: bool) -> Self {
        Self { json, outcomes: Vec::new() }
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) -> Result<()> {
        self.say(&human(&outcome))?;
        if self.json {
            let line = serde_json::to_string(&outcome).context("cannot write JSON")?;
            writeln!(stdout(), "{line}").context("cannot write to stdout")?;
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    /// The totals, and all that they are made of.
    pub(super) fn close(self) -> Result<(Tally, Vec<Outcome>)> {
        let passed = self.outcomes.iter().filter(|outcome| outcome.pass).count();
        let tally = Tally { passed, failed: self.outcomes.len() - passed };
        self.say(&total(&self.outcomes))?;
        self.say(&tally.to_string())?;
        Ok((tally, self.outcomes))
    }

    /// An error rather than a panic when the reader has gone: the stage is still to be torn down.
    fn say(&self, text: &str) -> Result<()> {
        let written = if self.json { writeln!(stderr(), "{text}") } else { writeln!(stdout(), "{text}") };
        written.context("cannot write the report")
    }
}

fn human(outcome: &Outcome) -> String {
    let statuses: Vec<_> = outcome.status.iter().map(|(status, count)| format!("{count}x{status}")).collect();
    let mut text = format!(
        "{} {:<32} {:<7} {:<6} {} requests ({}), {}",
        if outcome.pass { "pass" } else { "FAIL" },
        outcome.scenario,
        outcome.proxy,
        outcome.topology,
        outcome.requests,
        statuses.join(" "),
        counts(&outcome.counts),
    );
    if let Some(because) = outcome.because {
        let _ = write!(text, "; {because} with the expected because");
    }
    if let Some(logged) = outcome.logged {
        let _ = write!(text, "; {logged} found in the proxy's log");
    }
    if let Some(Overflows { kernel, observer, .. }) = outcome.overflows {
        let _ = write!(text, "; overflows: kernel {kernel}, observer {observer}");
    }
    for (code, count) in &outcome.warnings {
        let _ = write!(text, "; {count} warning {code}");
    }
    if let Some(ahead) = outcome.ahead {
        let _ = write!(text, "; warned {ahead:.1} s ahead");
    }
    if let Some(delay) = delay(&outcome.delays) {
        let _ = write!(text, "; {delay}");
    }
    if let Some(sides) = outcome.sides.as_ref().filter(|sides| sides.proxy.failed > 0) {
        let Counts { right, accepted, .. } = sides.proxy;
        let _ = write!(text, "; from the proxy's side {right} right, {accepted} accepted");
    }
    let _ = write!(text, " [{:.1} s]", outcome.elapsed.as_secs_f64());
    for problem in &outcome.problems {
        let _ = write!(text, "\n     missed: {problem}");
    }
    let sides = outcome.sides.iter().flat_map(|sides| &sides.remarks);
    for (kind, Remark { count, first }) in outcome.remarks.iter().chain(sides) {
        let _ = write!(text, "\n     {count} x {kind}, first: {first}");
    }
    text
}

fn counts(counts: &Counts) -> String {
    let [(_, failed), others @ ..] = counts.named();
    let others: Vec<_> = others.iter().map(|(name, count)| format!("{count} {name}")).collect();
    format!("{failed} failed: {}", others.join(", "))
}

/// From the failure to its verdict.
fn delay(sorted: &[u64]) -> Option<String> {
    let (median, late) = percentile(sorted, 50).zip(percentile(sorted, 99))?;
    Some(format!("verdict after {median} ms (p99 {late})"))
}

fn total(outcomes: &[Outcome]) -> String {
    let mut sum = Counts::default();
    let mut delays = Vec::new();
    let mut requests = 0;
    for outcome in outcomes {
        sum += outcome.counts;
        requests += outcome.requests;
        delays.extend(&outcome.delays);
    }
    delays.sort_unstable();
    let mut text = format!("total: {requests} requests, {}", counts(&sum));
    if let Some(delay) = delay(&delays) {
        let _ = write!(text, "; {delay}");
    }
    let mut sides = Counts::default();
    for outcome in outcomes {
        sides += outcome.sides.as_ref().map(|sides| sides.proxy).unwrap_or_default();
    }
    let _ = write!(text, "\nfrom the proxy's side: {}", counts(&sides));
    if sum.failed > 0 {
        let _ = write!(text, "\n{} right, {} wrong", percent(sum.right, sum.failed), percent(sum.wrong, sum.failed));
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are small")]
fn percent(part: usize, whole: usize) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole as f64)
}

pub(super) fn list(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let trials: Vec<_> = scenario.trials().iter().map(|(proxy, topology)| format!("{proxy} {topology}")).collect();
        let cause = scenario.expect.cause.as_deref().unwrap_or("nothing fails");
        let slow = if scenario.slow { ", slow" } else { "" };
        println!("{} ({}; {cause}{slow})\n    {}", scenario.name, trials.join(", "), scenario.description);
    }
}
