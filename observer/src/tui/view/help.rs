//! The help over everything else, made from the tables of keys and columns.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span, Text},
    widgets::{Block, Clear},
};

use super::{columns::COLUMNS, to_u16};
use crate::tui::{
    keys::{Mode, bindings},
    theme::STRONG,
    widget::text,
};

/// Cells of what is explained.
const NAMES: usize = 14;
/// Cells of everything within the frame.
const WIDTH: u16 = 78;

/// Draws it in the middle, or over everything where there is no more room than that.
pub(super) fn draw(frame: &mut Frame<'_>, mode: Mode) {
    let all = frame.area();
    let width = all.width.min(WIDTH + 2);
    let lines = lines(mode, usize::from(width.saturating_sub(2)), usize::from(all.height.saturating_sub(2)));
    let height = all.height.min(to_u16(lines.len()).saturating_add(2));
    let area = Rect { x: (all.width - width) / 2, y: (all.height - height) / 2, width, height };
    let block = Block::bordered().title(text::cut(" help: ? or Esc closes ", usize::from(width.saturating_sub(2))));
    frame.render_widget(Clear, area);
    let inside = block.inner(area);
    frame.render_widget(block, area);
    frame.render_widget(Text::from(lines), inside);
}

fn lines(mode: Mode, width: usize, height: usize) -> Vec<Line<'static>> {
    let entry = |name: &str, help: &str| {
        let help = text::cut(help, width.saturating_sub(NAMES + 1));
        Line::from(vec![Span::styled(format!(" {}", text::pad(name, NAMES, false)), STRONG), Span::raw(help)])
    };
    let keys = bindings(mode).filter_map(|binding| Some(entry(binding.shown, binding.help?)));
    let mut lines: Vec<_> = keys.collect();
    if lines.len() + COLUMNS.len() < height {
        lines.push(Line::default());
    }
    lines.extend(COLUMNS.iter().map(|column| entry(column.header, column.help)));
    lines
}
