//! nginx at full speed with and without something beside it, in turn. Machines are noisy, often more than what is
//! measured: each run counts against those without just before and just after it, and so does the processor time a request.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::beside::{CLOSELY, OBSERVER, TOOLS, Way};
use super::cost::{self, Share};
use super::figures::Spread;
use super::ground::{Ground, Traffic};
use super::{say, wrk};
use crate::interrupt;

/// Of a run. What runs beside it has been started and has settled; nothing ends meanwhile, for at its end wrk gives up requests that
/// are under way, and that is trouble to be looked at closely.
const SECONDS: u32 = 3;
/// Before the first run: caches, TIME_WAIT sockets.
const WARM: u32 = 5;
/// With each of the others: what they cost shows in fewer.
const ROUNDS: u32 = 4;

/// What a run came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    per_second: f64,
    /// Processor time a request, of all that take part in it, microseconds.
    micros: f64,
    /// Share of a core that what ran beside it took itself.
    own: f64,
}

impl Run {
    /// What lies between two runs.
    fn between(self, other: Self) -> Self {
        Self {
            per_second: f64::midpoint(self.per_second, other.per_second),
            micros: f64::midpoint(self.micros, other.micros),
            own: f64::midpoint(self.own, other.own),
        }
    }
}

/// The runs of one way, each with what there was without it at the same time.
#[derive(Debug, Default)]
struct Pairs(Vec<(Run, Run)>);

pub(super) fn measure(only: Option<Traffic>, pairs: u32) -> Result<Value> {
    say(&format!(
        "\nnginx at full speed: requests a second with it over without, and processor time a request of nginx and wrk likewise\n\
         {:<10} {:<20} {:>5} {:>10} {:>19} {:>9} {:>19} {:>8}",
        "traffic", "with", "pairs", "throughput", "quartiles", "cpu", "quartiles", "its own"
    ))?;
    let mut all = Map::new();
    for traffic in Traffic::ALL.into_iter().filter(|traffic| only.is_none_or(|only| only == *traffic)) {
        let ground = Ground::stage(traffic)?;
        wrk::run(&ground, WARM)?;
        let (runs, refused) = attempt(&ground)?;
        let mut without = Vec::new();
        let mut ways = Map::new();
        let mut results = rounds(&ground, &[OBSERVER, CLOSELY], pairs)?;
        results.append(&mut rounds(&ground, &runs, ROUNDS)?);
        for (key, pairs) in &results {
            without.extend(pairs.0.iter().map(|(_, without)| *without));
            say(&row(traffic, key, pairs)?)?;
            ways.insert((*key).to_owned(), pairs.json());
        }
        for (key, why) in &refused {
            say(&format!("{:<10} {key:<20} does not run here: {why}", traffic.name()))?;
            ways.insert((*key).to_owned(), Value::Null);
        }
        ways.insert("not_run".to_owned(), json!(refused));
        ways.insert("without".to_owned(), alone(&without));
        all.insert(traffic.name().to_owned(), Value::Object(ways));
    }
    Ok(Value::Object(all))
}

/// Which of the others run here, and why the rest does not.
fn attempt(ground: &Ground) -> Result<(Vec<Way>, BTreeMap<&'static str, String>)> {
    let mut runs = Vec::new();
    let mut refused = BTreeMap::new();
    for tool in &TOOLS {
        match Way::Tool(tool).start(ground) {
            Ok(_) => runs.push(Way::Tool(tool)),
            Err(error) => {
                interrupt::check()?;
                refused.insert(tool.key, format!("{error:#}"));
            }
        }
    }
    Ok((runs, refused))
}

/// Each round has a run of each way, in an order that turns from round to round, and between any two one without. What drifts is the same
/// on both sides of a run, on average.
fn rounds(ground: &Ground, ways: &[Way], count: u32) -> Result<BTreeMap<&'static str, Pairs>> {
    let mut all: BTreeMap<&'static str, Pairs> = BTreeMap::new();
    let mut order = ways.to_vec();
    let mut before = run(ground, Way::Without)?;
    for _ in 0..count {
        for way in &order {
            let with = run(ground, *way).with_context(|| format!("with {}", way.key()))?;
            let after = run(ground, Way::Without)?;
            all.entry(way.key()).or_default().0.push((with, before.between(after)));
            before = after;
        }
        order.reverse();
    }
    Ok(all)
}

