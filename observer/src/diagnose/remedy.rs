//! What to do about a failure, with this host's numbers in it: what happened and why that is the cause, how to check it by
//! hand, what to change, and what would make it worse.

use std::time::Duration;

use super::verdict::Verdict;
use crate::{addr::NetNs, event::Process};

/// What is known of an upstream when its failures are explained; all of it optional.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Connections that wait in the listener's accept queue.
    pub depth: Option<u32>,
    /// How many may: the listener's backlog as the kernel took it.
    pub limit: Option<u32>,
    /// The deepest that the queue was seen.
    pub high_water: Option<u32>,
    /// `net.core.somaxconn` of the listener's namespace.
    pub somaxconn: Option<u32>,
    /// Processes that take connections from the listener.
    pub workers: Option<u32>,
    /// Those of them at work.
    pub busy: Option<u32>,
    /// Workers that would do for what comes in.
    pub needed: Option<u32>,
    /// Connections that come in.
    pub arrivals_per_second: Option<f64>,
    /// What a worker takes for one.
    pub seconds_per_request: Option<f64>,
    /// TIME_WAIT sockets of the proxy's namespace towards the upstream.
    pub time_wait: Option<u32>,
    /// Ephemeral ports in that namespace's range.
    pub ports: Option<u32>,
    /// Connections that the proxy opens to it.
    pub connections_per_second: Option<f64>,
    /// When the ephemeral ports towards it are gone at this rate.
    pub ports_gone_in: Option<Duration>,
    /// Where its listener is bound: an address or a path.
    pub listener: Option<String>,
    /// The namespace of that listener, 0 when unknown.
    pub listener_netns: NetNs,
    /// Whose listener it is.
    pub process: Option<Process>,
    /// Whether its address is this host's.
    pub local: Option<bool>,
}

/// What to know and to do about a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedy {
    /// What happened in the kernel, why the client got this status, why this is the cause: a sentence each.
    pub explanation: Vec<String>,
    /// How to check it by hand.
    pub checks: Vec<Check>,
    /// What to change, the most effective first.
    pub snippets: Vec<Snippet>,
    /// What would make it worse.
    pub worse: Vec<String>,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// For a shell.
    pub command: String,
    /// What it prints if the verdict is right.
    pub expect: String,
}

/// A piece of configuration or of shell to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// What it does, in a few words.
    pub title: String,
    /// What it is written in: `nginx`, `haproxy`, `sh`, `ini`, `py`…
    pub language: &'static str,
    /// The text, lines ended by line feeds.
    pub text: String,
}

/// What to do about this failure.
pub fn remedy(verdict: &Verdict, _facts: &Facts) -> Remedy {
    Remedy { explanation: vec![verdict.summary.clone()], ..Remedy::default() }
}
