//! What became of what failed up to a moment of a watch that goes on.

use std::{collections::BTreeMap, time::Duration};

use super::{Change, judge};
use crate::{
    diagnose::Incident,
    model::UpstreamKey,
    snapshot::{Snapshot, UpstreamRow},
};

/// What failed for less than this has no rate yet: it is taken to have failed so long.
const LEAST: Duration = Duration::from_secs(10);
/// What has paused for longer than this comes in bouts: of a shorter stretch it cannot be told whether there are fewer.
const PAUSE: Duration = Duration::from_secs(30);
/// What fails at the moment is measured by this long before it: it may have grown since it began.
const LATELY: usize = 60;

/// Failures of one cause at one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Since {
    /// The cause's code.
    pub cause: &'static str,
    /// The upstream.
    pub upstream: UpstreamKey,
    /// Failures a second, while it failed before the moment, and since.
    pub rates: [f64; 2],
    /// What became of them.
    pub change: Change,
}

/// What it was like before: how many failures in how long, and the longest pause between two, or since the last.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    count: u64,
    span: Duration,
    quiet: Duration,
}

impl Before {
    fn of(shown: &Snapshot, cause: &str, upstream: &UpstreamKey) -> Self {
        let same = |it: &&Incident| it.cause == cause && it.upstream == *upstream;
        let mut all: Vec<_> = shown.incidents.iter().filter(same).collect();
        all.sort_by_key(|it| it.first);
        let (Some(first), Some(last)) = (all.first(), all.last()) else {
            // What did not fail had not for as long as it was watched.
            return Self { span: shown.now.since(shown.since).max(LEAST), ..Self::default() };
        };
        let pauses = all.windows(2).map(|pair| pair[1].first.since(pair[0].latest.time));
        let quiet = pauses.chain([shown.now.since(last.latest.time)]).max().unwrap_or_default();
        // While it failed: pauses are for what is gone.
        let failing = all.iter().map(|it| it.latest.time.since(it.first).max(LEAST)).sum::<Duration>();
        let since = shown.now.since(first.first);
        let counts = all.iter().fold(0, |sum: u64, it| sum.saturating_add(it.count));
        let lately = shown.upstreams.iter().find(|row| row.key == *upstream).and_then(|row| {
            let (_, seconds) = row.by_cause.iter().find(|(code, _)| *code == cause)?;
            // The last is the running one, and may still fill.
            let whole = seconds.len().saturating_sub(1);
            let from = whole.saturating_sub(LATELY);
            Some(seconds[from..whole].iter().fold(0_u64, |sum, count| sum + u64::from(*count)))
        });
        match lately.filter(|count| *count > 0 && since > Duration::from_secs(LATELY as u64)) {
            Some(count) => Self { count, span: Duration::from_secs(LATELY as u64), quiet },
            None => Self { count: counts, span: failing, quiet },
        }
    }
}

