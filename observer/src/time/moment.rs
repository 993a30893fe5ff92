//! Times as people name them on the command line.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use super::{Time, WallClock};

const DAY: Duration = Duration::from_hours(24);

/// A time in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after its beginning: `90s`, `5m`.
    After(Duration),
    /// At this time: `2026-01-02T14:03:07Z`.
    At(SystemTime),
    /// At this time of its day, as time since midnight: `14:03`, `14:03:07`, in UTC.
    OfDay(Duration),
}

impl Moment {
    /// In a recording that begins at `begin`. Of one that goes on past midnight, a time of day that lies more than half a day
    /// before the beginning is the next day's.
    pub fn resolve(self, begin: Time, wall: WallClock) -> Time {
        match self {
            Self::After(offset) => begin + offset,
            Self::At(time) => wall.time(time),
            Self::OfDay(of_day) => {
                let since_epoch = wall.at(begin).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
                let into_day = Duration::from_secs(since_epoch % DAY.as_secs());
                let next = if into_day > of_day + DAY / 2 { DAY } else { Duration::ZERO };
                let midnight = Duration::from_secs(since_epoch).saturating_sub(into_day);
                wall.time(SystemTime::UNIX_EPOCH + midnight + next + of_day)
            }
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(of_day) = time_of_day(text) {
            return Ok(Self::OfDay(of_day));
        }
        if let Ok(time) = humantime::parse_rfc3339_weak(text) {
            return Ok(Self::At(time));
        }
        humantime::parse_duration(text).map(Self::After).map_err(|_| {
            "a time since the beginning (90s, 5m), a time of day (14:03:07) or a time (2026-01-02T14:03:07Z), in UTC"
                .to_owned()
        })
    }
}

/// `14:03` or `14:03:07`, with or without a `Z`.
fn time_of_day(text: &str) -> Option<Duration> {
    let mut numbers = text.strip_suffix('Z').unwrap_or(text).split(':').map(|number| {
        let plain = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        if plain { number.parse::<u64>().ok() } else { None }
    });
    let (hours, minutes, seconds) = (numbers.next()??, numbers.next()??, numbers.next().unwrap_or(Some(0))?);
    let valid = numbers.next().is_none() && hours < 24 && minutes < 60 && seconds < 60;
    valid.then(|| Duration::from_secs(hours * 3600 + minutes * 60 + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Into the recording, by its times of day, from a beginning at 23:50:00 on 1 January 2026.
    fn seconds_after(text: &str) -> i64 {
        let begin = Time(5_000_000_000);
        let wall = WallClock { offset: 1_767_311_400_000_000_000 - begin.0 };
        assert!(wall.rfc3339(begin).starts_with("2026-01-01T23:50:00"));
        let moment = text.parse::<Moment>().unwrap().resolve(begin, wall);
        i64::try_from(moment.0 / 1_000_000_000).unwrap() - 5
    }

    #[test]
    fn a_time_can_be_named_in_three_ways() {
        assert_eq!(seconds_after("90s"), 90);
        assert_eq!(seconds_after("0s"), 0);
        assert_eq!(seconds_after("2026-01-02T00:03:07Z"), 787);
        assert_eq!(seconds_after("23:51"), 60);
        assert_eq!(seconds_after("23:51:05Z"), 65);
        for bad in ["", "noon", "24:00", "14", "14:60:00", "14:03:07:09", "-5s", "1:2:+3"] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_of_day_may_be_past_midnight_or_before_the_beginning() {
        assert_eq!(seconds_after("00:05:00"), 900);
        assert_eq!(seconds_after("23:49:58"), -2);
    }

    #[test]
    fn what_lies_before_the_clock_began_is_its_beginning() {
        let wall = WallClock { offset: 1_767_311_400_000_000_000 };
        assert_eq!("2001-01-01T00:00:00Z".parse::<Moment>().unwrap().resolve(Time(7), wall), Time(0));
    }
}
