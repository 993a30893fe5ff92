//! What a trial came to, held against what the scenario expects.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::access_log::AccessLog;
use super::judge::{Counts, Judgement, Remark};
use super::proxy::Kind;
use super::scenario::{Expect, Scenario, Topology};
use super::sides::Sides;
use super::timeline::Clients;
use super::watch::Warning;

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Outcome {
    pub(super) scenario: String,
    pub(super) proxy: Kind,
    pub(super) topology: Topology,
    pub(super) requests: usize,
    pub(super) status: BTreeMap<String, usize>,
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Of the right ones, those that name what was expected under the cause. None: nothing was.
    pub(super) because: Option<usize>,
    pub(super) misread: usize,
    /// Of the failed requests, those of which the proxy's log was rightly read. None: it was not followed.
    #[serde(default)]
    pub(super) logged: Option<usize>,
    pub(super) overflows: Option<Overflows>,
    pub(super) warnings: BTreeMap<String, usize>,
    /// Seconds from the expected warning to the first failure.
    pub(super) ahead: Option<f64>,
    /// Microseconds from the end of each failed request to the arrival of its verdict, sorted.
    pub(super) delays: Vec<u64>,
    /// None in the local topology, which has no sides.
    pub(super) sides: Option<Sides>,
    pub(super) pass: bool,
    /// Why it did not pass.
    pub(super) problems: Vec<String>,
    #[serde(skip)]
    pub(super) remarks: BTreeMap<String, Remark>,
    #[serde(rename = "seconds", with = "seconds")]
    pub(super) elapsed: Duration,
}

/// To a tenth.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((elapsed.as_secs_f64() * 10.0).round() / 10.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        f64::deserialize(deserializer).map(Duration::from_secs_f64)
    }
}

/// `ListenOverflows` of the upstream's namespace, and observer's count of the same.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Overflows {
    pub(super) kernel: u64,
    /// The kernel's once observer had ended: what the proxy gave up on may still be knocking.
    pub(super) later: u64,
    pub(super) observer: u64,
}

/// What disagrees, so that a trial elsewhere (in a virtual machine) says more than how much does.
fn first_of_each(remarks: &BTreeMap<String, Remark>) -> impl Iterator<Item = String> {
    remarks.iter().map(|(kind, Remark { count, first })| format!("{kind}, {count} times: {first}"))
}

/// That observer missed something, which may be why.
fn let_go(lost: &BTreeMap<String, u64>) -> Option<String> {
    let lost: Vec<_> =
        lost.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| format!("{kind} {count}")).collect();
    (!lost.is_empty()).then(|| format!("observer lost: {}", lost.join(", ")))
}

/// The two accounts of a trial and how they compare.
pub(super) struct Seen {
    /// By how much the counters rose that the scenario expects to.
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) log: AccessLog,
    pub(super) clients: Clients,
    pub(super) judgement: Judgement,
    pub(super) overflows: Overflows,
    pub(super) warnings: Vec<Warning>,
    pub(super) sides: Option<Sides>,
    /// In what recordings say otherwise than was said live.
    pub(super) replayed: Vec<String>,
    /// The proxy's log was followed.
    pub(super) follows_log: bool,
    /// What observer had to let go, by kind.
    pub(super) lost: BTreeMap<String, u64>,
}

impl Outcome {
    pub(super) fn new(scenario: &Scenario, proxy: Kind, topology: Topology, seen: Seen) -> Result<Self> {
        let Seen { counters, log, clients, judgement, overflows, warnings, sides, replayed, follows_log, lost } = seen;
        let expect = &scenario.expect;
        let mut outcome = Self::empty(scenario, proxy, topology);
        outcome.ahead = ahead(expect, &log, &warnings)?;
        for warning in warnings {
            *outcome.warnings.entry(warning.cause).or_default() += 1;
        }
        let Judgement { counts, because, misread, logged, mut delays, remarks } = judgement;
        delays.sort_unstable();
        outcome.requests = log.lines.len();
        outcome.status = log.by_status();
        outcome.counts = counts;
        outcome.because = (!expect.because.is_empty()).then_some(because);
        outcome.misread = misread;
        outcome.logged = follows_log.then_some(logged);
        outcome.delays = delays;
        outcome.overflows = expect.count_overflows.then_some(overflows);
        outcome.remarks = remarks;
        outcome.problems = staging(expect, proxy, &log, &clients, &counters);
        outcome.problems.extend(outcome.measure(expect));
        outcome.problems.extend(sides.iter().flat_map(|sides| sides.problems(expect)));
        outcome.problems.extend(replayed);
        outcome.sides = sides;
        if !outcome.problems.is_empty() {
            outcome.problems.extend(first_of_each(&outcome.remarks));
            outcome.problems.extend(let_go(&lost));
        }
        outcome.pass = outcome.problems.is_empty();
        Ok(outcome)
    }

    /// A trial that did not come to a comparison.
    pub(super) fn broken(scenario: &Scenario, proxy: Kind, topology: Topology, error: &anyhow::Error) -> Self {
        Self { problems: vec![format!("{error:#}")], ..Self::empty(scenario, proxy, topology) }
    }

