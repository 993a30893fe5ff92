//! Where what observer says goes when there is no screen.

pub mod json;
pub mod text;

use crate::{
    diagnose::Said,
    event::Counters,
    kernel::Hooks,
    time::{Time, WallClock},
};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// When it ended.
    pub time: Time,
    /// Verdicts by cause.
    pub verdicts: std::collections::BTreeMap<&'static str, u64>,
    /// Events taken in.
    pub events: u64,
    /// The kernel's counters.
    pub counters: Counters,
    /// Entries that full tables dropped, and tries judged early for want of room.
    pub evicted: u64,
    /// How each hook stood.
    pub hooks: Hooks,
}

/// A format: what each thing said looks like as a line or a few, without the last line feed.
pub trait Sink {
    /// All hooks are attached.
    fn ready(&self, time: Time, watching: &str, hooks: &Hooks) -> String;
    /// A verdict or a warning.
    fn said(&self, said: &Said) -> String;
    /// The end.
    fn summary(&self, summary: &Summary) -> String;
}

/// The sink for a format.
pub fn of(format: Format, wall: WallClock) -> Box<dyn Sink> {
    match format {
        Format::Text => Box::new(text::Text { wall }),
        Format::Json => Box::new(json::Json { wall }),
    }
}

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// An object per line, for machines.
    Json,
}
