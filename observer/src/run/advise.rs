//! `observer advise`: what to change, from what a host or a recording shows.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, anyhow};

use super::watch::end_of;
use crate::{
    cli::Advise,
    pipeline::{Pipeline, Wanted},
    sink::{Format, advice},
    snapshot::{Folded, Frame, Snapshot},
    source,
    trace::Reader,
};

/// Looks, and then says what to do. Changes nothing.
pub(super) fn advise(arguments: &Advise) -> Result<ExitCode> {
    let (shown, whole) = match &arguments.files[..] {
        [] => (live(arguments)?, ExitCode::SUCCESS),
        files => recorded(files)?,
    };
    super::print(&match arguments.format {
        Format::Text => advice::to_text(&shown),
        Format::Json => format!("{}\n", advice::to_json(&shown)),
    })?;
    Ok(whole)
}

fn live(arguments: &Advise) -> Result<Arc<Snapshot>> {
    let Advise { files: _, watch, filters, format: _ } = arguments;
    let (options, watching) = filters.options(false).map_err(|error| anyhow!(error))?;
    let logs = filters.logs(&options);
    super::runtime()?.block_on(async {
        let end = end_of(Some(*watch))?;
        tokio::pin!(end);
        let mut pipeline = Pipeline::live(options, logs, watching, Wanted::Snapshots, None)?;
        eprintln!("observer: watching {} for {}", pipeline.frame.watching, humantime::format_duration(*watch));
        end.await;
        pipeline.sum_up()?;
        let shown = pipeline.snapshots.borrow().clone();
        pipeline.finish()?;
        Ok(shown)
    })
}

fn recorded(files: &[PathBuf]) -> Result<(Arc<Snapshot>, ExitCode)> {
    let mut reader = Reader::open(files).context("reading the recording")?;
    let mut folded = match source::state_at_begin(&mut reader) {
        Ok(engine) => Folded::upon(engine),
        Err(why) => {
            eprintln!("observer: {why}");
            Folded::default()
        }
    };
    let mut batch = Vec::new();
    let left_out = loop {
        match reader.next_batch(&mut batch) {
            Ok(Some(_)) => batch.drain(..).for_each(|event| folded.apply(&event, &mut |_| {})),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    folded.finish(&mut |_| {});
    let about = reader.about();
    let frame =
        Frame { since: about.since, wall: about.wall, watching: about.watching.clone(), hooks: about.hooks.clone() };
    Ok((Arc::new(Snapshot::take(&folded, &frame)), super::all_was_read(left_out)))
}
