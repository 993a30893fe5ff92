//! What a rule is.

use super::{
    evidence::Evidence,
    logged,
    remedy::Write,
    verdict::{Confidence, Warning},
};
use crate::{
    addr::{Endpoint, NetNs},
    model::{Attempt, FlowEvidence, Listener, Model},
    time::Time,
};

/// Everything a rule may look at for one failed try.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The try.
    pub attempt: &'a Attempt,
    /// What the server's side of its connection told.
    pub flow: &'a FlowEvidence,
    /// The host.
    pub model: &'a Model,
}

impl<'a> Case<'a> {
    /// The listener behind the upstream, if it is on this host.
    pub fn listener(&self) -> Option<&'a Listener> {
        self.behind().map(|(_, _, listener)| listener)
    }

    /// The settings of the namespace in which that listener lives.
    pub fn server_namespace(&self) -> Option<&'a crate::event::NamespaceSample> {
        let found = || self.behind().map(|(netns, _, _)| netns);
        let netns = if self.flow.server_netns.known() { Some(self.flow.server_netns) } else { found() };
        self.model.namespace(netns?).map(|namespace| &namespace.sample)
    }

    /// The connection may have been a tunnel's (an upgraded one, or TLS that cannot be looked into), whose ends owe each
    /// other no answers: it had been used, no head of an HTTP answer was seen on it, and none of an error to a client.
    pub fn is_tunnel_perhaps(&self) -> bool {
        let Some(connection) = &self.attempt.connection else { return false };
        let http = connection.answer_status.is_some_and(|status| status != 101);
        connection.reused() && !http && self.attempt.answer.is_none()
    }

    /// What the proxy's own log says of it, if that can stand for this cause alone.
    pub fn logged(&self, code: &str) -> Option<&'a str> {
        let said = self.attempt.line.as_ref()?.said.as_str();
        logged::known(said).filter(|message| message.causes() == [code]).map(|_| said)
    }

    /// How sure that makes: likely if the client was seen to get an error, for a log's word alone is anybody's who can write there.
    pub fn sure_by_log(&self) -> Confidence {
        if self.attempt.status().is_some() { Confidence::Likely } else { Confidence::Possible }
    }

    /// The span of the try, as far as it is known.
    pub fn span(&self) -> (Time, Time) {
        let began = self.attempt.connection.as_ref().map(|connection| connection.started);
        (began.filter(|began| *began != Time::default()).unwrap_or(self.attempt.time), self.attempt.time)
    }

    fn behind(&self) -> Option<(NetNs, Endpoint, &'a Listener)> {
        self.model.listener_behind(&self.attempt.upstream, self.flow.server_netns)
    }
}

/// What a rule says of a failed try.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// It was not this.
    No,
    /// It may have been, but this could not be seen.
    NotEnough(&'static str),
    /// It was.
    Found(Finding),
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How sure.
    pub confidence: Confidence,
    /// The status that the client most likely got.
    pub status: Option<u16>,
    /// What lies under it.
    pub because: Option<&'static str>,
    /// What else does.
    pub also: Vec<&'static str>,
    /// One sentence with numbers.
    pub summary: String,
    /// What it rests on.
    pub evidence: Evidence,
    /// What to do.
    pub advice: Vec<String>,
}

/// A cause: how to recognise it, and the page that explains it.
pub struct Rule {
    /// Its public name.
    pub code: &'static str,
    /// The page printed by `observer explain`.
    pub page: &'static str,
    /// Judges a failed try.
    pub judge: fn(&Case<'_>) -> Judgement,
    /// Looks for the condition before a try fails; called once at the turn of every second of event time.
    pub watch: Option<fn(&Model, Time) -> Vec<Warning>>,
    /// What to do about it, with the numbers of a case.
    pub remedy: Write,
}
