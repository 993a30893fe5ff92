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
        theme::{FAINT, STRONG},
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
    // The last line says how many there are beyond it.
    let all_fit = shown.upstreams.len() <= rows || rows < 2;
    let rows = if all_fit { rows } else { rows - 1 };
    let selected = app.selected_index(shown);
    let first = (selected + 1).saturating_sub(rows);
    let seen = shown.upstreams.iter().enumerate().skip(first).take(rows);
    let seen: Vec<_> =
        seen.map(|(index, upstream)| (Row { theme: app.theme, upstream, shown }, index == selected)).collect();
    let columns = widened(fitting(width), &seen, width);
    let mut lines = vec![header(&columns)];
    lines.extend(seen.iter().map(|(row, selected)| line(row, &columns, *selected)));
    if shown.upstreams.is_empty() {
        lines.push(Line::styled(text::cut("  none seen yet", width), FAINT));
    }
    if !all_fit {
        let (above, below) = (first, shown.upstreams.len().saturating_sub(first + rows));
        let count = |count: usize| number::count(u64::try_from(count).unwrap_or(u64::MAX));
        let more = format!("  … {} more above, {} below", count(above), count(below));
        lines.push(Line::styled(text::cut(&more, width), FAINT));
    }
    lines
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
fn widened(columns: Vec<&'static Column>, seen: &[(Row<'_>, bool)], width: usize) -> Vec<(&'static Column, usize)> {
    let used: usize = columns.iter().map(|column| column.width + GAP).sum();
    let mut left = (width + GAP).saturating_sub(used + MARKER);
    let widened = columns.into_iter().map(|column| {
        let wanted = seen.iter().map(|(row, _)| text::width(&(column.cell)(row, column.max).content)).max();
        let wider = wanted.unwrap_or(0).min(column.max).saturating_sub(column.width).min(left);
        left -= wider;
        (column, column.width + wider)
    });
    widened.collect()
}

fn header(columns: &[(&'static Column, usize)]) -> Line<'static> {
    let mut line = " ".repeat(MARKER);
    for (index, (column, width)) in columns.iter().enumerate() {
        line.push_str(if index == 0 { "" } else { " " });
        line.push_str(&text::pad(column.header, *width, column.right));
    }
    Line::styled(line, FAINT)
}

fn line(row: &Row<'_>, columns: &[(&'static Column, usize)], selected: bool) -> Line<'static> {
    let mut spans = vec![Span::raw(if selected { "► " } else { "  " })];
    for (index, (column, width)) in columns.iter().enumerate() {
        let cell = (column.cell)(row, *width);
        spans.push(Span::raw(if index == 0 { "" } else { " " }));
        spans.push(Span::styled(text::pad(&cell.content, *width, column.right), cell.style));
    }
    let style = if selected { STRONG } else { Style::new() };
    Line::from(spans).style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_columns_go_first() {
        let headers = |width| fitting(width).iter().map(|column| column.header).collect::<Vec<_>>();
        assert_eq!(headers(0), ["upstream"]);
        assert_eq!(headers(40), ["upstream", "fail/s"]);
        assert!(headers(80).contains(&"last 60 s") && !headers(80).contains(&"proxy"));
        assert_eq!(headers(300).len(), COLUMNS.len());
    }

    #[test]
    fn columns_take_what_there_is_and_no_more() {
        let shown = crate::tui::fixture::crowded();
        let theme = crate::tui::theme::Theme::PLAIN;
        let seen: Vec<_> =
            shown.upstreams.iter().map(|upstream| (Row { theme, upstream, shown: &shown }, false)).collect();
        for width in 23..300 {
            let columns = widened(fitting(width), &seen, width);
            let used = MARKER + columns.iter().map(|(_, width)| width).sum::<usize>() + (columns.len() - 1) * GAP;
            assert!(used <= width, "{used} of {width}");
        }
    }
}
