//! The commands.

mod advise;
mod audit;
mod compare;
mod doctor;
mod export;
mod output;
mod record;
mod replay;
mod report;
mod trace;
mod watch;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    cli::{Cli, Command, Live, Trace},
    diagnose::{self, because, registry},
    pipeline::{Pipeline, Wanted},
    trace::ReadError,
    tui,
};

/// Does what the command line asks for.
pub fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command.unwrap_or_else(|| Command::Live(Live::default())) {
        Command::Live(options) => live(&options),
        Command::Watch(options) => watch::watch(&options),
        Command::Record(options) => record::record(&options),
        Command::Replay(options) => replay::replay(&options),
        Command::Report(options) => report::report(&options),
        Command::Export(options) => export::export(&options),
        Command::Trace(Trace::Info(options)) => trace::info(&options),
        Command::Trace(Trace::Anonymize(options)) => trace::anonymize(&options),
        Command::Trace(Trace::Merge(options)) => trace::merge(&options),
        Command::Doctor(options) => doctor::doctor(&options),
        Command::Audit(options) => audit::audit(&options),
        Command::Advise(options) => advise::advise(&options),
        Command::Compare(options) => compare::compare(&options),
        Command::Explain { cause } => explain(cause.as_deref()),
    }
}

/// A runtime on the calling thread: signals, timers and channels are all that is asked of it.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")
}

/// An error if there is none, which says what does without.
fn needs_terminal(instead: &str) -> Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("the live view needs a terminal; {instead} prints the same as lines");
    }
    Ok(())
}

fn live(arguments: &Live) -> Result<ExitCode> {
    let Live { filters, record, recording } = arguments;
    needs_terminal("`observer watch`")?;
    let (options, watching) = filters.options(false).map_err(|error| anyhow!(error))?;
    let logs = filters.logs(&options);
    let record = recording.beside(record.as_deref()).map_err(|error| anyhow!(error))?;
    let mut pipeline = Pipeline::live(options, logs, watching, Wanted::Snapshots, record)?;
    let shown = runtime()?.block_on(tui::run(pipeline.snapshots.clone(), None, pipeline.desk.clone()));
    pipeline.sum_up()?;
    let whole = record::tell(&pipeline.recording.borrow());
    pipeline.finish()?;
    shown.context("drawing on the terminal")?;
    Ok(whole)
}

fn explain(code: Option<&str>) -> Result<ExitCode> {
    let text = match code {
        None => listed(),
        Some(code) => match diagnose::page(code) {
            Some(page) => page.to_owned(),
            None => match diagnose::logged::explain(code) {
                Some(text) => text,
                None => bail!(
                    "no cause is called {code:?}, nor is it a line of nginx's error log or HAProxy's log that is known; `observer explain` lists the causes"
                ),
            },
        },
    };
    print(&text)
}

/// The codes of both kinds, each kind under a line that says what it is; that line begins like a comment.
fn listed() -> String {
    let causes = registry::CAUSES.iter().map(|rule| rule.code);
    let becauses = because::BECAUSES.iter().map(|because| because.code);
    let kinds: [Vec<&str>; 2] = [
        [&["# causes: why tries fail"][..], &causes.collect::<Vec<_>>()].concat(),
        [&["# what may lie under them (because)"][..], &becauses.collect::<Vec<_>>()].concat(),
    ];
    kinds.concat().into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// Says what of a recording could not be read; the status is 1 then.
fn all_was_read(left_out: Option<ReadError>) -> ExitCode {
    match left_out {
        Some(error) => {
            eprintln!("observer: {error}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Writes to standard output; a reader that has gone (`| head`) is no error.
fn print(text: &str) -> Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        _ => Ok(ExitCode::SUCCESS),
    }
}
