//! The first draft of a postmortem, from recorded events: what failed, how much of all, from when to when, why, and what
//! cures it; and what could not be seen.
//!
//! A [`Collector`] folds the events into a [`Report`]: plain data, bounded however long the trace is, and every text in it
//! harmless to show. [`html`], [`markdown`] and [`json`] render that, and decide nothing.

mod bouts;
mod cause;
mod chart;
mod collect;
mod gauge;
pub mod html;
pub mod json;
pub mod markdown;
mod page;
mod series;
mod tables;
pub(super) mod words;

use std::collections::BTreeMap;

pub use bouts::Bout;
pub use cause::{Advised, Cause, EvidenceLine};
pub use collect::Collector;
pub use gauge::{Gauge, Level};
pub use series::{Series, Slot};

use crate::{diagnose::Harmless, event::Counters, time::Time, trace::About};

/// Upstreams, listeners and namespaces listed; the rest is summed.
pub const MAX_LISTED: usize = 40;
/// Warnings listed, by cause and subject; the rest is counted.
pub const MAX_WARNINGS: usize = 32;
/// Changes of listeners and settings in the course of events: the first and the last, half of each.
pub const MAX_CHANGES_LISTED: usize = 24;

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One page, complete in itself: for reading, printing, sending.
    Html,
    /// Markdown, to paste into a document.
    Md,
    /// One object, for machines.
    Json,
}

/// Renders a report; what is said ends in a line feed.
pub fn render(report: &Report, format: Format) -> String {
    match format {
        Format::Html => html::render(report),
        Format::Md => markdown::render(report),
        Format::Json => json::render(report),
    }
}

/// What a trace comes to.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the trace says of itself.
    pub about: About,
    /// Sentences on how the trace could be read, where not all of it could.
    pub remarks: Vec<String>,
    /// The first moment watched.
    pub from: Time,
    /// The last one.
    pub to: Time,
    /// Events taken in, samples included.
    pub events: u64,
    /// Tries that ended: connections to upstreams, and connect() calls that failed; those whose records were lost too.
    pub tries: u64,
    /// What failed, whatever the cause.
    pub failures: Failures,
    /// Causes of failures, the most frequent first.
    pub causes: Vec<Cause>,
    /// Conditions that would make tries fail, or did, in the order of their beginning.
    pub warnings: Listed<Warned>,
    /// Upstreams, the most failures first, then the busiest.
    pub upstreams: Listed<Upstream>,
    /// Listeners whose accept queue overflowed, the worst first.
    pub listeners: Listed<Listener>,
    /// Accept queues of upstreams on this host, as last seen, by name.
    pub queues: Vec<Queue>,
    /// Network namespaces as last sampled, those first in which a proxy or an upstream is.
    pub namespaces: Listed<Namespace>,
    /// The course of events, in order.
    pub moments: Listed<Moment>,
    /// How it went, slot by slot.
    pub series: Series,
    /// Tries that failed and were no client's 502 or 504.
    pub harmless: Harmless,
    /// The kernel's own counters over the trace, exact whatever was lost.
    pub counters: Counters,
    /// Entries that full tables dropped, and tries judged early for want of room.
    pub evicted: u64,
}

impl Report {
    /// Something was not seen that a report should rest on.
    pub fn is_lossy(&self) -> bool {
        self.counters.lost.total() > 0 || self.evicted > 0
    }
}

/// Things of which not all may be listed.
#[derive(Clone, Debug, Default)]
pub struct Listed<T> {
    /// Those that are.
    pub items: Vec<T>,
    /// How many are not; for warnings, how often such were said.
    pub others: u64,
}

impl<T> Listed<T> {
    /// The first `limit` of them.
    fn first(mut items: Vec<T>, limit: usize) -> Self {
        let others = items.len().saturating_sub(limit);
        items.truncate(limit);
        Self { items, others: u64::try_from(others).unwrap_or(u64::MAX) }
    }
}

/// Everything that failed.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// How many verdicts there are: one for each request that failed for want of an upstream's answer.
    pub count: u64,
    /// The first and the last.
    pub span: Option<(Time, Time)>,
    /// Beginning of the slot with the most of them, and how many those are.
    pub peak: Option<(Time, u64)>,
    /// Stretches in which tries failed, in order.
    pub bouts: Vec<Bout>,
    /// Statuses that clients were seen to get.
    pub observed: BTreeMap<u16, u64>,
    /// Statuses that clients most likely got.
    pub expected: BTreeMap<u16, u64>,
}

/// A condition that was warned of.
#[derive(Clone, Debug)]
pub struct Warned {
    /// Code of the cause that it leads to.
    pub cause: &'static str,
    /// What it is about.
    pub subject: String,
    /// When it was first and last said; it is repeated every 30 s while it holds.
    pub span: (Time, Time),
    /// How often it was said.
    pub said: u64,
    /// As said last: one sentence with numbers.
    pub summary: String,
    /// What to do.
    pub advice: Vec<String>,
}

/// An upstream's line.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    /// Address and port, or `unix:` and the path.
    pub name: String,
    /// The proxy's namespace; 0 when unknown.
    pub netns: u32,
    /// Who uses it, `nginx[42]`; empty when unknown.
    pub proxy: String,
    /// Tries that ended, a lower bound when records were lost.
    pub tries: u64,
    /// Failures by cause, the most frequent first.
    pub failures: Vec<(&'static str, u64)>,
}

/// A listener whose accept queue overflowed.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Address and port.
    pub name: String,
    /// Its namespace.
    pub netns: u32,
    /// Who holds it, `gunicorn[412]`; empty when unknown.
    pub owner: String,
    /// How often it overflowed, a lower bound when records were lost.
    pub overflows: u64,
    /// The deepest that its queue was seen.
    pub high_water: u32,
    /// The queue's limit.
    pub limit: u32,
}

/// The accept queue of an upstream on this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// Address and port of the listener.
    pub name: String,
    /// Its limit.
    pub limit: u32,
    /// Processes that hold the listener; 0 when unknown.
    pub holders: u32,
    /// The application server that they are, with its workers and threads as far as known.
    pub application: Option<String>,
}

/// Settings and counters of a network namespace; `None` where it could not be read.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its inode number.
    pub netns: u32,
    /// An upstream's proxy or listener is there.
    pub concerned: bool,
    /// `net.core.somaxconn`
    pub somaxconn: Option<u32>,
    /// `net.ipv4.ip_local_port_range`, both ends included.
    pub port_range: Option<(u16, u16)>,
    /// `net.ipv4.tcp_tw_reuse`
    pub tw_reuse: Option<u32>,
    /// `net.ipv4.tcp_abort_on_overflow`
    pub abort_on_overflow: Option<u32>,
    /// By how much `ListenOverflows` rose over the trace.
    pub listen_overflows: Option<u64>,
    /// By how much `ListenDrops` rose over the trace.
    pub listen_drops: Option<u64>,
}

/// Something in the course of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub time: Time,
    /// Of what kind.
    pub kind: MomentKind,
    /// The cause that it is about, if any.
    pub cause: Option<&'static str>,
    /// What happened, in words.
    pub text: String,
}

/// Kinds of [`Moment`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MomentKind {
    /// Watching began or ended.
    Watching,
    /// A setting changed.
    Setting,
    /// A listener opened or closed.
    Listener,
    /// A warning was given.
    Warning,
    /// Tries failed, for the first or the last time.
    Failure,
}

impl MomentKind {
    /// Name in JSON and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Setting => "setting",
            Self::Listener => "listener",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

#[cfg(test)]
mod tests;
