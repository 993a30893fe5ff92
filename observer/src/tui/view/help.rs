//! The help: all keys of the screen, what a filter understands, what the columns show, and the letters of causes.

use ratatui::text::{Line, Span};

use super::{Context, columns::COLUMNS, legend, rule};
use crate::{
    diagnose::registry,
    tui::{
        filter,
        keys::{Mode, bindings},
        page::Page,
        theme::STRONG,
        widget::text,
    },
};

/// Cells of what is explained.
const NAMES: usize = 14;

/// All of it, from the tables of keys, fields, columns and causes.
pub(super) fn page(context: &Context<'_>, width: usize) -> Page {
    let entry = |name: &str, help: &str| {
        let help = text::cut(help, width.saturating_sub(NAMES + 1));
        Line::from(vec![Span::styled(format!(" {}", text::pad(name, NAMES, false)), STRONG), Span::raw(help)])
    };
    let mut page = Page::default();
    page.line(rule("keys: ? or Esc closes", width));
    let keys = bindings(Mode::of(context.shown), context.app.screen);
    page.lines(keys.filter_map(|binding| Some(entry(binding.shown, binding.help?))));
    page.line(entry("mouse", "a click selects, opens, sorts; the wheel goes up and down; Shift selects text"));
    page.line(Line::default());
    page.line(rule("filter: words, all of which must fit", width));
    page.lines(filter::FIELDS.iter().map(|(field, help)| entry(field, help)));
    page.line(Line::default());
    page.line(rule("columns", width));
    page.lines(COLUMNS.iter().map(|column| entry(column.header, column.help)));
    page.line(Line::default());
    page.line(rule("causes by letter", width));
    page.lines(registry::CAUSES.iter().map(|rule| entry(&legend::letter(rule.code).to_string(), rule.code)));
    page
}
