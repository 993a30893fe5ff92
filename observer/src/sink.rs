//! Where what observer says goes when there is no screen.

pub mod advice;
pub mod compare;
pub mod json;
pub mod report;
pub mod text;

use crate::{
    addr::{Endpoint, NetNs},
    diagnose::{Harmless, Said},
    event::{Counters, LogSample},
    hooks::Hooks,
    model::{Listener, Model},
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
    /// Tries that failed and were no client's 502 or 504.
    pub harmless: Harmless,
    /// Listeners whose accept queue overflowed, the worst first.
    pub overflowed: Vec<Overflowed>,
    /// The proxies' logs that were found, by path.
    pub logs: Vec<LogSample>,
    /// Their lines about failures whose try was seen, or that tell of one by themselves.
    pub lines_matched: u64,
    /// Their lines about failures of which nothing else was seen.
    pub lines_unmatched: u64,
    /// Entries that full tables dropped, and tries judged early for want of room.
    pub evicted: u64,
    /// How each hook stood.
    pub hooks: Hooks,
    /// Why it ended before its time, if it did; not for the lines.
    pub trouble: Option<String>,
}

impl Summary {
    /// What observer did not get to see, by kind, in words; none if nothing was lost.
    pub fn lost(&self) -> Option<String> {
        let lost = self.counters.lost.by_kind().into_iter().filter(|(_, count)| *count > 0);
        let kinds: Vec<_> = lost.map(|(kind, count)| format!("{kind} {count}")).collect();
        if kinds.is_empty() && self.evicted == 0 {
            return None;
        }
        Some(format!("{} (evicted {})", kinds.join(", "), self.evicted))
    }
}

/// A listener whose accept queue overflowed.
#[derive(Clone, Debug)]
pub struct Overflowed {
    /// Where it listens.
    pub at: Endpoint,
    /// In which namespace.
    pub netns: NetNs,
    /// What was seen of it.
    pub listener: Listener,
}

impl Overflowed {
    /// All of them, the worst first.
    pub fn all(model: &Model) -> Vec<Self> {
        let overflowed = model.listeners().filter(|(_, listener)| listener.overflows > 0);
        let mut all: Vec<_> = overflowed
            .map(|((netns, at), listener)| Self { at: *at, netns: *netns, listener: listener.clone() })
            .collect();
        all.sort_by_key(|each| (std::cmp::Reverse(each.listener.overflows), each.at));
        all
    }
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
