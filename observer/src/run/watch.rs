//! `observer watch`: verdicts as lines.

use std::{
    future::Future,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};

use super::output::Output;
use crate::{
    cli::{FromTrace, Watch},
    diagnose::Said,
    pipeline::{Pipeline, Wanted, Window},
    sink::{self, Sink},
    snapshot::{Frame, Recording},
    source::Replay,
};

/// Prints until the time is up, a signal comes, or nobody reads any more.
pub(super) fn watch(arguments: &Watch) -> Result<ExitCode> {
    let Watch { format, duration, verbose, .. } = arguments;
    if *verbose {
        log::set_logger(&StandardError).map(|()| log::set_max_level(log::LevelFilter::Trace)).ok();
    }
    super::runtime()?.block_on(async {
        // Installed first, so that a signal during start-up ends observer as well.
        let end = end_of(*duration)?;
        tokio::pin!(end);
        let mut pipeline = start(arguments)?;
        let mut recording = pipeline.recording.clone();
        let mut broke_off = false;
        let Frame { since, wall, watching, hooks } = pipeline.frame.clone();
        let sink = sink::of(*format, wall);
        let out = Output::start()?;
        let mut open = out.line(sink.ready(since, &watching, &hooks)).await;
        while open {
            let said = tokio::select! {
                said = pipeline.said.recv() => said,
                () = &mut end => break,
                // Said at once; the lines go on.
                Ok(state) = recording.wait_for(|state| matches!(state, Recording::Failed(_))), if !broke_off => {
                    broke_off = true;
                    super::record::tell(&state);
                    continue;
                }
            };
            let Some(said) = said else { break };
            let lines = lines(&*sink, &said);
            tokio::select! {
                taken = out.line(lines.clone()) => open = taken,
                () = &mut end => {
                    open = out.last_line(lines).await;
                    break;
                }
            }
        }
        // What was in flight when the end came is still said.
        pipeline.stop();
        while open && let Some(said) = pipeline.said.recv().await {
            open = out.last_line(lines(&*sink, &said)).await;
        }
        let summary = pipeline.sum_up()?;
        if open {
            out.last_line(sink.summary(&summary)).await;
        }
        if !broke_off {
            broke_off = super::record::tell(&pipeline.recording.borrow()) != ExitCode::SUCCESS;
        }
        pipeline.finish()?;
        out.finish().await?;
        if let Some(trouble) = summary.trouble {
            eprintln!("observer: {trouble}");
        }
        Ok(if broke_off { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// As many lines as there are things said, of which there is one at least.
fn lines(sink: &dyn Sink, said: &[Said]) -> String {
    said.iter().map(|said| sink.said(said)).collect::<Vec<_>>().join("\n")
}

/// On this host, or on a recording.
fn start(arguments: &Watch) -> Result<Pipeline> {
    let Watch { format: _, duration: _, record, recording, filters, verbose, trace } = arguments;
    let FromTrace { from_trace, from, to, speed } = trace;
    if from_trace.is_empty() {
        let (options, watching) = filters.options(*verbose).map_err(|error| anyhow!(error))?;
        let logs = filters.logs(&options);
        let record = recording.beside(record.as_deref()).map_err(|error| anyhow!(error))?;
        return Pipeline::live(options, logs, watching, Wanted::Said(Window::ALL), record);
    }
    let mut replay = Replay::open(from_trace, *speed)?;
    let from = from.map_or(Window::ALL.from, |from| replay.time_of(from));
    let to = to.map_or(Window::ALL.to, |to| replay.time_of(to));
    replay.run_to(from);
    Pipeline::replay(replay, Wanted::Said(Window { from, to }))
}

/// Completes when the time is up or a signal asks to end.
pub(super) fn end_of(duration: Option<Duration>) -> Result<impl Future<Output = ()>> {
    let on = |kind| signal(kind).context("installing a signal handler");
    let (mut interrupt, mut terminate, mut hangup) =
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?);
    Ok(async move {
        let time_is_up = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            () = time_is_up => {}
        }
    })
}

/// The kernel programs' messages, one a line.
struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = writeln!(io::stderr(), "kernel program: {}", record.args());
    }

    fn flush(&self) {}
}
