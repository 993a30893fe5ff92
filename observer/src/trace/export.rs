//! A recording in the formats of other tools, batch by batch.

mod rows;

use std::io::{self, Write};

use arrow_array::RecordBatch;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{metadata::KeyValue, properties::WriterProperties},
};

use super::{
    About,
    format::{self, ABOUT_KEY, VERSION, VERSION_KEY},
};
use rows::Rows;

/// Bytes of a Parquet file's row group, which is kept in memory until it is full.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Apache Parquet, packed with zstd; its metadata has what the recording says of itself.
    Parquet,
    /// A JSON object per row and line, without what is null.
    Jsonl,
    /// Comma-separated values (RFC 4180) with a header; null is empty, empty text is quoted.
    Csv,
}

/// How an export can fail.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It cannot be written.
    #[error("{0}")]
    Write(#[from] io::Error),
    /// Parquet would not have it.
    #[error("{0}")]
    Parquet(#[from] ParquetError),
}

/// An export that goes on.
pub struct Export<W: Write + Send>(To<W>);

enum To<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Rows(Rows<W>),
}

impl<W: Write + Send> Export<W> {
    /// Begins to write; `about` goes where the format has room for it.
    pub fn begin(format: Format, about: &About, out: W) -> Result<Self, ExportError> {
        Ok(Self(match format {
            Format::Parquet => To::Parquet(Box::new(parquet(about, out)?)),
            Format::Jsonl => To::Rows(Rows::json(out)),
            Format::Csv => To::Rows(Rows::csv(out)),
        }))
    }

    /// Appends what [`super::Reader::next_table`] gave.
    pub fn table(&mut self, table: &RecordBatch) -> Result<(), ExportError> {
        match &mut self.0 {
            To::Parquet(writer) => Ok(writer.write(table)?),
            To::Rows(rows) => Ok(rows.table(table)?),
        }
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<(), ExportError> {
        match self.0 {
            To::Parquet(writer) => writer.close().map(drop).map_err(ExportError::Parquet),
            To::Rows(rows) => Ok(rows.finish()?),
        }
    }
}

fn parquet<W: Write + Send>(about: &About, out: W) -> Result<ArrowWriter<W>, ParquetError> {
    let json = serde_json::to_string(about).map_err(|error| ParquetError::General(error.to_string()))?;
    let metadata =
        vec![KeyValue::new(VERSION_KEY.to_owned(), VERSION.to_string()), KeyValue::new(ABOUT_KEY.to_owned(), json)];
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_key_value_metadata(Some(metadata))
        .build();
    ArrowWriter::try_new(out, format::schema(), Some(properties))
}

#[cfg(test)]
mod tests;
