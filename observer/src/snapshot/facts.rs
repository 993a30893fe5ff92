//! What a snapshot knows of an upstream, for the one who explains its failures.

use super::UpstreamRow;
use crate::{addr::NetNs, diagnose::remedy::Facts, model::Listener};

impl UpstreamRow {
    /// What is known. A listener that has closed has no queue any more.
    pub fn facts(&self) -> Facts {
        let listener = self.listener.as_ref();
        let open = listener.map(|(_, _, listener)| listener).filter(|listener| listener.is_open());
        Facts {
            depth: open.map(|listener| listener.depth),
            limit: open.map(|listener| listener.limit),
            high_water: open.map(|listener| listener.high_water),
            somaxconn: self.somaxconn,
            workers: self.pool.map(|pool| pool.workers).or_else(|| open.and_then(Listener::workers)),
            busy: self.pool.map(|pool| pool.busy),
            needed: self.pool.and_then(|pool| pool.needed),
            arrivals_per_second: self.pool.map(|pool| pool.arrivals_per_second),
            seconds_per_request: self.pool.and_then(|pool| pool.seconds_per_request),
            time_wait: Some(self.time_wait),
            ports: self.ports,
            connections_per_second: Some(self.tries_per_second),
            ports_gone_in: self.ports_gone_in,
            listener: listener.map(|(_, bound, _)| bound.clone()),
            listener_netns: listener.map_or(NetNs(0), |(netns, _, _)| *netns),
            application: listener.and_then(|(_, _, listener)| listener.application),
            process: listener.and_then(|(_, _, listener)| listener.process.clone()),
            local: Some(self.local),
        }
    }
}
