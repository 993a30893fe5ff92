//! Two recordings held against each other: what failed before a change and after it, by cause and upstream, and what else changed.

pub mod live;

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use super::report::{
    Namespace, Report,
    words::{count_of, float, number},
};
use crate::time::Human;

/// Failures that the second recording must be expected to have, had nothing changed, for their absence to say anything: by chance fewer
/// than one in a hundred such recordings would have none (Poisson, e^-5).
const ENOUGH: f64 = 5.0;
/// Standard deviations by which two counts must differ to be told apart.
const APART: f64 = 3.0;

/// What became of failures of one cause at one upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// They came, or there are many more.
    New,
    /// There are more.
    More,
    /// There are as many as before, as far as chance lets one tell.
    Same,
    /// There are fewer.
    Fewer,
    /// There are none, and would have been.
    Gone,
    /// Too few, or too little load, to tell.
    Unclear,
}

impl Change {
    /// Its name in JSON and in lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::More => "more",
            Self::Same => "same",
            Self::Fewer => "fewer",
            Self::Gone => "gone",
            Self::Unclear => "unclear",
        }
    }
}

/// One of the two, in numbers.
#[derive(Clone, Debug)]
struct Side {
    host: String,
    /// When it begins, UTC.
    begins: String,
    seconds: f64,
    tries: u64,
    answers: u64,
    failed: u64,
    /// Of the failures, the longest time without any between two of them, or before the first.
    quiet: f64,
    /// Upstreams that are not listed one by one.
    unlisted: bool,
    /// Something was lost: counts are lower bounds.
    lossy: bool,
}

/// Failures of one cause at one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The cause's code.
    pub cause: &'static str,
    /// The upstream, as verdicts name it.
    pub upstream: String,
    /// How many there were in each.
    pub counts: [u64; 2],
    /// What became of them.
    pub change: Change,
}

/// What two recordings come to, the one before a change and the one after it.
#[derive(Clone, Debug)]
pub struct Comparison {
    sides: [Side; 2],
    /// Causes and upstreams, what is worse first, then the most frequent.
    pub rows: Vec<Row>,
    /// Settings and limits of queues that differ: what, before, after.
    changed: Vec<(String, String, String)>,
}

impl Comparison {
    /// Of these two.
    pub fn of(before: &Report, after: &Report) -> Self {
        let sides = [side(before), side(after)];
        let load = load(&sides);
        let mut counts: BTreeMap<(&'static str, String), [u64; 2]> = BTreeMap::new();
        for (which, report) in [before, after].into_iter().enumerate() {
            for upstream in &report.upstreams.items {
                for (cause, count) in &upstream.failures {
                    counts.entry((cause, upstream.name.clone())).or_default()[which] += count;
                }
            }
        }
        let rows = counts.into_iter().map(|((cause, upstream), counts)| {
            let [first, second] = &sides;
            let change = match judge(counts, sides.each_ref().map(|side| side.seconds), load) {
                // It may have been there, unlisted.
                Change::New if first.unlisted => Change::Unclear,
                // It was away for as long before, between its bouts.
                Change::Gone if second.unlisted || second.seconds * load.min(1.0) < first.quiet => Change::Unclear,
                change => change,
            };
            Row { cause, upstream, counts, change }
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| (row.change, std::cmp::Reverse(row.counts[0].max(row.counts[1]))));
        Self { sides, rows, changed: changed(before, after) }
    }

    /// Whether it helped, in a sentence.
    pub fn conclusion(&self) -> String {
        let count = |wanted: &[Change]| self.rows.iter().filter(|row| wanted.contains(&row.change)).count();
        let [before, after] = &self.sides;
        if self.rows.is_empty() {
            return "Nothing failed in either of them.".to_owned();
        }
        if count(&[Change::New, Change::More]) > 0 {
            return "It is worse: something fails that did not, or more often.".to_owned();
        }
        if count(&[Change::Unclear]) == self.rows.len() {
            return format!(
                "It cannot be told yet: in {} too little came, or too few failed before, to say anything. Record for longer, under the \
                 load that made it fail.",
                Human(std::time::Duration::from_secs_f64(after.seconds))
            );
        }
        if count(&[Change::Gone]) == self.rows.len() {
            return format!("It helped: what failed {} before does not fail any more.", often(before));
        }
        if count(&[Change::Gone, Change::Fewer]) > 0 {
            return format!("It helped in part: what failed {} before fails {} now.", often(before), often(after));
        }
        "It did not help: as much fails as before.".to_owned()
    }

    /// Lines for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (name, side) in ["before", "after"].iter().zip(&self.sides) {
            let Side { host, begins, seconds, tries, answers, failed, lossy, quiet: _, unlisted: _ } = side;
            let _ = writeln!(
                text,
                "{name:<7} {host}, {begins} UTC, {}: {} ({:.1} a second), {}, {}{}",
                Human(std::time::Duration::from_secs_f64(*seconds)),
                count_of(*tries, "try", "tries"),
                float(*tries) / seconds,
                count_of(*answers, "answer seen", "answers seen"),
                count_of(*failed, "failure", "failures"),
                if *lossy { "; something was lost: these are lower bounds" } else { "" }
            );
        }
        text.push('\n');
        for Row { cause, upstream, counts: [before, after], change } in &self.rows {
            let _ = writeln!(
                text,
                "{:<8} {:>9} → {:<9} {cause} at {upstream}",
                change.name(),
                number(*before),
                number(*after)
            );
        }
        if !self.changed.is_empty() {
            text.push_str("\nchanged between them:\n");
        }
        for (what, before, after) in &self.changed {
            let _ = writeln!(text, "  {what}: {before} → {after}");
        }
        let _ = writeln!(text, "{}{}", if self.rows.is_empty() { "" } else { "\n" }, self.conclusion());
        if let Some(caution) = self.caution() {
            let _ = writeln!(text, "{caution}");
        }
        text
    }

