//! Writes a trace out of another: as fast as it comes, and waiting for the disk, unlike [`super::Recorder`].

use std::io::{self, Write};

use arrow_schema::SchemaRef;

use super::{
    About,
    encode::{self, Row},
    format::{self, EncodeError, Encoder},
    recorder::{BATCH_EVERY, BATCH_ROWS},
    said::Said,
};
use crate::{
    event::{Body, Event},
    time::{Time, WallClock},
};

/// How writing can fail.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A batch cannot be made.
    #[error("{0}")]
    Encode(#[from] EncodeError),
}

/// See the module.
pub struct Writer<W> {
    out: W,
    encoder: Encoder,
    schema: SchemaRef,
    wall: WallClock,
    rows: Vec<Row>,
    /// Time of the first of them.
    begun: Time,
}

impl<W: Write> Writer<W> {
    /// Begins the one file of a recording; `about.segment` is of no matter.
    pub fn begin(about: &About, mut out: W) -> Result<Self, WriteError> {
        let mut encoder = Encoder::new(None)?;
        out.write_all(&encoder.begin(&About { segment: 1, ..about.clone() })?)?;
        Ok(Self { out, encoder, schema: format::schema(), wall: about.wall, rows: Vec::new(), begun: Time::default() })
    }

    /// An event. Of ticks in a row only the last is kept.
    pub fn event(&mut self, event: Event) -> Result<(), WriteError> {
        if event.body == Body::Tick
            && let Some(Row::Event(last)) = self.rows.last_mut()
            && last.body == Body::Tick
        {
            *last = event;
            return Ok(());
        }
        self.row(Row::Event(event))
    }

    /// What observer says of the events before.
    pub fn said(&mut self, said: Said) -> Result<(), WriteError> {
        self.row(Row::Said(said))
    }

    fn row(&mut self, row: Row) -> Result<(), WriteError> {
        let full = self.rows.len() >= BATCH_ROWS || row.time().since(self.begun) >= BATCH_EVERY;
        if full && !self.rows.is_empty() {
            self.cut()?;
        }
        if self.rows.is_empty() {
            self.begun = row.time();
        }
        self.rows.push(row);
        Ok(())
    }

    /// Writes what is left, and the mark of a recording that ended in good order.
    pub fn finish(mut self) -> Result<(), WriteError> {
        if !self.rows.is_empty() {
            self.cut()?;
        }
        self.out.write_all(&self.encoder.end()?)?;
        Ok(self.out.flush()?)
    }

    fn cut(&mut self) -> Result<(), WriteError> {
        let batch = encode::batch(&self.rows, self.wall, &self.schema).map_err(EncodeError::from)?;
        self.rows.clear();
        Ok(self.out.write_all(&self.encoder.batch(&batch)?)?)
    }
}