/// What failed until `before` was taken, and what has since, what is worse first. What had been over for longer than this takes is left
/// out, unless it is back.
pub fn since(before: &Snapshot, now: &Snapshot) -> Vec<Since> {
    let lasted = now.now.since(before.now);
    let mut counts: BTreeMap<(&'static str, UpstreamKey), u64> = BTreeMap::new();
    for incident in before.incidents.iter().filter(|incident| incident.active(before.now)) {
        counts.entry((incident.cause, incident.upstream)).or_default();
    }
    for incident in &now.incidents {
        let was = |other: &&Incident| {
            (other.cause, other.upstream, other.first) == (incident.cause, incident.upstream, incident.first)
        };
        let count = incident.count.saturating_sub(before.incidents.iter().find(was).map_or(0, |was| was.count));
        if count > 0 {
            let sum = counts.entry((incident.cause, incident.upstream)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    let row = |((cause, upstream), after): ((&'static str, UpstreamKey), u64)| {
        let Before { count, span, quiet } = Before::of(before, cause, &upstream);
        let seconds = [span.as_secs_f64(), lasted.as_secs_f64().max(1.0)];
        let load = load(&upstream, before, now);
        let change = match judge([count, after], seconds, load) {
            // It was away for as long before, between its bouts; or it is not over yet.
            Change::Gone if lasted <= quiet || goes_on(now, cause, &upstream) => Change::Unclear,
            Change::Fewer if quiet >= PAUSE && lasted <= 2 * quiet => Change::Unclear,
            change => change,
        };
        let per_second =
            |count: u64, seconds: f64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from) / seconds;
        Since { cause, upstream, rates: [per_second(count, seconds[0]), per_second(after, seconds[1])], change }
    };
    let mut rows: Vec<_> = counts.into_iter().map(row).collect();
    rows.sort_by(|one, other| {
        let most = |row: &Since| row.rates[0].max(row.rates[1]);
        one.change.cmp(&other.change).then(most(other).total_cmp(&most(one)))
    });
    rows
}

/// Whether it helped, in a few words.
pub fn conclusion(rows: &[Since]) -> &'static str {
    let any = |wanted: &[Change]| rows.iter().any(|row| wanted.contains(&row.change));
    let all = |wanted: Change| rows.iter().all(|row| row.change == wanted);
    match () {
        () if rows.is_empty() => "nothing failed before, nothing does now",
        () if any(&[Change::New, Change::More]) => "it is worse",
        () if all(Change::Gone) => "it helped",
        () if all(Change::Unclear) => "too early to tell",
        () if any(&[Change::Gone, Change::Fewer]) => "it helped in part",
        () => "it has not helped",
    }
}

fn goes_on(now: &Snapshot, cause: &str, upstream: &UpstreamKey) -> bool {
    now.incidents.iter().any(|it| it.cause == cause && it.upstream == *upstream && it.active(now.now))
}

/// Tries a second since, over those of late before: at that upstream, or at all of them if it is asked no more, or there was no try. 1 where
/// there is nothing to compare with.
fn load(upstream: &UpstreamKey, before: &Snapshot, now: &Snapshot) -> f64 {
    let lasted = now.now.since(before.now).as_secs_f64().max(1.0);
    let of = |counts: &dyn Fn(&&UpstreamRow) -> bool| {
        let tries = |shown: &Snapshot| {
            shown.upstreams.iter().filter(counts).fold(0, |sum: u64, row| sum.saturating_add(row.tries))
        };
        let rate: f64 = before.upstreams.iter().filter(counts).map(|row| row.tries_per_second).sum();
        let more = tries(now).saturating_sub(tries(before));
        let since = u32::try_from(more).map_or(f64::from(u32::MAX), f64::from) / lasted;
        if rate > 0.0 { since / rate } else { 1.0 }
    };
    let own = of(&|row| row.key == *upstream);
    if *upstream == UpstreamKey::NONE || own == 0.0 { of(&|_| true) } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixture;

    fn of(rows: &[Since]) -> Vec<(&'static str, Change)> {
        rows.iter().map(|row| (row.cause, row.change)).collect()
    }

    #[test]
    fn what_failed_and_fails_no_longer_is_gone_and_what_goes_on_is_the_same() {
        let [before, now] = fixture::changed();
        let rows = since(&before, &now);
        assert_eq!(of(&rows), [("upstream-refused", Change::Same), ("accept-queue-overflow", Change::Gone)]);
        let [refused, overflow] = &rows[..] else { panic!("{rows:?}") };
        assert!(overflow.rates[0] > 10.0 && overflow.rates[1] == 0.0, "{overflow:?}");
        assert!((refused.rates[0] - refused.rates[1]).abs() < 0.2, "{refused:?}");
        assert_eq!(conclusion(&rows), "it helped in part");
    }

    #[test]
    fn what_comes_only_then_is_new_and_soon_after_nothing_can_be_told() {
        let [before, now] = fixture::changed();
        let quiet = Snapshot { incidents: Vec::new(), upstreams: Vec::new(), ..Snapshot::clone(&before) };
        let rows = since(&quiet, &now);
        assert!(rows.iter().all(|row| row.change == Change::New && row.rates[0] == 0.0), "{rows:?}");
        assert_eq!(conclusion(&rows), "it is worse");
        assert!(since(&before, &before).iter().all(|row| row.change == Change::Unclear));
        assert_eq!(conclusion(&since(&before, &before)), "too early to tell");
        assert_eq!(conclusion(&since(&quiet, &quiet)), "nothing failed before, nothing does now");
    }

    #[test]
    fn a_bout_that_came_before_is_nothing_new() {
        let [_, early] = fixture::changed();
        // Pressed in a pause: what failed has been over for a while, and comes back as it was.
        let pause = Duration::from_secs(95);
        let before = Snapshot { now: early.now + pause, ..Snapshot::clone(&early) };
        let mut now = Snapshot { now: before.now + pause, ..before.clone() };
        let refused = now.incidents.iter_mut().find(|it| it.cause == "upstream-refused").unwrap();
        (refused.first, refused.latest.time, refused.count) = (before.now, now.now, 70);
        for row in &mut now.upstreams {
            row.tries += 330;
        }
        let rows = since(&before, &now);
        assert!(rows.iter().all(|row| row.change != Change::New), "{rows:?}");
        assert_ne!(conclusion(&rows), "it is worse");
    }

    #[test]
    fn an_upstream_that_is_asked_no_more_is_none_that_may_still_fail() {
        let [before, _] = fixture::changed();
        let later = Duration::from_mins(10);
        let mut now = Snapshot { now: before.now + later, ..Snapshot::clone(&before) };
        for row in &mut now.upstreams {
            // All but that which fails go on.
            row.tries += if row.key.to_string().ends_with(":8081") { 0 } else { 12_000 };
        }
        let rows = since(&before, &now);
        let refused = rows.iter().find(|row| row.cause == "upstream-refused").unwrap();
        assert_eq!(refused.change, Change::Gone, "{rows:?}");
    }
}
