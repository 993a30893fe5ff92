//! Network namespaces: their TIME_WAIT sockets, settings and addresses.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{event::NamespaceSample, time::Time};

/// A namespace as last sampled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// When.
    pub sampled_at: Time,
    /// What was found.
    pub sample: NamespaceSample,
    /// When its `ListenDrops` was last found higher than in the sample before: a listener dropped something since that.
    pub drops_rose: Option<Time>,
}

impl Namespace {
    pub(super) fn sampled(&mut self, now: Time, sample: &NamespaceSample) {
        if self.sample.listen_drops.zip(sample.listen_drops).is_some_and(|(before, count)| count > before) {
            self.drops_rose = Some(now);
        }
        self.sampled_at = now;
        self.sample.clone_from(sample);
    }

    /// Whether an interface of it has this address.
    pub fn has_address(&self, ip: IpAddr) -> bool {
        self.sample.addresses.contains(&ip)
    }

    /// How many ephemeral ports there are for one destination.
    pub fn ports(&self) -> Option<u32> {
        self.sample.port_range.map(|(low, high)| u32::from(high.saturating_sub(low)) + 1)
    }
}
