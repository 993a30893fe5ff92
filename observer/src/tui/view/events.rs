//! Verdicts and raw events as they come, with all about the selected one.
//!
//! ```text
//! following · 1,203 events kept of 45,120                  filter port:8000 (/ changes it)
//!   03:12:59.861Z listen_overflow  final ACK dropped, accept queue full (129/128): …
//! ► 03:12:59.970Z verdict          504 accept-queue-overflow: accept queue of …
//! ── verdict, 03:12:59.970Z ────────────────────────────────────────
//!   cause accept-queue-overflow   confidence certain …
//! ```

use std::fmt::Write as _;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::{ALL, Context, cut, evidence, rule};
use crate::{
    snapshot::Snapshot,
    tui::{
        action::{Action, Text},
        entry::{self, Entry},
        filter::Filter,
        page::{Page, Room},
        theme::{FAINT, STRONG},
        widget::{number, text},
    },
};

/// Cells of the name of a kind; the longest has so many.
const KIND: usize = 20;
/// Cells of the time.
const TIME: usize = 13;
/// From this width on the kind is told beside the sentence, which nearly says it.
const WITH_KIND: usize = 110;
/// From this height on the selected one is told in full below.
const WITH_DETAIL: usize = 10;

/// What there is to see: as it was when reading began, or as it is.
pub(crate) fn entries<'a>(context: &Context<'a>) -> Vec<Entry<'a>> {
    entry::entries(source(context), &Filter::new(context.app.filter_of_events()))
}

/// Which of them is selected: the one that is read, or the last.
pub(crate) fn selected(context: &Context<'_>, entries: &[Entry<'_>]) -> usize {
    let reading = context.app.reading.as_ref().and_then(|reading| {
        let place = |id| entries.iter().position(|entry| entry.id() == id);
        place(reading.at).or_else(|| {
            // The filter holds it back: then the first behind it that is let through.
            let all = entry::entries(&reading.held, &Filter::default());
            let behind = all.iter().skip_while(|entry| entry.id() != reading.at);
            let filter = Filter::new(context.app.filter_of_events());
            behind.into_iter().find(|entry| filter.passes(*entry)).and_then(|entry| place(entry.id()))
        })
    });
    reading.unwrap_or_else(|| entries.len().saturating_sub(1))
}

/// As much as fits.
pub(super) fn page(context: &Context<'_>, room: Room) -> Page {
    let Room { width, height } = room;
    let entries = entries(context);
    let at = selected(context, &entries);
    let mut page = Page::default();
    page.line(head(context, &entries, width));
    let detail = entries.get(at).map(|entry| detail(context, entry, width)).unwrap_or_default();
    let wanted = if height >= WITH_DETAIL { detail.len().min(height / 2) } else { 0 };
    let rows = height.saturating_sub(1 + wanted);
    // The selected one is in sight; the last one stays at the bottom as long as it can.
    let first = if height >= ALL { 0 } else { entries.len().saturating_sub(rows).min(at.saturating_sub(rows / 2)) };
    for (index, entry) in entries.iter().enumerate().skip(first).take(rows) {
        let line = page.lines.len();
        page.on_lines(line..line + 1, Action::Read(entry.id()));
        page.line(row(context, entry, index == at, width));
    }
    if entries.is_empty() && rows > 0 {
        let none = if context.app.filter().is_empty() { "  nothing has come yet" } else { "  none fits" };
        page.line(Line::styled(text::cut(none, width), FAINT));
    }
    let filled = height.saturating_sub(wanted).min(page.lines.len().max(rows.min(1) + 1).max(height - wanted));
    if height < ALL {
        page.lines.resize(filled, Line::default());
    }
    let mut below = Page::default();
    below.lines(detail);
    page.page(cut(below, Room { width, height: wanted }, "w writes all"));
    page
}

/// The selected one as text.
pub(super) fn copied(context: &Context<'_>) -> Option<Text> {
    let entries = entries(context);
    let entry = entries.get(selected(context, &entries))?;
    let time = source(context).wall.rfc3339(entry.time());
    let mut text = format!("{time} {} {}\n", entry.kind(), entry.sentence());
    for (name, value) in entry.details().iter() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} {value}");
    }
    Some(Text { what: format!("{} of {time}", entry.kind()), text })
}

fn source<'a>(context: &Context<'a>) -> &'a Snapshot {
    context.app.reading.as_ref().map_or(context.shown, |reading| &reading.held)
}

/// Whether they are followed, how many there are, and through which filter.
fn head(context: &Context<'_>, entries: &[Entry<'_>], width: usize) -> Line<'static> {
    let count = |count: usize| number::count(u64::try_from(count).unwrap_or(u64::MAX));
    let passed = |shown: &Snapshot| shown.tail.as_ref().map_or(0, |tail| tail.passed);
    let (word, style) = match &context.app.reading {
        None => ("following: ↑ holds still".to_owned(), Style::new()),
        Some(reading) => {
            let newer = passed(context.shown).saturating_sub(passed(&reading.held));
            (format!("HELD, {} newer: G follows", number::count(newer)), STRONG)
        }
    };
    let filter = match context.app.filter() {
        "" => String::new(),
        filter => format!(" · filter {filter}"),
    };
    let gathered = match &source(context).tail {
        Some(tail) if tail.passed > 0 => format!(" of {} passed", number::count(tail.passed)),
        _ => "; raw events from now on".to_owned(),
    };
    let line = format!("{word} · {} shown{gathered}{filter}", count(entries.len()));
    Line::styled(text::cut(&line, width), style)
}

fn row(context: &Context<'_>, entry: &Entry<'_>, selected: bool, width: usize) -> Line<'static> {
    let mark = if selected { "► " } else { "  " };
    let time = text::pad(&context.exactly(entry.time()), TIME, false);
    let kind = if width >= WITH_KIND { format!(" {}", text::pad(entry.kind(), KIND, false)) } else { String::new() };
    let left = width.saturating_sub(2 + TIME + 1 + text::width(&kind));
    let sentence = text::cut(&entry.sentence(), left);
    let style = if entry.verdict().is_some() { context.theme().failing() } else { Style::new() };
    let line = Line::from(vec![
        Span::raw(mark),
        Span::styled(time, FAINT),
        Span::styled(kind, FAINT),
        Span::raw(" "),
        Span::styled(sentence, style),
    ]);
    if selected { line.style(STRONG) } else { line }
}

fn detail(context: &Context<'_>, entry: &Entry<'_>, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![rule(&format!("{}, {}", entry.kind(), context.exactly(entry.time()).trim()), width)];
    if entry.verdict().is_none() {
        lines.extend(text::labelled(Span::raw("  "), &entry.sentence(), Style::new(), width, ALL));
    }
    lines.extend(evidence::lines(&entry.details(), width));
    lines
}
