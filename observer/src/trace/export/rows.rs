//! Rows as lines of text.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use arrow_array::{
    Array as _, ArrayRef, RecordBatch,
    cast::AsArray as _,
    types::{Int64Type, TimestampNanosecondType, UInt16Type, UInt32Type, UInt64Type},
};

use crate::{
    text,
    trace::columns::{COLUMNS, Type},
};

/// Bytes gathered before they are written.
const CHUNK: usize = 1 << 16;

/// See the module.
pub(super) struct Rows<W> {
    out: W,
    json: bool,
    waiting: String,
}

impl<W: Write> Rows<W> {
    /// An object per line.
    pub(super) fn json(out: W) -> Self {
        Self { out, json: true, waiting: String::new() }
    }

    /// Comma-separated, with a header.
    pub(super) fn csv(out: W) -> Self {
        let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        Self { out, json: false, waiting: format!("{}\r\n", names.join(",")) }
    }

    /// Appends the rows of a table of [`COLUMNS`].
    pub(super) fn table(&mut self, table: &RecordBatch) -> io::Result<()> {
        let mut cell = String::new();
        for row in 0..table.num_rows() {
            let mut separator = if self.json { "{" } else { "" };
            for (column, array) in COLUMNS.iter().zip(table.columns()) {
                cell.clear();
                let there = value(array, column.holds, row, &mut cell);
                let is_text = matches!(column.holds, Type::Text | Type::Moment);
                if self.json {
                    if there {
                        let _ = write!(self.waiting, "{separator}\"{}\":", column.name);
                        self.json_value(&cell, is_text);
                        separator = ",";
                    }
                } else {
                    self.waiting.push_str(separator);
                    if there {
                        self.csv_value(&cell);
                    }
                    separator = ",";
                }
            }
            self.waiting.push_str(match (self.json, separator) {
                (true, "{") => "{}\n",
                (true, _) => "}\n",
                (false, _) => "\r\n",
            });
            if self.waiting.len() >= CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(self.waiting.as_bytes())?;
        self.waiting.clear();
        Ok(())
    }

    fn json_value(&mut self, cell: &str, is_text: bool) {
        if is_text {
            let _ = write!(self.waiting, "{}", serde_json::Value::from(cell));
        } else {
            self.waiting.push_str(cell);
        }
    }

    fn csv_value(&mut self, cell: &str) {
        if cell.is_empty() || cell.contains(['"', ',', '\r', '\n']) {
            let _ = write!(self.waiting, "\"{}\"", cell.replace('"', "\"\""));
        } else {
            self.waiting.push_str(cell);
        }
    }
}

/// Writes a cell; false if it is null. Text is made harmless: a file may hold anything, and lines end on terminals.
fn value(array: &ArrayRef, holds: Type, row: usize, into: &mut String) -> bool {
    if array.is_null(row) {
        return false;
    }
    // Writing to a string cannot fail.
    let _ = match holds {
        Type::Moment => {
            let Ok(nanos) = u64::try_from(array.as_primitive::<TimestampNanosecondType>().value(row)) else {
                return false;
            };
            write!(into, "{}", humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanos)))
        }
        Type::I64 => write!(into, "{}", array.as_primitive::<Int64Type>().value(row)),
        Type::U16 => write!(into, "{}", array.as_primitive::<UInt16Type>().value(row)),
        Type::U32 => write!(into, "{}", array.as_primitive::<UInt32Type>().value(row)),
        Type::U64 => write!(into, "{}", array.as_primitive::<UInt64Type>().value(row)),
        Type::Text => {
            let text = array.as_string_view().value(row);
            if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                into.push_str(text);
            } else {
                into.push_str(&text::escape(text.as_bytes()));
            }
            Ok(())
        }
    };
    true
}
