//! What became of what failed up to a moment of a watch that goes on.

use std::{collections::BTreeMap, time::Duration};

use super::{Change, judge};
use crate::{
    diagnose::Incident,
    model::UpstreamKey,
    snapshot::{Snapshot, UpstreamRow},
    time::Time,
};

/// An incident shorter than this has no rate yet: it is taken to have lasted so long.
const LEAST: Duration = Duration::from_secs(10);

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

/// What failed when `before` was taken, and what has since, what is worse first.
pub fn since(before: &Snapshot, now: &Snapshot) -> Vec<Since> {
    let lasted = now.now.since(before.now);
    let mut counts: BTreeMap<(&'static str, UpstreamKey), ([u64; 2], Duration)> = BTreeMap::new();
    for incident in before.incidents.iter().filter(|incident| incident.active(before.now)) {
        let (counts, span) = counts.entry((incident.cause, incident.upstream)).or_default();
        counts[0] = counts[0].saturating_add(incident.count);
        *span += before.now.since(incident.first).max(LEAST);
    }
    for incident in &now.incidents {
        let was = |other: &&Incident| {
            (other.cause, other.upstream, other.first) == (incident.cause, incident.upstream, incident.first)
        };
        let count = incident.count.saturating_sub(before.incidents.iter().find(was).map_or(0, |was| was.count));
        if count > 0 {
            let (counts, _) = counts.entry((incident.cause, incident.upstream)).or_default();
            counts[1] = counts[1].saturating_add(count);
        }
    }
    let row = |((cause, upstream), (counts, span)): ((&'static str, UpstreamKey), ([u64; 2], Duration))| {
        // What did not fail then had not for as long as it was watched.
        let span = if span.is_zero() { before.now.since(before.since).max(LEAST) } else { span };
        let seconds = [span.as_secs_f64(), lasted.as_secs_f64().max(1.0)];
        let change = match judge(counts, seconds, load(&upstream, before, now)) {
            // It may be one of the pauses that it makes.
            Change::Gone if goes_on(now, cause, &upstream, now.now) => Change::Unclear,
            change => change,
        };
        let per_second =
            |count: u64, seconds: f64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from) / seconds;
        Since { cause, upstream, rates: [per_second(counts[0], seconds[0]), per_second(counts[1], seconds[1])], change }
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

fn goes_on(now: &Snapshot, cause: &str, upstream: &UpstreamKey, at: Time) -> bool {
    now.incidents.iter().any(|it| it.cause == cause && it.upstream == *upstream && it.active(at))
}

/// Tries a second at an upstream since, over those when it failed; of all of them for a failure without a try. 1 where there was none to
/// compare with.
fn load(upstream: &UpstreamKey, before: &Snapshot, now: &Snapshot) -> f64 {
    let counts = |row: &&UpstreamRow| *upstream == UpstreamKey::NONE || row.key == *upstream;
    let tries =
        |shown: &Snapshot| shown.upstreams.iter().filter(counts).fold(0, |sum: u64, row| sum.saturating_add(row.tries));
    let rate: f64 = before.upstreams.iter().filter(counts).map(|row| row.tries_per_second).sum();
    let lasted = now.now.since(before.now).as_secs_f64().max(1.0);
    let more = tries(now).saturating_sub(tries(before));
    let since = u32::try_from(more).map_or(f64::from(u32::MAX), f64::from) / lasted;
    if rate > 0.0 { since / rate } else { 1.0 }
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
        let quiet = Snapshot { incidents: Vec::new(), ..Snapshot::clone(&before) };
        let rows = since(&quiet, &now);
        assert!(rows.iter().all(|row| row.change == Change::New && row.rates[0] == 0.0), "{rows:?}");
        assert_eq!(conclusion(&rows), "it is worse");
        assert!(since(&before, &before).iter().all(|row| row.change == Change::Unclear));
        assert_eq!(conclusion(&since(&before, &before)), "too early to tell");
        assert_eq!(conclusion(&since(&quiet, &quiet)), "nothing failed before, nothing does now");
    }
}
