//! The first screen: what fails, worst first, with why and what to do; below, all upstreams; below, where there is room, what is
//! known of the selected one.
//!
//! ```text
//! ● 502s: 12.3/s for 2 min: accept queue of 10.0.0.2:8000 full (129/128); 8 workers can do …
//!   523 tries failed since 03:12:44Z · accept-queue-overflow
//!   fix: add workers …
//!
//!   upstream              fail/s causes   accept queue  fail% …
//! ► 10.0.0.2:8000           12.3 aaaaaaaa 129/128 FULL    38% …
//!   a accept-queue-overflow 523
//! ```

use std::fmt::Write as _;

use ratatui::text::Line;

use super::{ALL, Context, cut, helped, incidents, rule, table, upstream};
use crate::{
    diagnose::Incident,
    tui::{
        action::Text,
        page::{Page, Room},
        widget::number,
    },
};

/// Lines of the table that incidents must leave: its header, three upstreams and the legend.
const TABLE_MIN: usize = 5;
/// A pane for the selected upstream is worth having from this height on.
const PANE_MIN: usize = 5;
/// From this height on a blank line parts incidents, table and pane.
const ROOMY: usize = 10;

/// As much as fits.
pub(super) fn page(context: &Context<'_>, room: Room) -> Page {
    let Room { width, height } = room;
    let rows = table::rows(context);
    let gap = usize::from(height >= ROOMY);
    let wanted = table::height(context, &rows);
    let table_min = if height >= 2 * TABLE_MIN { TABLE_MIN.min(wanted) + gap } else { 0 };
    let helped = helped::lines(context, width);
    let compared = if helped.is_empty() { 0 } else { helped.len() + gap };
    // On the smallest terminals what fails comes first.
    let compared = if height >= table_min + compared + TABLE_MIN { compared } else { 0 };
    let mut page = Page::default();
    if compared > 0 {
        page.lines(helped);
        page.lines.resize(compared, Line::default());
    }
    page.page(incidents::page(context, width, height - table_min - compared));
    let parted = (page.lines.len() + gap).min(height);
    page.lines.resize(parted, Line::default());
    let left = height - page.lines.len();
    if left < 2 {
        return page;
    }
    // A long table leaves a part to the pane.
    let share = if left >= 3 * PANE_MIN { (left / 2).max(left.saturating_sub(20)) } else { left };
    page.page(table::page(context, &rows, Room { width, height: wanted.min(share) }));
    let parted = (page.lines.len() + gap).min(height);
    page.lines.resize(parted, Line::default());
    let left = height - page.lines.len();
    if left >= PANE_MIN
        && height < ALL
        && let Some(row) = context.selected()
    {
        let mut about = Page::default();
        about.line(rule(&row.key.to_string(), width));
        about.lines(upstream::facts(context, row, width));
        about.lines(upstream::failures(context, row, width, false));
        page.page(cut(about, Room { width, height: left }, "Enter"));
    }
    page
}

/// What fails at the selected upstream, and the fix, to be sent to somebody; if nothing does, what fails worst.
pub(super) fn copied(context: &Context<'_>) -> Option<Text> {
    let shown = context.shown;
    let key = context.selected().map(|row| row.key);
    let here = shown.incidents.iter().find(|incident| Some(incident.upstream) == key);
    let incident: &Incident = here.or_else(|| shown.incidents.first())?;
    let mut text = format!(
        "{}\n{} failed since {} · {}\n",
        incidents::headline(incident, shown),
        number::count(incident.count),
        shown.wall.rfc3339(incident.first),
        incident.cause
    );
    for advice in &incident.latest.advice {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "fix: {advice}");
    }
    Some(Text { what: format!("{} at {}", incident.cause, incident.upstream), text })
}
