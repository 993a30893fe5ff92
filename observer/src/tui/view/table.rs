//! The upstreams as a table: filtered, sorted, the selected one always in sight.

use std::cmp::Ordering;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{
    Context,
    columns::{COLUMNS, Column, Key, Row},
    legend,
};
use crate::{
    event::Process,
    snapshot::UpstreamRow,
    tui::{
        action::{Action, Sort},
        filter::{Filter, Filtered},
        page::{Page, Room},
        theme::{FAINT, STRONG},
        widget::{number, text},
    },
};

/// Cells before the first column: the marker of the selected row.
const MARKER: usize = 2;
/// Rows that matter more than what the letters stand for.
const LEGEND_FROM: usize = 6;
/// Cells between two columns.
const GAP: usize = 1;

/// The rows in the order in which they are shown, without those that the filter holds back.
pub(crate) fn rows<'a>(context: &Context<'a>) -> Vec<&'a UpstreamRow> {
    let filter = Filter::new(context.app.filter_of_upstreams());
    let seen = |upstream| Row { context, upstream };
    let mut rows: Vec<_> = context.shown.upstreams.iter().filter(|row| filter.passes(&seen(row))).collect();
    let Sort { by, reversed } = context.app.sort;
    if let Some(column) = COLUMNS.iter().find(|column| Some(column.header) == by) {
        let mut keyed: Vec<_> = rows.into_iter().map(|row| ((column.key)(&seen(row)), row)).collect();
        keyed.sort_by(|(one, a), (other, b)| one.order(other).then(a.key.cmp(&b.key)));
        rows = keyed.into_iter().map(|(_, row)| row).collect();
    }
    if reversed {
        rows.reverse();
    }
    rows
}

/// Which of the rows is selected; the first if the chosen upstream is no longer there.
pub(crate) fn selected(context: &Context<'_>, rows: &[&UpstreamRow]) -> usize {
    context.app.upstream.and_then(|key| rows.iter().position(|row| row.key == key)).unwrap_or(0)
}

/// Sorted by the column beside the one that it is sorted by, of those that there is room for.
pub(crate) fn beside(context: &Context<'_>, width: usize, behind: bool) -> Sort {
    let columns = fitting(width);
    let by = sorted_by(context);
    let at = columns.iter().position(|column| column.header == by).unwrap_or(0);
    let to = if behind { at + 1 } else { at + columns.len() - 1 } % columns.len().max(1);
    Sort { by: columns.get(to).map(|column| column.header), reversed: false }
}

/// The lines that it would take in full.
pub(super) fn height(context: &Context<'_>, rows: &[&UpstreamRow]) -> usize {
    let filtered = usize::from(!context.app.filter().is_empty());
    1 + rows.len().max(1) + filtered + usize::from(!causes(rows).is_empty())
}

/// The table in so many lines, its header and its legend among them.
pub(super) fn page(context: &Context<'_>, rows: &[&UpstreamRow], room: Room) -> Page {
    let Room { width, height } = room;
    let mut page = Page::default();
    let filtered = !context.app.filter().is_empty();
    // Not at the price of the last rows.
    let legend = legend(context, rows, width).filter(|_| height >= 2 + rows.len().min(LEGEND_FROM));
    let besides = 1 + usize::from(filtered) + usize::from(legend.is_some());
    let Some(lines) = height.checked_sub(besides) else { return page };
    // The last line says how many there are beyond it.
    let all_fit = rows.len() <= lines || lines < 2;
    let lines = if all_fit { lines } else { lines - 1 };
    let selected = selected(context, rows);
    let first = (selected + 1).saturating_sub(lines);
    let seen: Vec<_> = rows.iter().skip(first).take(lines).map(|upstream| Row { context, upstream }).collect();
    let columns = widened(fitting(width), &seen, width);

    if filtered {
        let count = |count: usize| number::count(u64::try_from(count).unwrap_or(u64::MAX));
        let (some, all) = (count(rows.len()), count(context.shown.upstreams.len()));
        let filter = context.app.filter();
        let line = format!("  filter {filter}: {some} of {all} upstreams; Esc shows all");
        page.line(Line::styled(text::cut(&line, width), context.theme().warning()));
    }
    page.page(header(context, &columns));
    for (index, row) in seen.iter().enumerate() {
        let is_selected = first + index == selected;
        let key = row.upstream.key;
        let at = page.lines.len();
        // A click selects, another opens.
        page.on_lines(
            at..at + 1,
            if is_selected { Action::Show(crate::tui::screen::Screen::Upstream) } else { Action::Select(Some(key)) },
        );
        page.line(line(row, &columns, is_selected));
    }
    if rows.is_empty() {
        let none = if filtered { "  none fits" } else { "  none seen yet" };
        page.line(Line::styled(text::cut(none, width), FAINT));
    }
    if !all_fit {
        let (above, below) = (first, rows.len().saturating_sub(first + lines));
        let count = |count: usize| number::count(u64::try_from(count).unwrap_or(u64::MAX));
        let more = format!("  … {} more above, {} below", count(above), count(below));
        page.line(Line::styled(text::cut(&more, width), FAINT));
    }
    page.lines(legend);
    page
}

