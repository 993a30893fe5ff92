//! Nanoseconds an event and program, by the kernel's own statistics, beside an empty program on the same hook.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::executables::Bench;
use super::ground::{Ground, Traffic};
use super::{say, wrk};

const SECONDS: u32 = 5;

#[derive(Deserialize)]
struct Measured {
    programs: Vec<Program>,
}

#[derive(Deserialize)]
struct Program {
    name: String,
    runs: u32,
    /// Nanoseconds a run.
    ns: f64,
    /// The same of the empty program; none where there can be none (iterators).
    empty_ns: Option<f64>,
}

pub(super) fn measure() -> Result<Value> {
    say("\nkernel programs, by the kernel's own statistics (run_time_ns), beside an empty program on the same hook")?;
    let mut all = Map::new();
    // As it is while nothing goes wrong, and while something does.
    for (traffic, closely) in
        [(Traffic::Short, false), (Traffic::Keepalive, false), (Traffic::Short, true), (Traffic::Keepalive, true)]
    {
        let ground = Ground::stage(traffic)?;
        wrk::run(&ground, 1)?;
        let wrk = wrk::arguments(&ground, SECONDS);
        let mut arguments = if closely { vec!["--close-look"] } else { Vec::new() };
        arguments.extend(["ip", "netns", "exec", ground.netns().name(), "wrk"]);
        arguments.extend(wrk.iter().map(String::as_str));
        let (text, last) = Bench::Programs.run(&arguments)?;
        let requests = wrk::parse(&text)?.requests;
        let measured = Measured::deserialize(&last).context("the benchmark said something else")?;
        let name = if closely { format!("{}_close_look", traffic.name()) } else { traffic.name().to_owned() };
        let reported = report(traffic, &name, requests, &measured.programs)?;
        all.insert(name, reported);
    }
    Ok(Value::Object(all))
}

fn report(traffic: Traffic, name: &str, requests: u32, programs: &[Program]) -> Result<Value> {
    say(&format!(
        "{name:<20} {:<24} {:>16} {:>9} {:>9} {:>12}",
        "program", "runs a request", "ns a run", "empty", "ns a request"
    ))?;
    let mut rows = Vec::new();
    for program in programs {
        let runs = f64::from(program.runs) / f64::from(requests);
        let empty = program.empty_ns.map_or("-".to_owned(), |ns| format!("{ns:.0}"));
        say(&format!(
            "{:<20} {:<24} {runs:>16.2} {:>9.0} {empty:>9} {:>12.0}",
            "",
            program.name,
            program.ns,
            program.ns * runs
        ))?;
        rows.push(
            json!({ "name": program.name, "runs_per_request": runs, "ns": program.ns, "empty_ns": program.empty_ns }),
        );
    }
    let Sums { own, empty, sampling } = sums(requests, programs);
    let connections = if traffic == Traffic::Short { ", which is two connections" } else { "" };
    say(&format!(
        "{:<20} all but iterators: {own:.0} ns a request{connections}; empty programs {empty:.0} ns: x{:.2}",
        "",
        own / empty
    ))?;
    Ok(json!({
        "requests": requests,
        "programs": rows,
        "ns_per_request": own,
        "empty_ns_per_request": empty,
        "ratio": own / empty,
        "iterator_ns_per_request": sampling,
    }))
}

/// Nanoseconds a request.
#[derive(Debug, PartialEq)]
struct Sums {
    own: f64,
    empty: f64,
    /// Of the iterators, which do not run for connections but by the clock.
    sampling: f64,
}

fn sums(requests: u32, programs: &[Program]) -> Sums {
    let mut sums = Sums { own: 0.0, empty: 0.0, sampling: 0.0 };
    for program in programs {
        let runs = f64::from(program.runs) / f64::from(requests);
        match program.empty_ns {
            Some(empty) => {
                sums.own += runs * program.ns;
                sums.empty += runs * empty;
            }
            // A second program on a hook.
            None if program.name.starts_with("again_") => sums.own += runs * program.ns,
            None => sums.sampling += runs * program.ns,
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_by_the_clock_is_not_a_connections() {
        let program = |name: &str, runs, ns, empty_ns| Program { name: name.to_owned(), runs, ns, empty_ns };
        let programs = [
            program("a", 20, 100.0, Some(25.0)),
            program("b", 10, 30.0, Some(20.0)),
            program("walk", 5, 1000.0, None),
            program("again_a", 20, 20.0, None),
        ];
        assert_eq!(sums(10, &programs), Sums { own: 270.0, empty: 70.0, sampling: 500.0 });
    }
}
