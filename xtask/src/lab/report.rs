//! What a trial came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Write as _, stderr, stdout};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::access_log::AccessLog;
use super::judge::Judgement;
use super::scenario::{Scenario, Topology};
use super::trial::Clients;

/// Of the log lines and verdicts that disagree, so many are printed; all are in the run's folder.
const REMARKS: usize = 5;

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    scenario: String,
    topology: Topology,
    requests: usize,
    status: BTreeMap<String, usize>,
    failed: usize,
    right: usize,
    unknown: usize,
    wrong: usize,
    missing: usize,
    surplus: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    overflows: Option<Overflows>,
    warnings: BTreeMap<String, usize>,
    pass: bool,
    /// Why it did not pass.
    problems: Vec<String>,
    #[serde(skip)]
    remarks: Vec<String>,
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub(super) elapsed: Duration,
}

fn seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 10.0).round() / 10.0)
}

/// `ListenOverflows` of the upstream's namespace, and observer's count of the same.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Overflows {
    pub(super) kernel: u64,
    pub(super) observer: u64,
}

impl Outcome {
    pub(super) fn new(
        scenario: &Scenario,
        topology: Topology,
        log: &AccessLog,
        clients: &Clients,
        judgement: Judgement,
        overflows: Overflows,
        warned: Vec<String>,
    ) -> Self {
        let mut warnings = BTreeMap::new();
        for code in warned {
            *warnings.entry(code).or_default() += 1;
        }
        let Judgement { right, unknown, wrong, missing, surplus, remarks } = judgement;
        let mut outcome = Self {
            scenario: scenario.name.clone(),
            topology,
            requests: log.lines.len(),
            status: log.by_status(),
            failed: log.failed().len(),
            right,
            unknown,
            wrong,
            missing,
            surplus,
            overflows: scenario.count_overflows.then_some(overflows),
            warnings,
            pass: true,
            problems: Vec::new(),
            remarks,
            elapsed: Duration::ZERO,
        };
        outcome.problems = outcome.measure(scenario, clients);
        outcome.pass = outcome.problems.is_empty();
        outcome
    }

    /// A trial that did not come to a comparison.
    pub(super) fn broken(scenario: &Scenario, topology: Topology, error: &anyhow::Error) -> Self {
        let nothing = AccessLog::default();
        let overflows = Overflows { kernel: 0, observer: 0 };
        let mut outcome =
            Self::new(scenario, topology, &nothing, &Clients::default(), Judgement::default(), overflows, Vec::new());
        outcome.pass = false;
        outcome.problems = vec![format!("{error:#}")];
        outcome
    }

    /// The bar: every failure explained, each rightly, and nothing else said.
    fn measure(&self, scenario: &Scenario, clients: &Clients) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        require(
            clients.status == self.status,
            format!("staging: clients saw {:?}, nginx logged {:?}", clients.status, self.status),
        );
        if scenario.cause.is_some() {
            require(
                self.failed >= scenario.min_failed,
                format!("staging: {} failed, at least {} were meant to", self.failed, scenario.min_failed),
            );
        } else {
            require(self.failed == 0, format!("staging: {} failed, none was meant to", self.failed));
        }
        let served = self.status.get("200").copied().unwrap_or_default();
        require(
            served >= scenario.min_served,
            format!("staging: {served} were served, at least {} were meant to be", scenario.min_served),
        );
        require(self.right == self.failed, format!("{} of {} attributed right", self.right, self.failed));
        require(self.surplus == 0, format!("{} verdicts without a failed request", self.surplus));
        if let Some(Overflows { kernel, observer }) = self.overflows {
            require(kernel > 0, "staging: no accept queue overflowed".to_owned());
            require(kernel == observer, format!("the kernel counted {kernel} overflows, observer {observer}"));
        }
        if let Some(code) = &scenario.expect_warning {
            require(self.warnings.contains_key(code), format!("no warning {code}"));
        }
        for code in &scenario.forbid_warnings {
            require(!self.warnings.contains_key(code), format!("a warning {code}"));
        }
        problems
    }

    fn human(&self) -> String {
        let statuses: Vec<_> = self.status.iter().map(|(status, count)| format!("{count}x{status}")).collect();
        let mut text = format!(
            "{} {:<30} {:<6} {} requests ({}), {} failed: {} right, {} unknown, {} wrong, {} missing, {} surplus",
            if self.pass { "pass" } else { "FAIL" },
            self.scenario,
            self.topology,
            self.requests,
            statuses.join(" "),
            self.failed,
            self.right,
            self.unknown,
            self.wrong,
            self.missing,
            self.surplus,
        );
        if let Some(Overflows { kernel, observer }) = self.overflows {
            let _ = write!(text, "; overflows: kernel {kernel}, observer {observer}");
        }
        for (code, count) in &self.warnings {
            let _ = write!(text, "; {count} warning {code}");
        }
        let _ = write!(text, " [{:.1} s]", self.elapsed.as_secs_f64());
        for problem in &self.problems {
            let _ = write!(text, "\n     missed: {problem}");
        }
        for remark in self.remarks.iter().take(REMARKS) {
            let _ = write!(text, "\n     {remark}");
        }
        if self.remarks.len() > REMARKS {
            let _ = write!(text, "\n     and {} more", self.remarks.len() - REMARKS);
        }
        text
    }
}

/// How many trials passed, each scenario and topology being one.
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
    tally: Tally,
}

impl Reporter {
    pub(super) fn new(json: bool) -> Self {
        Self { json, tally: Tally::default() }
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) -> Result<()> {
        if outcome.pass {
            self.tally.passed += 1;
        } else {
            self.tally.failed += 1;
        }
        self.say(&outcome.human())?;
        if self.json {
            let line = serde_json::to_string(outcome).context("cannot write JSON")?;
            writeln!(stdout(), "{line}").context("cannot write to stdout")?;
        }
        Ok(())
    }

    pub(super) fn close(self) -> Result<Tally> {
        self.say(&self.tally.to_string())?;
        Ok(self.tally)
    }

    /// An error rather than a panic when the reader has gone: the stage is still to be torn down.
    fn say(&self, text: &str) -> Result<()> {
        let written = if self.json { writeln!(stderr(), "{text}") } else { writeln!(stdout(), "{text}") };
        written.context("cannot write the report")
    }
}

pub(super) fn list(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let topologies: Vec<_> = scenario.topologies.iter().map(ToString::to_string).collect();
        let cause = scenario.cause.as_deref().unwrap_or("nothing fails");
        println!("{} ({}; {cause})\n    {}", scenario.name, topologies.join(", "), scenario.description);
    }
}