/// What the letters in the bars stand for.
fn legend(context: &Context<'_>, rows: &[&UpstreamRow], width: usize) -> Option<Line<'static>> {
    let causes = causes(rows);
    let mut spans = vec![Span::raw("  ")];
    let mut left = width.saturating_sub(MARKER);
    for (cause, count) in &causes {
        let entry = format!("{} {cause} {}  ", legend::letter(cause), number::count(*count));
        if text::width(entry.trim_end()) > left {
            spans.push(Span::raw(text::cut("…", left)));
            break;
        }
        left = left.saturating_sub(text::width(&entry));
        spans.push(Span::styled(entry, legend::style(context, cause)));
    }
    (!causes.is_empty()).then(|| Line::from(spans))
}

/// Causes of the last minute's failures, with how many, the most first.
fn causes(rows: &[&UpstreamRow]) -> Vec<(&'static str, u64)> {
    let mut causes: Vec<(&'static str, u64)> = Vec::new();
    for (cause, seconds) in rows.iter().flat_map(|row| &row.by_cause) {
        let count: u64 = seconds.iter().copied().map(u64::from).sum();
        match causes.iter_mut().find(|(each, _)| each == cause) {
            Some((_, sum)) => *sum += count,
            None => causes.push((cause, count)),
        }
    }
    causes.retain(|(_, count)| *count > 0);
    causes.sort_by_key(|(cause, count)| (std::cmp::Reverse(*count), *cause));
    causes
}

/// The columns for which there is room, from left to right.
fn fitting(width: usize) -> Vec<&'static Column> {
    let mut by_rank: Vec<_> = COLUMNS.iter().collect();
    by_rank.sort_by_key(|column| column.rank);
    let mut used = MARKER;
    let fit = by_rank.iter().take_while(|column| {
        used += column.width + if column.rank == 0 { 0 } else { GAP };
        used <= width || column.rank == 0
    });
    let least = fit.last().map(|column| column.rank);
    COLUMNS.iter().filter(|column| Some(column.rank) <= least).collect()
}

/// Their widths: what is left goes to those whose rows have more to show, from the left.
fn widened(columns: Vec<&'static Column>, seen: &[Row<'_>], width: usize) -> Vec<(&'static Column, usize)> {
    let used: usize = columns.iter().map(|column| column.width + GAP).sum();
    let mut left = (width + GAP).saturating_sub(used + MARKER);
    let widened = columns.into_iter().map(|column| {
        let cells = |row: &Row<'_>| (column.cell)(row, column.max).iter().map(|span| text::width(&span.content)).sum();
        let wanted: usize = if column.max > column.width { seen.iter().map(cells).max().unwrap_or(0) } else { 0 };
        let wider = wanted.min(column.max).saturating_sub(column.width).min(left);
        left -= wider;
        (column, column.width + wider)
    });
    widened.collect()
}

/// By which column the rows are sorted.
fn sorted_by(context: &Context<'_>) -> &'static str {
    context.app.sort.by.unwrap_or(super::columns::WORST_FIRST)
}

/// The names; a mark before the one that it is sorted by. A click on a name sorts by it, another the other way.
fn header(context: &Context<'_>, columns: &[(&'static Column, usize)]) -> Page {
    let mut page = Page::default();
    let mut spans = Vec::new();
    let mut at = MARKER - GAP;
    for (column, width) in columns {
        let sorted = column.header == sorted_by(context);
        // The marker's last cell, or the gap.
        let first = if at < MARKER { MARKER - GAP } else { 0 };
        let mark = match (sorted, context.app.sort.reversed) {
            (true, false) => "▼",
            (true, true) => "▲",
            (false, _) => " ",
        };
        let name = text::pad(column.header, *width, column.right);
        spans.push(Span::styled(format!("{}{mark}{name}", " ".repeat(first)), if sorted { STRONG } else { FAINT }));
        let action =
            if sorted { Action::Reverse } else { Action::Sort(Sort { by: Some(column.header), reversed: false }) };
        page.on(0..1, at..at + GAP + width, action);
        at += GAP + width;
    }
    page.line(Line::from(spans));
    page
}

