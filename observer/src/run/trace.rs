//! `observer trace`: what is done with recordings.

use std::{io::BufWriter, process::ExitCode};

use anyhow::{Context as _, Result};

use super::export::create;
use crate::{
    cli, rework,
    sink::Format,
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
    tell_of_a_lost_beginning(&reader);
    let out = BufWriter::new(create(output, *force, files)?);
    let left_out = rework::anonymize(reader, out).with_context(|| format!("writing {}", output.display()))?;
    Ok(super::all_was_read(left_out))
}

/// What observer knew where a ring's first segment begins is in that segment, but cannot be rewritten.
fn tell_of_a_lost_beginning(reader: &Reader) {
    if reader.about().segment > 1 {
        eprintln!(
            "observer: {} is not the recording's first segment; what observer knew before it is not taken over, so that \
             its first verdicts may differ",
            reader.segments()[0].path.display()
        );
    }
}
