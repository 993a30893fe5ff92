//! The columns of the upstream table, as a table: what each shows, how rows are sorted by it, how wide it is, and which go first
//! when there is little room.

use std::time::Duration;

use ratatui::{style::Style, text::Span};

use super::{Context, legend};
use crate::{
    model::Listener,
    snapshot::{Quantiles, UpstreamRow},
    tui::{
        theme::{FAINT, STRONG, Theme},
        widget::{bar::shares, gauge::gauge, number, spark::spark, text},
    },
};

/// Share of a limit from which on it is worth a look.
const NEARLY: f64 = 0.8;

/// The column by which the snapshot sorts.
pub(super) const WORST_FIRST: &str = "fail/s";

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
    /// By what rows are sorted.
    pub(super) key: fn(&Row<'_>) -> Key,
    /// What it shows of one upstream, in so many cells.
    pub(super) cell: fn(&Row<'_>, usize) -> Vec<Span<'static>>,
}

/// What a cell is made from.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// Everything else.
    pub(super) context: &'a Context<'a>,
    /// The upstream.
    pub(super) upstream: &'a UpstreamRow,
}

/// By what rows are sorted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// The most first; what is not known last.
    Number(Option<f64>),
    /// From a on.
    Name(String),
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
        key: |row| Key::Name(row.upstream.key.to_string()),
        // Its end tells more than its middle.
        cell: |row, cells| one(text::cut_middle(&row.upstream.key.to_string(), cells), row.strong_if_failing()),
    },
    Column {
        header: WORST_FIRST,
        help: "failed tries per second, over 10 s",
        width: 6,
        max: 6,
        right: true,
        rank: 1,
        key: |row| Key::Number(Some(row.upstream.failed_per_second)),
        cell: |row, _| one(number::rate(row.upstream.failed_per_second), row.if_failing()),
    },
    Column {
        header: "fail%",
        help: "share of tries that fail, over 10 s",
        width: 5,
        max: 5,
        right: true,
        rank: 4,
        key: |row| Key::Number(Some(row.upstream.failed_per_second / row.upstream.tries_per_second.max(f64::EPSILON))),
        cell: |row, _| {
            let share = number::percent(row.upstream.failed_per_second, row.upstream.tries_per_second);
            one(share, row.if_failing())
        },
    },
    Column {
        header: "tries/s",
        help: "tries (connections) that ended per second, over 10 s",
        width: 7,
        max: 7,
        right: true,
        rank: 5,
        key: |row| Key::Number(Some(row.upstream.tries_per_second)),
        cell: |row, _| one(number::rate(row.upstream.tries_per_second), Style::new()),
    },
    Column {
        header: "causes",
        help: "why tries of the last minute failed, a letter for each share; below: which",
        width: 8,
        max: 8,
        right: false,
        rank: 2,
        key: |row| Key::Number(Some(row.by_cause().iter().map(|(_, count)| number::float(*count)).sum())),
        cell: causes,
    },
    Column {
        header: "accept queue",
        help: "connections waiting / limit, of the listener if on this host",
        width: 13,
        max: 20,
        right: false,
        rank: 3,
        key: |row| Key::Number(row.open_listener().map(|it| f64::from(it.depth) / f64::from(it.limit.max(1)))),
        cell: queue,
    },
    Column {
        header: "TIME_WAIT",
        help: "ports in TIME_WAIT towards it, and their share of all ports",
        width: 10,
        max: 11,
        right: true,
        rank: 7,
        key: |row| Key::Number(Some(row.upstream.time_wait.into())),
        cell: time_wait,
    },
    Column {
        header: "first byte",
        help: "request sent to answer begun, of the last minute: half within / 99 % within",
        width: 11,
        max: 11,
        right: true,
        rank: 8,
        key: |row| quantile_key(row.upstream.first_byte),
        cell: |row, _| quantiles(row.upstream.first_byte),
    },
    Column {
        header: "connect",
        help: "connect() to handshake done, of the last minute: half within / 99 % within",
        width: 11,
        max: 11,
        right: true,
        rank: 9,
        key: |row| quantile_key(row.upstream.connect),
        cell: |row, _| quantiles(row.upstream.connect),
    },
    Column {
        header: "rexmit/s",
        help: "segments sent again per second, over 10 s",
        width: 8,
        max: 8,
        right: true,
        rank: 10,
        key: |row| Key::Number(Some(row.upstream.retransmits_per_second)),
        cell: |row, _| rate(row.upstream.retransmits_per_second),
    },
    Column {
        header: "resets/s",
        help: "connections reset by it per second, over 10 s",
        width: 8,
        max: 8,
        right: true,
        rank: 11,
        key: |row| Key::Number(Some(row.upstream.resets_per_second)),
        cell: |row, _| rate(row.upstream.resets_per_second),
    },
    Column {
        header: "failed",
        help: "failed tries since observer began to watch",
        width: 7,
        max: 11,
        right: true,
        rank: 12,
        key: |row| Key::Number(Some(number::float(row.upstream.failed))),
        cell: |row, _| one(number::count(row.upstream.failed), Style::new()),
    },
    Column {
        header: "tries",
        help: "tries since observer began to watch",
        width: 9,
        max: 11,
        right: true,
        rank: 14,
        key: |row| Key::Number(Some(number::float(row.upstream.tries))),
        cell: |row, _| one(number::count(row.upstream.tries), Style::new()),
    },
    Column {
        header: "last 60 s",
        help: "failed tries of the last minute, now at the right",
        width: 10,
        max: 30,
        right: true,
        rank: 6,
        key: |row| {
            Key::Number(Some(number::float(row.upstream.minute.iter().map(|second| u64::from(second.failed)).sum())))
        },
        cell: |row, cells| {
            let failed: Vec<_> = row.upstream.minute.iter().map(|second| second.failed).collect();
            let style = if failed.iter().all(|failed| *failed == 0) { FAINT } else { row.if_failing() };
            one(spark(&failed, cells), style)
        },
    },
    Column {
        header: "proxy",
        help: "the process that last used it",
        width: 10,
        max: 24,
        right: false,
        rank: 13,
        key: |row| Key::Name(row.upstream.proxy.comm.to_string()),
        cell: |row, _| one(row.upstream.proxy.comm.to_string(), Style::new()),
    },
];

