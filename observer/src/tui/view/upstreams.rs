//! The upstreams as a table, the worst first.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::columns::{COLUMNS, Column, Row};
use crate::{
    snapshot::Snapshot,
    tui::{
        app::App,
        widget::{number, text},
    },
};

/// Cells before the first column: the marker of the selected row.
const MARKER: usize = 2;
/// Cells between two columns.
const GAP: usize = 1;

/// The table in so many lines, its header among them; the selected row is always one of them.
pub(super) fn lines(app: &App, shown: &Snapshot, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some(rows) = height.checked_sub(1) else { return Vec::new() };
    let columns = fitting(width);
    let mut lines = vec![header(app, &columns)];
    if shown.upstreams.is_empty() {
        lines.push(Line::styled(text::cut("  none seen yet", width), app.theme.faint()));
        return lines;
    }
    // The last line says how many there are beyond it.
    let all_fit = shown.upstreams.len() <= rows || rows < 2;
    let rows = if all_fit { rows } else { rows - 1 };
    let selected = app.selected_index(shown);
    let first = (selected + 1).saturating_sub(rows);
    for (index, upstream) in shown.upstreams.iter().enumerate().skip(first).take(rows) {
        let row = Row { theme: app.theme, upstream, shown };
        lines.push(line(&row, &columns, index == selected));
    }
    if !all_fit {
        let (above, below) = (first, shown.upstreams.len().saturating_sub(first + rows));
        let count = |count: usize| number::count(u64::try_from(count).unwrap_or(u64::MAX));
        let more = format!("  … {} more above, {} below", count(above), count(below));
        lines.push(Line::styled(text::cut(&more, width), app.theme.faint()));
    }
    lines
}

/// The columns for which there is room, from left to right, each with its width.
fn fitting(width: usize) -> Vec<(&'static Column, usize)> {
    let mut by_rank: Vec<_> = COLUMNS.iter().collect();
    by_rank.sort_by_key(|column| column.rank);
    let mut used = MARKER;
    let mut least = None;
    for column in by_rank {
        let needed = column.width + if column.rank == 0 { 0 } else { GAP };
        if used + needed > width && column.rank > 0 {
            break;
        }
        used += needed;
        least = Some(column.rank);
    }
    let chosen = COLUMNS.iter().filter(|column| Some(column.rank) <= least);
    let mut left = width.saturating_sub(used);
    let widened = chosen.map(|column| {
        let wider = left.min(column.max - column.width);
        left -= wider;
        (column, column.width + wider)
    });
    widened.collect()
}

fn header(app: &App, columns: &[(&'static Column, usize)]) -> Line<'static> {
    let mut line = " ".repeat(MARKER);
    for (index, (column, width)) in columns.iter().enumerate() {
        line.push_str(if index == 0 { "" } else { " " });
        line.push_str(&text::pad(column.header, *width, column.right));
    }
    Line::styled(line, app.theme.faint())
}

fn line(row: &Row<'_>, columns: &[(&'static Column, usize)], selected: bool) -> Line<'static> {
    let mut spans = vec![Span::raw(if selected { "▸ " } else { "  " })];
    for (index, (column, width)) in columns.iter().enumerate() {
        let cell = (column.cell)(row, *width);
        spans.push(Span::raw(if index == 0 { "" } else { " " }));
        spans.push(Span::styled(text::pad(&cell.content, *width, column.right), cell.style));
    }
    let style = if selected { row.theme.strong() } else { Style::new() };
    Line::from(spans).style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_columns_go_first() {
        let headers = |width| fitting(width).iter().map(|(column, _)| column.header).collect::<Vec<_>>();
        assert_eq!(headers(0), ["upstream"]);
        assert_eq!(headers(40), ["upstream", "fail/s"]);
        assert!(headers(80).contains(&"TIME_WAIT"));
        assert_eq!(headers(300).len(), COLUMNS.len());
    }

    #[test]
    fn columns_never_take_more_than_there_is() {
        for width in 23..300 {
            let columns = fitting(width);
            let used = MARKER + columns.iter().map(|(_, width)| width).sum::<usize>() + (columns.len() - 1) * GAP;
            assert!(used <= width, "{used} of {width}");
        }
    }
}
