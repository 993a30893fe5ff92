//! `observer replay`: the view on a recording.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    cli::Replay as Arguments,
    pipeline::{Pipeline, Wanted},
    source::Replay,
    time::Time,
    trace::Reader,
    tui,
};

/// Shows it until the user quits.
pub(super) fn replay(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { files, speed, from, to } = arguments;
    let mut replay = Replay::open(files, *speed)?;
    super::needs_terminal("`observer watch --from-trace FILE`")?;
    let limit = to.map_or(Time(u64::MAX), |to| replay.time_of(to));
    let control = replay.controlled(Reader::open(files)?, limit).context("starting a thread")?;
    if let Some(from) = from {
        replay.run_to(replay.time_of(*from));
    }
    let pipeline = Pipeline::replay(replay, Wanted::Snapshots)?;
    let shown = super::runtime()?.block_on(tui::run(pipeline.snapshots.clone(), Some(control), pipeline.desk.clone()));
    pipeline.finish()?;
    shown.context("drawing on the terminal")?;
    Ok(ExitCode::SUCCESS)
}
