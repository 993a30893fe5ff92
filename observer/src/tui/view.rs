//! One frame. Every function here is pure: what to draw, and what a click on it does, follows from the state, a snapshot and the
//! room there is.
//!
//! ```text
//!  FAILING 12.3/s  observer · up 12 min · 523 verdicts · nginx, haproxy…; ports 8000   header
//!
//! (one screen: now, upstream, cause, events, hooks, or the help)
//!
//! (the timeline, where a recording is replayed)
//! lost 0 · hooks 14/14 · 12,345 events                                                  footer
//! [1 now] 2 upstream 3 cause 4 events 5 hooks  ? keys  q quit …
//! ```
//!
//! The smaller the terminal, the less of this; the headline of the worst incident goes last.

pub(super) mod cause;
mod columns;
mod configured;
pub(super) mod events;
mod evidence;
mod footer;
mod header;
mod help;
mod helped;
mod hooks;
mod incidents;
mod legend;
mod now;
pub(super) mod table;
mod timeline;
mod upstream;

use std::{fmt::Write as _, time::Duration};

use ratatui::{
    layout::Rect,
    text::{Line, Text},
};

use super::{
    action::{self, Action},
    app::App,
    page::{Page, Room},
    screen::Screen,
    theme::{FAINT, Theme},
    widget::{number, text},
};
use crate::{
    snapshot::{Snapshot, UpstreamRow},
    time::Time,
};

/// From this height on, blank lines part what belongs apart.
const ROOMY: usize = 20;
/// More lines than any terminal has: no limit.
const ALL: usize = 100_000;
/// Cells of a line in a file: every column of the table fits at its widest.
const WRITTEN_WIDTH: usize = 240;

/// What a view is drawn from.
pub(crate) struct Context<'a> {
    /// What the user has chosen.
    pub(crate) app: &'a App,
    /// The snapshot that is shown.
    pub(crate) shown: &'a Snapshot,
    /// The time now, which is later than the snapshot's while frozen.
    live: Time,
    /// Causes seen in all, in a stable order.
    causes: Vec<&'static str>,
}

impl<'a> Context<'a> {
    /// Of the latest snapshot, or the frozen one.
    pub(crate) fn new(app: &'a App, live: &'a Snapshot) -> Self {
        let shown = app.shown(live);
        Self { app, shown, live: live.now, causes: legend::seen(shown) }
    }

    /// The selected upstream; beside the table that may be one that the filter holds back.
    pub(crate) fn selected(&self) -> Option<&'a UpstreamRow> {
        let chosen = self.app.upstream.filter(|_| self.app.screen != Screen::Now);
        let chosen = chosen.and_then(|key| self.shown.upstreams.iter().find(|row| row.key == key));
        chosen.or_else(|| {
            let rows = table::rows(self);
            rows.get(table::selected(self, &rows)).copied()
        })
    }

    fn theme(&self) -> Theme {
        self.app.theme
    }

    /// How long ago.
    fn ago(&self, time: Time) -> String {
        format!("{} ago", number::span(self.shown.now.since(time)))
    }

    /// When: `03:11:00Z` or `2 min ago`, as chosen.
    fn when(&self, time: Time) -> String {
        if self.app.absolute { number::clock(self.shown.wall, time, self.shown.now) } else { self.ago(time) }
    }

    /// Since when: `since 03:11:00Z` or `for 2 min`, as chosen.
    fn since(&self, time: Time) -> String {
        if self.app.absolute {
            format!("since {}", self.when(time))
        } else {
            format!("for {}", number::span(self.shown.now.since(time)))
        }
    }

    /// When, to the millisecond, in 13 cells: `03:11:00.123Z` or `1.23 s ago`.
    fn exactly(&self, time: Time) -> String {
        if self.app.absolute {
            let full = self.shown.wall.rfc3339(time);
            return format!("{}Z", full.get(11..23).unwrap_or(&full));
        }
        let ago = self.shown.now.since(time);
        let ago = if ago < Duration::from_mins(2) { format!("{:.2} s", ago.as_secs_f64()) } else { number::span(ago) };
        format!("{ago:>9} ago")
    }
}

/// The whole terminal: its lines, and what clicks do.
pub(crate) fn frame(context: &Context<'_>, room: Room) -> Page {
    let Room { width, height } = room;
    let parts = Parts::new(context, room);
    let mut page = Page::default();
    page.lines(parts.header);
    let below = page.lines.len() + parts.gap;
    page.lines.resize(below, Line::default());
    page.page(body(context, Room { width, height: parts.body }));
    page.lines.resize(below + parts.body + parts.gap, Line::default());
    page.lines(parts.strip);
    page.page(parts.footer);
    page.lines.truncate(height);
    page
}