    /// That the load was another one, which may be why.
    fn caution(&self) -> Option<String> {
        let load = load(&self.sides);
        let mut cautions = Vec::new();
        if !(0.5..=2.0).contains(&load) {
            cautions.push(format!("Mind that there was {:.0} % of the load: that alone may be why.", load * 100.0));
        }
        if self.sides[1].lossy {
            cautions.push("Mind that something was lost in the second: more may have failed than it shows.".to_owned());
        }
        (!cautions.is_empty() && !self.rows.is_empty()).then(|| cautions.join("\n"))
    }

    /// One object for machines.
    pub fn to_json(&self) -> Value {
        let side = |side: &Side| {
            json!({
                "host": side.host,
                "begins": side.begins,
                "seconds": side.seconds,
                "tries": side.tries,
                "answers": side.answers,
                "failed": side.failed,
                "lossy": side.lossy,
            })
        };
        let rows = self.rows.iter().map(|row| {
            json!({
                "cause": row.cause,
                "upstream": row.upstream,
                "before": row.counts[0],
                "after": row.counts[1],
                "change": row.change.name(),
            })
        });
        let changed =
            self.changed.iter().map(|(what, before, after)| json!({ "what": what, "before": before, "after": after }));
        json!({
            "before": side(&self.sides[0]),
            "after": side(&self.sides[1]),
            "load": load(&self.sides),
            "failures": rows.collect::<Vec<_>>(),
            "changed": changed.collect::<Vec<_>>(),
            "conclusion": self.conclusion(),
        })
    }
}

fn side(report: &Report) -> Side {
    let begins = std::iter::once(report.from).chain(report.failures.bouts.iter().map(|bout| bout.to));
    let quiet = begins.zip(&report.failures.bouts).map(|(since, bout)| bout.from.since(since));
    Side {
        quiet: quiet.max().unwrap_or_default().as_secs_f64(),
        unlisted: report.upstreams.others > 0,
        host: report.about.host.clone(),
        begins: report.about.wall.rfc3339(report.from).get(..19).unwrap_or_default().replace('T', " "),
        seconds: report.to.since(report.from).as_secs_f64().max(0.001),
        tries: report.tries,
        answers: report.counters.answers,
        failed: report.failures.count,
        lossy: report.is_lossy(),
    }
}

/// How often something failed.
fn often(side: &Side) -> String {
    let rate = float(side.failed) / side.seconds;
    if rate >= 0.1 { format!("{rate:.1} times a second") } else { format!("{:.1} times an hour", rate * 3600.0) }
}

/// How much of the first one's load the second had. By answers or by tries, whichever is more: connections that are kept carry
/// many requests, and answers are not always looked at.
fn load([before, after]: &[Side; 2]) -> f64 {
    let ratio = |count: fn(&Side) -> u64| match count(before) {
        0 => 0.0,
        had => (float(count(after)) / after.seconds) / (float(had) / before.seconds),
    };
    if before.tries == 0 { 1.0 } else { ratio(|side| side.tries).max(ratio(|side| side.answers)) }
}

fn judge([before, after]: [u64; 2], [first, second]: [f64; 2], load: f64) -> Change {
    let (before, after) = (float(before), float(after));
    // What there would be had nothing changed.
    let expected = before / first * second * load;
    if after == 0.0 {
        // More load makes it no surer.
        return if before / first * second * load.min(1.0) >= ENOUGH { Change::Gone } else { Change::Unclear };
    }
    if before == 0.0 {
        let missed = after / second * first;
        return if missed >= ENOUGH { Change::New } else { Change::Unclear };
    }
    // Two counts, the first scaled to the second's time and load.
    let scale = second / first * load;
    let deviation = (after + before * scale * scale).sqrt();
    match (after - expected) / deviation.max(f64::MIN_POSITIVE) {
        apart if apart > APART => Change::More,
        apart if apart < -APART => Change::Fewer,
        _ => Change::Same,
    }
}

