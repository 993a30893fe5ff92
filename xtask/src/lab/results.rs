//! Runs kept as JSON, and what changed from one to another.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::clock;
use super::outcome::Outcome;
use crate::paths;

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Run {
    time: String,
    outcomes: Vec<Outcome>,
}

/// A file of its own for each run, and a copy that is always called `latest.json`.
pub(super) fn keep(outcomes: Vec<Outcome>) -> Result<PathBuf> {
    let run = Run { time: clock::format(clock::now()), outcomes };
    let folder = paths::lab_runs().join("results");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let text = serde_json::to_string(&run).context("cannot write JSON")?;
    let path = folder.join(format!("{}.json", run.time.replace(':', "-")));
    for path in [&path, &folder.join("latest.json")] {
        fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(path)
}

pub(super) fn read(path: &Path) -> Result<Run> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("not the results of a run: {}", path.display()))
}

/// A line for each count and median that differs.
pub(super) fn compare(before: &Run, after: &Run) -> String {
    let (old, new) = (by_trial(before), by_trial(after));
    let mut text = format!("{} -> {}\n", before.time, after.time);
    for (name, outcome) in &new {
        match old.get(name) {
            None => {
                let _ = writeln!(text, "{name}: new");
            }
            Some(earlier) => text.push_str(&changes(name, earlier, outcome)),
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let _ = writeln!(text, "{name}: not in the second run");
    }
    let passed = |run: &Run| run.outcomes.iter().filter(|outcome| outcome.pass).count();
    let _ = write!(
        text,
        "passed: {} of {} -> {} of {}",
        passed(before),
        before.outcomes.len(),
        passed(after),
        after.outcomes.len()
    );
    text
}

fn by_trial(run: &Run) -> BTreeMap<String, &Outcome> {
    run.outcomes.iter().map(|outcome| (outcome.trial(), outcome)).collect()
}

fn changes(name: &str, old: &Outcome, new: &Outcome) -> String {
    let mut text = String::new();
    let mut change = |what: &str, old: String, new: String| {
        if old != new {
            let _ = writeln!(text, "{name}: {what} {old} -> {new}");
        }
    };
    change("pass", old.pass.to_string(), new.pass.to_string());
    let pairs = old.counts.named().into_iter().zip(new.counts.named());
    for ((what, old), (_, new)) in pairs {
        change(what, old.to_string(), new.to_string());
    }
    if let Some((old, new)) = old.sides.as_ref().zip(new.sides.as_ref()) {
        for ((what, old), (_, new)) in old.proxy.named().into_iter().zip(new.proxy.named()) {
            change(&format!("on the proxy's side {what}"), old.to_string(), new.to_string());
        }
    }
    change("median delay in ms", old.median_delay(), new.median_delay());
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(scenario: &str, right: usize) -> Run {
        let outcome = json!({
            "scenario": scenario, "proxy": "nginx", "topology": "local", "requests": 3, "status": {"502": 3},
            "failed": 3, "right": right, "accepted": 0, "unknown": 3 - right, "wrong": 0, "missing": 0, "surplus": 0,
            "because": null, "misread": 0, "overflows": null, "warnings": {}, "ahead": null,
            "delays": [1000, 2000, 3000], "sides": null, "pass": right == 3, "problems": [], "seconds": 1.5
        });
        let outcome = serde_json::from_value(outcome).expect("the form that is kept");
        Run { time: "2026-01-02T03:04:05Z".to_owned(), outcomes: vec![outcome] }
    }

    #[test]
    fn only_what_differs_is_said() {
        let text = compare(&run("a", 3), &run("a", 2));
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "a nginx local: pass true -> false",
                "a nginx local: right 3 -> 2",
                "a nginx local: unknown 0 -> 1",
                "passed: 1 of 1 -> 0 of 1"
            ]
        );
    }

    #[test]
    fn trials_come_and_go() {
        let text = compare(&run("a", 3), &run("b", 3));
        assert!(text.contains("b nginx local: new\na nginx local: not in the second run\n"), "{text}");
    }
}