/// Draws it.
pub(crate) fn draw(frame: &mut ratatui::Frame<'_>, app: &App, live: &Snapshot) {
    let area: Rect = frame.area();
    let page = self::frame(&Context::new(app, live), Room { width: area.width.into(), height: area.height.into() });
    frame.render_widget(Text::from(page.lines), area);
}

/// Lines that the screen has for itself.
pub(crate) fn body_height(context: &Context<'_>, room: Room) -> usize {
    Parts::new(context, room).body
}

/// Lines that a screen would have in all, where it goes on beyond the terminal.
pub(crate) fn length(context: &Context<'_>, room: Room) -> usize {
    document(context, room.width).map_or(0, |page| page.lines.len())
}

/// All that the screen has, as text, whatever of it fits on the terminal.
pub(crate) fn whole(context: &Context<'_>) -> String {
    let room = Room { width: WRITTEN_WIDTH, height: ALL };
    let page = document(context, WRITTEN_WIDTH).unwrap_or_else(|| body(context, room));
    let mut whole = format!("{}\n\n", header::line(context, WRITTEN_WIDTH));
    for line in page.lines {
        // Writing to a string cannot fail.
        let _ = writeln!(whole, "{}", line.to_string().trim_end());
    }
    whole
}

/// What is to be copied from the screen: the selected snippet or event, or what fails at the selected upstream.
pub(crate) fn copied(context: &Context<'_>) -> Option<action::Text> {
    match context.app.screen {
        Screen::Cause => cause::copied(context),
        Screen::Events => events::copied(context),
        Screen::Now | Screen::Upstream => now::copied(context),
        Screen::Hooks => Some(action::Text { what: "this screen".to_owned(), text: whole(context) }),
    }
}

/// How the lines are shared out.
struct Parts {
    header: Vec<Line<'static>>,
    /// Blank lines above the body, and below.
    gap: usize,
    body: usize,
    strip: Vec<Line<'static>>,
    footer: Page,
}

impl Parts {
    fn new(context: &Context<'_>, room: Room) -> Self {
        let Room { width, height } = room;
        let mut left = height;
        let mut take = |lines: &mut Vec<Line<'static>>| {
            lines.truncate(left);
            left -= lines.len();
        };
        let mut header = vec![header::line(context, width)];
        take(&mut header);
        let mut footer = footer::page(context, width, height);
        take(&mut footer.lines);
        let mut strip = timeline::lines(context, width, height);
        take(&mut strip);
        let gap = usize::from(height >= ROOMY);
        Self { header, gap, body: left.saturating_sub(2 * gap), strip, footer }
    }
}

/// What lies between header and footer, no longer than that.
fn body(context: &Context<'_>, room: Room) -> Page {
    let Some(page) = document(context, room.width) else {
        return match context.app.screen {
            Screen::Events => events::page(context, room),
            _ => now::page(context, room),
        };
    };
    let last = page.lines.len().saturating_sub(room.height);
    let above = context.app.scrolled().min(last);
    let page = page.below(above);
    cut(page, room, "↓ goes on")
}

/// The screens that go on beyond the terminal, in full.
fn document(context: &Context<'_>, width: usize) -> Option<Page> {
    match context.app.screen {
        _ if context.app.help => Some(help::page(context, width)),
        Screen::Upstream => Some(upstream::page(context, width)),
        Screen::Cause => Some(cause::page(context, width)),
        Screen::Hooks => Some(hooks::page(context, width)),
        Screen::Now | Screen::Events => None,
    }
}

/// As many lines as fit; where that is not all, the last says so, and where the rest is.
fn cut(mut page: Page, room: Room, rest: &str) -> Page {
    if page.lines.len() > room.height {
        let kept = room.height.saturating_sub(1);
        let left_out = page.lines.len() - kept;
        page.lines.truncate(kept);
        if room.height > 1 {
            page.line(Line::styled(text::cut(&format!("  … {left_out} more lines: {rest}"), room.width), FAINT));
        }
    }
    page
}

/// A heading with a rule behind it.
fn rule(title: &str, width: usize) -> Line<'static> {
    let title = format!("── {title} ");
    let rest = "─".repeat(width.saturating_sub(text::width(&title)));
    Line::styled(text::cut(&(title + &rest), width), super::theme::STRONG)
}

/// A click on these lines explains the incident.
fn explains(incident: &crate::diagnose::Incident) -> Action {
    Action::Explain(action::Subject::of(incident))
}
