//! Lines that stand in several logs: nginx may be told to write to more than one.

use std::{collections::HashMap, time::Duration};

use super::FileId;
use crate::{proxy::nginx::errors::Failure, time::Time};

/// Lines remembered, twice. Beyond that they are forgotten, and may be told again.
const MAX_LINES: usize = 65_536;

/// How often a line stands in which log, and how often it was told.
type Times = (HashMap<FileId, u32>, u32);

/// Lines that several logs have, each from the same process: nginx may be told to write to more than one.
#[derive(Default)]
pub(super) struct Again {
    /// How often each line stands in which log, and how often it was told, of late and before.
    counts: [HashMap<(u32, u64, String), Times>; 2],
    since: Time,
}

impl Again {
    /// How long lines are remembered, at least.
    const WITHIN: Duration = Duration::from_secs(1);

    /// Forgets what is too long ago.
    pub(super) fn turn(&mut self, now: Time) {
        if now.since(self.since) > Self::WITHIN {
            self.since = now;
            self.counts.swap(0, 1);
            self.counts[0].clear();
        }
    }

    /// Whether it has not been told from another log.
    pub(super) fn is_new(&mut self, log: FileId, failure: &Failure) -> bool {
        let key = (failure.pid, failure.connection, format!("{}{:?}{:?}", failure.said, failure.at, failure.path));
        let [lately, before] = &mut self.counts;
        if lately.len() >= MAX_LINES {
            lately.clear();
        }
        let known = before.remove(&key);
        let (logs, told) = lately.entry(key).or_insert_with(|| known.unwrap_or_default());
        let here = logs.entry(log).or_default();
        *here = here.saturating_add(1);
        let new = *here > *told;
        *told = (*told).max(*here);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Request, testing::at};

    #[test]
    fn what_stands_in_two_logs_is_told_once_however_often_it_stands_there() {
        let failure = |connection| Failure {
            pid: 42,
            connection,
            said: "connect() failed".into(),
            at: None,
            path: None,
            request: Request::default(),
        };
        let mut again = Again::default();
        let mut new = |ms, log, connection| {
            again.turn(at(ms));
            again.is_new((1, log), &failure(connection))
        };
        assert!(new(0, 1, 7) && new(0, 1, 7) && new(0, 1, 8));
        assert!(!new(20, 2, 7) && !new(1_500, 2, 7) && !new(1_500, 2, 8));
        assert!(new(1_500, 2, 7), "this one does not stand in the other");
        assert!(new(9_000, 1, 8), "that was long ago");
    }
}
