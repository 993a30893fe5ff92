//! `cargo xtask bench`: what observing costs, and how fast observer is. All traffic is in network namespaces of its own.

mod beside;
mod cost;
mod executables;
mod figures;
mod ground;
mod load;
mod logs;
mod pipeline;
mod programs;
mod start;
mod throughput;
mod wrk;

use std::io::{Write, stdout};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::{build, interrupt, lab, privilege, setup, shell};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Runs with observer, each beside one without, for each kind of traffic
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Of throughput, only with this traffic [default: each]
    #[arg(long, value_enum)]
    traffic: Option<ground::Traffic>,
    /// One JSON object as the last line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// nginx at full speed with and without observer and other tools
    Throughput,
    /// Each kernel program beside an empty one on its hook
    Programs,
    /// Processor time and memory of observer by connections a second
    Load,
    /// Processor time of observer while a log grows
    Logs,
    /// Recording and replaying events
    Pipeline,
    /// From start to ready
    Start,
}

impl Part {
    const ALL: [Self; 6] = [Self::Throughput, Self::Programs, Self::Load, Self::Logs, Self::Pipeline, Self::Start];

    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Programs => "programs",
            Self::Load => "load",
            Self::Logs => "logs",
            Self::Pipeline => "pipeline",
            Self::Start => "start",
        }
    }

    fn measure(self, args: &Args) -> Result<Value> {
        match self {
            Self::Throughput => throughput::measure(args.traffic, args.pairs),
            Self::Programs => programs::measure(),
            Self::Load => load::measure(),
            Self::Logs => logs::measure(),
            Self::Pipeline => pipeline::measure(),
            Self::Start => start::measure(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let parts: Vec<_> =
        Part::ALL.into_iter().filter(|part| args.parts.is_empty() || args.parts.contains(part)).collect();
    if !privilege::is_prepared() {
        prepare(&parts)?;
    }
    if !privilege::is_root() {
        return shell::run(&mut privilege::ourselves(std::env::args_os().skip(1))?);
    }
    interrupt::listen()?;
    lab::sweep()?;
    let mut all = Map::new();
    for part in parts {
        let measured = part.measure(args).with_context(|| format!("measuring {}", part.name()))?;
        all.insert(part.name().to_owned(), measured);
    }
    if args.json {
        writeln!(stdout(), "{}", Value::Object(all)).context("cannot write to stdout")?;
    }
    Ok(())
}

/// The programs needed and what cargo builds.
fn prepare(parts: &[Part]) -> Result<()> {
    setup::lab()?;
    build::run()?;
    if parts.contains(&Part::Throughput) {
        setup::others(&beside::packages());
    }
    if parts.contains(&Part::Programs) || parts.contains(&Part::Pipeline) {
        executables::build()?;
    }
    Ok(())
}

/// A line of a table.
fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context("cannot write to stdout")
}
