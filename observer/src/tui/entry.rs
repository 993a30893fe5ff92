//! What happened, one by one: verdicts and raw events in one stream, without a copy of either.

mod details;
mod words;

use std::net::IpAddr;

use super::filter::{Filter, Filtered};
use crate::{
    diagnose::{Evidence, Verdict},
    event::{Body, Event},
    model::UpstreamKey,
    snapshot::Snapshot,
    time::Time,
    trace,
};

/// A verdict or an event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'a> {
    /// An event, with its number.
    Event(u64, &'a Event),
    /// A verdict.
    Verdict(&'a Verdict),
}

/// What stays the same of an [`Entry`] from one snapshot to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryId {
    /// An event's number.
    Event(u64),
    /// What a verdict is about. Two that agree in all of it say the same.
    Verdict {
        /// When the try failed.
        time: Time,
        /// Why.
        cause: &'static str,
        /// At which upstream.
        upstream: UpstreamKey,
        /// Whose try it was.
        pid: u32,
    },
}

/// All that there is and that the filter lets through, oldest first. The passing of time is no event to look at.
pub(crate) fn entries<'a>(shown: &'a Snapshot, filter: &Filter) -> Vec<Entry<'a>> {
    let mut verdicts = shown.recent.iter().rev().map(Entry::Verdict).peekable();
    let mut all = Vec::new();
    if let Some(tail) = &shown.tail {
        for (number, event) in (tail.first..).zip(&tail.events) {
            while let Some(verdict) = verdicts.next_if(|verdict| verdict.time() <= event.time) {
                all.push(verdict);
            }
            if event.body != Body::Tick {
                all.push(Entry::Event(number, event));
            }
        }
    }
    all.extend(verdicts);
    all.retain(|entry| filter.passes(entry));
    all
}

impl<'a> Entry<'a> {
    /// When it happened.
    pub(crate) fn time(&self) -> Time {
        match self {
            Self::Event(_, event) => event.time,
            Self::Verdict(verdict) => verdict.time,
        }
    }

    /// See [`EntryId`].
    pub(crate) fn id(&self) -> EntryId {
        match self {
            Self::Event(number, _) => EntryId::Event(*number),
            Self::Verdict(verdict) => EntryId::Verdict {
                time: verdict.time,
                cause: verdict.cause,
                upstream: verdict.upstream,
                pid: verdict.proxy.pid,
            },
        }
    }

    /// Its kind, by the name that recordings use.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Event(_, event) => trace::kind(&event.body).name(),
            Self::Verdict(_) => trace::words::Kind::Verdict.name(),
        }
    }

    /// What happened, in a line.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Event(_, event) => words::sentence(&event.body),
            Self::Verdict(verdict) => {
                let status = verdict.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
                format!("{status} {}: {}", verdict.cause, verdict.summary)
            }
        }
    }

    /// All that is known of it.
    pub(crate) fn details(&self) -> Evidence {
        match self {
            Self::Event(_, event) => details::of(event),
            Self::Verdict(verdict) => details::of_verdict(verdict),
        }
    }

    /// The verdict, if it is one.
    pub(crate) fn verdict(&self) -> Option<&'a Verdict> {
        match self {
            Self::Event(..) => None,
            Self::Verdict(verdict) => Some(verdict),
        }
    }

    fn concerned(&self) -> words::Concerned<'a> {
        match self {
            Self::Event(_, event) => words::concerned(&event.body),
            Self::Verdict(verdict) => words::Concerned {
                ends: [verdict.upstream.endpoint, verdict.client].into_iter().flatten().collect(),
                processes: vec![&verdict.proxy],
            },
        }
    }
}

impl Filtered for Entry<'_> {
    fn has_cause(&self, part: &str) -> bool {
        self.verdict().is_some_and(|verdict| {
            let under = verdict.because.iter().chain(&verdict.also);
            std::iter::once(&verdict.cause).chain(under).any(|code| code.contains(part))
        })
    }

    fn has_kind(&self, part: &str) -> bool {
        self.kind().contains(part)
    }

    fn has_addr(&self, beginning: &str) -> bool {
        let begins = |ip: IpAddr| ip.to_string().starts_with(beginning);
        self.concerned().ends.into_iter().any(|end| begins(end.ip))
    }

    fn has_port(&self, port: u16) -> bool {
        self.concerned().ends.into_iter().any(|end| end.port == port)
    }

    fn has_pid(&self, pid: u32) -> bool {
        self.concerned().processes.into_iter().any(|process| process.pid == pid)
    }

    fn has_text(&self, part: &str) -> bool {
        self.kind().contains(part) || self.sentence().to_lowercase().contains(part)
    }
}
