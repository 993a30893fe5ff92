//! What in a configuration is known to lead to 502s, read against what a version of nginx makes of it. docs/audit.md tells of each code.

mod limits;
mod pools;
mod waits;

use super::{config::Place, site::Site};
use crate::{
    event::{Configured, Server},
    text::escape,
};

/// What kinds there are.
pub const CODES: [&str; 11] = [
    "buffering-off",
    "connect-timeout-long",
    "files-below-connections",
    "keepalive-absent",
    "keepalive-not-in-effect",
    "max-fails-default",
    "max-fails-in-vain",
    "read-timeout-long",
    "retries-unlimited",
    "unequal-upstreams",
    "worker-connections-near",
];

/// Something that is better changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind it is.
    pub code: &'static str,
    /// Where to change it.
    pub place: Place,
    /// What else it follows from.
    pub also: Vec<Place>,
    /// Servers that it is about, where it is about some.
    pub servers: Vec<Server>,
    /// What it turns on, where that is a number: connections of a worker.
    pub number: Option<u64>,
    /// There is nothing wrong with what is written: it is a mistake only where what is measured says so.
    pub only_if_seen: bool,
    /// What is written there, and what comes of it. Harmless to show.
    pub what: String,
    /// What to write instead, and where; lines.
    pub fix: String,
}

impl Finding {
    fn new(code: &'static str, place: &Place, what: String, fix: impl Into<String>) -> Self {
        debug_assert!(CODES.contains(&code), "{code} is not among the codes");
        Self {
            code,
            place: place.clone(),
            also: Vec::new(),
            servers: Vec::new(),
            number: None,
            only_if_seen: false,
            what,
            fix: fix.into(),
        }
    }

    fn because_of(mut self, place: &Place) -> Self {
        self.also.push(place.clone());
        self
    }

    fn about(self, servers: Vec<Server>) -> Self {
        Self { servers, ..self }
    }

    /// As an event tells of it.
    pub fn told(&self) -> Configured {
        let Self { code, place, also: _, servers, number, only_if_seen, what, fix } = self;
        Configured {
            code: (*code).to_owned(),
            file: place.file.to_string(),
            line: place.line,
            what: what.clone(),
            fix: fix.lines().map(str::to_owned).collect(),
            servers: servers.clone(),
            number: *number,
            only_if_seen: *only_if_seen,
        }
    }
}

/// All of them, in the order of their places; each once.
pub fn findings(site: &Site) -> Vec<Finding> {
    let mut findings = [pools::findings(site), waits::findings(site), limits::findings(site)].concat();
    findings.sort_by(|a, b| (&a.place, a.code, &a.what).cmp(&(&b.place, b.code, &b.what)));
    // What is set once may hold in many places, for the servers of each.
    findings.dedup_by(|next, first| {
        let same = (&first.place, first.code, &first.what) == (&next.place, next.code, &next.what);
        if same {
            let more = std::mem::take(&mut next.servers).into_iter();
            let more: Vec<_> = more.filter(|server| !first.servers.contains(server)).collect();
            first.servers.extend(more);
        }
        same
    });
    findings
}

/// A name or value of the configuration's, to be shown.
fn shown(text: &str) -> String {
    escape(text.as_bytes())
}
