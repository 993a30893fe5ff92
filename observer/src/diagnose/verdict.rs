//! What observer says: verdicts on tries that failed, and warnings before any does.

use serde::{Deserialize, Serialize};

use super::code::{Code, known};
use crate::{
    addr::{Endpoint, NetNs},
    diagnose::{causes::unknown, evidence::Evidence, logged},
    event::{LogLine, Process, Request},
    model::{Attempt, UpstreamKey},
    time::Time,
    trace,
    untrusted::harmless,
};

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Confidence {
    /// It fits, and so do other causes.
    Possible,
    /// Other causes would need a coincidence, or sit where observer cannot look.
    Likely,
    /// The kernel's own evidence leaves no other.
    Certain,
}

impl Confidence {
    /// Its name in JSON and on screens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// Why one try failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// When it failed.
    pub time: Time,
    /// The cause's code.
    #[serde(deserialize_with = "known")]
    pub cause: Code,
    /// How sure.
    pub confidence: Confidence,
    /// The status that the client got if `observed`, else the one that it got by the proxy's log, or most likely; `None` where that cannot
    /// be told.
    pub status: Option<u16>,
    /// The proxy's own answer was seen.
    pub observed: bool,
    /// Who got it, where that was seen.
    pub client: Option<Endpoint>,
    /// Whose try.
    pub proxy: Process,
    /// At what.
    pub upstream: UpstreamKey,
    /// What the proxy's own log says of it, where that is followed.
    pub log: Option<Logged>,
    /// What lies under the cause, by code, where it was measured.
    #[serde(deserialize_with = "known")]
    pub because: Option<Code>,
    /// What else lies under it.
    #[serde(deserialize_with = "known")]
    pub also: Vec<Code>,
    /// One sentence with the numbers of this case.
    #[serde(deserialize_with = "harmless")]
    pub summary: String,
    /// What it rests on.
    pub evidence: Evidence,
    /// What to do, the most effective first.
    #[serde(deserialize_with = "harmless")]
    pub advice: Vec<String>,
}

impl Verdict {
    /// Where its status comes from.
    pub fn status_from(&self) -> Option<StatusFrom> {
        let logged = self.log.as_ref().is_some_and(|log| log.status.is_some());
        self.status.map(|_| match (self.observed, logged) {
            (true, _) => StatusFrom::Observed,
            (false, true) => StatusFrom::Logged,
            (false, false) => StatusFrom::Expected,
        })
    }
}

/// Where a status comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFrom {
    /// The proxy's own answer was seen.
    Observed,
    /// The proxy's log says so.
    Logged,
    /// It is what the proxy answers in such a case.
    Expected,
}

impl StatusFrom {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Logged => "logged",
            Self::Expected => "expected",
        }
    }

    /// What stands behind the status.
    pub fn words(self) -> &'static str {
        match self {
            Self::Observed => "seen",
            Self::Logged => "by the proxy's log",
            Self::Expected => "most likely",
        }
    }
}

/// What a proxy's own log says of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its words: untrusted, escaped.
    #[serde(deserialize_with = "harmless")]
    pub said: String,
    /// The request that failed.
    pub request: Request,
    /// The status that the client got by it, if it says.
    pub status: Option<u16>,
    /// The cause is among those that these words can stand for, or none was found; and the status is the one that was seen, if it was.
    pub agrees: bool,
}

impl Logged {
    /// Held against the cause that was found.
    pub(super) fn about(line: &LogLine, cause: Code, attempt: &Attempt) -> Self {
        let known = logged::known(&line.said);
        let agrees = cause == unknown::RULE.code || known.is_none_or(|said| said.causes().contains(&cause));
        let status = attempt.logged_status.or(line.status);
        let seen = attempt.status();
        let said = match status {
            Some(status) if line.said.is_empty() => format!("status {status}"),
            _ => line.said.clone(),
        };
        Self {
            said,
            request: line.request.clone(),
            status,
            agrees: agrees && (seen.is_none() || status.is_none() || seen == status),
        }
    }
}

/// A condition that will make tries fail, or already does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    /// When it was found.
    pub time: Time,
    /// Code of the cause that it leads to.
    #[serde(deserialize_with = "known")]
    pub cause: Code,
    /// What it is about: an upstream or a listener.
    #[serde(deserialize_with = "harmless")]
    pub subject: String,
    /// The network namespace of the proxy that uses the upstream, or of the listener.
    pub netns: NetNs,
    /// One sentence with numbers.
    #[serde(deserialize_with = "harmless")]
    pub summary: String,
    /// What it rests on.
    pub evidence: Evidence,
    /// What to do.
    #[serde(deserialize_with = "harmless")]
    pub advice: Vec<String>,
}

/// What comes out of the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A try failed.
    Verdict(Box<Verdict>),
    /// Something is about to.
    Warning(Box<Warning>),
}

impl Said {
    /// When it failed, or was found.
    pub fn time(&self) -> Time {
        match self {
            Self::Verdict(verdict) => verdict.time,
            Self::Warning(warning) => warning.time,
        }
    }
}

/// As a recording keeps it.
impl From<&Said> for trace::Said {
    fn from(said: &Said) -> Self {
        match said {
            Said::Verdict(verdict) => Self {
                time: verdict.time,
                cause: verdict.cause,
                netns: verdict.upstream.netns,
                what: trace::Told::Verdict {
                    confidence: verdict.confidence.name(),
                    status: verdict.status,
                    observed: verdict.observed,
                    client: verdict.client,
                    proxy: verdict.proxy.clone(),
                    endpoint: verdict.upstream.endpoint,
                    path: verdict.upstream.path.map(|path| path.as_str().to_owned()),
                    because: verdict.because,
                    also: verdict.also.clone(),
                    request: verdict.log.as_ref().map(|log| Box::new(log.request.clone())),
                },
            },
            Said::Warning(warning) => Self {
                time: warning.time,
                cause: warning.cause,
                netns: warning.netns,
                what: trace::Told::Warning { subject: warning.subject.clone(), summary: warning.summary.clone() },
            },
        }
    }
}