impl Row<'_> {
    fn theme(&self) -> Theme {
        self.context.app.theme
    }

    fn failing(&self) -> bool {
        self.upstream.failed_per_second > 0.0
    }

    fn if_failing(&self) -> Style {
        if self.failing() { self.theme().failing() } else { Style::new() }
    }

    fn strong_if_failing(&self) -> Style {
        if self.failing() { STRONG } else { Style::new() }
    }

    fn open_listener(&self) -> Option<&Listener> {
        self.upstream.listener.as_ref().map(|(_, _, listener)| listener).filter(|listener| listener.is_open())
    }

    /// Failures of the last minute by cause.
    fn by_cause(&self) -> Vec<(&'static str, u64)> {
        let sum = |seconds: &[u32]| seconds.iter().copied().map(u64::from).sum();
        self.upstream.by_cause.iter().map(|(cause, seconds)| (*cause, sum(seconds))).collect()
    }
}

fn one(text: String, style: Style) -> Vec<Span<'static>> {
    vec![Span::styled(text, style)]
}

/// A bar of letters; dots where nothing failed.
fn causes(row: &Row<'_>, cells: usize) -> Vec<Span<'static>> {
    let by_cause = row.by_cause();
    let counts: Vec<_> = by_cause.iter().map(|(_, count)| *count).collect();
    if counts.iter().all(|count| *count == 0) {
        return one("·".repeat(cells), FAINT);
    }
    let parts = by_cause.iter().zip(shares(&counts, cells)).filter(|(_, cells)| *cells > 0);
    let span =
        |cause, cells| Span::styled(legend::letter(cause).to_string().repeat(cells), legend::style(row.context, cause));
    parts.map(|((cause, _), cells)| span(cause, cells)).collect()
}

/// The accept queue in words, with a gauge where there is room: `129/128 FULL`, `12/128 ▌░░░`, `none seen`
/// where no listener was on this host, `remote` where that cannot be seen.
fn queue(row: &Row<'_>, cells: usize) -> Vec<Span<'static>> {
    let Some((_, _, listener)) = &row.upstream.listener else {
        return one(if row.upstream.local { "none seen" } else { "remote" }.to_owned(), FAINT);
    };
    if !listener.is_open() {
        return one("closed".to_owned(), row.theme().warning());
    }
    let level = format!("{}/{} ", listener.depth, listener.limit);
    if full(listener) {
        return one(level + "FULL", row.theme().warning().patch(STRONG));
    }
    let nearly = nearly(listener.depth, listener.limit) && listener.depth > 1;
    let bar = gauge(listener.depth, listener.limit, cells.saturating_sub(level.len()).min(10));
    one(level + &bar, if nearly { row.theme().warning() } else { Style::new() })
}

/// Full is deeper than the limit: the kernel takes one more than it.
pub(super) fn full(listener: &Listener) -> bool {
    listener.depth > listener.limit
}

/// So much of a limit that it is worth a look.
pub(super) fn nearly(used: u32, limit: u32) -> bool {
    f64::from(used) >= NEARLY * f64::from(limit)
}

fn time_wait(row: &Row<'_>, _: usize) -> Vec<Span<'static>> {
    let used = row.upstream.time_wait;
    let count = number::count(used.into());
    match row.upstream.ports {
        None => one(count, Style::new()),
        Some(ports) => {
            let text = format!("{count} {:>3}", number::percent(used.into(), ports.into()));
            one(text, if nearly(used, ports) { row.theme().warning() } else { Style::new() })
        }
    }
}

fn quantile_key(quantiles: Option<Quantiles>) -> Key {
    Key::Number(quantiles.map(|Quantiles { p99, .. }| Duration::as_secs_f64(&p99)))
}

fn quantiles(quantiles: Option<Quantiles>) -> Vec<Span<'static>> {
    match quantiles {
        None => one("-".to_owned(), FAINT),
        Some(Quantiles { count: _, p50, p99 }) => {
            one(format!("{}/{}", number::short(p50), number::short(p99)), Style::new())
        }
    }
}

fn rate(per_second: f64) -> Vec<Span<'static>> {
    one(number::rate(per_second), Style::new())
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
