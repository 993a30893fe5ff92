//! What the server's side tells of single connections, kept until the proxy's side ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    addr::{Endpoint, NetNs},
    event::{Flow, Hurt, ResetSent, Unserved},
    time::Time,
};

/// A connection by its ends. The namespace is part of it only for loopback addresses, which every namespace has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlowKey {
    client: Endpoint,
    server: Endpoint,
    netns: NetNs,
}

impl FlowEvidence {
    /// Notes a RST. One that a process caused is followed by others, which answer what was still under way and say nothing.
    pub(super) fn reset_sent(&mut self, now: Time, reset: &ResetSent) {
        let caused = self.reset.as_ref().is_some_and(|first| first.process.is_some());
        if caused && reset.process.is_none() && now.since(self.reset_at) < STRAGGLERS {
            return;
        }
        self.reset = Some(Box::new(reset.clone()));
        self.reset_at = now;
    }

    /// SYNs and ACKs turned away by a full accept queue.
    pub fn overflows(&self) -> u32 {
        self.overflows_syn.saturating_add(self.overflows_ack)
    }

    /// Whether any queue turned something away.
    pub fn turned_away(&self) -> bool {
        self.overflows() > 0 || self.syn_queue_drops > 0
    }

    /// It ended in the accept queue.
    pub fn never_accepted(&self) -> bool {
        self.unserved.as_ref().is_some_and(|unserved| !unserved.accepted)
    }
}

impl FlowKey {
    /// Of a flow whose local end is the client's (the proxy's).
    pub fn of_client(flow: &Flow) -> Self {
        Self::new(flow.local, flow.remote, flow.netns)
    }

    /// Of a flow whose local end is the server's.
    pub fn of_server(flow: &Flow) -> Self {
        Self::new(flow.remote, flow.local, flow.netns)
    }

    fn new(client: Endpoint, server: Endpoint, netns: NetNs) -> Self {
        Self { client, server, netns: if server.ip.is_loopback() { netns } else { NetNs::default() } }
    }
}

/// How long segments of a connection that is gone may still come.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// What happened on the server's side of a connection. Each part that is large is rare, and apart: there may be very many of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowEvidence {
    /// SYNs turned away by a full accept queue.
    pub overflows_syn: u32,
    /// ACKs (and data) turned away by a full accept queue.
    pub overflows_ack: u32,
    /// Depth of the queue at the last of them.
    pub depth: u32,
    /// Its limit.
    pub limit: u32,
    /// The listener's namespace.
    pub server_netns: NetNs,
    /// SYN-ACKs sent again although the client had completed the handshake.
    pub synacks_again: u32,
    /// The RST that the server's host sent: of its own accord if there was one, else the last.
    pub reset: Option<Box<ResetSent>>,
    /// When it did.
    pub reset_at: Time,
    /// Its client gave it up unserved.
    pub unserved: Option<Box<Unserved>>,
    /// Its application closed it with a request unanswered, or by dying.
    pub hurt: Option<Box<Hurt>>,
    /// SYNs dropped by a full SYN queue.
    pub syn_queue_drops: u32,
    /// When the last of this was told.
    pub told: Time,
}
