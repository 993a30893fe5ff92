//! Numbers, spans and times as people read them at a glance.

use std::time::Duration;

use crate::time::{Time, WallClock};

/// From this age on the time of day alone is ambiguous.
const ANOTHER_DAY: Duration = Duration::from_hours(20);

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count to calculate with.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 nobody counts to the last one")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// Something per second: `0`, `0.3`, `12.3`, `1,234`.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate <= 0.0 => "0".to_owned(),
        rate if rate < 0.1 => "<0.1".to_owned(),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate => whole(rate),
    }
}

/// Rounded: `1,234`.
pub(crate) fn whole(number: f64) -> String {
    count(format!("{number:.0}").parse().unwrap_or(u64::MAX))
}

/// A share in percent, never rounded to a 0 or a 100 that it is not: `0%`, `<1%`, `43%`, `100%`.
pub(crate) fn percent(part: f64, whole: f64) -> String {
    let share = if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    match share {
        share if share <= 0.0 => "0%".to_owned(),
        share if share < 1.0 => "<1%".to_owned(),
        share if share < 100.0 => format!("{:.0}%", share.floor()),
        share => format!("{share:.0}%"),
    }
}

/// How long, in one whole unit: `<1 s`, `75 s`, `12 min`, `5 h`, `3 d`.
pub(crate) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "<1 s".to_owned(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A short time in few cells: `380µs`, `4ms`, `1.2s`, `75s`.
pub(crate) fn short(duration: Duration) -> String {
    match duration.as_secs_f64() {
        s if s < 0.000_999_5 => format!("{:.0}µs", s * 1e6),
        s if s < 0.999_5 => format!("{:.0}ms", s * 1e3),
        s if s < 9.95 => format!("{s:.1}s"),
        s => format!("{s:.0}s"),
    }
}

/// Bytes: `900 B`, `12 KiB`, `34 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", count(bytes / 1_048_576)),
    }
}

/// The time of day in UTC, to the second, with the date when that is not today's: `03:12:44Z`, `01-02 03:12:44Z`.
pub(crate) fn clock(wall: WallClock, time: Time, now: Time) -> String {
    let full = wall.rfc3339(time);
    if now.since(time) < ANOTHER_DAY {
        format!("{}Z", full.get(11..19).unwrap_or(&full))
    } else {
        format!("{} {}Z", full.get(5..10).unwrap_or_default(), full.get(11..19).unwrap_or(&full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_at_a_glance() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.05, 0.3, 12.34, 99.96, 1234.5].map(rate), ["0", "<0.1", "0.3", "12.3", "100", "1,234"]);
        let cases = [(0.0, 9.0), (1.0, 900.0), (899.0, 900.0), (9.0, 9.0), (1.0, 0.0)];
        assert_eq!(cases.map(|(part, whole)| percent(part, whole)), ["0%", "<1%", "99%", "100%", "0%"]);
    }

    #[test]
    fn short_times_are_short() {
        let times = [0, 380, 999, 1_000, 4_400, 999_600, 1_240_000, 75_000_000].map(Duration::from_micros).map(short);
        assert_eq!(times, ["0µs", "380µs", "999µs", "1ms", "4ms", "1.0s", "1.2s", "75s"]);
        assert_eq!([900, 12_300, 36_000_000].map(bytes), ["900 B", "12 KiB", "34 MiB"]);
    }

    #[test]
    fn spans_have_one_unit() {
        let cases = [0, 1, 119, 120, 7_199, 7_200, 200_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(cases, ["<1 s", "1 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }

    #[test]
    fn an_old_time_has_its_date() {
        let wall = WallClock { offset: 1_767_323_564_000_000_000 };
        assert_eq!(clock(wall, Time(0), Time(0)), "03:12:44Z");
        assert_eq!(clock(wall, Time(0), Time(90_000_000_000_000)), "01-02 03:12:44Z");
    }
}
