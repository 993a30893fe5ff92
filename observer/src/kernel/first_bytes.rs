//! How long upstreams took to begin their answers, from the kernel's table.

use std::collections::HashMap as StdHashMap;

use aya::maps::{HashMap, MapError};
use observer_common::{
    counter::Counter,
    handshake::Peer,
    latency::{BUCKETS, Counts, upper_end},
};

use super::{Kernel, load::map, walk::Wire};
use crate::{
    addr::{Endpoint, NetNs},
    event::FirstBytes,
};

/// Readings without a new answer after which an upstream's place in the table is given to another.
const QUIET_READINGS: u32 = 60;

/// What was read last.
#[derive(Default)]
pub(crate) struct Read(StdHashMap<Peer, (Counts, u32)>);

impl Read {
    /// What has come since it was last read, for each upstream that has begun an answer.
    pub(crate) fn on(&mut self, kernel: &mut Kernel) -> Result<Vec<FirstBytes>, MapError> {
        let unmeasured = kernel.counters.get(&(Counter::AnswersUnmeasured as u32), 0)?.iter().sum();
        let mut table: HashMap<_, Wire<Peer>, Counts> = HashMap::try_from(map(&mut kernel.ebpf, "FIRST_BYTES")?)?;
        let mut found = Vec::new();
        for entry in &table {
            // One that goes while the table is read is missing, and told by the next reading.
            let Ok((Wire(peer), counts)) = entry else { break };
            let (before, quiet) = self.0.entry(peer).or_insert(([0; BUCKETS], 0));
            let since = since(&counts, before);
            *quiet = if since.is_empty() { *quiet + 1 } else { 0 };
            *before = counts;
            if !since.is_empty() {
                let upstream = Endpoint::from_wire(peer.addr, peer.port);
                found.push(FirstBytes { netns: NetNs(peer.netns), upstream, within: since, unmeasured });
            }
        }
        let long_quiet: Vec<_> =
            self.0.iter().filter(|(_, (_, quiet))| *quiet >= QUIET_READINGS).map(|(peer, _)| *peer).collect();
        for peer in long_quiet {
            // An answer that begins in this very moment is not counted.
            let _ = table.remove(&Wire(peer));
            self.0.remove(&peer);
        }
        Ok(found)
    }
}

/// Times and counts, the shortest first.
fn since(counts: &Counts, before: &Counts) -> Vec<(u64, u32)> {
    let rose = counts.iter().zip(before).map(|(count, before)| count.wrapping_sub(*before));
    (0..=u8::MAX).zip(rose).filter(|(_, count)| *count > 0).map(|(bucket, count)| (upper_end(bucket), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_come_since_is_told() {
        let mut before = [0; BUCKETS];
        (before[3], before[9]) = (u32::MAX, 5);
        let mut counts = before;
        (counts[3], counts[200]) = (1, 7);
        assert_eq!(since(&counts, &before), [(upper_end(3), 2), (upper_end(200), 7)]);
        assert_eq!(since(&before, &before), []);
    }
}
