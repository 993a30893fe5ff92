//! Recordings made of others: without names and addresses, or of two hosts together.

pub mod anonymize;
mod change;
pub mod merge;

use std::io::Write;

pub use anonymize::anonymize;
pub use merge::{MergeError, Merged, merge};

use crate::{
    diagnose::Engine,
    event::Event,
    trace::{About, WriteError, Writer},
};

/// A recording that is written anew, with what observer says of its events: what it said at the time is about others.
struct Rewritten<W> {
    engine: Engine,
    writer: Writer<W>,
}

impl<W: Write> Rewritten<W> {
    fn begin(about: &About, out: W) -> Result<Self, WriteError> {
        Ok(Self { engine: Engine::default(), writer: Writer::begin(about, out)? })
    }

    fn event(&mut self, event: Event) -> Result<(), WriteError> {
        let mut all = Vec::new();
        self.engine.apply(&event, &mut |said| all.push(said));
        for said in &all {
            self.writer.said(said.into())?;
        }
        self.writer.event(event)
    }

    fn finish(mut self) -> Result<(), WriteError> {
        let mut all = Vec::new();
        self.engine.finish(&mut |said| all.push(said));
        for said in &all {
            self.writer.said(said.into())?;
        }
        self.writer.finish()
    }
}
