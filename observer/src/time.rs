//! Points in time as the kernel's clock gives them. Nothing here reads a clock.

pub mod moment;
pub mod speed;

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use moment::Moment;
use serde::{Deserialize, Serialize};
pub use speed::Speed;

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// Time since `earlier`, zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole seconds, for grouping into buckets of a second.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What turns [`Time`] into the time of day: the wall clock minus the monotonic one, measured once at the start, so
/// that a clock stepped later does not tear an incident apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClock {
    /// Nanoseconds from the Unix epoch to the monotonic clock's zero.
    pub offset: u64,
}

impl WallClock {
    /// The time of day at `time`.
    pub fn at(self, time: Time) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.offset.saturating_add(time.0))
    }

    /// The kernel's time at that time of day; its beginning for anything before that.
    pub fn time(self, at: SystemTime) -> Time {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(nanos(since_epoch).saturating_sub(self.offset))
    }

    /// RFC 3339 in UTC with microseconds.
    pub fn rfc3339(self, time: Time) -> String {
        humantime::format_rfc3339_micros(self.at(time)).to_string()
    }
}

/// A duration for people: three significant digits at most, the unit that fits.
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        match seconds {
            s if s >= 3600.0 => write!(f, "{:.1} h", s / 3600.0),
            s if s >= 100.0 => write!(f, "{:.1} min", s / 60.0),
            s if s >= 10.0 => write!(f, "{s:.0} s"),
            s if s >= 1.0 => write!(f, "{s:.1} s"),
            s if s >= 0.001 => write!(f, "{:.0} ms", s * 1e3),
            s => write!(f, "{:.0} µs", s * 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let cases = [(0.000_4, "400 µs"), (0.25, "250 ms"), (2.04, "2.0 s"), (60.0, "60 s"), (600.0, "10.0 min")];
        for (seconds, text) in cases {
            assert_eq!(Human(Duration::from_secs_f64(seconds)).to_string(), text);
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
        assert_eq!(Time(5) - Duration::from_secs(1), Time(0));
        assert_eq!(Time(u64::MAX) + Duration::from_secs(1), Time(u64::MAX));
    }
}
