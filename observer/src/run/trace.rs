//! `observer trace`: what is done with recordings.

use std::process::ExitCode;

use anyhow::Result;

use crate::{cli, sink::Format, trace::Info};

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
