//! Requests for which a try failed, as a log of errors says: which status each got stands in another log.

use std::{collections::HashSet, hash::BuildHasher as _, net::IpAddr, time::Duration};

use foldhash::quality::RandomState;

use crate::{event::Request, time::Time};

/// Requests remembered, twice. Beyond that they are forgotten, and what they got is not told if it is no error.
const MAX_REQUESTS: usize = 16_384;

/// See the module. By hashes: one that is mistaken for another is told for nothing.
#[derive(Default)]
pub(super) struct Awaited {
    of_late: [HashSet<u64>; 2],
    since: Time,
    hashes: RandomState,
}

impl Awaited {
    /// How long requests are remembered, at least.
    const WITHIN: Duration = Duration::from_secs(2);

    /// Forgets what is too long ago.
    pub(super) fn turn(&mut self, now: Time) {
        if now.since(self.since) > Self::WITHIN {
            self.since = now;
            self.of_late.swap(0, 1);
            self.of_late[0].clear();
        }
    }

    /// There is none.
    pub(super) fn is_empty(&self) -> bool {
        self.of_late.iter().all(HashSet::is_empty)
    }

    /// A try for this request failed.
    pub(super) fn add(&mut self, request: &Request) {
        if let Some(client) = request.client {
            let hash = self.hash(client, &request.target);
            let [lately, _] = &mut self.of_late;
            if lately.len() >= MAX_REQUESTS {
                lately.clear();
            }
            lately.insert(hash);
        }
    }

    /// Whether a try for it did.
    pub(super) fn has(&self, request: &Request) -> bool {
        let hash = request.client.map(|client| self.hash(client, &request.target));
        hash.is_some_and(|hash| self.of_late.iter().any(|hashes| hashes.contains(&hash)))
    }

    fn hash(&self, client: IpAddr, target: &str) -> u64 {
        self.hashes.hash_one((client, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn a_request_is_awaited_for_a_while() {
        let request =
            |target: &str| Request { target: target.into(), client: Some([10, 0, 0, 1].into()), ..Request::default() };
        let mut awaited = Awaited::default();
        awaited.turn(at(5_000));
        awaited.add(&request("/cart"));
        awaited.add(&Request::default());
        assert!(awaited.has(&request("/cart")) && !awaited.has(&request("/")) && !awaited.has(&Request::default()));
        awaited.turn(at(7_500));
        assert!(awaited.has(&request("/cart")));
        awaited.turn(at(9_600));
        assert!(awaited.is_empty() && !awaited.has(&request("/cart")));
    }
}
