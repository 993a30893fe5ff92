//! The host's processors: what was stolen, and what waited for them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{event::HostSample, time::Time, untrusted::at_most};

/// Samples kept: some seconds.
const KEPT: usize = 6;

/// The processors over the last seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Processors {
    #[serde(deserialize_with = "at_most::<KEPT, _, _, _>")]
    samples: VecDeque<(Time, HostSample)>,
}

impl Processors {
    pub(super) fn sampled(&mut self, now: Time, sample: HostSample) {
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back((now, sample));
    }

    /// The first and the last sample kept.
    fn ends(&self) -> Option<[(Time, HostSample); 2]> {
        Some([*self.samples.front()?, *self.samples.back()?]).filter(|[first, last]| first.0 < last.0)
    }

    /// Share of their time that the hypervisor stole, 0 to 1.
    pub fn stolen(&self) -> Option<f64> {
        let [(_, first), (_, last)] = self.ends()?;
        share(last.stolen.saturating_sub(first.stolen), last.ticks.saturating_sub(first.ticks))
    }

    /// Share of the time in which some task waited for a processor, 0 to 1.
    pub fn waited(&self) -> Option<f64> {
        let [(began, first), (ended, last)] = self.ends()?;
        let waited = last.waited_us?.saturating_sub(first.waited_us?);
        share(waited, u64::try_from(ended.since(began).as_micros()).ok()?)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    let small = |number: u64| u32::try_from(number).map(f64::from).ok();
    (whole > 0).then(|| Some(small(part)? / small(whole)?))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between_samples() {
        let mut processors = Processors::default();
        assert_eq!(processors.stolen(), None);
        processors.sampled(Time(0), HostSample { ticks: 1_000, stolen: 10, waited_us: Some(0) });
        processors.sampled(Time(1_000_000_000), HostSample { ticks: 1_200, stolen: 60, waited_us: Some(900_000) });
        assert_eq!((processors.stolen(), processors.waited()), (Some(0.25), Some(0.9)));
    }
}
