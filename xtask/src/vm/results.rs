//! What a machine reported: the tests' own lines (libtest's), the lab's (JSON), then how they ended.

use std::fmt::{self, Write as _};

use serde::Deserialize;

/// The last line that the guest writes, with the tests' exit status.
pub(super) const EXIT: &str = "VM-EXIT ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Ignored,
    /// Begun and not ended: the machine died in it, or was ended.
    Unfinished,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Ignored => "SKIPPED: it is marked #[ignore]",
            Self::Unfinished => "DID NOT END",
        })
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) tests: Vec<(String, Outcome)>,
    /// None when the machine did not come so far.
    pub(super) exit: Option<i32>,
    /// What the failed tests printed, and why trials did not pass.
    pub(super) failures: String,
}

/// A trial of the lab (`lab::outcome`), as far as it matters here.
#[derive(Deserialize)]
struct Trial {
    scenario: String,
    topology: String,
    pass: bool,
    problems: Vec<String>,
}

pub(super) fn parse(text: &str) -> Report {
    let mut report = Report::default();
    let mut in_failures = false;
    for line in text.lines().map(str::trim_end) {
        if let Ok(Trial { scenario, topology, pass, problems }) = serde_json::from_str(line) {
            let name = format!("lab {scenario} {topology}");
            for problem in problems {
                let _ = writeln!(report.failures, "{name}: {problem}");
            }
            report.tests.push((name, if pass { Outcome::Passed } else { Outcome::Failed }));
        } else if let Some(status) = line.strip_prefix(EXIT) {
            report.exit = status.trim().parse().ok();
        } else if let Some(test) = line.strip_prefix("test ").and_then(test) {
            report.tests.push(test);
        } else if line == "failures:" {
            // A second such line begins the mere list of names.
            in_failures = !in_failures && report.failures.is_empty();
        } else if in_failures {
            report.failures += line;
            report.failures.push('\n');
        }
    }
    report
}

/// `NAME ... ok`, after `test `. A name without a result is the last line of a machine that died.
fn test(line: &str) -> Option<(String, Outcome)> {
    let (name, result) = line.split_once(" ...")?;
    let outcome = match result.trim() {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        ignored if ignored.starts_with("ignored") => Outcome::Ignored,
        _ => Outcome::Unfinished,
    };
    Some((name.to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_failures_and_the_exit_status_are_read() {
        let text = "running 3 tests\r\ntest a ... ok\r\ntest b::c ... FAILED\r\ntest d ... ignored, slow\r\n\r\n\
                    failures:\r\n\r\n---- b::c stdout ----\r\npanicked\r\n\r\nfailures:\r\n    b::c\r\n\r\n\
                    test result: FAILED. 1 passed; 1 failed\r\nVM-EXIT 101\r\n";
        let report = parse(text);
        let expected = [("a", Outcome::Passed), ("b::c", Outcome::Failed), ("d", Outcome::Ignored)];
        assert_eq!(report.tests, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
        assert_eq!(report.exit, Some(101));
        assert!(report.failures.contains("panicked") && !report.failures.contains("    b::c"));
    }

    #[test]
    fn trials_are_read_from_the_labs_lines() {
        let text = "{\"scenario\":\"a\",\"proxy\":\"nginx\",\"topology\":\"local\",\"pass\":true,\"problems\":[]}\n\
                    {\"scenario\":\"b\",\"proxy\":\"nginx\",\"topology\":\"remote\",\"pass\":false,\"problems\":[\"why\"]}\n\
                    VM-EXIT 1\n";
        let report = parse(text);
        let expected = [("lab a local", Outcome::Passed), ("lab b remote", Outcome::Failed)];
        assert_eq!(report.tests, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
        assert_eq!((report.exit, report.failures.as_str()), (Some(1), "lab b remote: why\n"));
    }

    #[test]
    fn a_machine_that_died_left_a_test_unfinished_and_no_status() {
        let report = parse("test a ... ok\ntest b ... ");
        assert_eq!(report.tests[1], ("b".to_owned(), Outcome::Unfinished));
        assert_eq!(report.exit, None);
    }
}
