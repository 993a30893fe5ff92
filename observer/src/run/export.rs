//! `observer export`: a recording for other tools.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cli,
    trace::{
        ReadError, Reader,
        export::{Export, ExportError, Format},
        schema,
    },
};

/// Exports all that can be read; the status is 1 if that was not all.
pub(super) fn export(arguments: &cli::Export) -> Result<ExitCode> {
    let cli::Export { files, format, output, force, schema } = arguments;
    let (Some(format), false) = (*format, *schema) else { return super::print(&schema::markdown()) };
    let reader = Reader::open(files)?;
    let left_out = match output {
        Some(path) => {
            let out = BufWriter::new(create(path, *force, files)?);
            write(reader, format, out).with_context(|| format!("writing {}", path.display()))?
        }
        None if format == Format::Parquet => bail!("Parquet cannot be written to standard output: give a file with -o"),
        None => match write(reader, format, io::stdout()) {
            // A reader that has gone (`| head`) is no error.
            Err(ExportError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => None,
            written => written.context("writing to standard output")?,
        },
    };
    Ok(super::all_was_read(left_out))
}

/// Gives back what kept the rest from being read.
fn write(mut reader: Reader, format: Format, out: impl Write + Send) -> Result<Option<ReadError>, ExportError> {
    let mut export = Export::begin(format, reader.about(), out)?;
    let left_out = loop {
        match reader.next_table() {
            Ok(Some(table)) => export.table(&table)?,
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    export.finish()?;
    Ok(left_out)
}

/// A file for the owner alone, made out of these others: a recording shows who talked to whom, and may be all that is left
/// of an incident.
pub(super) fn create(path: &Path, force: bool, from: &[PathBuf]) -> Result<File> {
    let is_output =
        |file: &PathBuf| fs::canonicalize(path).is_ok_and(|path| fs::canonicalize(file).is_ok_and(|file| file == path));
    if from.iter().any(is_output) {
        bail!("{} is the recording itself", path.display());
    }
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let options = if force { options.create(true).truncate(true) } else { options.create_new(true) };
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already; give another name, or --force to overwrite it", path.display())
        }
        opened => opened.with_context(|| format!("cannot write {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_recording_nor_anything_else_is_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("a.arrows");
        fs::write(&trace, "precious").unwrap();
        let from = std::slice::from_ref(&trace);
        for force in [false, true] {
            create(&folder.path().join("./a.arrows"), force, from).unwrap_err();
        }
        let out = folder.path().join("a.csv");
        fs::write(&out, "old").unwrap();
        create(&out, false, from).unwrap_err();
        assert_eq!(fs::read_to_string(&out).unwrap(), "old");
        create(&out, true, from).unwrap();
        assert_eq!((fs::read(&out).unwrap().len(), fs::read_to_string(&trace).unwrap().as_str()), (0, "precious"));
    }
}
