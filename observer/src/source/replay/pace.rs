//! How far a replay has come, and how far it may go by now. The clock's time is an argument.

use std::time::Duration;

use crate::time::{Speed, Time};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    pub(super) speed: Speed,
    pub(super) paused: bool,
    /// All events up to this have been given out, of the recording's time.
    playhead: Time,
    /// Where to run at full speed, whatever else is set.
    target: Option<Time>,
    /// Never beyond this.
    limit: Time,
    /// When the clock was last looked at.
    seen: Time,
}

impl Pace {
    pub(super) fn new(speed: Speed, begin: Time) -> Self {
        Self { speed, paused: false, playhead: begin, target: None, limit: Time(u64::MAX), seen: Time::default() }
    }

    /// Up to which time events may be given out when the clock says `clock`.
    pub(super) fn due(&mut self, clock: Time) -> Time {
        // The first look tells only where the clock stands.
        let passed = if self.seen == Time::default() { Duration::ZERO } else { clock.since(self.seen) };
        self.seen = clock;
        match (self.target, self.speed) {
            (Some(target), _) => target,
            (None, _) if self.paused => self.playhead,
            (None, Speed::Times(times)) => {
                self.playhead = (self.playhead + passed.mul_f64(times)).min(self.limit);
                self.playhead
            }
            (None, Speed::Max) => self.limit,
        }
    }

    /// Everything up to `due` has been given out.
    pub(super) fn arrived(&mut self, due: Time) {
        self.playhead = due;
        self.target = None;
    }

    /// There was more than could be given out at once, and `newest` was the newest of that: the playhead is not ahead of it.
    pub(super) fn behind(&mut self, newest: Time) {
        self.playhead = newest;
    }

    pub(super) fn run_to(&mut self, target: Time) {
        self.target = Some(target.clamp(self.playhead, self.limit));
    }

    pub(super) fn stop_at(&mut self, limit: Time) {
        self.limit = limit.max(self.playhead);
    }

    pub(super) fn playhead(&self) -> Time {
        self.playhead
    }

    /// Where it is going.
    pub(super) fn target(&self) -> Option<Time> {
        self.target
    }

    /// Nothing more is to be given out.
    pub(super) fn at_limit(&self) -> bool {
        self.playhead >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Time {
        Time(seconds * SECOND)
    }

    #[test]
    fn time_passes_by_the_clock_and_the_speed() {
        let mut pace = Pace::new(Speed::Times(2.0), at(100));
        assert_eq!(pace.due(at(7)), at(100), "nothing has passed yet");
        assert_eq!(pace.due(at(8)), at(102));
        pace.behind(at(101));
        assert_eq!(pace.due(at(9)), at(103), "what took too long is not made up for");
        pace.paused = true;
        assert_eq!(pace.due(at(60)), at(103));
        pace.paused = false;
        pace.speed = pace.speed.faster();
        assert_eq!(pace.due(at(61)), at(107), "nor is a pause");
    }

    #[test]
    fn it_runs_to_a_target_first_though_paused() {
        let mut pace = Pace::new(Speed::Times(1.0), at(100));
        pace.paused = true;
        pace.run_to(at(130));
        assert_eq!((pace.due(at(1)), pace.due(at(2))), (at(130), at(130)));
        pace.arrived(at(130));
        assert_eq!((pace.due(at(2)), pace.target()), (at(130), None));
        pace.paused = false;
        assert_eq!(pace.due(at(3)), at(131));
        pace.run_to(at(0));
        assert_eq!(pace.due(at(3)), at(131), "what has been given out is not taken back");
        pace.arrived(at(131));
        pace.stop_at(at(135));
        assert_eq!((pace.due(at(60)), pace.at_limit()), (at(135), true));
    }
}
