//! `observer record`: into a trace file, and nothing on a screen.

use std::process::ExitCode;

use anyhow::{Result, anyhow};

use super::watch::end_of;
use crate::{
    cli::Record,
    pipeline::{Pipeline, Wanted},
    sink::Summary,
    snapshot::Recording,
};

/// Records until the time is up, a signal comes, or the recording breaks off.
pub(super) fn record(arguments: &Record) -> Result<ExitCode> {
    let Record { output, recording, duration, filters } = arguments;
    let (options, watching) = filters.options(false).map_err(|error| anyhow!(error))?;
    let logs = filters.logs(&options);
    super::runtime()?.block_on(async {
        // Installed first, so that a signal during start-up ends observer as well.
        let end = end_of(*duration)?;
        tokio::pin!(end);
        let mut pipeline = Pipeline::live(options, logs, watching, Wanted::Nothing, Some(recording.options(output)))?;
        if let Recording::On(recorded) = &*pipeline.recording.borrow() {
            eprintln!("observer: recording {} into {}", pipeline.frame.watching, recorded.path.display());
        }
        tokio::select! {
            () = &mut end => {}
            _ = pipeline.recording.wait_for(|recording| !matches!(recording, Recording::On(_))) => {}
        }
        let summary = pipeline.sum_up()?;
        let whole = tell(&pipeline.recording.borrow());
        eprintln!("observer: {}", losses(&summary));
        pipeline.finish()?;
        Ok(whole)
    })
}

/// Whether all that happened is in the recording.
pub(super) fn losses(summary: &Summary) -> String {
    match summary.lost() {
        None => "nothing was lost on the way into it".to_owned(),
        Some(lost) => {
            format!("LOST on the way into it: {lost}: what it says is a lower bound; a larger --ring-size helps")
        }
    }
}

/// Says how a recording ended; the status is 1 if it broke off.
pub(super) fn tell(recording: &Recording) -> ExitCode {
    match recording {
        Recording::Off | Recording::On(_) => ExitCode::SUCCESS,
        Recording::Done(recorded) => {
            let files = if recorded.segments > 1 { format!(" in {} files", recorded.segments) } else { String::new() };
            eprintln!(
                "observer: recorded {} events, {} bytes{files}, the last into {}",
                recorded.events,
                recorded.bytes,
                recorded.path.display()
            );
            ExitCode::SUCCESS
        }
        Recording::Failed(error) => {
            eprintln!("observer: {error}");
            ExitCode::FAILURE
        }
    }
}
