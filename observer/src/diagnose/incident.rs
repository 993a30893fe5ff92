//! Verdicts of one cause at one upstream, taken together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    code::{Code, known},
    verdict::Verdict,
};
use crate::{
    model::{UpstreamKey, window::Tally},
    time::Time,
    untrusted::at_most,
};

/// Incidents remembered; the one quiet longest goes first.
pub const MAX_INCIDENTS: usize = 256;
/// An incident without a new verdict for this many seconds is over.
pub const OVER_AFTER: u64 = 30;

/// Failures of one cause at one upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Incident {
    /// The cause's code.
    #[serde(deserialize_with = "known")]
    pub cause: Code,
    /// Where.
    pub upstream: UpstreamKey,
    /// The first failure.
    pub first: Time,
    /// The latest, with its evidence and advice.
    pub latest: Verdict,
    /// How many.
    pub count: u64,
    recent: Tally,
}

impl Incident {
    /// Failures of the last [`TALLY_SECONDS`](crate::model::window::TALLY_SECONDS) whole seconds and the running one.
    pub fn lately(&self, now: Time) -> u32 {
        self.recent.so_far(now)
    }

    /// Whether it still goes on.
    pub fn active(&self, now: Time) -> bool {
        now.since(self.latest.time).as_secs() < OVER_AFTER
    }

    fn add(&mut self, verdict: &Verdict) {
        self.count = self.count.saturating_add(1);
        self.latest = verdict.clone();
        self.recent.add(verdict.time);
    }
}

/// All incidents.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Incidents {
    #[serde(deserialize_with = "at_most::<MAX_INCIDENTS, _, _, _>")]
    entries: Vec<Incident>,
    /// Verdicts by cause since the start; no cause is ever dropped from it.
    #[serde(deserialize_with = "known")]
    totals: BTreeMap<Code, u64>,
}

impl Incidents {
    pub(super) fn add(&mut self, verdict: &Verdict) {
        let total = self.totals.entry(verdict.cause).or_default();
        *total = total.saturating_add(1);
        let same = |incident: &&mut Incident| {
            incident.cause == verdict.cause && incident.upstream == verdict.upstream && incident.active(verdict.time)
        };
        if let Some(incident) = self.entries.iter_mut().find(same) {
            incident.add(verdict);
            return;
        }
        if self.entries.len() >= MAX_INCIDENTS {
            let quietest = self.entries.iter().enumerate().min_by_key(|(_, incident)| incident.latest.time);
            if let Some(index) = quietest.map(|(index, _)| index) {
                self.entries.swap_remove(index);
            }
        }
        let mut incident = Incident {
            cause: verdict.cause,
            upstream: verdict.upstream,
            first: verdict.time,
            latest: verdict.clone(),
            count: 1,
            recent: Tally::default(),
        };
        incident.recent.add(verdict.time);
        self.entries.push(incident);
    }

    /// All incidents, those that go on and those that are over.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.entries.iter()
    }

    /// Verdicts by cause since the start.
    pub fn totals(&self) -> &BTreeMap<&'static str, u64> {
        &self.totals
    }
}
