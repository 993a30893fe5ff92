//! What to do about a failure, with this host's numbers in it: what happened and why that is the cause, how to check it by
//! hand, what to change, and what would make it worse.

mod answers;
mod connects;
mod context;
mod own;
mod proxies;
mod queues;
mod shell;
mod software;
#[cfg(test)]
mod tests;
mod under;
mod unix;

use std::time::Duration;

pub use context::Context;

use super::{because, registry, verdict::Verdict};
use crate::{
    addr::NetNs,
    event::{Application, Process},
};

pub(super) use self::{
    answers::{bad_response, keepalive_race, upstream_closed_early, upstream_reset, upstream_timeout},
    connects::{connect_timeout, packet_loss, upstream_refused, upstream_unreachable},
    own::{keepalive_off, no_live_upstreams, port_exhaustion, proxy_limits, unknown},
    queues::{accept_queue_overflow, syn_queue_overflow, unix_backlog_full},
    under::{
        abort_on_overflow, accept_stall, backlog_clamped, backlog_small, cpu_saturated, cpu_steal,
        idle_timeout_mismatch, listener_restarted, worker_killed, worker_pool_undersized, worker_timeout,
    },
    unix::{unix_missing, unix_permission, unix_refused},
};

/// Writes the remedy of one cause, or of what lies under one.
pub type Write = fn(&Context<'_>) -> Remedy;

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
    /// Those of them at work; where their threads are known, those.
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
    /// Which server it is.
    pub application: Option<Application>,
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

/// What to do about this failure: the cause's own part, and those of what lies under it, whose changes come first.
pub fn remedy(verdict: &Verdict, facts: &Facts) -> Remedy {
    let context = Context::new(verdict, facts);
    let under = verdict.because.iter().chain(&verdict.also).filter_map(|code| write(code));
    let under = under.map(|write| write(&context)).reduce(Remedy::and).unwrap_or_default();
    let own = write(verdict.cause).map(|write| write(&context)).unwrap_or_default();
    let first = Remedy { snippets: under.snippets.clone(), ..Remedy::default() };
    first.and(own).and(under)
}

fn write(code: &str) -> Option<Write> {
    registry::find(code).map(|rule| rule.remedy).or_else(|| because::find(code).map(|because| because.remedy))
}

impl Remedy {
    /// Both; what both say is said once.
    fn and(mut self, other: Self) -> Self {
        let Self { explanation, checks, snippets, worse } = other;
        add(&mut self.explanation, explanation, |sentence| sentence);
        add(&mut self.checks, checks, |check| &check.command);
        add(&mut self.snippets, snippets, |snippet| &snippet.text);
        add(&mut self.worse, worse, |sentence| sentence);
        self
    }

    fn say(mut self, sentence: impl Into<String>) -> Self {
        self.explanation.push(sentence.into());
        self
    }

    fn maybe_say(self, sentence: Option<String>) -> Self {
        match sentence {
            Some(sentence) => self.say(sentence),
            None => self,
        }
    }

    fn check(mut self, command: impl Into<String>, expect: impl Into<String>) -> Self {
        self.checks.push(Check { command: command.into(), expect: expect.into() });
        self
    }

    fn look(mut self, checks: impl IntoIterator<Item = Check>) -> Self {
        self.checks.extend(checks);
        self
    }

    fn change(mut self, snippets: impl IntoIterator<Item = Snippet>) -> Self {
        self.snippets.extend(snippets);
        self
    }

    /// There is nothing to copy, for this reason.
    fn no_setting(self, reason: &str) -> Self {
        self.say(format!("{NO_SETTING}: {reason}."))
    }

    fn never(mut self, what: impl Into<String>) -> Self {
        self.worse.push(what.into());
        self
    }
}

/// How the sentence begins that says why there is nothing to copy.
const NO_SETTING: &str = "No setting cures this";

fn add<T>(to: &mut Vec<T>, more: Vec<T>, name: impl Fn(&T) -> &String) {
    for each in more {
        if !to.iter().any(|had| name(had) == name(&each)) {
            to.push(each);
        }
    }
}

impl Snippet {
    fn new(title: impl Into<String>, language: &'static str, lines: &[&str]) -> Self {
        let mut text = lines.join("\n");
        text.push('\n');
        Self { title: title.into(), language, text }
    }
}
