//! The help over everything else, made from the tables of keys and columns.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span, Text},
    widgets::{Block, Clear},
};

use super::{columns::COLUMNS, to_u16};
use crate::tui::{keys::BINDINGS, theme::STRONG, widget::text};

/// Cells of what is explained.
const NAMES: usize = 14;
/// Cells of everything within the frame.
const WIDTH: u16 = 78;

/// Draws it in the middle, or over everything where there is no more room than that.
pub(super) fn draw(frame: &mut Frame<'_>) {
    let all = frame.area();
    let width = all.width.min(WIDTH + 2);
    let lines = lines(usize::from(width.saturating_sub(2)));
    let height = all.height.min(to_u16(lines.len()).saturating_add(2));
    let area = Rect { x: (all.width - width) / 2, y: (all.height - height) / 2, width, height };
    let block = Block::bordered().title(text::cut(" help: ? or Esc closes ", usize::from(width.saturating_sub(2))));
    frame.render_widget(Clear, area);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    frame.render_widget(Text::from(lines), inside);
}

fn lines(width: usize) -> Vec<Line<'static>> {
    let entry = |name: &str, help: &str| {
        let help = text::cut(help, width.saturating_sub(NAMES + 1));
        Line::from(vec![Span::styled(format!(" {}", text::pad(name, NAMES, false)), STRONG), Span::raw(help)])
    };
    let mut lines: Vec<_> = BINDINGS.iter().map(|binding| entry(binding.shown, binding.help)).collect();
    lines.push(Line::default());
    lines.extend(COLUMNS.iter().map(|column| entry(column.header, column.help)));
    lines
}
