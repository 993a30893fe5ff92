//! The columns of the upstream table, as a table: what each shows, how wide it is, and which go first when there is
//! little room.

use ratatui::{style::Style, text::Span};

use super::incidents::Phase;
use crate::{
    model::{Listener, window::Second},
    snapshot::{RATE_SECONDS, Snapshot, UpstreamRow},
    tui::{
        theme::{FAINT, STRONG, Theme},
        widget::{gauge::gauge, number, spark::spark},
    },
};

/// Share of a limit from which on it is worth a look.
const NEARLY: f64 = 0.8;

/// A column.
pub(super) struct Column {
    /// Its heading.
    pub(super) header: &'static str,
    /// What it shows, for the help.
    pub(super) help: &'static str,
    /// The cells that it needs.
    pub(super) width: usize,
    /// The cells that it can make use of.
    pub(super) max: usize,
    /// Numbers end at the right.
    pub(super) right: bool,
    /// Columns of a higher rank are dropped first.
    pub(super) rank: u8,
    /// Its text for one upstream, in so many cells.
    pub(super) cell: fn(&Row<'_>, usize) -> Span<'static>,
}

/// What a cell is made from.
pub(super) struct Row<'a> {
    /// How things look.
    pub(super) theme: Theme,
    /// The upstream.
    pub(super) upstream: &'a UpstreamRow,
    /// Everything else.
    pub(super) shown: &'a Snapshot,
}

/// All columns, from left to right.
pub(super) const COLUMNS: &[Column] = &[
    Column {
        header: "upstream",
        help: "where the proxy connects to",
        width: 21,
        max: 47,
        right: false,
        rank: 0,
        cell: |row, _| Span::styled(row.upstream.key.to_string(), row.strong_if_failing()),
    },
    Column {
        header: "proxy",
        help: "the process that last used it",
        width: 10,
        max: 24,
        right: false,
        rank: 8,
        cell: |row, _| Span::raw(row.upstream.proxy.comm.to_string()),
    },
    Column {
        header: "fail/s",
        help: "failed tries per second, over 10 s",
        width: 6,
        max: 6,
        right: true,
        rank: 1,
        cell: |row, _| Span::styled(number::rate(row.upstream.failed_per_second), row.if_failing()),
    },
    Column {
        header: "fail%",
        help: "share of tries that fail, over 10 s",
        width: 5,
        max: 5,
        right: true,
        rank: 4,
        cell: |row, _| {
            let share = number::percent(row.upstream.failed_per_second, row.upstream.tries_per_second);
            Span::styled(share, row.if_failing())
        },
    },
    Column {
        header: "tries/s",
        help: "tries (connections) that ended per second, over 10 s",
        width: 7,
        max: 7,
        right: true,
        rank: 3,
        cell: |row, _| Span::raw(number::rate(row.upstream.tries_per_second)),
    },
    Column {
        header: "accept queue",
        help: "connections waiting / limit, of the listener if on this host",
        width: 13,
        max: 20,
        right: false,
        rank: 2,
        cell: queue,
    },
    Column {
        header: "TIME_WAIT",
        help: "ports in TIME_WAIT towards it, and their share of all ports",
        width: 10,
        max: 11,
        right: true,
        rank: 5,
        cell: time_wait,
    },
    Column {
        header: "rexmit/s",
        help: "segments sent again per second, over 10 s",
        width: 8,
        max: 8,
        right: true,
        rank: 9,
        cell: |row, _| per_second(row, |second| second.retransmits),
    },
    Column {
        header: "resets/s",
        help: "connections reset by it per second, over 10 s",
        width: 8,
        max: 8,
        right: true,
        rank: 10,
        cell: |row, _| per_second(row, |second| second.resets),
    },
    Column {
        header: "last 60 s",
        help: "failed tries of the last minute, now at the right",
        width: 10,
        max: 30,
        right: true,
        rank: 6,
        cell: |row, cells| {
            let failed: Vec<_> = row.upstream.minute.iter().map(|second| second.failed).collect();
            let style = if failed.iter().all(|failed| *failed == 0) { FAINT } else { row.if_failing() };
            Span::styled(spark(&failed, cells), style)
        },
    },
    Column {
        header: "cause",
        help: "why tries fail now; `observer explain CAUSE` says more",
        width: 21,
        max: 60,
        right: false,
        rank: 7,
        cell: |row, _| {
            let here = row.shown.incidents.iter().filter(|incident| incident.upstream == row.upstream.key);
            let now = here.filter(|incident| Phase::of(incident, row.shown.now) == Phase::Failing);
            Span::raw(now.map(|incident| incident.cause).collect::<Vec<_>>().join(", "))
        },
    },
];

impl Row<'_> {
    fn failing(&self) -> bool {
        self.upstream.failed_per_second > 0.0
    }

    fn if_failing(&self) -> Style {
        if self.failing() { self.theme.failing() } else { Style::new() }
    }

    fn strong_if_failing(&self) -> Style {
        if self.failing() { STRONG } else { Style::new() }
    }
}

/// The accept queue in words, with a gauge where there is room: `129/128 FULL`, `12/128 ▌░░░`, `NONE`
/// where nobody listens, `remote` where that cannot be seen.
fn queue(row: &Row<'_>, cells: usize) -> Span<'static> {
    let Some((_, _, listener)) = &row.upstream.listener else {
        return Span::styled(if row.upstream.local { "NONE" } else { "remote" }, FAINT);
    };
    if !listener.is_open() {
        return Span::styled("closed", row.theme.warning());
    }
    let level = format!("{}/{} ", listener.depth, listener.limit);
    if full(listener) {
        return Span::styled(level + "FULL", row.theme.warning().patch(STRONG));
    }
    let nearly = f64::from(listener.depth) >= NEARLY * f64::from(listener.limit) && listener.depth > 1;
    let bar = gauge(listener.depth, listener.limit, cells.saturating_sub(level.len()).min(10));
    Span::styled(level + &bar, if nearly { row.theme.warning() } else { Style::new() })
}

/// Full is deeper than the limit: the kernel takes one more than it.
fn full(listener: &Listener) -> bool {
    listener.depth > listener.limit
}

fn time_wait(row: &Row<'_>, _: usize) -> Span<'static> {
    let used = row.upstream.time_wait;
    let count = number::count(used.into());
    match row.upstream.ports {
        None => Span::raw(count),
        Some(ports) => {
            let high = f64::from(used) >= NEARLY * f64::from(ports);
            let text = format!("{count} {:>3}", number::percent(used.into(), ports.into()));
            Span::styled(text, if high { row.theme.warning() } else { Style::new() })
        }
    }
}

fn per_second(row: &Row<'_>, count: fn(&Second) -> u32) -> Span<'static> {
    Span::raw(number::rate(recent(&row.upstream.minute, count)))
}

/// Per second over the seconds that rates are taken over.
pub(super) fn recent(minute: &[Second], count: fn(&Second) -> u32) -> f64 {
    let seconds = minute.iter().rev().take(RATE_SECONDS as usize);
    f64::from(seconds.map(count).sum::<u32>()) / f64::from(RATE_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_an_order_and_headers_fit() {
        let mut ranks: Vec<_> = COLUMNS.iter().map(|column| column.rank).collect();
        ranks.sort_unstable();
        assert!(ranks.iter().copied().eq(0..=u8::try_from(COLUMNS.len() - 1).unwrap()));
        for column in COLUMNS {
            assert!(column.header.len() <= column.width && column.width <= column.max, "{}", column.header);
        }
    }
}
