//! `observer compare`: what failed before a change, and after it.

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, Result};

use super::report::folded;
use crate::{
    cli,
    sink::{
        Format,
        compare::{Change, Comparison},
        report::Report,
    },
};

/// Compares; a recording of which a part cannot be read is compared by what can.
pub(super) fn compare(arguments: &cli::Compare) -> Result<ExitCode> {
    let cli::Compare { before, after, format } = arguments;
    let comparison = match (read(before), read(after)) {
        (Ok(before), Ok(after)) => Comparison::of(&before, &after),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("observer: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    super::print(&match format {
        Format::Text => comparison.to_text(),
        Format::Json => format!("{}\n", comparison.to_json()),
    })?;
    let worse = comparison.rows.iter().any(|row| matches!(row.change, Change::New | Change::More));
    Ok(ExitCode::from(u8::from(worse)))
}

fn read(file: &Path) -> Result<Report> {
    let (report, read) = folded(&[file.to_owned()]).with_context(|| format!("reading {}", file.display()))?;
    if let Err(error) = read {
        eprintln!("observer: {}: {error:#}; what comes before is compared", file.display());
    }
    Ok(report)
}