    fn empty(scenario: &Scenario, proxy: Kind, topology: Topology) -> Self {
        Self {
            scenario: scenario.name.clone(),
            proxy,
            topology,
            requests: 0,
            status: BTreeMap::new(),
            counts: Counts::default(),
            because: None,
            misread: 0,
            logged: None,
            overflows: None,
            warnings: BTreeMap::new(),
            ahead: None,
            delays: Vec::new(),
            sides: None,
            pass: false,
            problems: Vec::new(),
            remarks: BTreeMap::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// Its name.
    pub(super) fn trial(&self) -> String {
        format!("{} {} {}", self.scenario, self.proxy, self.topology)
    }

    /// In milliseconds; empty when nothing failed.
    pub(super) fn median_delay(&self) -> String {
        percentile(&self.delays, 50).unwrap_or_default()
    }

    /// The bar: every failure explained, each rightly, and nothing else said.
    fn measure(&self, expect: &Expect) -> Vec<String> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let Counts { failed, right, accepted, surplus, .. } = self.counts;
        require(right + accepted == failed, format!("{right} of {failed} attributed right"));
        require(surplus == 0, format!("{surplus} verdicts without a failed request"));
        require(self.misread == 0, format!("{} verdicts with another status than the log has", self.misread));
        if let Some(because) = self.because {
            let codes = expect.because.join(" or ");
            require(share(because, failed) >= expect.because_share, format!("{because} of {failed} because {codes}"));
        }
        if let Some(logged) = self.logged {
            require(logged == failed, format!("of {failed} failed requests {logged} were found in the proxy's log"));
        }
        if let Some(Overflows { kernel, later, observer }) = self.overflows {
            require(kernel > 0, "staging: no accept queue overflowed".to_owned());
            // observer looks at the queue just before the kernel does; an accept() in that instant makes the two differ.
            let instant = 1 + kernel / 1000;
            require(
                (kernel.saturating_sub(instant)..=later + instant).contains(&observer),
                format!("the kernel counted {kernel} to {later} overflows, observer {observer}"),
            );
        }
        if let Some(warning) = &expect.warning {
            require(self.warnings.contains_key(&warning.cause), format!("no warning {}", warning.cause));
            if let Some(least) = warning.ahead {
                let ahead = self.ahead.unwrap_or(f64::NEG_INFINITY);
                require(ahead >= least, format!("the warning came {ahead:.1} s before the first failure, not {least}"));
            }
        }
        for code in &expect.forbid_warnings {
            require(!self.warnings.contains_key(code), format!("a warning {code}"));
        }
        problems
    }
}

/// Whether what was meant to happen did.
fn staging(
    expect: &Expect,
    proxy: Kind,
    log: &AccessLog,
    clients: &Clients,
    counters: &BTreeMap<String, u64>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut require = |holds: bool, problem: String| {
        if !holds {
            problems.push(format!("staging: {problem}"));
        }
    };
    let (failed, status) = (log.failed(), log.by_status());
    require(clients.status == status, format!("clients saw {:?}, the proxy logged {status:?}", clients.status));
    match expect.cause {
        Some(_) => require(
            failed.len() >= expect.min_failed,
            format!("{} failed, at least {} were meant to", failed.len(), expect.min_failed),
        ),
        None => require(failed.is_empty(), format!("{} failed, none was meant to", failed.len())),
    }
    let least = expect.min_status.iter().map(|(status, least)| (status.as_str(), *least));
    for (code, least) in least.chain([("200", expect.min_served)]) {
        let count = status.get(code).copied().unwrap_or_default();
        require(count >= least, format!("{count} ended with {code}, at least {least} were meant to"));
    }
    for (name, least) in &expect.min_counters {
        let count = counters.get(name).copied().unwrap_or_default();
        require(count >= *least, format!("the kernel's {name} rose by {count}, at least {least} were meant to"));
    }
    let other = failed.iter().find(|line| {
        proxy == Kind::Nginx && !expect.fails_with.is_empty() && !expect.fails_with.contains(&line.status)
    });
    if let Some(line) = other {
        require(false, format!("failures were meant to be {}, not {}", expect.fails_with.join(" or "), line.status));
    }
    problems
}

/// Seconds from the first warning of the expected kind to the first failure.
fn ahead(expect: &Expect, log: &AccessLog, warnings: &[Warning]) -> Result<Option<f64>> {
    let Some(expected) = expect.warning.as_ref().filter(|warning| warning.ahead.is_some()) else {
        return Ok(None);
    };
    let times = warnings.iter().filter(|warning| warning.cause == expected.cause).map(Warning::time);
    let warned = times.collect::<Result<Vec<_>>>()?.into_iter().min();
    let failed = log.failed().iter().map(|line| line.end).min();
    let seconds = |(warned, failed): (u64, u64)| {
        let distance = Duration::from_micros(warned.abs_diff(failed)).as_secs_f64();
        if warned <= failed { distance } else { -distance }
    };
    Ok(warned.zip(failed).map(seconds))
}

/// In milliseconds.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> Option<String> {
    let micros = sorted.get(sorted.len().saturating_sub(1) * percent / 100)?;
    Some(format!("{:.1}", Duration::from_micros(*micros).as_secs_f64() * 1000.0))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a trial are small")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}
