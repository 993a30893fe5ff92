//! `observer report`: the first draft of a postmortem, from a recording.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cli,
    sink::report::{self, Collector, Format, Report},
    source,
    trace::{Reader, Tail},
};

/// Writes the report. A recording that is damaged makes one too, of all that can be read; the status is 1 then.
pub(super) fn report(arguments: &cli::Report) -> Result<ExitCode> {
    let cli::Report { files, format, output } = arguments;
    if let Some(output) = output {
        refuse_to_overwrite(output, files)?;
    }
    let (report, read) = folded(files)?;
    let format = format.or_else(|| Some(format_of(output.as_deref()?))).unwrap_or(Format::Html);
    let text = report::render(&report, format);
    match output {
        Some(path) => fs::write(path, text).with_context(|| format!("writing {}", path.display()))?,
        None => {
            super::print(&text)?;
        }
    }
    if let Err(error) = &read {
        eprintln!("observer: {error:#}");
    }
    Ok(if read.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the files of a recording come to, and what kept the rest of it from being read.
pub(super) fn folded(files: &[PathBuf]) -> Result<(Report, Result<()>)> {
    let mut reader = Reader::open(files)?;
    let mut collector = Collector::new(reader.about());
    match source::state_at_begin(&mut reader) {
        Ok(engine) => collector.resume(engine),
        Err(why) => collector.remark(&format!("{why}.")),
    }
    let read = collect(&mut reader, &mut collector);
    if let Err(error) = &read {
        collector.remark(&format!("{error:#}."));
    } else if reader.tail() == Tail::Unfinished {
        collector.remark(
            "The recording has no end: it was still being written, or broke off; at most its last second is missing.",
        );
    }
    Ok((collector.finish(), read))
}

/// Folds all that can be read.
fn collect(reader: &mut Reader, collector: &mut Collector) -> Result<()> {
    let mut batch = Vec::new();
    let mut unknown = 0;
    while let Some(besides) = reader.next_batch(&mut batch)? {
        collector.fold(&batch);
        batch.clear();
        unknown += besides.unknown_rows;
    }
    if unknown > 0 {
        collector.remark(&format!(
            "{unknown} rows are of kinds that this observer does not know, and are left out: a newer one recorded them."
        ));
    }
    Ok(())
}

/// By the file's name; anything else is a page.
fn format_of(output: &Path) -> Format {
    match output.extension().and_then(|extension| extension.to_str()) {
        Some("md" | "markdown") => Format::Md,
        Some("json") => Format::Json,
        _ => Format::Html,
    }
}

/// The recording may be all that is left of an incident.
fn refuse_to_overwrite(output: &Path, files: &[PathBuf]) -> Result<()> {
    let Ok(output) = fs::canonicalize(output) else { return Ok(()) };
    if files.iter().any(|file| fs::canonicalize(file).is_ok_and(|file| file == output)) {
        bail!("{} is the recording itself", output.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_file_tells_the_format() {
        let formats = ["r.html", "r.md", "r.json", "r"].map(|name| format_of(Path::new(name)));
        assert_eq!(formats, [Format::Html, Format::Md, Format::Json, Format::Html]);
    }

    #[test]
    fn the_recording_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("trace.arrows");
        fs::write(&trace, "precious").unwrap();
        assert!(refuse_to_overwrite(&directory.path().join("./trace.arrows"), std::slice::from_ref(&trace)).is_err());
        assert!(refuse_to_overwrite(&directory.path().join("report.html"), &[trace]).is_ok());
    }
}
