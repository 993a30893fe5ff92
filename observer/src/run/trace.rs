//! `observer trace`: what is done with recordings.

use std::{fs, io::BufWriter, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};

use super::export::create;
use crate::{
    cli,
    rework::{self, Merged, merge::Offset},
    sink::Format,
    time::Human,
    trace::{Info, Reader},
};

/// Tells what a recording holds; the status is 1 if part of it could not be read.
pub(super) fn info(arguments: &cli::Info) -> Result<ExitCode> {
    let cli::Info { files, format } = arguments;
    let info = Info::of(files)?;
    super::print(&match format {
        Format::Text => info.to_string(),
        Format::Json => format!("{}\n", info.to_json()),
    })?;
    Ok(super::all_was_read(info.damage))
}

/// Writes the recording anew without names and addresses; the status is 1 if part of it could not be read.
pub(super) fn anonymize(arguments: &cli::Anonymize) -> Result<ExitCode> {
    let cli::Anonymize { files, output, force } = arguments;
    let reader = Reader::open(files)?;
    if reader.about().segment > 1 {
        tell_of_a_lost_beginning(&reader.segments()[0].path);
    }
    let out = BufWriter::new(create(output, *force, files)?);
    let left_out = rework::anonymize(reader, out).with_context(|| format!("writing {}", output.display()))?;
    Ok(super::all_was_read(left_out))
}

/// Joins two recordings and tells how; the status is 1 if part of either could not be read.
pub(super) fn merge(arguments: &cli::Merge) -> Result<ExitCode> {
    let cli::Merge { files, output, offset, force } = arguments;
    let created = create(output, *force, files)?;
    let merged = rework::merge(files, *offset, BufWriter::new(created)).inspect_err(|_| {
        // Nothing of use is in it.
        let _ = fs::remove_file(output);
    });
    let Merged { proxy, upstream, ahead, offset, left_out, begun_before } = merged?;
    for path in &begun_before {
        tell_of_a_lost_beginning(path);
    }
    let apart = Human(Duration::from_nanos(u64::try_from(ahead.unsigned_abs()).unwrap_or(u64::MAX)));
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let how = match offset {
        Some(Offset { uncertainty, connections, seen, .. }) => {
            format!("±{}, from {connections} of {seen} connections that both saw", Human(uncertainty))
        }
        None => "as given".to_owned(),
    };
    eprintln!(
        "observer: the proxy's side is {proxy}, the upstream's {upstream}, whose clock is {apart} {side} the other's ({how})"
    );
    Ok(left_out.into_iter().fold(ExitCode::SUCCESS, |_, error| super::all_was_read(Some(error))))
}

/// What observer knew where a ring's first segment begins is in that segment, but cannot be rewritten.
fn tell_of_a_lost_beginning(path: &Path) {
    eprintln!(
        "observer: {} is not the recording's first segment; what observer knew before it is not taken over, so that its \
         first verdicts may differ",
        path.display()
    );
}