/// Settings of the namespaces concerned and limits of queues, where they can be told to be the same thing in both.
fn changed(before: &Report, after: &Report) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let mut note = |what: String, before: Option<String>, after: Option<String>| {
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            all.push((what, before, after));
        }
    };
    let concerned = |report: &Report| -> Vec<Namespace> {
        report.namespaces.items.iter().filter(|namespace| namespace.concerned).cloned().collect()
    };
    let (first, second) = (concerned(before), concerned(after));
    for was in &first {
        // Numbers of namespaces are given anew when a container is; with one on each side it is that one.
        let same = second.iter().find(|is| is.netns == was.netns);
        let Some(is) = same.or_else(|| second.first().filter(|_| first.len() == 1 && second.len() == 1)) else {
            continue;
        };
        let text = |value: Option<u32>| value.map(|value| value.to_string());
        let range = |range: Option<(u16, u16)>| range.map(|(low, high)| format!("{low}-{high}"));
        note("net.core.somaxconn".to_owned(), text(was.somaxconn), text(is.somaxconn));
        note("net.ipv4.ip_local_port_range".to_owned(), range(was.port_range), range(is.port_range));
        note("net.ipv4.tcp_tw_reuse".to_owned(), text(was.tw_reuse), text(is.tw_reuse));
        note("net.ipv4.tcp_abort_on_overflow".to_owned(), text(was.abort_on_overflow), text(is.abort_on_overflow));
    }
    for was in &before.queues {
        if let Some(is) = after.queues.iter().find(|is| is.name == was.name) {
            let limit = |limit: u32| Some(format!("limit {limit}"));
            note(format!("accept queue of {}", was.name), limit(was.limit), limit(is.limit));
            let processes = |count: u32| (count > 0).then(|| format!("{count} processes"));
            let (first, second) = match (&was.application, &is.application) {
                (Some(first), Some(second)) => (Some(first.clone()), Some(second.clone())),
                _ => (processes(was.holders), processes(is.holders)),
            };
            note(format!("who holds {}", was.name), first, second);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_would_have_been_there() {
        let minute = [60.0, 60.0];
        assert_eq!(judge([100, 0], minute, 1.0), Change::Gone);
        assert_eq!(judge([4, 0], minute, 1.0), Change::Unclear, "it may come back any minute");
        assert_eq!(judge([100, 0], [60.0, 1.0], 1.0), Change::Unclear, "it was not looked at for long enough");
        assert_eq!(judge([100, 0], minute, 0.01), Change::Unclear, "nothing came that could have failed");
        assert_eq!(judge([0, 100], minute, 1.0), Change::New);
        assert_eq!(judge([0, 100], [1.0, 60.0], 1.0), Change::Unclear, "before, it was not looked at for long enough");
    }

    #[test]
    fn chance_is_no_change() {
        let minute = [60.0, 60.0];
        assert_eq!(judge([100, 110], minute, 1.0), Change::Same);
        assert_eq!(judge([100, 200], minute, 1.0), Change::More);
        assert_eq!(judge([100, 20], minute, 1.0), Change::Fewer);
        // Half of the time, half of the failures; half of the load likewise.
        assert_eq!(judge([1_000, 500], [60.0, 30.0], 1.0), Change::Same);
        assert_eq!(judge([1_000, 500], minute, 0.5), Change::Same);
    }

    fn side(tries: u64, answers: u64, failed: u64) -> Side {
        Side {
            host: "a".into(),
            begins: String::new(),
            seconds: 60.0,
            tries,
            answers,
            failed,
            quiet: 0.0,
            unlisted: false,
            lossy: false,
        }
    }

    #[test]
    fn kept_connections_are_no_lack_of_load() {
        assert!(load(&[side(1_000, 1_000, 9), side(20, 1_000, 0)]) > 0.99);
        assert!(load(&[side(1_000, 0, 9), side(100, 0, 0)]) < 0.11);
        assert!(load(&[side(0, 0, 0), side(100, 0, 0)]) > 0.99);
        // Three times the load, three times the failures.
        assert!((load(&[side(100, 0, 9), side(300, 0, 0)]) - 3.0).abs() < 0.01);
        assert_eq!(judge([100, 300], [60.0, 60.0], 3.0), Change::Same);
    }

    #[test]
    fn the_conclusion_goes_by_the_worst() {
        let comparison = |changes: &[Change]| Comparison {
            sides: [side(1_000, 0, 120), side(1_000, 0, 30)],
            rows: changes
                .iter()
                .map(|change| Row { cause: "unknown", upstream: "a".into(), counts: [1, 1], change: *change })
                .collect(),
            changed: Vec::new(),
        };
        for (changes, begins) in [
            (&[][..], "Nothing failed"),
            (&[Change::Gone], "It helped:"),
            (&[Change::Gone, Change::Same], "It helped in part"),
            (&[Change::Same], "It did not help"),
            (&[Change::Unclear], "It cannot be told"),
            (&[Change::Gone, Change::New], "It is worse"),
        ] {
            let said = comparison(changes).conclusion();
            assert!(said.starts_with(begins), "{changes:?}: {said}");
        }
    }
}
