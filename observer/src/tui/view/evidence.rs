//! Evidence: `name value` in columns; what is too long for one has lines of its own.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::ALL;
use crate::{
    diagnose::Evidence,
    tui::{theme::FAINT, widget::text},
};

/// Spaces between two pieces.
const GAP: usize = 3;

/// All pieces in that width, indented by two cells.
pub(super) fn lines(evidence: &Evidence, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(2);
    let pairs: Vec<_> = evidence.iter().map(|(name, value)| (name, value.to_string())).collect();
    let cells = |(name, value): &(&str, String)| text::width(name) + 1 + text::width(value) + GAP;
    // Wider ones would leave a single column to all.
    let (short, long): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|pair| cells(pair) <= room / 2);
    let column = short.iter().map(cells).max().unwrap_or(1);
    let mut lines = Vec::new();
    for line in short.chunks((room / column).max(1)) {
        let mut spans = vec![Span::raw("  ")];
        for pair in line {
            let (name, value) = pair;
            spans.push(Span::styled(format!("{name} "), FAINT));
            spans.push(Span::raw(value.clone()));
            spans.push(Span::raw(" ".repeat(column - cells(pair) + GAP)));
        }
        lines.push(Line::from(spans));
    }
    for (name, value) in long {
        lines.extend(text::labelled(Span::styled(format!("  {name} "), FAINT), &value, Style::new(), width, ALL));
    }
    lines
}

/// All pieces in a line of text.
pub(super) fn sentence(evidence: &Evidence) -> String {
    evidence.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}
