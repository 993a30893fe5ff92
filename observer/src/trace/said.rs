//! What observer said, as a trace keeps it.

use crate::{
    addr::{Endpoint, NetNs},
    event::{Process, Request},
    time::Time,
};

/// What observer said, as far as a trace keeps it: who replays it comes to all of it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Time of the failure, or when the condition was found.
    pub time: Time,
    /// The cause's code.
    pub cause: &'static str,
    /// Network namespace.
    pub netns: NetNs,
    /// What else.
    pub what: Told,
}

/// See [`Said`].
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A verdict.
    Verdict {
        /// How sure.
        confidence: &'static str,
        /// The client's status.
        status: Option<u16>,
        /// It was seen.
        observed: bool,
        /// Who got it.
        client: Option<Endpoint>,
        /// Whose try.
        proxy: Process,
        /// At what, if over TCP.
        endpoint: Option<Endpoint>,
        /// At what, if over a unix socket.
        path: Option<String>,
        /// What lies under it.
        because: Option<&'static str>,
        /// What else does.
        also: Vec<&'static str>,
        /// The request that failed, where the proxy's log names it.
        request: Option<Box<Request>>,
    },
    /// A warning.
    Warning {
        /// What it is about.
        subject: String,
        /// In a sentence.
        summary: String,
    },
}
