//! Words and numbers that all formats share.

use super::{
    Report,
    cause::{self, Cause, EvidenceLine},
};
use crate::{
    diagnose::{Confidence, Harmless, Value},
    host, text,
    time::{Human, Time, WallClock},
};

/// Causes named in the summary.
const MAX_NAMED: usize = 3;

/// Text of a trace can be anybody's: made harmless, which leaves harmless text as it is.
pub(super) fn harmless(text: &str) -> String {
    text::escape(text.as_bytes())
}

/// For charts and shares, where the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "said above")]
pub(in crate::sink) fn float(count: u64) -> f64 {
    count as f64
}

/// `1,204`
pub(in crate::sink) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 failure`, `1,204 failures`
pub(in crate::sink) fn count_of(count: u64, one: &str, several: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { several })
}

/// Never `0 %` of something, never `100 %` of not all.
pub(super) fn share(part: u64, all: u64) -> String {
    let percent = 100.0 * float(part) / float(all.max(1));
    match percent {
        _ if part == 0 => "0 %".to_owned(),
        _ if part >= all => "100 %".to_owned(),
        p if p < 0.01 => "< 0.01 %".to_owned(),
        p if p < 1.0 => format!("{p:.2} %"),
        p if p < 10.0 => format!("{p:.1} %"),
        p if p < 99.0 => format!("{p:.0} %"),
        p => format!("{:.1} %", p.min(99.9)),
    }
}

/// A piece of evidence.
pub(super) fn value(name: &str, value: &Value) -> String {
    match value {
        Value::Count(count) if !cause::is_name(name) => number(*count),
        Value::Number(number) => measure(*number),
        other => other.to_string(),
    }
}

/// A number to one decimal; of a large one the fraction does not matter.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
pub(super) fn measure(measured: f64) -> String {
    if (100.0..1e15).contains(&measured) {
        return number(measured.round() as u64);
    }
    let text = format!("{measured:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// From the least to the most of a piece of evidence, if that can be told apart.
pub(super) fn spread(line: &EvidenceLine) -> Option<String> {
    let (least, most) = line.range?;
    let (least, most) = (measure(least), measure(most));
    (least != most).then(|| format!("{least} – {most}"))
}

/// Times of day, with the date where a report spans several days. All UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    wall: WallClock,
    one_day: bool,
}

impl Clock {
    pub(super) fn of(report: &Report) -> Self {
        let wall = report.about.wall;
        let day = |time| wall.rfc3339(time)[..10].to_owned();
        Self { wall, one_day: day(report.from) == day(report.to) }
    }

    /// Whole seconds of the wall clock since its zero.
    pub(super) fn second(self, time: Time) -> u64 {
        self.wall.offset.saturating_add(time.0) / 1_000_000_000
    }

    /// `14:03:12`, or `01-02 14:03:12`
    pub(super) fn time(self, time: Time) -> String {
        let full = self.wall.rfc3339(time);
        if self.one_day { full[11..19].to_owned() } else { format!("{} {}", &full[5..10], &full[11..19]) }
    }

    /// `2026-01-02 14:03:12`
    pub(super) fn date(self, time: Time) -> String {
        let full = self.wall.rfc3339(time);
        format!("{} {}", &full[..10], &full[11..19])
    }

    /// `14:03:12 – 14:05:00`, or one time if they are the same to the second.
    pub(super) fn span(self, (from, to): (Time, Time)) -> String {
        let (from, to) = (self.time(from), self.time(to));
        if from == to { from } else { format!("{from} – {to}") }
    }
}

/// `1,204 tries failed`
pub(super) fn headline(report: &Report) -> String {
    match report.failures.count {
        0 => "No try failed".to_owned(),
        count => format!("{} failed", count_of(count, "try", "tries")),
    }
}

/// The paragraph under the headline, without what caused it.
pub(super) fn lead(report: &Report) -> String {
    let clock = Clock::of(report);
    let watched = Human(report.to.since(report.from));
    let Some((first, last)) = report.failures.span else {
        let warned = match report.warnings.items.len() {
            0 => "and nothing gave cause for a warning",
            1 => "but there was a warning",
            _ => "but there were warnings",
        };
        return format!(
            "Watched {} for {watched}: {} ended, {}, {warned}.",
            report.about.watching,
            count_of(report.tries, "try", "tries"),
            answers(report),
        );
    };
    let lasted = last.since(first);
    let when = if lasted.as_secs() == 0 {
        format!("at {} UTC", clock.time(first))
    } else {
        format!("between {} and {} UTC ({})", clock.time(first), clock.time(last), Human(lasted))
    };
    let bouts = match report.failures.bouts.len() {
        0 | 1 => String::new(),
        several => format!(", in {several} stretches"),
    };
    let tries = share(report.failures.count, report.tries.max(report.failures.count));
    format!(
        "{}{bouts}: {tries} of the {} that ended in the {watched} watched. {}.",
        capital(&when),
        count_of(report.tries, "try", "tries"),
        capital(&answers(report)),
    )
}

/// What clients got, by the kernel's counters.
fn answers(report: &Report) -> String {
    let counters = &report.counters;
    if counters.answers == 0 {
        return "answers to clients could not be read".to_owned();
    }
    match counters.answers_failed {
        0 => format!("none of the {} seen was a 502 or 504", count_of(counters.answers, "answer", "answers")),
        failed => format!(
            "{} of the {} seen to clients ({}) {} 502 or 504",
            number(failed),
            count_of(counters.answers, "answer", "answers"),
            share(failed, counters.answers),
            if failed == 1 { "was a" } else { "were" },
        ),
    }
}

/// The same with a capital letter first.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The causes to name first, and how many others there are.
pub(super) fn named(report: &Report) -> (&[Cause], usize) {
    let count = report.causes.len().min(MAX_NAMED);
    (&report.causes[..count], report.causes.len() - count)
}

/// `accept-queue-overflow, because worker-pool-undersized`
pub(super) fn chain(cause: &Cause) -> String {
    match cause.because.first() {
        Some((because, _)) => format!("{}, because {because}", cause.code),
        None => cause.code.to_owned(),
    }
}

/// `502 × 1,150, 504 × 54`; empty if nothing is known.
pub(super) fn statuses(counts: &std::collections::BTreeMap<u16, u64>) -> String {
    let each = counts.iter().map(|(status, count)| format!("{status} × {}", number(*count)));
    each.collect::<Vec<_>>().join(", ")
}

/// `certain 12, likely 3`, the surest first.
pub(super) fn confidence(split: &[(Confidence, u64); 3]) -> String {
    let some = split.iter().rev().filter(|(_, count)| *count > 0);
    some.map(|(confidence, count)| format!("{} {}", confidence.name(), number(*count))).collect::<Vec<_>>().join(", ")
}

/// Width of a slot: `10 s`, `5 min`, `4 h`
pub(super) fn width(seconds: u64) -> String {
    match seconds {
        s if s.is_multiple_of(86_400) => format!("{} d", s / 86_400),
        s if s.is_multiple_of(3_600) => format!("{} h", s / 3_600),
        s if s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// `per second`, `per 10 s`
pub(super) fn per(seconds: u64) -> String {
    if seconds == 1 { "per second".to_owned() } else { format!("per {}", width(seconds)) }
}

/// `once`, `7 times`
pub(super) fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{} times", number(count)) }
}

/// A setting that may not have been readable.
pub(super) fn known(value: Option<u32>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

/// A range of ports.
pub(super) fn range(ports: Option<(u16, u16)>) -> String {
    ports.map_or_else(|| "?".to_owned(), |(low, high)| format!("{low}–{high}"))
}

/// By how much a counter rose.
pub(super) fn rise(count: Option<u64>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| format!("+{}", number(count)))
}

/// Settings of namespaces with a proxy or an upstream that are known traps, a sentence each.
pub(super) fn traps(report: &Report) -> Vec<String> {
    let concerned = report.namespaces.items.iter().filter(|namespace| namespace.concerned);
    let traps = concerned.flat_map(|namespace| {
        let range = namespace.port_range.map(|(low, high)| format!("{low} {high}"));
        let plain = |value: Option<u32>| value.map(|value| value.to_string());
        let settings = [
            ("net.core.somaxconn", plain(namespace.somaxconn)),
            ("net.ipv4.ip_local_port_range", range),
            ("net.ipv4.tcp_tw_reuse", plain(namespace.tw_reuse)),
            ("net.ipv4.tcp_abort_on_overflow", plain(namespace.abort_on_overflow)),
        ];
        settings.into_iter().filter_map(|(name, value)| {
            let value = value?;
            let remark = host::remark(name, &value)?;
            Some(format!("{name} = {value} in namespace {}: {remark}", namespace.netns))
        })
    });
    traps.collect()
}

/// A network namespace, which is not always known.
pub(super) fn netns(inode: u32) -> String {
    if inode == 0 { "not known".to_owned() } else { inode.to_string() }
}

/// What a reader has to know before believing the numbers.
pub(super) fn caveats(report: &Report) -> Vec<String> {
    let mut caveats = report.remarks.clone();
    let lost: Vec<_> = report.counters.lost.by_kind().into_iter().filter(|(_, count)| *count > 0).collect();
    if !lost.is_empty() {
        let kinds: Vec<_> = lost.iter().map(|(kind, count)| format!("{kind} {}", number(*count))).collect();
        caveats.push(format!(
            "{} lost ({}): failures and their causes are a lower bound, the kernel's counters are exact.",
            count_of(report.counters.lost.total(), "record was", "records were"),
            kinds.join(", "),
        ));
    }
    if report.evicted > 0 {
        caveats.push(format!(
            "{} dropped from full tables, or judged early for want of room: some evidence was forgotten.",
            count_of(report.evicted, "entry was", "entries were"),
        ));
    }
    for (hook, why) in report.about.hooks.degradations() {
        caveats.push(format!("{} was not seen in full: {why}.", hook.name()));
    }
    if report.about.segment > 1 {
        caveats.push(format!(
            "observer had begun to watch {} earlier: what it saw until then is not in these files.",
            Human(report.from.since(report.about.since)),
        ));
    }
    caveats
}

/// Tries that failed and are not among the failures, each kind that there were any of.
pub(super) fn harmless_tries(harmless: Harmless) -> Vec<(u64, &'static str)> {
    let Harmless { retried, clients_gone, answered_otherwise, abandoned, unanswered } = harmless;
    let all = [
        (retried, "failed and were tried again"),
        (clients_gone, "ended because their client had left"),
        (answered_otherwise, "failed and were answered with another status"),
        (abandoned, "were given up within a second: by their clients, most likely"),
        (unanswered, "failed without an answer being seen: tried again later, or the client had left"),
    ];
    all.into_iter().filter(|(count, _)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_never_rounded_to_nothing_or_all() {
        let cases = [
            ((0, 10), "0 %"),
            ((1, 100_000), "< 0.01 %"),
            ((3, 1000), "0.30 %"),
            ((146, 1000), "15 %"),
            ((99_999, 100_000), "99.9 %"),
            ((5, 5), "100 %"),
        ];
        for ((part, all), text) in cases {
            assert_eq!(share(part, all), text);
        }
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!([number(7), number(999), number(1000), number(1_234_567)], ["7", "999", "1,000", "1,234,567"]);
    }
}