fn run(ground: &Ground, way: Way) -> Result<Run> {
    wrk::run(ground, 1)?;
    let running = way.start(ground)?;
    let share = running.pid().map(Share::begin).transpose()?;
    let (before, children) = (ground.run_time()?, cost::ended_children()?);
    let done = wrk::run(ground, SECONDS)?;
    let used = ground.run_time()?.saturating_sub(before) + cost::ended_children()?.saturating_sub(children);
    let own = share.map_or(Ok(0.0), |share| share.end())?;
    running.stop()?;
    Ok(Run { per_second: done.per_second, micros: used.as_secs_f64() * 1e6 / f64::from(done.requests), own })
}

impl Pairs {
    fn ratios(&self, of: impl Fn(&Run) -> f64) -> Option<Spread> {
        Spread::of(&self.0.iter().map(|(with, without)| of(with) / of(without)).collect::<Vec<_>>())
    }

    fn own(&self) -> Option<Spread> {
        Spread::of(&self.0.iter().map(|(with, _)| with.own).collect::<Vec<_>>())
    }

    fn json(&self) -> Value {
        let throughput = self.ratios(|run| run.per_second);
        let cpu = self.ratios(|run| run.micros);
        json!({
            "pairs": self.0.len(),
            "median_ratio": throughput.map(|spread| spread.median),
            "quartiles": throughput.map(|spread| spread.quartiles),
            "cpu_ratio": cpu.map(|spread| spread.median),
            "cpu_ratio_quartiles": cpu.map(|spread| spread.quartiles),
            "own_cores": self.own().map(|spread| spread.median),
        })
    }
}

fn alone(runs: &[Run]) -> Value {
    json!({
        "requests_per_second": Spread::of(&runs.iter().map(|run| run.per_second).collect::<Vec<_>>()),
        "cpu_micros_per_request": Spread::of(&runs.iter().map(|run| run.micros).collect::<Vec<_>>()),
    })
}

fn row(traffic: Traffic, key: &str, pairs: &Pairs) -> Result<String> {
    let shown = |spread: Spread| {
        let [low, high] = spread.quartiles;
        (format!("x{:.3}", spread.median), format!("{low:.3} to {high:.3}"))
    };
    let (throughput, throughput_apart) = shown(pairs.ratios(|run| run.per_second).context("no pairs")?);
    let (cpu, cpu_apart) = shown(pairs.ratios(|run| run.micros).context("no pairs")?);
    let own = pairs.own().context("no pairs")?.median * 100.0;
    Ok(format!(
        "{:<10} {key:<20} {:>5} {throughput:>10} {throughput_apart:>19} {cpu:>9} {cpu_apart:>19} {own:>6.1} %",
        traffic.name(),
        pairs.0.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(per_second: f64, micros: f64) -> Run {
        Run { per_second, micros, own: 0.1 }
    }

    #[test]
    fn each_run_counts_against_its_own_round() {
        // The machine is half as fast in the second round, which says nothing about what ran beside it.
        let pairs = Pairs(vec![(run(900.0, 11.0), run(1000.0, 10.0)), (run(450.0, 22.0), run(500.0, 20.0))]);
        let value = pairs.json();
        assert_eq!(value["median_ratio"], 0.9);
        assert_eq!(value["quartiles"], json!([0.9, 0.9]));
        assert_eq!(value["cpu_ratio"], 1.1);
        assert_eq!(value["pairs"], 2);
    }

    #[test]
    fn what_drifts_is_no_difference() {
        // The machine loses as much from each run to the next.
        let [before, with, after] = [run(1000.0, 10.0), run(900.0, 11.0), run(800.0, 12.0)];
        let value = Pairs(vec![(with, before.between(after))]).json();
        assert_eq!((&value["median_ratio"], &value["cpu_ratio"]), (&json!(1.0), &json!(1.0)));
    }

    #[test]
    fn no_pairs_are_null_and_not_a_ratio() {
        assert_eq!(Pairs::default().json()["median_ratio"], Value::Null);
    }
}