fn line(row: &Row<'_>, columns: &[(&'static Column, usize)], selected: bool) -> Line<'static> {
    let mut spans = vec![Span::raw(if selected { "► " } else { "  " })];
    for (index, (column, width)) in columns.iter().enumerate() {
        spans.push(Span::raw(if index == 0 { "" } else { " " }));
        let cell = (column.cell)(row, *width);
        let used: usize = cell.iter().map(|span| text::width(&span.content)).sum();
        if let [only] = &*cell {
            spans.push(Span::styled(text::pad(&only.content, *width, column.right), only.style));
        } else {
            spans.extend(cell);
            spans.push(Span::raw(" ".repeat(width.saturating_sub(used))));
        }
    }
    let style = if selected { STRONG } else { Style::new() };
    Line::from(spans).style(style)
}

impl Key {
    /// The most first; names from a on; what is not known last.
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(one), Self::Number(other)) => {
                let known = |number: &Option<f64>| number.unwrap_or(f64::NEG_INFINITY);
                known(other).total_cmp(&known(one))
            }
            (Self::Name(one), Self::Name(other)) => one.cmp(other),
            (Self::Number(_), Self::Name(_)) => Ordering::Less,
            (Self::Name(_), Self::Number(_)) => Ordering::Greater,
        }
    }
}

impl Row<'_> {
    fn processes(&self) -> impl Iterator<Item = &Process> {
        let listener = self.upstream.listener.as_ref().and_then(|(_, _, listener)| listener.process.as_ref());
        std::iter::once(&self.upstream.proxy).chain(listener)
    }

    fn causes(&self) -> impl Iterator<Item = &'static str> {
        self.upstream.by_cause.iter().map(|(cause, _)| *cause)
    }
}

impl Filtered for Row<'_> {
    fn has_cause(&self, part: &str) -> bool {
        self.causes().any(|cause| cause.contains(part))
    }

    fn has_kind(&self, part: &str) -> bool {
        "upstream".contains(part)
    }

    fn has_addr(&self, beginning: &str) -> bool {
        self.upstream.key.endpoint.is_some_and(|at| at.ip.to_string().starts_with(beginning))
    }

    fn has_port(&self, port: u16) -> bool {
        self.upstream.key.endpoint.is_some_and(|at| at.port == port)
    }

    fn has_pid(&self, pid: u32) -> bool {
        self.processes().any(|process| process.pid == pid)
    }

    fn has_text(&self, part: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(part);
        has(&self.upstream.key.to_string())
            || self.processes().any(|process| has(&process.comm))
            || self.causes().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::{app::App, fixture, theme::Theme};

    #[test]
    fn the_least_important_columns_go_first() {
        let headers = |width| fitting(width).iter().map(|column| column.header).collect::<Vec<_>>();
        assert_eq!(headers(0), ["upstream"]);
        assert_eq!(headers(40), ["upstream", "fail/s", "causes"]);
        assert!(headers(80).contains(&"last 60 s") && !headers(80).contains(&"proxy"));
        assert_eq!(headers(300).len(), COLUMNS.len());
    }

    #[test]
    fn columns_take_what_there_is_and_no_more() {
        let shown = fixture::crowded();
        let app = App::new(Theme::PLAIN);
        let context = Context::new(&app, &shown);
        let seen: Vec<_> = shown.upstreams.iter().map(|upstream| Row { context: &context, upstream }).collect();
        for width in 23..300 {
            let columns = widened(fitting(width), &seen, width);
            let used = MARKER + columns.iter().map(|(_, width)| width).sum::<usize>() + (columns.len() - 1) * GAP;
            assert!(used <= width, "{used} of {width}");
        }
    }

    #[test]
    fn every_column_sorts_both_ways() {
        let live = fixture::three();
        let mut app = App::new(Theme::PLAIN);
        let worst: Vec<_> = live.upstreams.iter().map(|row| row.key).collect();
        let keys = |app: &App| rows(&Context::new(app, &live)).iter().map(|row| row.key).collect::<Vec<_>>();
        assert_eq!(keys(&app), worst);
        for column in COLUMNS {
            app.apply(Action::Sort(Sort { by: Some(column.header), reversed: false }), &live);
            let once = keys(&app);
            app.apply(Action::Reverse, &live);
            assert!(keys(&app).iter().eq(once.iter().rev()), "{}", column.header);
        }
        app.apply(Action::Sort(Sort { by: Some("tries/s"), reversed: false }), &live);
        let busiest: Vec<_> = rows(&Context::new(&app, &live)).iter().map(|row| row.tries_per_second).collect();
        assert!(busiest.is_sorted_by(|one, next| one >= next));
    }
}
